"""Reads the `.torch` chunks of pixelSplat: lists of scenes with cameras and JPEG bytes."""

from functools import partial
from pathlib import Path
from typing import Any

import torch

from wnv.scenes.importers.capture import Capture, Captures, ImportOptions, PosedImage, Rejection, source_files
from wnv.scenes.importers.parsing import normalized_image
from wnv.scenes.schema import safe_id


def pixelsplat_captures(source: Path, options: ImportOptions) -> Captures:
    """Yield one capture per scene of pixelSplat's chunks; `source` is a `.torch` file, or a folder of them.

    A chunk is a list of dicts: `key`, `cameras` [N, 18] (`fx fy cx cy` divided by width and height, two unused numbers,
    3x4 camera<-world row by row), `images` (uint8 tensors of JPEG bytes), `timestamps` in microseconds and `url`.
    Without timestamps, times are 0, 1, 2, ... s. Chunks are loaded with `weights_only=True`, so they cannot run code.
    """
    for file in source_files(source, "*.torch"):
        try:
            chunk = _load_chunk(file)
        except ValueError as error:
            yield Rejection(str(file), error)
            continue
        for index, content in enumerate(chunk):
            where = f"{file}, scene {index}"
            if isinstance(content, dict) and {"key", "cameras", "images"} <= content.keys():
                where = f"{where} ({content['key']})"
                read = partial(_read, content, file=file, where=where)
                yield Capture(id=safe_id(str(content["key"])), where=where, read=read)
            else:
                error = ValueError("needs a dict with key, cameras and images; is this a chunk of pixelSplat?")
                yield Rejection(where, error)


def _load_chunk(file: Path) -> list[Any]:
    try:
        chunk = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a parser of untrusted bytes may raise anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"{file}: not a chunk of tensors that can be loaded safely ({reason[0]:.120}); copy it again from a source "
            "you trust"
        ) from error
    if not isinstance(chunk, list):
        raise ValueError(f"{file}: a chunk is a list of scenes, got {type(chunk).__name__}")
    return chunk


def _read(content: dict[str, Any], *, file: Path, where: str) -> tuple[list[PosedImage], dict[str, Any]]:
    key, cameras, images = str(content["key"]), content["cameras"], content["images"]
    times = _timestamps(content, where=where)
    if not isinstance(cameras, torch.Tensor) or cameras.shape != (len(images), 18):
        found = tuple(cameras.shape) if isinstance(cameras, torch.Tensor) else type(cameras).__name__
        raise ValueError(f"{where}: cameras must be a tensor [{len(images)}, 18], got {found}")
    posed = []
    for index, (values, image) in enumerate(zip(cameras.double().numpy(), images, strict=True)):
        frame = f"{where}, frame {index}"
        if not isinstance(image, torch.Tensor) or image.dtype != torch.uint8 or image.ndim != 1:
            raise ValueError(f"{frame}: an image must be a uint8 tensor [N] of JPEG bytes")
        time_s = float(index) if times is None else (times[index] - times[0]) / 1e6
        data = image.numpy().tobytes()
        posed.append(normalized_image(values, content=data, where=frame, index=index, time_s=time_s))
    notes: dict[str, Any] = {"url": str(content["url"])} if "url" in content else {}
    if times:
        notes["first_timestamp_us"] = times[0]
    return posed, {"format": "pixelsplat", "file": file.name, "key": key, **notes}


def _timestamps(content: dict[str, Any], *, where: str) -> list[int] | None:
    values = content.get("timestamps")
    if values is None:
        return None
    count = len(content["images"])
    if not isinstance(values, torch.Tensor) or values.is_floating_point() or values.shape != (count,):
        raise ValueError(f"{where}: timestamps must be a tensor of {count} whole numbers, one per image")
    return values.tolist()
