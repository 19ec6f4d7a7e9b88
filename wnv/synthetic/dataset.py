"""The synthetic world as a data set: endless rooms and tables, rendered on access."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from wnv.geometry.image_size import checked_image_size
from wnv.geometry.poses import WorldFrame, fit_world_frame
from wnv.synthetic.cameras import sample_cameras
from wnv.synthetic.places import check_kind, sample_worlds
from wnv.synthetic.render import render_images
from wnv.synthetic.world import World
from wnv.types import Cameras, Example, Views


@dataclass(frozen=True)
class SyntheticSample:
    """Places, cameras and times of a batch of examples, and the frame into which their cameras are normalized.

    Cameras are in the world's own frame (meters, +z up), those of the contexts first.
    """

    world: World
    cameras: Cameras
    times: Float[Tensor, "scene view"]
    frame: WorldFrame


class SyntheticDataset(Dataset[Example]):
    """Procedurally generated scenes with exact cameras; an example depends on (seed, epoch, index) alone.

    A key is `(epoch, index)`; an index alone means epoch 0. The index is the place; each epoch visits it with different
    cameras.

    Args:
        num_scenes: Number of places, at least 1; None for an endless data set (no `len`, any index).
        seed: Seed of places and cameras, at least 0.
        image_size: Height and width of the images in pixels.
        num_context: Context views per scene, at least 1.
        num_target: Target views per scene, at least 1.
        kind: `static`; `dynamic`, where objects move while the camera does; or `mixed`, half of each.
        zoom_range: Smallest and largest magnification over `fov_deg`, log-uniform.
        zoom_per_view: Sample a zoom per view instead of one per scene.
        fov_deg: Field of view at zoom 1, degrees, across the square of the same area as the image.
        extrapolate: How far targets reach beyond the outer contexts, as a fraction of the distance between these.
        free_time: In dynamic scenes, sample the targets' times independently of their cameras: a target is any camera
            at any time. Otherwise camera and time advance together, as in a video.
        supersample: Rays per pixel along each image axis.
        pose_normalization: How `fit_world_frame` normalises the cameras.
        device: Device that renders the images; examples are always on the CPU.

    Raises:
        ValueError: If a number is out of its range.
    """

    def __init__(
        self,
        *,
        num_scenes: int | None,
        seed: int = 0,
        image_size: Sequence[int] = (64, 64),
        num_context: int = 2,
        num_target: int = 6,
        kind: str = "static",
        zoom_range: Sequence[float | int] = (1.0, 1.0),
        zoom_per_view: bool = False,
        fov_deg: float | int = 60.0,
        extrapolate: float | int = 0.1,
        free_time: bool = False,
        supersample: int = 1,
        pose_normalization: Literal["mean", "first"] = "mean",
        device: str = "cpu",
    ) -> None:
        for name, value in (
            ("num_scenes", 1 if num_scenes is None else num_scenes),
            ("num_context", num_context),
            ("num_target", num_target),
            ("supersample", supersample),
        ):
            if value < 1:
                raise ValueError(f"{name} of the synthetic world must be at least 1, got {value}")
        check_kind(kind)
        if len(zoom_range) != 2 or not 0 < zoom_range[0] <= zoom_range[1]:
            raise ValueError(f"zoom_range must be (smallest, largest) with 0 < smallest <= largest, got {zoom_range}")
        if not 0 < fov_deg < 150:
            raise ValueError(f"fov_deg must lie between 0 and 150 degrees, got {fov_deg}")
        if extrapolate < 0:
            raise ValueError(f"extrapolate must be at least 0, got {extrapolate}")
        self.num_scenes = num_scenes
        self.num_context = num_context
        self.seed = seed
        self.kind = kind
        self.supersample = supersample
        self.pose_normalization: Literal["mean", "first"] = pose_normalization
        self.device = device
        self._camera_settings = {
            "image_size": checked_image_size(image_size),
            "num_context": num_context,
            "num_target": num_target,
            "zoom_range": (zoom_range[0], zoom_range[1]),
            "zoom_per_view": zoom_per_view,
            "fov_deg": fov_deg,
            "extrapolate": extrapolate,
            "free_time": free_time,
        }

    def __len__(self) -> int:
        if self.num_scenes is None:
            raise TypeError("an endless synthetic dataset has no length; set num_scenes for a finite one")
        return self.num_scenes

    def __getitem__(self, key: tuple[int, int] | int) -> Example:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[tuple[int, int] | int]) -> list[Example]:
        """Examples of several keys, rendered together; each is the same as when rendered alone.

        Raises:
            IndexError: If an index is negative or not below `num_scenes`.
        """
        sample = self.sample(keys)
        images = self._render(sample.world, sample.cameras, sample.times)
        normalized = replace(sample.cameras, camtoworld=sample.frame.apply(sample.cameras.camtoworld))
        views = Views(images=images, cameras=normalized, times=sample.times)
        return [
            Example(
                scene=self.scene_of(key),
                context=views[i, : self.num_context],
                target=views[i, self.num_context :],
            )
            for i, key in enumerate(keys)
        ]

    def scene_of(self, key: tuple[int, int] | int) -> str:
        """The id of an example's scene, without rendering it."""
        return f"synthetic-{self.seed}-{self._split(key)[1]}"

    def sample(self, keys: Sequence[tuple[int, int] | int]) -> SyntheticSample:
        """Sample the places, cameras and times of the examples of these keys, without rendering.

        Raises:
            IndexError: If an index is negative or not below `num_scenes`.
        """
        epochs, indices = zip(*(self._split(key) for key in keys), strict=True)
        world = sample_worlds(seed=self.seed, indices=list(indices), kind=self.kind)
        cameras, times = sample_cameras(
            world, seed=self.seed, indices=list(indices), epochs=list(epochs), **self._camera_settings
        )
        frame = fit_world_frame(cameras.camtoworld[:, : self.num_context], method=self.pose_normalization)
        return SyntheticSample(world=world, cameras=cameras, times=times, frame=frame)

    def render(
        self, key: tuple[int, int] | int, cameras: Cameras, times: Float[Tensor, " view"] | None = None
    ) -> Float[Tensor, "view 3 height width"]:
        """Render an example's place from any cameras, such as a path between its context views.

        Args:
            key: The example's key.
            cameras: One camera per view, normalised like the example's own; of any image size.
            times: Time of each view, 0..1; None means 0.
        """
        sample = self.sample([key])
        raw = replace(cameras[None], camtoworld=sample.frame.undo(cameras.camtoworld[None]))
        times = torch.zeros(cameras.batch_shape) if times is None else times
        return self._render(sample.world, raw, times[None])[0]

    def _render(self, world: World, cameras: Cameras, times: Tensor) -> Tensor:
        world, cameras, times = world.to(self.device), cameras.to(self.device), times.to(self.device)
        return render_images(world, cameras, times, supersample=self.supersample).cpu()

    def _split(self, key: tuple[int, int] | int) -> tuple[int, int]:
        epoch, index = (0, key) if isinstance(key, int) else key
        if index < 0 or (self.num_scenes is not None and index >= self.num_scenes):
            bound = "at least 0" if self.num_scenes is None else f"in 0..{self.num_scenes - 1}"
            raise IndexError(f"index of a synthetic scene must be {bound}, got {index}")
        return epoch, index
