"""Scenes to view: their cameras and images, and a context made of any of their frames."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from wnv.evaluation.context import NUM_CONTEXT, default_context, fit_size, open_cameras, open_context
from wnv.geometry.camera_checks import doubtful_context
from wnv.geometry.poses import WorldFrame, fit_world_frame
from wnv.scenes.listing import list_scenes
from wnv.types import Cameras, Example, Views

_MAX_IMAGES, _MAX_CONTEXTS = 64, 4  # to keep per scene


class ViewerScene(ABC):
    """A scene with all its frames.

    The viewer shows the world as the default context normalizes it, also when other frames are the context.

    Args:
        name: Name of the scene.
        camtoworld: Poses of all frames in the scene's own world.
        times: Times of all frames, in the unit that `context_time` takes.
        is_dynamic: Whether things move.
        default_context: Frames that are the context at first.
        image_size: Height and width of the context's images in pixels.
        pose_normalization: How a context normalizes the world, as in training.
    """

    def __init__(
        self,
        *,
        name: str,
        camtoworld: Float[Tensor, "frame 4 4"],
        times: Float[Tensor, " frame"],
        is_dynamic: bool,
        default_context: tuple[int, ...],
        image_size: tuple[int, int],
        pose_normalization: Literal["mean", "first"] = "mean",
    ) -> None:
        self.name = name
        self.is_dynamic = is_dynamic
        self.image_size = image_size
        self.times = times.double()
        self._camtoworld = camtoworld.double()
        self.default_context = self.check_frames(default_context)
        self._pose_normalization: Literal["mean", "first"] = pose_normalization
        self.shown_world = self._normalize(default_context)
        self.camtoworld = self.shown_world.apply(self._camtoworld)
        self._cached_image = lru_cache(_MAX_IMAGES)(self._read_image)
        self._cached_context = lru_cache(_MAX_CONTEXTS)(self._make_context)

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self._camtoworld)

    def check_frames(self, frames: Sequence[int]) -> tuple[int, ...]:
        """Return the frames if they can be a context.

        Raises:
            ValueError: If they are empty, repeat one, or name one that the scene does not have.
        """
        if not frames or len(set(frames)) != len(frames):
            raise ValueError(f"a context needs at least one frame, each once, got {list(frames)}")
        outside = [frame for frame in frames if not 0 <= frame < self.num_frames]
        if outside:
            raise ValueError(f"{self.name} has frames 0 to {self.num_frames - 1}, got {outside}")
        return tuple(frames)

    def to_context_world(
        self, camtoworld: Float[Tensor, "*view 4 4"], frames: tuple[int, ...]
    ) -> Float[Tensor, "*view 4 4"]:
        """Transform poses from the world that is shown to the world of a context."""
        if frames == self.default_context:
            return camtoworld
        return self._normalize(frames).apply(self.shown_world.undo(camtoworld))

    def context(self, frames: tuple[int, ...]) -> Views:
        """Make a context of frames, prepared as in training, batch axes `view`."""
        return self._cached_context(self.check_frames(frames))

    def shown_cameras(self, frames: tuple[int, ...]) -> Cameras:
        """The cameras of a context in the world that is shown, float64."""
        cameras = self.context(frames).cameras
        return replace(cameras, K=cameras.K.double(), camtoworld=self.camtoworld[list(frames)])

    def doubts(self, frames: tuple[int, ...]) -> list[str]:
        """Describe what is doubtful about a context, such as cameras that nearly coincide."""
        context = self.shown_cameras(frames)
        all_frames = replace(context, K=context.K[:1].expand(self.num_frames, 3, 3), camtoworld=self.camtoworld)
        return doubtful_context(context, all_frames, is_static=not self.is_dynamic)

    def image(self, frame: int) -> Float[Tensor, "3 height width"]:
        """The image of a frame at the context's size, RGB in 0..1."""
        return self._cached_image(frame)

    def _normalize(self, frames: tuple[int, ...]) -> WorldFrame:
        return fit_world_frame(self._camtoworld[list(frames)], method=self._pose_normalization)

    @abstractmethod
    def context_time(self, time: float, frames: tuple[int, ...]) -> float:
        """Normalize a time of the scene as in a context of these frames; 0 for a static scene."""

    @abstractmethod
    def _make_context(self, frames: tuple[int, ...]) -> Views: ...

    @abstractmethod
    def _read_image(self, frame: int) -> Float[Tensor, "3 height width"]: ...


