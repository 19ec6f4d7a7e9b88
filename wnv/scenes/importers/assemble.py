"""Writes the posed images of one capture as a scene file."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from wnv import __version__
from wnv.scenes.importers.capture import ImportOptions, PosedImage
from wnv.scenes.importers.image_content import decode_rgb, image_size, is_copyable, is_turned
from wnv.scenes.resize import fit_size, shrink_image
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import Frame, SceneInfo
from wnv.scenes.undistort import pinhole_without_borders, undistort_image, undistortion_maps

logger = logging.getLogger(__name__)


def assemble_scene(
    out: Path, images: Sequence[PosedImage], *, scene_id: str, source: Mapping[str, Any], options: ImportOptions
) -> Path:
    """Write one scene file and return its path; an existing one is replaced.

    Distorted images are undistorted to a pinhole of the same size (see `pinhole_without_borders`), images larger than
    `options.max_side` are scaled down with their `K`. Other JPEGs are copied byte for byte. Images are read one by one.

    Args:
        out: Folder of the scene file.
        images: At least one, in the order of their times.
        scene_id: Name of the scene.
        source: Where the scene came from, any JSON object; `wnv` and `undistorted` are added.
        options: `kind`, `max_side`, `image_format` and `quality` are used.

    Raises:
        ValueError: If there is no image, sizes differ, or an image or camera is invalid; no file is left behind.
    """
    if not images:
        raise ValueError(f"scene '{scene_id}': the source has no frames; a scene needs at least one posed image")
    given, images = images, [_fit_to_pixels(image) for image in images]
    source_size = _common_size(images)
    if source_size != (given[0].width, given[0].height):
        logger.warning(
            "scene '%s': the images have %d x %d pixels and the cameras are for %d x %d; K is scaled",
            scene_id, *source_size, given[0].width, given[0].height,
        )  # fmt: skip
    width, height = fit_size(*source_size, max_side=options.max_side)
    keeps_size = source_size == (width, height)
    scale = np.array([width / source_size[0], height / source_size[1], 1.0])
    pinholes = [
        pinhole_without_borders(image.K, image.distortion, width=image.width, height=image.height, where=image.where)
        if image.distortion
        else image.K
        for image in images
    ]
    frames = tuple(
        Frame(
            time_s=image.time_s,
            source_index=image.source_index,
            K=scale[:, None] * pinhole,
            camtoworld=image.camtoworld,
        )
        for image, pinhole in zip(images, pinholes, strict=True)
    )
    info = SceneInfo(
        id=scene_id,
        kind=options.kind or "static",
        width=width,
        height=height,
        frames=frames,
        source={**source, "undistorted": any(image.distortion for image in images), "wnv": __version__},
    )

    def pixels() -> Iterator[bytes | UInt8[np.ndarray, "height width 3"]]:
        last_lens, maps = None, None  # only the last maps: those of all frames would fill the memory
        for image, pinhole in zip(images, pinholes, strict=True):
            data = image.content if isinstance(image.content, bytes) else image.content.read_bytes()
            is_kept = keeps_size and not image.distortion and not image.is_turned
            if is_kept and is_copyable(data, image_format=options.image_format, where=image.where):
                yield data
                continue
            decoded = decode_rgb(data, where=image.where, upright=image.is_turned)
            if image.distortion:
                lens = (image.K.tobytes(), image.distortion)
                if maps is None or lens != last_lens:
                    maps = undistortion_maps(image.K, image.distortion, pinhole, width=image.width, height=image.height)
                    last_lens = lens
                decoded = undistort_image(decoded, maps)
            yield decoded if keeps_size else shrink_image(decoded, width=width, height=height)

    path = write_scene(out, info, pixels(), overwrite=True, image_format=options.image_format, quality=options.quality)
    logger.info("%s: %d frames of %d x %d from %s", path, len(frames), width, height, source.get("format", "source"))
    return path


def _fit_to_pixels(image: PosedImage) -> PosedImage:
    """Fit the camera to the size of the image file: scaled copies have the cameras of the originals.

    Raises:
        ValueError: If the image is not a scaled copy.
    """
    expected = (image.width, image.height)
    found = image_size(image.content, where=image.where)
    if found == expected:
        return image
    if found == expected[::-1] and is_turned(image.content, where=image.where):
        return replace(image, is_turned=True)
    factors = np.divide(found, expected)
    is_crop = bool(((factors > 0.9) & (factors < 1.1)).any())  # or has lost its border in undistortion
    if is_crop or (abs(factors[0] * expected[1] - found[1]) > 1 and abs(factors[1] * expected[0] - found[0]) > 1):
        raise ValueError(
            f"{image.where}: the image is {found[0]} x {found[1]} pixels (width x height), its camera is for "
            f"{expected[0]} x {expected[1]}, and one is no scaled copy of the other; use the images of the cameras"
        )
    K = np.array([*factors, 1.0])[:, None] * image.K
    return replace(image, width=found[0], height=found[1], K=K)


def _common_size(images: Sequence[PosedImage]) -> tuple[int, int]:
    first = images[0]
    for image in images:
        if (image.width, image.height) != (first.width, first.height):
            raise ValueError(
                f"{image.where}: the image is {image.width} x {image.height} pixels (width x height), that of "
                f"{first.where} {first.width} x {first.height}; all images of a scene must have one size, so resize "
                "them with their intrinsics or import each size separately"
            )
    return first.width, first.height
