"""Training and evaluation examples from scene files."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.utils.data import Dataset

from wnv.data.order import DrawKey, seeded_generator
from wnv.data.view_sampling import SceneFrames, ViewSampler
from wnv.geometry.poses import fit_world_frame
from wnv.geometry.resample import fit_images
from wnv.scenes.archive import is_url
from wnv.scenes.index import INDEX_FILE, find_scenes, read_index
from wnv.scenes.read import Scene, open_scene
from wnv.types import Cameras, Example, Views

# A whole trajectory at the size it is stored in would not fit into memory; frames one by one would be slow over a net.
_FRAMES_AT_ONCE = 16


@dataclass(frozen=True)
class _Draw:
    """One example of an epoch: a scene and which of its draws."""

    path: str
    draw: int


class SceneDataset(Dataset[Example]):
    """Examples cut from scene files, one scene opened at a time.

    An example depends on the files, on the arguments and on its key `(epoch, index)`, on nothing else. A scene that
    breaks a rule raises, named; it is never skipped.

    Args:
        root: One scene file, or a folder of scene files; with an `index.jsonl` in it, only that is read, else every
            scene is opened once. Both may be URLs that fsspec understands; a folder then needs its index.
        sampler: Which frames are shown and drawn. It also decides which scenes are visited, and how often an epoch.
        image_size: Height and width of the images in pixels; the stored images are scaled to cover it and cropped.
        zoom_range: Smallest and largest zoom into the image centre, at least 1; one factor a scene and draw is taken
            log-uniformly between them.
        pose_normalization: How the world is placed and scaled around the context cameras (`fit_world_frame`).
        seed: What all draws depend on.
        repeat: How often an epoch draws each example, differently each time.
        cache_frames: How many frames, fitted to the image size, each loader process keeps in memory, so that they are
            decoded once; not with a random zoom, which makes each frame another one every time.

    Attributes:
        scene_ids: The scenes that an epoch visits, in the order of the sampler.

    Raises:
        FileNotFoundError: If there is nothing at `root`, or no scene in it.
        ValueError: If an argument is out of its range, or two scene files have one id.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        sampler: ViewSampler,
        image_size: Sequence[int],
        zoom_range: Sequence[float | int] = (1.0, 1.0),
        pose_normalization: Literal["mean", "first"] = "mean",
        seed: int = 0,
        repeat: int = 1,
        cache_frames: int = 0,
    ) -> None:
        if len(image_size) != 2 or min(image_size) < 1:
            raise ValueError(f"image_size must be [height, width] in pixels, got {list(image_size)}")
        if len(zoom_range) != 2 or not 1 <= zoom_range[0] <= zoom_range[1]:
            raise ValueError(f"zoom_range must be [smallest, largest] with 1 <= smallest, got {list(zoom_range)}")
        if repeat < 1:
            raise ValueError(f"repeat must be at least 1, got {repeat}")
        if cache_frames < 0:
            raise ValueError(f"cache_frames must be at least 0, got {cache_frames}")
        if cache_frames > 0 and zoom_range[0] != zoom_range[1]:
            raise ValueError(
                f"cache_frames={cache_frames} cannot serve a random zoom, got zoom_range={list(zoom_range)}; set "
                "cache_frames=0 or one zoom"
            )
        self.sampler = sampler
        self.height, self.width = image_size
        self.zoom_range = tuple(zoom_range)
        self.pose_normalization = pose_normalization
        self.seed = seed
        self.cache_frames = cache_frames
        self._cache: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
        self.scene_ids, draws = _list_draws(root, sampler)
        self._draws = [draw for draw in draws for _ in range(repeat)]

    def __len__(self) -> int:
        return len(self._draws)

    def __getitem__(self, key: DrawKey | int) -> Example:
        """The example of a key `(epoch, index)`; an index alone means epoch 0."""
        epoch, index = (0, key) if isinstance(key, int) else key
        if not 0 <= index < len(self):
            raise IndexError(f"example index must be in 0..{len(self) - 1}, got {index}")
        generator = seeded_generator(self.seed, epoch, index)
        draw = self._draws[index]
        with open_scene(draw.path) as scene:
            info = scene.info
            frames = SceneFrames(
                scene_id=info.id,
                num_frames=len(info.frames),
                times_s=torch.from_numpy(info.times_s),
                camtoworld=torch.from_numpy(info.camtoworld),
            )
            choice = self.sampler.sample(frames, generator, draw=draw.draw)
            # A frame that is both context and target is decoded once.
            chosen = sorted({*choice.context, *choice.target})
            images, K = self._read_images(scene, chosen, zoom=self._draw_zoom(generator))
        camtoworld = frames.camtoworld[chosen]
        place = {frame: row for row, frame in enumerate(chosen)}
        context, target = ([place[frame] for frame in part] for part in (choice.context, choice.target))
        world_frame = fit_world_frame(camtoworld[context], method=self.pose_normalization)
        views = Views(
            images=images,
            cameras=Cameras(
                K=K.float(), camtoworld=world_frame.apply(camtoworld).float(), width=self.width, height=self.height
            ),
            times=_normalise_times(frames.times_s[chosen]) if info.kind == "dynamic" else torch.zeros(len(chosen)),
        )
        return Example(scene=info.id, context=views[context], target=views[target])

    def _draw_zoom(self, generator: torch.Generator) -> float:
        smallest, largest = (math.log(zoom) for zoom in self.zoom_range)
        uniform = torch.rand((), generator=generator, dtype=torch.float64).item()
        return max(1.0, math.exp(smallest + (largest - smallest) * uniform))

    def _read_images(
        self, scene: Scene, frames: Sequence[int], *, zoom: float
    ) -> tuple[Float[Tensor, "view 3 height width"], Float64[Tensor, "view 3 3"]]:
        fitted = {frame: self._cache[scene.path, frame] for frame in frames if (scene.path, frame) in self._cache}
        unread = [frame for frame in frames if frame not in fitted]
        for start in range(0, len(unread), _FRAMES_AT_ONCE):
            part = unread[start : start + _FRAMES_AT_ONCE]
            K = scene.cameras(part, dtype=torch.float64).K
            images, K = fit_images(scene.views(part).images, K, height=self.height, width=self.width, zoom=zoom)
            for row, frame in enumerate(part):
                fitted[frame] = (images[row], K[row])
                if len(self._cache) < self.cache_frames:
                    self._cache[scene.path, frame] = (images[row].clone(), K[row])
        return torch.stack([fitted[frame][0] for frame in frames]), torch.stack([fitted[frame][1] for frame in frames])


