"""The pack stage: write posed clips as scene files."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar
from zipfile import BadZipFile

import cv2
import numpy as np
import PIL
from jaxtyping import UInt8

from wnv import __version__
from wnv.ingest.layout import scene_folder
from wnv.ingest.photos.pack_photos import PosedPhotos
from wnv.ingest.photos.photo_set import PHOTOS_SUFFIX
from wnv.ingest.tasks import Outcome, StageError, StageName, Task
from wnv.scenes.clip_images import ClipImages
from wnv.scenes.image_codec import ImageFormat
from wnv.scenes.resize import fit_size, shrink_image
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import SceneError, SceneInfo
from wnv.scenes.video import Decoder

# Frames decoded at once: more decode key frames less often, fewer take less memory.
_FRAMES_AT_ONCE = 16


@dataclass(eq=False, kw_only=True)
class PackStage:
    """Writes one scene file per clip: its posed frames, undistorted, with their source.

    Frames keep their times and indices in the clip. The same clip gives the same bytes.

    Args:
        short_side: Maximum shorter side of the images in pixels; None keeps that of the clip.
        max_side: Maximum longer side of the images in pixels; None sets no limit.
        image_format: `jpeg`, or `png` for lossless images.
        quality: JPEG quality, 1..100.
        decoder: Video decoder: `decord`, `pyav`, or `auto`.

    Raises:
        ValueError: If a setting is out of its range.
    """

    name: ClassVar[StageName] = "pack"

    short_side: int | None = None
    max_side: int | None = None
    image_format: ImageFormat = "jpeg"
    quality: int = 95
    decoder: Decoder = "auto"

    def __post_init__(self) -> None:
        fit_size(1, 1, max_side=self.max_side, short_side=self.short_side)  # checks the sides
        if self.image_format not in ("jpeg", "png"):
            raise ValueError(f"image_format must be 'jpeg' or 'png', got {self.image_format!r}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality must be in 1..100, got {self.quality}")

    def __call__(self, task: Task) -> Outcome:
        """Write the scene file, replacing one of an earlier attempt."""
        payload = task.payload
        folder = scene_folder(kind=payload["kind"], split=payload["split"])
        try:
            if payload["file"].endswith(PHOTOS_SUFFIX):
                photos = PosedPhotos(task.root / payload["file"], short_side=self.short_side, max_side=self.max_side)
                info, images = self._photo_scene(photos, payload), photos.images()
            else:
                clip = ClipImages(task.root / payload["pose"]["sidecar"], decoder=self.decoder)
                info = self._scene(clip, payload)
                images = self._pixels(clip, info)
            path = write_scene(
                task.root / folder,
                info,
                images,
                overwrite=True,
                image_format=self.image_format,
                quality=self.quality,
            )
        except FileNotFoundError as error:
            raise StageError("failed", "missing", f"{error}; run the clip and pose stages again") from error
        except (SceneError, BadZipFile) as error:
            raise StageError("failed", "corrupt", str(error)) from error
        return Outcome(
            state="done",
            message=str(info.source.get("cropped", "")),
            result={
                "file": f"{folder}/{path.name}",
                "num_frames": len(info.frames),
                "width": info.width,
                "height": info.height,
            },
            num_bytes=path.stat().st_size,
        )

    def versions(self) -> dict[str, str]:
        """Return the settings and tool versions that a scene file depends on."""
        tools = {"wnv": __version__, "pillow": PIL.__version__, "opencv": cv2.__version__}
        return tools | {entry.name: str(getattr(self, entry.name)) for entry in fields(self)}

    def _scene(self, clip: ClipImages, payload: Mapping[str, Any]) -> SceneInfo:
        info = clip.info
        width, height = fit_size(info.width, info.height, max_side=self.max_side, short_side=self.short_side)
        scale = np.array([width / info.width, height / info.height, 1.0])
        source = {
            **self._source(payload, clip.poses.source),
            "clip": {"file": payload["file"], "fps": str(clip.poses.fps), "size": [info.width, info.height]},
            "undistorted": bool(clip.poses.distortion),
            **self._tools(),
        }
        return replace(
            info,
            width=width,
            height=height,
            frames=tuple(replace(frame, K=scale[:, None] * frame.K) for frame in info.frames),
            source=source,
        )

    def _photo_scene(self, photos: PosedPhotos, payload: Mapping[str, Any]) -> SceneInfo:
        source = {
            **self._source(payload, photos.poses.source),
            "photos": photos.names,
            "undistorted": any(bool(lens.distortion) for lens in photos.poses.lenses.values()),
            **self._tools(),
        }
        if photos.num_cropped:
            size = f"{photos.width} x {photos.height}"
            source["cropped"] = f"{photos.num_cropped} of {len(photos.names)} photographs were cropped to {size}"
        return SceneInfo(
            id=payload["id"],
            kind=payload["kind"],
            width=photos.width,
            height=photos.height,
            frames=photos.frames,
            source=source,
        )

    def _source(self, payload: Mapping[str, Any], poses: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "format": "wnv-data",
            "manifest_key": payload["key"],
            "url": payload["url"],
            "title": payload["title"],
            "segment": [payload["start_s"], payload["end_s"]],
            **poses,
        }

    def _tools(self) -> dict[str, Any]:
        return {"pack": self.versions(), "wnv": __version__}

    def _pixels(self, clip: ClipImages, info: SceneInfo) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        positions = range(len(info.frames))
        keeps_size = (info.width, info.height) == (clip.info.width, clip.info.height)
        for start in positions[::_FRAMES_AT_ONCE]:
            for image in clip.read(positions[start : start + _FRAMES_AT_ONCE]):
                yield image if keeps_size else shrink_image(image, width=info.width, height=info.height)
