"""The scenes that a viewer can show: their cameras and photographs, and a context made of any of their frames."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from wnv.evaluation.context import open_context
from wnv.geometry.poses import WorldFrame, fit_world_frame
from wnv.scenes.listing import list_scenes, open_scene
from wnv.types import Example, Views

_MAX_PHOTOS = 64  # kept a scene


class ViewerScene(ABC):
    """One scene with all its frames.

    What is shown lives in the frame that the default context is normalised into; it stays where it is when others of
    its frames are given.

    Args:
        name: What the scene is called.
        camtoworld: Poses of all frames in the scene's own world.
        times: Their times; seconds, or whatever unit `context_time` turns into the context's scale.
        is_dynamic: Whether the times count.
        default_context: Frames that are given at first.
        image_size: Height and width of the context's images in pixels.
        pose_normalization: How the world is placed around a context, as in training.
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
        self.default_context = default_context
        self.image_size = image_size
        self.times = times.double()
        self._camtoworld = camtoworld.double()
        self._pose_normalization: Literal["mean", "first"] = pose_normalization
        self._shown_frame = self._fit(default_context)
        self.camtoworld = self._shown_frame.apply(self._camtoworld)
        self._photos: OrderedDict[int, Tensor] = OrderedDict()
        self._lock = Lock()

    @property
    def num_frames(self) -> int:
        """Frames of the scene, from 0 up."""
        return len(self._camtoworld)

    def check_frames(self, frames: Sequence[int]) -> tuple[int, ...]:
        """The frames, if they can be a context.

        Raises:
            ValueError: If there is none, one twice, or one that the scene does not have.
        """
        if not frames or len(set(frames)) != len(frames):
            raise ValueError(f"give at least one frame, and each once, got {list(frames)}")
        outside = [frame for frame in frames if not 0 <= frame < self.num_frames]
        if outside:
            raise ValueError(f"{self.name} has frames 0 to {self.num_frames - 1}, got {outside}")
        return tuple(frames)

    def to_context_world(
        self, camtoworld: Float[Tensor, "*view 4 4"], frames: tuple[int, ...]
    ) -> Float[Tensor, "*view 4 4"]:
        """Poses from the world that is shown into the one that a context of these frames is normalised into."""
        if frames == self.default_context:
            return camtoworld
        return self._fit(frames).apply(self._shown_frame.undo(camtoworld))

    def context(self, frames: tuple[int, ...]) -> Views:
        """The frames as a context, prepared as in training, batch axes `view`."""
        return self._make_context(self.check_frames(frames))

    def photo(self, frame: int) -> Float[Tensor, "3 height width"]:
        """The image of one frame at the size of the context's, RGB in 0..1."""
        with self._lock:
            if frame not in self._photos:
                self._photos[frame] = self._read_photo(frame)
                if len(self._photos) > _MAX_PHOTOS:
                    self._photos.popitem(last=False)
            self._photos.move_to_end(frame)
            return self._photos[frame]

    def _fit(self, frames: tuple[int, ...]) -> WorldFrame:
        return fit_world_frame(self._camtoworld[list(frames)], method=self._pose_normalization)

    @abstractmethod
    def context_time(self, time: float, frames: tuple[int, ...]) -> float:
        """A time of the scene on the scale of a context of these frames; 0 for a static scene."""

    @abstractmethod
    def _make_context(self, frames: tuple[int, ...]) -> Views: ...

    @abstractmethod
    def _read_photo(self, frame: int) -> Float[Tensor, "3 height width"]: ...


class FileScene(ViewerScene):
    """A scene file.

    Args:
        path: Where it is.
        frames: Frames that are given at first; None spreads `num_context` of them over the scene.
        num_context: How many, if `frames` is None; all, where the scene has fewer.
        image_size: Height and width in pixels; None keeps the scene's proportions, nearly.
        short_side: Pixels of the shorter side, if `image_size` is None.
        size_multiple: What height and width are a multiple of, if `image_size` is None: the model's patch size.
        pose_normalization: How the world is placed around a context, as in training.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the scene breaks a rule, or has no such frames.
    """

    def __init__(
        self,
        path: str,
        *,
        frames: Sequence[int] | None = None,
        num_context: int = 2,
        image_size: Sequence[int] | None = None,
        short_side: int = 64,
        size_multiple: int = 8,
        pose_normalization: Literal["mean", "first"] = "mean",
    ) -> None:
        self._path = path
        self._options = {
            "image_size": image_size,
            "short_side": short_side,
            "size_multiple": size_multiple,
            "pose_normalization": pose_normalization,
        }
        if num_context < 1:
            raise ValueError(f"num_context must be at least 1, got {num_context}")
        first = open_context(path, frames=[0] if frames is None else frames, **self._options)
        with open_scene(path) as scene:
            info = scene.info
            cameras = scene.cameras(range(len(info.frames)), dtype=torch.float64)
        super().__init__(
            name=info.id,
            camtoworld=cameras.camtoworld,
            times=torch.tensor([frame.time_s for frame in info.frames], dtype=torch.float64),
            is_dynamic=info.kind == "dynamic",
            default_context=spread(len(info.frames), num_context) if frames is None else tuple(frames),
            image_size=tuple(first.context.images.shape[-2:]),
            pose_normalization=pose_normalization,
        )

    def context_time(self, time: float, frames: tuple[int, ...]) -> float:
        """Seconds, as `SceneDataset` normalises them: 0 is the context's first moment and 1 its last."""
        given = self.times[list(frames)]
        first, window = float(given.min()), float(given.max() - given.min())
        return (time - first) / window if self.is_dynamic and window > 0 else 0.0

    def _make_context(self, frames: tuple[int, ...]) -> Views:
        return open_context(self._path, frames=frames, **self._options).context

    def _read_photo(self, frame: int) -> Float[Tensor, "3 height width"]:
        return self._make_context((frame,)).images[0]


