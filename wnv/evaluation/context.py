"""Open the context of a scene file, prepared exactly as for training and evaluation."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from wnv.data.scene_dataset import SceneDataset
from wnv.data.view_sampling import SceneFrames, ViewChoice, ViewSampler
from wnv.geometry.camera_checks import doubtful_context
from wnv.geometry.overlap import choose_neighbors
from wnv.scenes.archive import is_url
from wnv.scenes.listing import open_scene
from wnv.scenes.schema import SceneInfo
from wnv.types import Cameras, Example

log = logging.getLogger(__name__)

NUM_CONTEXT = 4  # by default: as `fit_scene` trains; konet_tiny (trained on 2) renders better from 3 or 4 neighbors


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


def open_cameras(path: str | Path) -> tuple[SceneInfo, Cameras]:
    """Read the description of a scene file, and the cameras of all its frames in float64.

    Raises:
        FileNotFoundError: If the file does not exist.
    """
    if not is_url(str(path)) and not Path(path).is_file():
        hint = "a folder; choose a scene file (.zip) in it" if Path(path).is_dir() else "no file; check the path"
        raise FileNotFoundError(f"scene must be a scene file or synthetic:INDEX, but {path} is {hint}")
    with open_scene(path) as scene:
        return scene.info, scene.cameras(range(len(scene.info.frames)), dtype=torch.float64)


def default_context(info: SceneInfo, cameras: Cameras, *, count: int = NUM_CONTEXT) -> tuple[int, ...]:
    """Choose context frames of a scene file; all frames of a shorter one.

    A static scene is shown around its first frame, from neighboring cameras: weights render what lies between views
    that overlap, and fog between the ends of a long capture. A dynamic scene is shown in its whole time.
    """
    if info.kind == "dynamic":
        return spread(len(info.frames), count)
    return choose_neighbors(cameras.camtoworld, start=0, count=count)


def spread(num_frames: int, count: int) -> tuple[int, ...]:
    """Spread `count` frames evenly over a scene, including its first and last; all frames of a shorter scene."""
    return tuple(torch.linspace(0, num_frames - 1, min(count, num_frames)).round().long().unique().tolist())


def open_context(
    path: str | Path,
    *,
    frames: Sequence[int],
    num_target: int | None = None,
    image_size: Sequence[int] | None = None,
    short_side: int = 64,
    size_multiple: int = 8,
    pose_normalization: Literal["mean", "first"] = "mean",
) -> Example:
    """Open context frames of one scene file.

    Args:
        path: A scene file (`.zip`), or a URL that fsspec supports.
        frames: Frame numbers of the context views.
        num_target: Number of target frames, spread evenly from the first to the last context frame; None makes the
            context frames the targets.
        image_size: Height and width in pixels; None approximately keeps the scene's proportions.
        short_side: Pixels of the shorter side if `image_size` is None.
        size_multiple: Height and width are multiples of this if `image_size` is None: the model's patch size.
        pose_normalization: Normalization of the world, as in training.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the scene lacks a frame, or `num_target` is given with a single context frame.
    """
    info, cameras = open_cameras(path)
    chosen = [frame for frame in frames if 0 <= frame < len(info.frames)]
    for doubt in doubtful_context(cameras[chosen], cameras, is_static=info.kind == "static"):
        log.warning("scene %r, context %s: %s", info.id, list(frames), doubt)
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
        raise ValueError(f"frames between context views need two context views, got context={list(frames)}; name two")
    places = torch.linspace(first, last, min(count, last - first + 1))
    return tuple(places.round().long().tolist())
