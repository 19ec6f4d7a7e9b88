"""Imports the `.torch` chunks of pixelSplat: lists of scenes with cameras and JPEG bytes."""

from pathlib import Path
from typing import Any

import torch

from wnv.scenes.image_codec import ImageFormat
from wnv.scenes.importers.assemble import PosedImage, assemble_scene, claim_id
from wnv.scenes.importers.image_content import image_size
from wnv.scenes.importers.source import normalized_camera
from wnv.scenes.schema import safe_id


def import_pixelsplat(
    source: Path,
    out: Path,
    *,
    max_side: int | None = None,
    overwrite: bool = False,
    image_format: ImageFormat = "jpeg",
    quality: int = 95,
) -> list[Path]:
    """Write a scene file for every scene in the chunks of pixelSplat, and return their paths.

    A chunk is a list of dicts: `key`, `cameras` [N, 18] (`fx fy cx cy` divided by width and height, two unused numbers,
    3x4 camera<-world row by row), `images` (uint8 tensors with the bytes of a JPEG), `timestamps` in microseconds and
    `url`. Without timestamps the times count 0, 1, 2, ... s. Chunks are loaded with `weights_only=True`, so they cannot
    run code; one is in memory at a time. With several scenes, those before a bad one are kept.

    Args:
        source: A `.torch` file, or a folder of them.
        out: Folder of the scene files.
        max_side: Longest side of the stored images; larger ones are made smaller.
        overwrite: Replace scene files of these names.
        image_format: `jpeg` or `png`, for images that have to be encoded anew.
        quality: JPEG quality of images that have to be encoded anew.

    Raises:
        FileNotFoundError: If there is no chunk.
        FileExistsError: If a scene file exists and `overwrite` is not set.
        ValueError: If a chunk is malformed, two scenes have one key, or a frame breaks a rule of scenes; the message
            names chunk and frame.
    """
    if source.is_dir():
        files = sorted(source.glob("*.torch"))
        if not files:
            raise FileNotFoundError(f"{source}: no .torch file in this folder")
    elif source.is_file():
        files = [source]
    else:
        raise FileNotFoundError(f"{source}: no such file or folder")
    scenes: list[Path] = []
    taken: dict[str, str] = {}
    for file in files:
        for index, content in enumerate(_load_chunk(file)):
            where = f"{file}, scene {index}"
            if not isinstance(content, dict) or not {"key", "cameras", "images"} <= content.keys():
                raise ValueError(f"{where}: needs a dict with key, cameras and images; is this a chunk of pixelSplat?")
            where = f"{where} ({content['key']})"
            timestamps = _timestamps(content, where=where)
            notes = {"url": str(content["url"])} if "url" in content else {}
            if timestamps:
                notes["first_timestamp_us"] = timestamps[0]
            scenes.append(
                assemble_scene(
                    out,
                    _posed_images(content, timestamps, where=where),
                    scene_id=claim_id(safe_id(str(content["key"])), taken, where=where),
                    source={"format": "pixelsplat", "file": file.name, "key": str(content["key"]), **notes},
                    max_side=max_side,
                    overwrite=overwrite,
                    image_format=image_format,
                    quality=quality,
                )
            )
    return scenes


def _load_chunk(file: Path) -> list[Any]:
    try:
        chunk = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a parser fed broken bytes may raise anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"{file}: not a chunk of tensors that can be loaded safely ({reason[0]:.120}); copy it again, and never "
            "load one from a stranger in any other way"
        ) from error
    if not isinstance(chunk, list):
        raise ValueError(f"{file}: a chunk is a list of scenes, got {type(chunk).__name__}")
    return chunk


def _timestamps(content: dict[str, Any], *, where: str) -> list[int] | None:
    values = content.get("timestamps")
    if values is None:
        return None
    count = len(content["images"])
    if not isinstance(values, torch.Tensor) or values.is_floating_point() or values.shape != (count,):
        raise ValueError(f"{where}: timestamps must be a tensor of {count} whole numbers, one an image")
    return values.tolist()


def _posed_images(content: dict[str, Any], timestamps: list[int] | None, *, where: str) -> list[PosedImage]:
    cameras, images = content["cameras"], content["images"]
    if not isinstance(cameras, torch.Tensor) or cameras.shape != (len(images), 18):
        found = tuple(cameras.shape) if isinstance(cameras, torch.Tensor) else type(cameras).__name__
        raise ValueError(f"{where}: cameras must be a tensor [{len(images)}, 18], a row an image, got {found}")
    posed = []
    for index, (values, image) in enumerate(zip(cameras.double().numpy(), images, strict=True)):
        frame = f"{where}, frame {index}"
        if not isinstance(image, torch.Tensor) or image.dtype != torch.uint8 or image.ndim != 1:
            raise ValueError(f"{frame}: an image must be a tensor [N] of the bytes of a JPEG (uint8)")
        data = image.numpy().tobytes()
        width, height = image_size(data, where=frame)
        K, camtoworld = normalized_camera(values, width=width, height=height, where=frame)
        posed.append(
            PosedImage(
                where=frame,
                content=data,
                width=width,
                height=height,
                K=K,
                camtoworld=camtoworld,
                time_s=float(index) if timestamps is None else (timestamps[index] - timestamps[0]) / 1e6,
                source_index=index,
            )
        )
    return posed
