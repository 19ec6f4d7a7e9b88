"""Training and evaluation examples from scene files and posed clips."""

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from wnv.data.sample_order import SampleKey, seeded_generator
from wnv.data.view_sampling import SceneFrames, ViewChoice, ViewSampler
from wnv.geometry.image_size import checked_image_size
from wnv.geometry.poses import fit_world_frame
from wnv.geometry.resample import Window, cover_window
from wnv.geometry.times import normalize_times
from wnv.scenes.listing import ListedScene, list_scenes, open_scene
from wnv.scenes.scene import Scene
from wnv.scenes.video import Decoder
from wnv.types import Cameras, Example, Views

log = logging.getLogger(__name__)

# All frames of a trajectory at their stored size do not fit into memory; single frames are slow over a network.
_FRAMES_AT_ONCE = 16
# Open scenes per loader process: metadata without pixels, some 50 kB each.
_MAX_OPEN_SCENES = 512


CameraChange = Callable[[Float[Tensor, "view 4 4"], Float[Tensor, "context 4 4"]], Float[Tensor, "view 4 4"]]
"""Maps the poses of an example, and those of the context among them, to its poses in another world."""


@runtime_checkable
class SceneCollection(Protocol):
    """A source of scenes other than files."""

    def list_scenes(self) -> Mapping[str, ListedScene]:
        """The scenes by id, in order."""
        ...

    def open_scene(self, path: str) -> Scene:
        """Open the scene that was listed with this path."""
        ...


@dataclass(frozen=True)
class StoredScenes:
    """The scenes in a folder or file, see `wnv.scenes.listing`.

    Attributes:
        root: A scene file or posed clip, or a folder of them.
        decoder: Decoder of clips.
    """

    root: str | Path
    decoder: Decoder = "auto"

    def list_scenes(self) -> Mapping[str, ListedScene]:
        """The scenes by id, in the order of their files."""
        return list_scenes(self.root)

    def open_scene(self, path: str) -> Scene:
        """Open the scene that was listed with this path."""
        return open_scene(path, decoder=self.decoder)

    def __str__(self) -> str:
        return str(self.root)


@dataclass(frozen=True)
class Pick:
    """The frames and crop of an example, chosen before any pixel is read.

    Attributes:
        source: The scene.
        frames: Times and poses of all its frames.
        choice: The context and target frames.
        window: The crop of the stored images, and its size in the example.
    """

    source: Scene
    frames: SceneFrames
    choice: ViewChoice
    window: Window


@dataclass(frozen=True)
class _Sample:
    """One example of an epoch: a scene, and which of its samples."""

    scene: str
    path: str
    index: int


