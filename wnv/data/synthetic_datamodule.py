"""The synthetic world, rendered while it is trained on."""

from collections.abc import Sequence
from typing import Any, Literal

from torch.utils.data import Dataset

from wnv.data.datamodule import ExampleDataModule
from wnv.geometry.image_size import checked_image_size
from wnv.synthetic.dataset import SyntheticDataset
from wnv.types import Example


class SyntheticDataModule(ExampleDataModule):
    """The synthetic world: training scenes without end, and a fixed set of others to validate on.

    Args:
        image_size: Height and width of the images in pixels.
        num_context: Context views a scene.
        num_target: Target views a scene.
        batch_size: Training scenes per device and step.
        kind: `static`; `dynamic`, where objects move with time; or `mixed`, half of each.
        zoom_range: Smallest and largest magnification over `fov_deg`, log-uniform, for training and validation alike.
        zoom_per_view: Draw a zoom for each view instead of one for each scene.
        fov_deg: Field of view at zoom 1, degrees, across the square of the same area as the image.
        extrapolate: How far targets reach beyond the first and last context, as a share of the way between these.
        free_time: Where things move, draw a target's time apart from its place on the camera's walk.
        supersample: Rays per pixel along each image axis.
        pose_normalization: How worlds are placed and scaled around their context cameras (`fit_world_frame`).
        render_device: Where images are rendered; batches arrive on the CPU all the same.
        num_scenes: Training scenes; each epoch sees the same ones. None makes every draw a new scene.
        num_val_scenes: Validation scenes, at least 1.
        seed: What training scenes and their draws depend on.
        val_seed: What validation scenes depend on; unlike `seed`, so that they are others.
        val_batch_size: Validation scenes per device and step; None takes `batch_size`.
        num_workers: Loader processes per device; 0 renders in the training process.
        allow_changed_order: Continue from a checkpoint made with another seed or number of scenes.

    Raises:
        ValueError: If a number is out of its range or the two seeds are equal.
    """

    def __init__(
        self,
        *,
        image_size: Sequence[int],
        num_context: int,
        num_target: int,
        batch_size: int,
        kind: Literal["static", "dynamic"] = "static",
        zoom_range: Sequence[float | int] = (1.0, 3.0),
        zoom_per_view: bool = False,
        fov_deg: float | int = 60.0,
        extrapolate: float | int = 0.1,
        free_time: bool = False,
        supersample: int = 1,
        pose_normalization: Literal["mean", "first"] = "mean",
        render_device: str = "cpu",
        num_scenes: int | None = None,
        num_val_scenes: int = 64,
        seed: int = 0,
        val_seed: int = 1_000_000,
        val_batch_size: int | None = None,
        num_workers: int = 0,
        allow_changed_order: bool = False,
    ) -> None:
        super().__init__(
            seed=seed,
            batch_size=batch_size,
            val_batch_size=val_batch_size,
            num_workers=num_workers,
            allow_changed_order=allow_changed_order,
        )
        if seed == val_seed:
            raise ValueError(f"val_seed must differ from seed, or validation repeats training scenes, got {seed} twice")
        if num_val_scenes < 1:
            raise ValueError(f"num_val_scenes must be at least 1, got {num_val_scenes}")
        self.num_scenes = num_scenes
        self.num_val_scenes = num_val_scenes
        self.val_seed = val_seed
        self._settings = {
            "image_size": checked_image_size(image_size),
            "num_context": num_context,
            "num_target": num_target,
            "kind": kind,
            "zoom_range": tuple(zoom_range),
            "zoom_per_view": zoom_per_view,
            "fov_deg": fov_deg,
            "extrapolate": extrapolate,
            "free_time": free_time,
            "supersample": supersample,
            "pose_normalization": pose_normalization,
            "device": render_device,
        }

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return self._settings["image_size"]

    @property
    def num_train_scenes(self) -> int | None:
        """Training scenes of one epoch; None when every draw is a new scene."""
        return self.num_scenes

    @property
    def val_settings(self) -> dict[str, Any]:
        """What the validation data set is made with."""
        return {"num_scenes": self.num_val_scenes, "seed": self.val_seed, **self._settings}

    def _make_train_dataset(self) -> Dataset[Example]:
        return SyntheticDataset(num_scenes=self.num_scenes, seed=self.seed, **self._settings)

    def _make_val_dataset(self) -> Dataset[Example]:
        return SyntheticDataset(**self.val_settings)
