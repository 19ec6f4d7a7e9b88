"""The synthetic world as scenes of numbered frames, as if each place had been filmed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from wnv.geometry.cameras import crop_K
from wnv.scenes.listing import ListedScene
from wnv.scenes.scene import Scene
from wnv.scenes.schema import Frame, SceneInfo
from wnv.synthetic.cameras import sample_cameras
from wnv.synthetic.places import sample_worlds
from wnv.synthetic.render import render_images
from wnv.synthetic.world import World
from wnv.types import Cameras


class SyntheticClip(Scene):
    """A walk through one place of the synthetic world; frames are rendered on access.

    Args:
        path: Name of the place in messages.
        info: Its frames; cameras in metres, +z up.
        world: The place.
        world_times: Time of each frame, 0..1; 0 in static places.
        supersample: Rays per pixel along each image axis.
        device: Device that renders the frames.
    """

    def __init__(
        self,
        path: str,
        info: SceneInfo,
        *,
        world: World,
        world_times: Float[Tensor, " frame"],
        supersample: int = 1,
        device: str = "cpu",
    ) -> None:
        super().__init__(path, info)
        self.world = world
        self.world_times = world_times
        self.supersample = supersample
        self.device = device

    def images_u8(
        self, indices: Sequence[int], *, box: tuple[int, int, int, int] | None = None
    ) -> list[UInt8[np.ndarray, "height width 3"]]:
        """The pixels of frames, RGB; only those of the box are rendered. See `Scene.images_u8`."""
        left, top, right, bottom = (0, 0, self.info.width, self.info.height) if box is None else box
        cameras = self.cameras(indices)
        K = crop_K(cameras.K, left=left, top=top)
        boxed = Cameras(K, cameras.camtoworld, width=right - left, height=bottom - top)
        images = render_images(
            self.world.to(self.device),
            boxed[None].to(self.device),
            self.world_times[None, list(indices)].to(self.device),
            supersample=self.supersample,
        )
        pixels = images[0].mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)
        return list(pixels.cpu().numpy())


@dataclass(frozen=True, kw_only=True)
class SyntheticClips:
    """Places of the synthetic world, each with a walk of `num_frames` frames: a `SceneCollection`.

    The places are those of `SyntheticDataset` with the same seed; the walks are their own.

    Args:
        num_scenes: Number of places, at least 1.
        num_frames: Frames of each walk, at least 2.
        seed: Seed of places and walks.
        image_size: Height and width of the frames in pixels.
        kind: `static`, `dynamic` or `mixed`.
        zoom_range: Smallest and largest magnification over `fov_deg`, log-uniform.
        zoom_per_view: Sample a zoom per frame instead of one per walk.
        fov_deg: Field of view at zoom 1, degrees, across the square of the same area as the image.
        supersample: Rays per pixel along each image axis.
        device: Device that renders the frames.

    Raises:
        ValueError: If there are too few scenes or frames.
    """

    num_scenes: int
    num_frames: int
    seed: int = 0
    image_size: Sequence[int] = (64, 64)
    kind: str = "static"
    zoom_range: Sequence[float | int] = (1.0, 1.0)
    zoom_per_view: bool = False
    fov_deg: float | int = 60.0
    supersample: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.num_scenes < 1 or self.num_frames < 2:
            raise ValueError(
                "synthetic clips need at least 1 scene of at least 2 frames, got "
                f"num_scenes={self.num_scenes} and num_frames={self.num_frames}"
            )

    def __str__(self) -> str:
        return f"the synthetic world (seed {self.seed})"

    def list_scenes(self) -> Mapping[str, ListedScene]:
        """The places by id, `synthetic-SEED-INDEX`."""
        return {
            f"synthetic-{self.seed}-{index}": ListedScene(path=str(index), num_frames=self.num_frames)
            for index in range(self.num_scenes)
        }

    def open_scene(self, path: str) -> SyntheticClip:
        """Open the place that was listed with this path."""
        index, (height, width) = int(path), self.image_size
        world = sample_worlds(seed=self.seed, indices=[index], kind=self.kind)
        # Context cameras are spread evenly over a walk: here they are the frames.
        cameras, world_times = sample_cameras(
            world,
            seed=self.seed,
            indices=[index],
            epochs=[0],
            image_size=(height, width),
            num_context=self.num_frames,
            num_target=1,
            zoom_range=(self.zoom_range[0], self.zoom_range[1]),
            zoom_per_view=self.zoom_per_view,
            extrapolate=0,
            fov_deg=self.fov_deg,
        )
        is_dynamic = bool(world.is_dynamic[0])
        world_times = world_times[0, : self.num_frames]
        times = world_times if is_dynamic else torch.linspace(0, 1, self.num_frames)
        K, camtoworld = (matrix[0].double().numpy() for matrix in (cameras.K, cameras.camtoworld))
        frames = tuple(
            Frame(time_s=float(times[i]), K=K[i], camtoworld=camtoworld[i], file=f"frames/{i:06d}.png")
            for i in range(self.num_frames)
        )
        info = SceneInfo(
            id=f"synthetic-{self.seed}-{index}",
            kind="dynamic" if is_dynamic else "static",
            width=width,
            height=height,
            frames=frames,
            scale=1.0,
        )
        return SyntheticClip(
            f"synthetic:{self.seed}:{index}",
            info,
            world=world,
            world_times=world_times,
            supersample=self.supersample,
            device=self.device,
        )
