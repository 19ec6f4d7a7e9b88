"""The frames of a clip and their masks, written to files for an estimator."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
from jaxtyping import Bool

from wnv.ingest.pose.motion_masks import motion_masks
from wnv.ingest.pose.overlays import overlay_mask, shrink
from wnv.ingest.tasks import StageError
from wnv.scenes.video import VideoReader, open_video

Masks = Literal["auto", "dynamic", "always", "never"]

# Frames decoded at once.
_BATCH = 8
# Time to the neighboring frame used for motion masks: objects have moved, the view has hardly changed.
_NEIGHBOUR_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Sampled frames of a clip, as files.

    Attributes:
        indices: Their indices in the clip.
        frames: PNG images.
        masks: A gray PNG per frame, 0 where features are left out; None if they are not.
        moving_share: Mean share of the picture that moves against the camera, 0..1; None if it was not measured.
        overlay_share: Share of the picture that overlays cover, 0..1.
        fps: Frame rate of the clip.
        width: Width of the clip in pixels.
        height: Height of the clip in pixels.
    """

    indices: list[int]
    frames: list[Path]
    masks: list[Path] | None
    moving_share: float | None
    overlay_share: float
    fps: Fraction
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How frames are sampled and masked; see `PoseStage`."""

    max_frames: int | None
    frame_step: int | None
    masks: Masks
    min_moving: float | int
    mask_overlays: bool
    seed: int

    def __post_init__(self) -> None:
        if self.max_frames is not None and self.max_frames < 2:
            raise ValueError(f"max_frames must be at least 2 or null, got {self.max_frames}")
        if self.frame_step is not None and self.frame_step < 1:
            raise ValueError(f"frame_step must be at least 1 or null, got {self.frame_step}")
        if self.masks not in get_args(Masks):
            raise ValueError(f"masks must be one of {', '.join(get_args(Masks))}, got {self.masks!r}")
        if not 0 <= self.min_moving <= 1:
            raise ValueError(f"min_moving must be between 0 and 1, got {self.min_moving}")

    def sample(self, clip: Path, folder: Path, *, kind: str, min_frames: int) -> Sample:
        """Decode the sampled frames of a clip and write them and their masks to a folder.

        Raises:
            StageError: `refused` if there are fewer than `min_frames`.
        """
        for name in ("frames", "masks"):
            (folder / name).mkdir()
        with open_video(clip) as reader:
            indices = sample_indices(reader.num_frames, max_frames=self.max_frames, frame_step=self.frame_step)
            if len(indices) < min_frames:
                message = f"{len(indices)} sampled frames, pose.filters.min_frames={min_frames}"
                raise StageError("refused", "few_registered", message)
            frames, moving, small = [], [], []
            for start in range(0, len(indices), _BATCH):
                batch = indices[start : start + _BATCH]
                images = reader.read(batch)
                for index, image in zip(batch, images, strict=True):
                    frames.append(folder / "frames" / f"{index:06d}.png")
                    _write_png(frames[-1], image[..., ::-1])
                    small.append(shrink(image))
                if self._measures_motion(kind):
                    neighbours = reader.read(_neighbours(batch, reader))
                    # One bit per pixel: a clip has as many masks as frames.
                    found = motion_masks(list(images), list(neighbours), seed=self.seed)
                    moving += [np.packbits(mask, axis=-1) for mask in found]
            size = reader.height, reader.width
            overlay = overlay_mask(small, width=size[1], height=size[0]) if self.mask_overlays else None
            masked = [np.unpackbits(bits, axis=-1, count=size[1]).astype(bool) for bits in moving]
            share = float(np.mean([mask.mean() for mask in masked])) if masked else None
            if not self._masks_motion(kind, share):
                masked = []
            return Sample(
                indices=indices,
                frames=frames,
                masks=_write_masks(folder / "masks", frames, masked, overlay),
                moving_share=share,
                overlay_share=0.0 if overlay is None else float(overlay.mean()),
                fps=reader.fps,
                width=reader.width,
                height=reader.height,
            )

    def _measures_motion(self, kind: str) -> bool:
        return self.masks in ("auto", "always") or (self.masks == "dynamic" and kind == "dynamic")

    def _masks_motion(self, kind: str, share: float | None) -> bool:
        if self.masks == "auto" and kind == "static":
            return share is not None and share >= self.min_moving
        return bool(share)


def sample_indices(num_frames: int, *, max_frames: int | None, frame_step: int | None) -> list[int]:
    """Return the indices of every `frame_step`-th frame, thinned evenly to `max_frames`."""
    indices = range(0, num_frames, frame_step or 1)
    if max_frames is None or len(indices) <= max_frames:
        return list(indices)
    return [indices[round(place)] for place in np.linspace(0, len(indices) - 1, max_frames)]


def _write_masks(
    folder: Path,
    frames: Sequence[Path],
    moving: Sequence[Bool[np.ndarray, "height width"]],
    overlay: Bool[np.ndarray, "height width"] | None,
) -> list[Path] | None:
    """Write a mask per frame, or one for all if nothing moves."""
    if not moving and overlay is None:
        return None
    paths = [folder / frame.name for frame in frames] if moving else [folder / "overlay.png"] * len(frames)
    for index, path in enumerate(paths if moving else paths[:1]):
        left_out = [mask for mask in (overlay, moving[index] if moving else None) if mask is not None]
        _write_png(path, np.where(np.logical_or.reduce(left_out), np.uint8(0), np.uint8(255)))
    return paths


def _neighbours(indices: Sequence[int], reader: VideoReader) -> list[int]:
    gap = min(max(1, round(_NEIGHBOUR_S * reader.fps)), reader.num_frames - 1)
    return [index + gap if index + gap < reader.num_frames else index - gap for index in indices]


def _write_png(path: Path, image: np.ndarray) -> None:
    # Low compression for short-lived files; written by Python, which reports a full disk.
    _, data = cv2.imencode(".png", np.ascontiguousarray(image), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    path.write_bytes(data.tobytes())