class SceneDataset(Dataset[Example]):
    """Examples from scene files, or from clips with poses beside them.

    An example depends on the files, the arguments and its key `(epoch, index)` alone. A broken scene raises an error
    that names it; it is never skipped.

    Args:
        root: One scene file or posed clip, a folder of them, or any collection of scenes. If a folder has
            an `index.jsonl`, only that is read; otherwise every scene is opened once. Scene files may lie at URLs that
            fsspec understands; a folder then needs its index.
        sampler: Chooses context and target frames, the scenes to visit, and how often per epoch.
        image_size: Height and width of the images in pixels; the stored images are scaled to cover it and cropped.
        zoom_range: Smallest and largest zoom into the image centre, at least 1; log-uniform, one per example.
        pose_normalization: How the world is placed and scaled around the context cameras (`fit_world_frame`).
        seed: Seed of everything random.
        repeat: How often an epoch visits each example, with different samples.
        cache_frames: Resized frames that each loader process keeps in memory, so that they are decoded once. Not with
            a random zoom, which resizes a frame differently each time.
        skip_short: Leave out scenes with fewer frames than the sampler needs, and log their number, instead of raising.
        decoder: Decoder of clips: `decord`, `pyav`, or `auto`, which takes decord where it is installed.
        change_cameras: Moves the poses of an example before they are normalised, to test how much a model depends on
            the world frame that a scene happens to have.

    Attributes:
        scene_ids: The scenes that an epoch visits, in the order of the sampler.
        num_frames: Number of frames of every existing scene, visited or not.

    Raises:
        FileNotFoundError: If there is nothing at `root`, or no scene in it.
        ValueError: If an argument is out of range, two scenes have one id, scenes are too short for the sampler, or
            its index names frames that they do not have.
    """

    def __init__(
        self,
        *,
        root: str | Path | SceneCollection,
        sampler: ViewSampler,
        image_size: Sequence[int],
        zoom_range: Sequence[float | int] = (1.0, 1.0),
        pose_normalization: Literal["mean", "first"] = "mean",
        seed: int = 0,
        repeat: int = 1,
        cache_frames: int = 0,
        skip_short: bool = False,
        decoder: Decoder = "auto",
        change_cameras: CameraChange | None = None,
    ) -> None:
        if len(zoom_range) != 2 or not 1 <= zoom_range[0] <= zoom_range[1]:
            raise ValueError(f"zoom_range must be [smallest, largest] with 1 <= smallest <= largest, got {zoom_range}")
        if repeat < 1:
            raise ValueError(f"repeat must be at least 1, got {repeat}")
        if cache_frames < 0:
            raise ValueError(f"cache_frames must be at least 0, got {cache_frames}")
        if cache_frames > 0 and zoom_range[0] != zoom_range[1]:
            raise ValueError(
                f"cache_frames must be 0 with a random zoom, got {cache_frames} and zoom_range={list(zoom_range)}; set "
                "cache_frames=0 or a single zoom"
            )
        self.zoom_range = zoom_range
        self.sampler = sampler
        self.height, self.width = checked_image_size(image_size)
        self.pose_normalization: Literal["mean", "first"] = pose_normalization
        self.seed = seed
        self.cache_frames = cache_frames
        self.change_cameras = change_cameras
        self._scenes = StoredScenes(root, decoder) if isinstance(root, (str, Path)) else root
        self._cache: dict[tuple[str, int], Tensor] = {}
        self._open: OrderedDict[str, tuple[Scene, SceneFrames]] = OrderedDict()
        scenes = self._scenes.list_scenes()
        self.num_frames = {name: scene.num_frames for name, scene in scenes.items()}
        self.scene_ids, samples = _list_samples(scenes, sampler, place=str(self._scenes), skip_short=skip_short)
        self._samples = [sample for sample in samples for _ in range(repeat)]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, key: SampleKey | int) -> Example:
        """The example at `(epoch, index)`; an index alone means epoch 0."""
        return self.load(self.pick(key))

    def scene_of(self, index: int) -> str:
        """The id of an example's scene, without opening it."""
        return self._samples[index].scene

    def pick(self, key: SampleKey | int) -> Pick:
        """Choose the frames and the crop of an example."""
        epoch, index = (0, key) if isinstance(key, int) else key
        if not 0 <= index < len(self):
            raise IndexError(f"example index must be in 0..{len(self) - 1}, got {index}")
        generator = seeded_generator(self.seed, epoch, index)
        sample = self._samples[index]
        source, frames = self._open_scene(sample.path)
        info = source.info
        choice = self.sampler.sample(frames, generator, index=sample.index)
        zoom = self._sample_zoom(generator)
        window = cover_window(info.height, info.width, height=self.height, width=self.width, zoom=zoom)
        return Pick(source=source, frames=frames, choice=choice, window=window)

    def load(self, pick: Pick) -> Example:
        """Read the example of a pick."""
        source, choice, window = pick.source, pick.choice, pick.window
        # A frame that is both context and target is decoded once; otherwise both parts are slices, not copies.
        chosen = list(dict.fromkeys(choice.context + choice.target))
        images = self._read_images(source, chosen, window)
        K = window.fit_K(source.cameras(chosen, dtype=torch.float64).K)
        camtoworld = pick.frames.camtoworld[chosen]
        context, target = (_rows(chosen, part) for part in (choice.context, choice.target))
        if self.change_cameras is not None:
            camtoworld = self.change_cameras(camtoworld, camtoworld[context])
        times_s = pick.frames.times_s[chosen]
        world_frame = fit_world_frame(camtoworld[context], method=self.pose_normalization)
        views = Views(
            images=images,
            cameras=Cameras(
                K=K.float(), camtoworld=world_frame.apply(camtoworld).float(), width=self.width, height=self.height
            ),
            times=normalize_times(times_s, times_s[context])
            if source.info.kind == "dynamic"
            else torch.zeros(len(chosen)),
        )
        return Example(scene=source.info.id, context=views[context], target=views[target])

    def _sample_zoom(self, generator: torch.Generator) -> float:
        smallest, largest = (math.log(zoom) for zoom in self.zoom_range)
        uniform = torch.rand((), generator=generator, dtype=torch.float64).item()
        return max(1.0, math.exp(smallest + (largest - smallest) * uniform))

    def _open_scene(self, path: str) -> tuple[Scene, SceneFrames]:
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        source = self._scenes.open_scene(path)
        frames = SceneFrames(
            scene_id=source.info.id,
            num_frames=len(source.info.frames),
            times_s=torch.from_numpy(source.info.times_s),
            camtoworld=torch.from_numpy(source.info.camtoworld),
        )
        self._open[path] = source, frames
        if len(self._open) > _MAX_OPEN_SCENES:
            self._open.popitem(last=False)
        return source, frames

    def _read_images(self, scene: Scene, frames: Sequence[int], window: Window) -> Float[Tensor, "view 3 height width"]:
        images = torch.empty(len(frames), 3, self.height, self.width)

        def store(row: int, fitted: UInt8[Tensor, "3 height width"]) -> None:
            # NumPy converts and divides in one pass.
            np.divide(fitted.numpy(), np.float32(255), out=images[row].numpy())

        unread = []
        for row, frame in enumerate(frames):
            if (scene.path, frame) in self._cache:
                store(row, self._cache[scene.path, frame])
            else:
                unread.append((row, frame))
        for start in range(0, len(unread), _FRAMES_AT_ONCE):
            part = unread[start : start + _FRAMES_AT_ONCE]
            decoded = scene.images_u8([frame for _, frame in part], box=window.box)
            for (row, frame), image in zip(part, decoded, strict=True):
                fitted = window.resample(torch.from_numpy(image))
                store(row, fitted)
                if len(self._cache) < self.cache_frames:
                    self._cache[scene.path, frame] = fitted.clone()
        return images


