"""Scene files and posed clips for training and validation."""

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from torch.utils.data import DataLoader
from typing_extensions import override

from wnv.data.datamodule import ExampleDataModule
from wnv.data.scene_dataset import SceneDataset
from wnv.data.view_sampling import HoldoutSampler, ViewSampler
from wnv.geometry.image_size import checked_image_size
from wnv.scenes.video import Decoder

log = logging.getLogger(__name__)


class SceneDataModule(ExampleDataModule):
    """Scene files, or clips with poses beside them: one root for training and one for validation.

    Args:
        root: Training scenes: a folder of scene files or posed clips, or one of these.
        val_root: Validation scenes, in the same form; None means `root`. The two share scenes only if both samplers are
            `HoldoutSampler`s.
        sampler: Chooses context and target frames for training.
        val_sampler: The same for validation, where the choice never changes.
        image_size: Height and width of the images in pixels.
        zoom_range: Smallest and largest zoom into the training images, at least 1; log-uniform, one per example.
        val_zoom_range: The same for validation.
        split: Folder below `root` to read, such as `scenes/static/train`; None reads `root` itself.
        val_split: The same below `val_root`.
        num_val_examples: Use only the first validation examples; None uses all.
        pose_normalization, skip_short, decoder, cache_frames: See `SceneDataset`.
        val_seed: Seed of the choice of validation frames.
        **loading: `batch_size`, `val_batch_size`, `num_workers`, `seed`, `allow_changed_order`, `on_error`,
            `max_skipped_share`: see `ExampleDataModule`.

    Raises:
        ValueError: If a number is out of range, or the two samplers hold out different frames.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        val_root: str | Path | None = None,
        sampler: ViewSampler,
        val_sampler: ViewSampler,
        image_size: Sequence[int],
        zoom_range: Sequence[float | int] = (1.0, 1.0),
        val_zoom_range: Sequence[float | int] = (1.0, 1.0),
        pose_normalization: Literal["mean", "first"] = "mean",
        split: str | None = None,
        val_split: str | None = None,
        skip_short: bool = False,
        decoder: Decoder = "auto",
        num_val_examples: int | None = None,
        cache_frames: int = 0,
        val_seed: int = 0,
        **loading: Any,
    ) -> None:
        super().__init__(**loading)
        if num_val_examples is not None and num_val_examples < 1:
            raise ValueError(f"num_val_examples must be at least 1, or null for all, got {num_val_examples}")
        holdouts = [s for s in (sampler, val_sampler) if isinstance(s, HoldoutSampler)]
        if len({holdout.every for holdout in holdouts}) > 1:
            raise ValueError(
                "sampler and val_sampler must hold out the same frames, got "
                + " and ".join(f"every={holdout.every}" for holdout in holdouts)
            )
        self.num_val_examples = num_val_examples
        self._is_holdout = len(holdouts) == 2
        root, val_root = _below(root, split), _below(root if val_root is None else val_root, val_split)
        self._settings = {
            "image_size": checked_image_size(image_size),
            "pose_normalization": pose_normalization,
            "cache_frames": cache_frames,
            "skip_short": skip_short,
            "decoder": decoder,
        }
        self._train_settings = {"root": root, "sampler": sampler, "zoom_range": zoom_range, "seed": self.seed}
        self._val_settings = {"root": val_root, "sampler": val_sampler, "zoom_range": val_zoom_range, "seed": val_seed}

    @property
    @override
    def image_size(self) -> tuple[int, int]:
        return self._settings["image_size"]

    @property
    def val_settings(self) -> dict[str, Any]:
        """Arguments of the validation data set."""
        return {**self._val_settings, **self._settings}

    @property
    @override
    def num_val_scenes(self) -> int:
        available = len(self.val_dataset)
        return available if self.num_val_examples is None else min(self.num_val_examples, available)

    @cached_property
    def train_dataset(self) -> SceneDataset:
        """The training data set, created on first access."""
        return SceneDataset(**self._train_settings, **self._settings)

    @cached_property
    def val_dataset(self) -> SceneDataset:
        """The validation data set, created on first access."""
        try:
            return SceneDataset(**self.val_settings)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"no validation scenes: {error}. Set val_root (and val_split) to other scenes, make more scenes so "
                "that some fall into the validation split, or train without: trainer.limit_val_batches=0"
            ) from error

    @override
    def val_dataloader(self) -> DataLoader:
        """The loader over the validation examples. Logs a warning if training reads the same scenes."""
        self.warn_of_shared_scenes()
        return super().val_dataloader()

    def warn_of_shared_scenes(self) -> None:
        """Log a warning if scenes are in training and in validation, unless frames are held out."""
        shared = set(self.val_dataset.scene_ids) & set(self.train_dataset.scene_ids)
        if shared and not self._is_holdout:
            log.warning(
                "%d scenes are in training and in validation (%s first), so validation does not measure unseen "
                "scenes; use another val_root, or the holdout sampler for both",
                len(shared),
                min(shared),
            )


def _below(root: str | Path, folder: str | None) -> str:
    """A folder below a local root or a URL; None means the root itself."""
    return str(root) if folder is None else f"{str(root).rstrip('/')}/{folder.strip('/')}"