class ExampleScene(ViewerScene):
    """A scene of which a few views are at hand, as a dataset yields it: its frames are the context, then the target.

    Args:
        name: What the scene is called.
        example: Its views.
        is_dynamic: Whether their times count.
        pose_normalization: How the world is placed around a context, as in training.
    """

    def __init__(
        self, example: Example, *, name: str, is_dynamic: bool, pose_normalization: Literal["mean", "first"] = "mean"
    ) -> None:
        context, target = example.context, example.target
        self._views = Views(
            images=torch.cat([context.images, target.images]),
            cameras=replace(
                context.cameras,
                K=torch.cat([context.cameras.K, target.cameras.K]),
                camtoworld=torch.cat([context.cameras.camtoworld, target.cameras.camtoworld]),
            ),
            times=torch.cat([context.times, target.times]),
        )
        super().__init__(
            name=name,
            camtoworld=self._views.cameras.camtoworld,
            times=self._views.times,
            is_dynamic=is_dynamic,
            default_context=tuple(range(len(context.times))),
            image_size=(context.cameras.height, context.cameras.width),
            pose_normalization=pose_normalization,
        )

    def context_time(self, time: float, frames: tuple[int, ...]) -> float:
        """The time itself, which is on the sampled window's scale already."""
        return time if self.is_dynamic else 0.0

    def _make_context(self, frames: tuple[int, ...]) -> Views:
        views = self._views[list(frames)]
        if frames == self.default_context:
            return views
        camtoworld = self._fit(frames).apply(self._camtoworld[list(frames)]).float()
        return replace(views, cameras=replace(views.cameras, camtoworld=camtoworld))

    def _read_photo(self, frame: int) -> Float[Tensor, "3 height width"]:
        return self._views.images[frame]


class SceneList(ABC):
    """Scenes one can step through.

    Attributes:
        first: The one that is shown first.
    """

    first: int = 0

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def open(self, index: int) -> ViewerScene:
        """Open the scene of that number, from 0 up."""


class FileScenes(SceneList):
    """A scene file, or those of a folder.

    Args:
        root: A scene file, a folder of them, or a URL of either that fsspec understands.
        frames: As in `FileScene`, for each scene; likewise the rest.

    Raises:
        FileNotFoundError: If there is no scene at `root`.
        ValueError: If a scene breaks a rule, or these are clips with poses.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        frames: Sequence[int] | None = None,
        num_context: int = 2,
        image_size: Sequence[int] | None = None,
        short_side: int = 64,
        size_multiple: int = 8,
        pose_normalization: Literal["mean", "first"] = "mean",
    ) -> None:
        self._paths = [scene.path for scene in list_scenes(root).values()]
        clips = [path for path in self._paths if not path.endswith(".zip")]
        if clips:
            raise ValueError(f"{clips[0]} is a clip with poses; pack it first: wnv-data pack root=...")
        self._options = {
            "frames": frames,
            "num_context": num_context,
            "image_size": image_size,
            "short_side": short_side,
            "size_multiple": size_multiple,
            "pose_normalization": pose_normalization,
        }

    def __len__(self) -> int:
        return len(self._paths)

    def open(self, index: int) -> FileScene:
        """Open the scene file of that number."""
        return FileScene(self._paths[index], **self._options)


class ExampleScenes(SceneList):
    """The scenes of a dataset of examples, such as the synthetic world's.

    Args:
        dataset: The examples; it needs a length.
        name: What the scenes are called, before their number.
        first: The one that is shown first.
        is_dynamic: Whether the times of the views count.
        pose_normalization: How the world is placed around a context, as in training.
    """

    def __init__(
        self,
        dataset: Dataset[Example],
        *,
        name: str,
        first: int = 0,
        is_dynamic: bool = False,
        pose_normalization: Literal["mean", "first"] = "mean",
    ) -> None:
        self._dataset = dataset
        self._name = name
        self._options = {"is_dynamic": is_dynamic, "pose_normalization": pose_normalization}
        self.first = first

    def __len__(self) -> int:
        return len(self._dataset)

    def open(self, index: int) -> ExampleScene:
        """Take the example of that number."""
        return ExampleScene(self._dataset[index], name=f"{self._name}{index}", **self._options)


def spread(num_frames: int, count: int) -> tuple[int, ...]:
    """`count` frames evenly spread over a scene, its first and last among them; all, where it has fewer."""
    return tuple(torch.linspace(0, num_frames - 1, min(count, num_frames)).round().long().unique().tolist())
