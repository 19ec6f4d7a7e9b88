"""Open the context of a scene file, prepared exactly as for training and evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from wnv.data.scene_dataset import SceneDataset
from wnv.data.view_sampling import SceneFrames, ViewChoice, ViewSampler
from wnv.scenes.archive import is_url
from wnv.scenes.listing import open_scene
from wnv.types import Example


@dataclass(frozen=True, kw_only=True)
class FixedFrames(ViewSampler):
    """A sampler of fixed frames.

    Args:
        frames: Frame numbers of the context, at least one and all different.
        target: Frame numbers of the targets; None is those of the context.

    Raises:
        ValueError: If there is no frame, or one is repeated.
    """

    frames: tuple[int, ...]
    target: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not self.frames or len(set(self.frames)) != len(self.frames):
            raise ValueError(f"context must be at least one frame number, each once, got {list(self.frames)}")

    def choose(self, frames: SceneFrames, generator: torch.Generator, index: int) -> ViewChoice:
        """The fixed frames."""
        outside = [frame for frame in self.frames if not 0 <= frame < frames.num_frames]
        if outside:
            raise ValueError(
                f"context names frames {outside} of scene {frames.scene_id!r}, which has frames 0 to "
                f"{frames.num_frames - 1}"
            )
        return ViewChoice(context=self.frames, target=self.frames if self.target is None else self.target)


def open_context(
    path: str | Path,
    *,
    frames: Sequence[int] | None = None,
    num_context: int = 2,
    num_target: int | None = None,
    image_size: Sequence[int] | None = None,
    short_side: int = 64,
    size_multiple: int = 8,
    pose_normalization: Literal["mean", "first"] = "mean",
) -> Example:
    """Open the context of one scene file.

    Args:
        path: A scene file (`.zip`), or a URL that fsspec supports.
        frames: Frame numbers of the context views; None spreads `num_context` of them evenly over the scene.
        num_context: Number of context views if `frames` is None.
        num_target: Number of target frames, spread evenly from the first to the last context frame; None makes the
            context frames the targets.
        image_size: Height and width in pixels; None approximately keeps the scene's proportions.
        short_side: Pixels of the shorter side if `image_size` is None.
        size_multiple: Height and width are multiples of this if `image_size` is None: the model's patch size.
        pose_normalization: Normalisation of the world, as in training.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the scene lacks a frame, or `num_target` is given with a single context frame.
    """
    if not is_url(str(path)) and not Path(path).is_file():
        hint = "a folder; choose a scene file (.zip) in it" if Path(path).is_dir() else "no file; check the path"
        raise FileNotFoundError(f"scene must be a scene file or synthetic:INDEX, but {path} is {hint}")
    with open_scene(path) as scene:
        info = scene.info
    if frames is None:
        if not 1 <= num_context <= len(info.frames):
            raise ValueError(
                f"num_context must be in 1..{len(info.frames)}, the number of frames of {info.id!r}, got {num_context}"
            )
        frames = torch.linspace(0, len(info.frames) - 1, num_context).round().long().tolist()
    if image_size is None:
        image_size = fit_size(info.height, info.width, short_side=short_side, multiple=size_multiple)
    dataset = SceneDataset(
        root=path,
        sampler=FixedFrames(frames=tuple(frames), target=_between(frames, count=num_target)),
        image_size=image_size,
        pose_normalization=pose_normalization,
    )
    return dataset[0]


def fit_size(height: int, width: int, *, short_side: int = 64, multiple: int = 8) -> tuple[int, int]:
    """Height and width for a model: about the proportions of `height` x `width`, multiples of the patch size."""
    scale = short_side / min(height, width)
    rows, columns = (max(1, round(side * scale / multiple)) * multiple for side in (height, width))
    return rows, columns


def _between(frames: Sequence[int], *, count: int | None) -> tuple[int, ...] | None:
    if count is None or not frames:
        return None
    first, last = min(frames), max(frames)
    if first == last:
        raise ValueError(
            f"frames between context views need two context views, got context={list(frames)}; set num_context"
        )
    places = torch.linspace(first, last, min(count, last - first + 1))
    return tuple(places.round().long().tolist())
