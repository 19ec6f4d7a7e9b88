"""The common end of every importer: the posed images of one capture become one scene file."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from wnv import __version__
from wnv.scenes.image_codec import ImageFormat
from wnv.scenes.importers.image_content import (
    decode_rgb,
    image_size,
    is_copyable,
    read_bytes,
    size_hint,
)
from wnv.scenes.resize import fit_size, shrink_image
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import Frame, SceneInfo, SceneKind
from wnv.scenes.undistort import (
    Distortion,
    PixelMaps,
    pinhole_without_borders,
    undistort_image,
    undistortion_maps,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class PosedImage:
    """One image of a capture as its source describes it, before anything is done to it.

    Attributes:
        where: File and frame, as error messages name them.
        content: The picture's file, or its bytes.
        width: Width in pixels that `K` belongs to.
        height: Height in pixels that `K` belongs to.
        K: Intrinsics in pixels; the first pixel's centre is (0.5, 0.5).
        camtoworld: world<-camera, rigid, OpenCV axes.
        distortion: What the lens does besides `K`.
        time_s: Seconds on the clip's clock.
        source_index: Index in the source video or list.
    """

    where: str
    content: Path | bytes
    width: int
    height: int
    K: Float64[np.ndarray, "3 3"]
    camtoworld: Float64[np.ndarray, "4 4"]
    distortion: Distortion = field(default_factory=Distortion)
    time_s: float
    source_index: int | None = None


def frame_time(index: int, *, fps: float | int | None) -> float:
    """When frame `index` was taken: evenly spaced at `fps`; photographs without a clock count 0, 1, 2, ...

    Raises:
        ValueError: If `fps` is not positive.
    """
    if fps is None:
        return float(index)
    if not 0 < fps < float("inf"):
        raise ValueError(f"fps must be positive, got {fps}; leave it out for photographs without a clock")
    return index / fps


def claim_id(scene_id: str, taken: dict[str, str], *, where: str) -> str:
    """The id of a scene, noted as taken: of one import no scene may replace another.

    Args:
        scene_id: The id.
        taken: Ids of the scenes before it, and where each came from; this one is added.
        where: Where the scene comes from.

    Raises:
        ValueError: If it is taken.
    """
    if scene_id in taken:
        raise ValueError(
            f"{where}: its name {scene_id!r} is also that of {taken[scene_id]}, and one scene file would replace the "
            "other; rename one of them, or import them into two folders"
        )
    taken[scene_id] = where
    return scene_id


def assemble_scene(
    out: Path,
    images: Sequence[PosedImage],
    *,
    scene_id: str,
    source: Mapping[str, Any],
    kind: SceneKind = "static",
    max_side: int | None = None,
    overwrite: bool = False,
    image_format: ImageFormat = "jpeg",
    quality: int = 95,
) -> Path:
    """Write one scene file from posed images and return its path.

    Images with lens distortion are undistorted to a pinhole of the same size (see `pinhole_without_borders`), images
    larger than `max_side` are made smaller, `K` with them. A JPEG to which neither happens is copied byte by byte.
    The images are read one at a time.

    Args:
        out: Folder of the scene file.
        images: In the order of their times; at least one.
        scene_id: Name of the scene.
        source: Where it came from: any JSON object; `wnv` and `undistorted` are added.
        kind: `static` or `dynamic`.
        max_side: Longest side of the stored images in pixels; None keeps the size.
        overwrite: Replace a scene file of this name.
        image_format: How images that change are encoded.
        quality: JPEG quality of images that change.

    Raises:
        ValueError: If there is no image, sizes differ, or an image or camera is bad; nothing stays behind.
        FileExistsError: If the scene file exists and `overwrite` is not set.
    """
    if not images:
        raise ValueError(f"scene '{scene_id}': the source has no frames; a scene needs at least one posed image")
    source_size = _common_size(images)
    width, height = fit_size(*source_size, max_side=max_side)
    scale = np.array([width / source_size[0], height / source_size[1], 1.0])
    lenses = _Lenses()
    frames = tuple(
        Frame(
            time_s=image.time_s,
            source_index=image.source_index,
            K=scale[:, None] * lenses.pinhole(image),
            camtoworld=image.camtoworld,
        )
        for image in images
    )
    info = SceneInfo(
        id=scene_id,
        kind=kind,
        width=width,
        height=height,
        frames=frames,
        source={**source, "undistorted": any(image.distortion for image in images), "wnv": __version__},
    )

    def pixels() -> Iterator[bytes | UInt8[np.ndarray, "height width 3"]]:
        for image in images:
            data = read_bytes(image.content)
            keeps_size = source_size == (width, height)
            if keeps_size and not image.distortion and is_copyable(data, image_format=image_format, where=image.where):
                yield data
                continue
            decoded = decode_rgb(data, where=image.where)
            if image.distortion:
                decoded = undistort_image(decoded, lenses.maps(image))
            yield decoded if keeps_size else shrink_image(decoded, width=width, height=height)

    path = write_scene(out, info, pixels(), overwrite=overwrite, image_format=image_format, quality=quality)
    logger.info("%s: %d frames of %d x %d from %s", path, len(frames), width, height, source.get("format", "source"))
    return path


class _Lenses:
    """The pinhole cameras and pixel maps of the lenses met so far: most captures have one."""

    def __init__(self) -> None:
        self._pinholes: dict[Any, np.ndarray] = {}
        self._maps: tuple[Any, Any] = (None, None)

    def pinhole(self, image: PosedImage) -> Float64[np.ndarray, "3 3"]:
        if not image.distortion:
            return image.K
        key = self._key(image)
        if key not in self._pinholes:
            self._pinholes[key] = pinhole_without_borders(
                image.K, image.distortion, width=image.width, height=image.height, where=image.where
            )
        return self._pinholes[key]

    def maps(self, image: PosedImage) -> PixelMaps:
        # Only the last: where every frame has a lens of its own, all maps would fill the memory.
        if self._maps[0] != self._key(image):
            maps = undistortion_maps(
                image.K, image.distortion, self.pinhole(image), width=image.width, height=image.height
            )
            self._maps = (self._key(image), maps)
        return self._maps[1]

    @staticmethod
    def _key(image: PosedImage) -> tuple[bytes, Distortion, int, int]:
        return image.K.tobytes(), image.distortion, image.width, image.height


def _common_size(images: Sequence[PosedImage]) -> tuple[int, int]:
    first = images[0]
    expected = (first.width, first.height)
    for image in images:
        if (image.width, image.height) != expected:
            raise ValueError(
                f"{image.where}: the camera is for {image.width} x {image.height} pixels (width x height), that of "
                f"{first.where} for {expected[0]} x {expected[1]}; all images of a scene are of one size, so resize "
                "them with their intrinsics or import each size by itself"
            )
        found = image_size(image.content, where=image.where)
        if found != expected:
            raise ValueError(
                f"{image.where}: the image is {found[0]} x {found[1]} pixels (width x height), its camera is for "
                f"{expected[0]} x {expected[1]}; {size_hint(image.content, expected=expected, where=image.where)}"
            )
    return expected