class FileScene(ViewerScene):
    """A scene file.

    Args:
        path: Its path.
        frames: Frames that are the context at first; default: `default_context`.
        num_context: Number of context frames if `frames` is None; all frames of a shorter scene.
        image_size: Height and width in pixels; default: close to the scene's aspect.
        short_side: Pixels of the shorter side if `image_size` is None.
        size_multiple: Height and width are multiples of it if `image_size` is None: the model's patch size.
        pose_normalization: How a context normalizes the world, as in training.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the scene is invalid, or lacks one of `frames`.
    """

    def __init__(
        self,
        path: str,
        *,
        frames: Sequence[int] | None = None,
        num_context: int | None = None,
        image_size: Sequence[int] | None = None,
        short_side: int = 64,
        size_multiple: int = 8,
        pose_normalization: Literal["mean", "first"] = "mean",
    ) -> None:
        self._path = path
        if num_context is not None and num_context < 1:
            raise ValueError(f"num_context must be at least 1, got {num_context}")
        info, cameras = open_cameras(path)
        if frames is None:
            frames = default_context(info, cameras, count=num_context or NUM_CONTEXT)
        if image_size is None:
            image_size = fit_size(info.height, info.width, short_side=short_side, multiple=size_multiple)
        super().__init__(
            name=info.id,
            camtoworld=cameras.camtoworld,
            times=torch.tensor([frame.time_s for frame in info.frames], dtype=torch.float64),
            is_dynamic=info.kind == "dynamic",
            default_context=tuple(frames),
            image_size=(image_size[0], image_size[1]),
            pose_normalization=pose_normalization,
        )

    def context_time(self, time: float, frames: tuple[int, ...]) -> float:
        """Normalize seconds as `SceneDataset` does: 0 is the context's first time and 1 its last."""
        times = self.times[list(frames)]
        first, window = float(times.min()), float(times.max() - times.min())
        return (time - first) / window if self.is_dynamic and window > 0 else 0.0

    def _make_context(self, frames: tuple[int, ...]) -> Views:
        return open_context(
            self._path, frames=frames, image_size=self.image_size, pose_normalization=self._pose_normalization
        ).context

    def _read_image(self, frame: int) -> Float[Tensor, "3 height width"]:
        return self._make_context((frame,)).images[0]


class ExampleScene(ViewerScene):
    """An example of a dataset; its frames are the context views, then the target views."""

    def __init__(
        self, example: Example, *, name: str, is_dynamic: bool, pose_normalization: Literal["mean", "first"] = "mean"
    ) -> None:
        context, target = example.context, example.target
        cameras = replace(
            context.cameras,
            K=torch.cat([context.cameras.K, target.cameras.K]),
            camtoworld=torch.cat([context.cameras.camtoworld, target.cameras.camtoworld]),
        )
        images, times = torch.cat([context.images, target.images]), torch.cat([context.times, target.times])
        self._views = Views(images=images, cameras=cameras, times=times)
        super().__init__(
            name=name,
            camtoworld=cameras.camtoworld,
            times=times,
            is_dynamic=is_dynamic,
            default_context=tuple(range(len(context.times))),
            image_size=(cameras.height, cameras.width),
            pose_normalization=pose_normalization,
        )

    def context_time(self, time: float, frames: tuple[int, ...]) -> float:
        """The time itself: a dataset normalizes times already."""
        return time if self.is_dynamic else 0.0

    def _make_context(self, frames: tuple[int, ...]) -> Views:
        views = self._views[list(frames)]
        if frames == self.default_context:
            return views
        camtoworld = self._normalize(frames).apply(self._camtoworld[list(frames)]).float()
        return replace(views, cameras=replace(views.cameras, camtoworld=camtoworld))

    def _read_image(self, frame: int) -> Float[Tensor, "3 height width"]:
        return self._views.images[frame]


@dataclass(frozen=True)
class SceneList:
    """Scenes that are opened one at a time.

    Attributes:
        open: Opens a scene by its index.
        num_scenes: Number of scenes.
        first: Index of the scene to show first.
    """

    open: Callable[[int], ViewerScene]
    num_scenes: int
    first: int = 0

    def __len__(self) -> int:
        return self.num_scenes


def file_scenes(root: str | Path, **options: Any) -> SceneList:
    """List a scene file, or those of a folder, or of a URL of either; `options` are arguments of `FileScene`.

    Raises:
        FileNotFoundError: If there is no scene at `root`.
        ValueError: If these are clips with poses.
    """
    paths = [scene.path for scene in list_scenes(root).values()]
    clips = [path for path in paths if not path.endswith(".zip")]
    if clips:
        raise ValueError(f"{clips[0]} is a clip with poses; pack it first: wnv-data pack root=...")
    return SceneList(lambda index: FileScene(paths[index], **options), len(paths))


def example_scenes(dataset: Dataset[Example], *, name: str, first: int = 0, **options: Any) -> SceneList:
    """List the examples of a dataset, such as the synthetic world's; `options` are arguments of `ExampleScene`.

    Args:
        dataset: The examples; it needs a length.
        name: Prefix of the scenes' names.
        first: Index of the scene to show first.
        options: Arguments of `ExampleScene`.
    """
    num_scenes = len(dataset)  # pyright: ignore[reportArgumentType] # torch's Dataset declares no length
    return SceneList(lambda index: ExampleScene(dataset[index], name=f"{name}{index}", **options), num_scenes, first)