def _list_draws(root: str | Path, sampler: ViewSampler) -> tuple[tuple[str, ...], list[_Draw]]:
    """The scenes to visit, in the sampler's order, and every draw of an epoch."""
    scenes = _list_scenes(root)
    selected = tuple(sampler.select_scenes(list(scenes)))
    draws = [
        _Draw(path=path, draw=draw)
        for path, num_frames in (scenes[scene] for scene in selected)
        for draw in range(sampler.num_draws(num_frames))
    ]
    return selected, draws


def _list_scenes(root: str | Path) -> dict[str, tuple[str, int]]:
    """Scene id -> path of its file and number of its frames."""
    root = str(root)
    if (is_url(root) and not root.endswith(".zip")) or (Path(root) / INDEX_FILE).is_file():
        base = root.rstrip("/")
        return {record.id: (f"{base}/{record.file}", record.num_frames) for record in read_index(root)}
    if not is_url(root) and not Path(root).exists():
        raise FileNotFoundError(f"root not found: {root}; give one scene file (.zip) or a folder of scene files")
    scenes: dict[str, tuple[str, int]] = {}
    for path in find_scenes(root) if Path(root).is_dir() else [root]:
        with open_scene(path) as scene:
            name = scene.info.id
            if name in scenes:
                raise ValueError(f"two scene files have the id {name!r}: {scenes[name][0]} and {path}")
            scenes[name] = (str(path), len(scene))
    return scenes


def _normalise_times(times_s: Float[Tensor, " view"]) -> Float[Tensor, " view"]:
    """Times of the sampled window mapped to 0..1, zero where all are one moment."""
    window = times_s.max() - times_s.min()
    return ((times_s - times_s.min()) / window.clamp_min(torch.finfo(times_s.dtype).tiny)).float()
