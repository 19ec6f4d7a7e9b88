"""Writes the posed images of one capture as a scene file."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from wnv import __version__
from wnv.scenes.importers.capture import ImportOptions, PosedImage
from wnv.scenes.importers.image_content import decode_rgb, image_size, is_copyable, is_turned
from wnv.scenes.points import Points
from wnv.scenes.resize import fit_size, shrink_image
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import Frame, SceneInfo
from wnv.scenes.undistort import FisheyeDistortion, pinhole_without_borders, undistort_image, undistortion_maps

logger = logging.getLogger(__name__)


def assemble_scene(
    out: Path,
    images: Sequence[PosedImage],
    *,
    scene_id: str,
    source: Mapping[str, Any],
    points: Points | None = None,
    options: ImportOptions,
) -> Path:
    """Write one scene file and return its path; an existing one is replaced.

    Distorted images are undistorted to a pinhole of the same size (see `pinhole_without_borders`). Images larger than
    `options.max_side`, or than the smallest one, are scaled down with their `K`. Other JPEGs are copied byte for byte.
    Images are read one by one.

    Args:
        out: Folder of the scene file.
        images: At least one, in the order of their times.
        scene_id: Name of the scene.
        source: Where the scene came from, any JSON object; `wnv` and `undistorted` are added.
        points: Points of the scene.
        options: `kind`, `max_side`, `image_format` and `quality` are used.

    Raises:
        ValueError: If there is no image, shapes differ, or an image or camera is invalid; no file is left behind.
    """
    if not images:
        raise ValueError(f"scene '{scene_id}': the source has no frames; a scene needs at least one posed image")
    images = _fit_to_pixels(images, scene_id=scene_id)
    width, height = fit_size(*_common_size(images, scene_id=scene_id), max_side=options.max_side)
    pinholes = [
        pinhole_without_borders(
            image.K,
            image.distortion,
            width=image.width,
            height=image.height,
            where=image.where,
            max_fov_deg=options.undistort_fov,
        )
        if image.distortion
        else image.K
        for image in images
    ]
    _report_fisheye(images, pinholes, scene_id=scene_id)
    frames = tuple(
        Frame(
            time_s=image.time_s,
            source_index=image.source_index,
            K=_scaled(pinhole, (width, height), (image.width, image.height)),
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
            keeps_size = (image.width, image.height) == (width, height)
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

    path = write_scene(
        out,
        info,
        pixels(),
        points=points,
        overwrite=True,
        image_format=options.image_format,
        quality=options.quality,
    )
    logger.info("%s: %d frames of %d x %d from %s", path, len(frames), width, height, source.get("format", "source"))
    return path


def _report_fisheye(
    images: Sequence[PosedImage], pinholes: Sequence[Float64[np.ndarray, "3 3"]], *, scene_id: str
) -> None:
    """Report the field of view that fisheye images get, and what is lost."""
    lenses = [pair for pair in zip(images, pinholes, strict=True) if isinstance(pair[0].distortion, FisheyeDistortion)]
    if not lenses:
        return
    image, pinhole = lenses[0]
    focal = pinhole[0, 0] if image.width >= image.height else pinhole[1, 1]
    fov_deg = 2 * math.degrees(math.atan(max(image.width, image.height) / 2 / focal))
    maps = undistortion_maps(image.K, image.distortion, pinhole, width=image.width, height=image.height)
    # The area of the photograph from which the pixels of the new image come.
    x, y = (np.gradient(axis.astype(np.float64)) for axis in maps)
    share = float(np.abs(x[1] * y[0] - x[0] * y[1]).sum()) / (image.width * image.height)
    logger.warning(
        "scene '%s': %d fisheye images become pinholes of %.0f degrees along the wider side (undistort_fov), %.0f %% "
        "of each photograph",
        scene_id, len(lenses), fov_deg, 100 * share,
    )  # fmt: skip


def _fit_to_pixels(images: Sequence[PosedImage], *, scene_id: str) -> list[PosedImage]:
    """Fit cameras to the sizes of the image files: scaled copies have the cameras of the originals.

    Raises:
        ValueError: If an image is not a scaled copy.
    """
    fitted: list[PosedImage] = []
    scaled: list[str] = []
    for image in images:
        expected = (image.width, image.height)
        found = image_size(image.content, where=image.where)
        if found == expected[::-1] != expected and is_turned(image.content, where=image.where):
            image = replace(image, is_turned=True)
        elif found != expected:
            if not _is_scaled_copy(found, expected):
                raise ValueError(
                    f"{image.where}: the image is {found[0]} x {found[1]} pixels (width x height), its camera is for "
                    f"{expected[0]} x {expected[1]}, and one is no scaled copy of the other; use the images of the "
                    "cameras"
                )
            scaled.append(f"{found[0]} x {found[1]} pixels and the cameras are for {expected[0]} x {expected[1]}")
            image = replace(image, width=found[0], height=found[1], K=_scaled(image.K, found, expected))
        fitted.append(image)
    if scaled:
        logger.warning("scene '%s': %d images have %s; K is scaled", scene_id, len(scaled), scaled[0])
    return fitted


def _common_size(images: Sequence[PosedImage], *, scene_id: str) -> tuple[int, int]:
    """The size of the smallest image, of which all others must be enlarged copies."""
    smallest = min(images, key=lambda image: image.width)
    size = (smallest.width, smallest.height)
    for image in images:
        if (image.width, image.height) != size and not _is_scaled_copy((image.width, image.height), size):
            raise ValueError(
                f"{image.where}: the image is {image.width} x {image.height} pixels (width x height), that of "
                f"{smallest.where} {size[0]} x {size[1]}; all images of a scene must have one shape, so crop them with "
                "their intrinsics or import each shape separately"
            )
    larger = sum((image.width, image.height) != size for image in images)
    if larger:
        message = "scene '%s': %d of %d images are scaled down to the smallest one, %d x %d pixels"
        logger.warning(message, scene_id, larger, len(images), *size)
    return size


def _is_scaled_copy(found: tuple[int, int], expected: tuple[int, int]) -> bool:
    factors = (found[0] / expected[0], found[1] / expected[1])
    if any(0.9 < factor < 1.1 for factor in factors):  # cropped, for example by undistortion
        return False
    return abs(factors[0] * expected[1] - found[1]) <= 1 or abs(factors[1] * expected[0] - found[0]) <= 1


def _scaled(
    K: Float64[np.ndarray, "3 3"], size: tuple[int, int], old_size: tuple[int, int]
) -> Float64[np.ndarray, "3 3"]:
    return np.array([size[0] / old_size[0], size[1] / old_size[1], 1.0])[:, None] * K
