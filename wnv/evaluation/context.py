"""A scene's context, prepared for drawing exactly as it is for training and scoring."""

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
    """The frames that somebody chose as context, and those to draw.

    Args:
        frames: Frame numbers of the context, at least one, each once.
        target: Frame numbers to draw; None for those of the context.

    Raises:
        ValueError: If there is none, or one twice.
    """

    frames: tuple[int, ...]
    target: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not self.frames or len(set(self.frames)) != len(self.frames):
            raise ValueError(f"context must name at least one frame, and each once, got {list(self.frames)}")

    def sample(self, frames: SceneFrames, generator: torch.Generator, *, index: int = 0) -> ViewChoice:
        """The given frames; nothing is random."""
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
    """The context of one scene file; the example's target is the context again, or what lies between its views.

    Args:
        path: A scene file (`.zip`), also as a URL that fsspec understands.
        frames: Frame numbers of the context views; None takes `num_context` of them, evenly spread over the scene.
        num_context: How many, if `frames` is None.
        num_target: Make targets of so many frames, evenly spread from the first to the last context frame; of all where
            there are fewer.
        image_size: Height and width in pixels; None keeps the scene's proportions, nearly.
        short_side: Pixels of the shorter side, if `image_size` is None.
        size_multiple: What height and width are a multiple of, if `image_size` is None: the model's patch size.
        pose_normalization: How the world is placed around the context, as in training.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the scene has no such frames, or `num_target` is given with a single context frame.
    """
    if not is_url(str(path)) and not Path(path).is_file():
        hint = ", which is a folder; give a scene file (.zip) in it" if Path(path).is_dir() else "; check the path"
        raise FileNotFoundError(f"no scene file at {path}{hint} (synthetic:INDEX is one of the synthetic world)")
    with open_scene(path) as scene:
        info = scene.info
    if frames is None:
        if not 1 <= num_context <= len(info.frames):
            raise ValueError(
                f"num_context must be in 1..{len(info.frames)}, the frames of scene {info.id!r}, got {num_context}"
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
    """Height and width in pixels at which a model draws pictures of these proportions, which are kept nearly.

    Args:
        height: Of the pictures that are there, in pixels.
        width: Likewise.
        short_side: Pixels that the shorter side is to have, nearly.
        multiple: What both are a multiple of: the model's patch size.
    """
    scale = short_side / min(height, width)
    rows, columns = (max(1, round(side * scale / multiple)) * multiple for side in (height, width))
    return rows, columns


def _between(frames: Sequence[int], *, count: int | None) -> tuple[int, ...] | None:
    if count is None or not frames:
        return None
    first, last = min(frames), max(frames)
    if first == last:
        raise ValueError(f"frames between context views need two of these, got context={list(frames)}; set num_context")
    places = torch.linspace(first, last, min(count, last - first + 1))
    return tuple(places.round().long().tolist())
