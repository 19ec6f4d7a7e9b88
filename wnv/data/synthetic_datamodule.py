"""The synthetic world, rendered during training."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

from typing_extensions import override

from wnv.data.datamodule import ExampleDataModule
from wnv.geometry.image_size import checked_image_size
from wnv.synthetic.dataset import SyntheticDataset


class SyntheticDataModule(ExampleDataModule):
    """The synthetic world: endless training scenes, and a fixed set of other scenes for validation.

    Args:
        image_size, num_context, num_target, kind, zoom_range, zoom_per_view, fov_deg, extrapolate, free_time,
            supersample, pose_normalization: See `SyntheticDataset`; for training and validation alike.
        render_device: Device that renders the images; batches are on the CPU either way.
        num_scenes: Training scenes, the same in each epoch. None makes every sample a new scene.
        num_val_scenes: Validation scenes, at least 1.
        val_seed: Seed of the validation scenes; must differ from `seed`.
        **loading: `batch_size`, `val_batch_size`, `num_workers`, `seed`, `allow_changed_order`, `on_error`,
            `max_skipped_share`: see `ExampleDataModule`.

    Raises:
        ValueError: If a number is out of range or the two seeds are equal.
    """

    def __init__(
        self,
        *,
        image_size: Sequence[int],
        num_context: int,
        num_target: int,
        kind: Literal["static", "dynamic", "mixed"] = "static",
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
        val_seed: int = 1_000_000,
        **loading: Any,
    ) -> None:
        super().__init__(**loading)
        if self.seed == val_seed:
            raise ValueError(f"val_seed must differ from seed, or validation repeats training scenes, got {val_seed}")
        if num_val_scenes < 1:
            raise ValueError(f"num_val_scenes must be at least 1, got {num_val_scenes}")
        self.num_scenes = num_scenes
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
        self.val_settings = {"num_scenes": num_val_scenes, "seed": val_seed, **self._settings}
        """Arguments of the validation data set."""

    @property
    @override
    def image_size(self) -> tuple[int, int]:
        return self._settings["image_size"]

    @property
    @override
    def num_train_scenes(self) -> int | None:
        return self.num_scenes

    @cached_property
    def train_dataset(self) -> SyntheticDataset:
        """The training data set, created on first access."""
        return SyntheticDataset(num_scenes=self.num_scenes, seed=self.seed, **self._settings)

    @cached_property
    def val_dataset(self) -> SyntheticDataset:
        """The validation data set, created on first access."""
        return SyntheticDataset(**self.val_settings)