def _list_samples(
    scenes: Mapping[str, ListedScene], sampler: ViewSampler, *, place: str, skip_short: bool
) -> tuple[tuple[str, ...], list[_Sample]]:
    """The scenes to visit, in the sampler's order, and every sample of an epoch."""
    selected = sampler.select_scenes({name: scene.num_frames for name, scene in scenes.items()})
    short = {scene for scene in selected if scenes[scene].num_frames < sampler.min_frames}
    if short:
        first = min(short)
        reason = sampler.too_short(first, scenes[first].num_frames)
        found = f"{len(short)} of {len(selected)} scenes at {place} are too short: {reason}"
        if not skip_short or len(short) == len(selected):
            raise ValueError(f"{found}, or leave short scenes out with skip_short=true")
        log.warning("%s; they are left out", found)
    selected = tuple(scene for scene in selected if scene not in short)
    samples = [
        _Sample(scene=scene, path=scenes[scene].path, index=index)
        for scene in selected
        for index in range(sampler.num_samples(scenes[scene].num_frames))
    ]
    return selected, samples


def _rows(chosen: Sequence[int], part: Sequence[int]) -> slice | list[int]:
    """Positions of a part's frames among those chosen: a slice if they are consecutive."""
    start = chosen.index(part[0])
    if chosen[start : start + len(part)] == list(part):
        return slice(start, start + len(part))
    return [chosen.index(frame) for frame in part]
