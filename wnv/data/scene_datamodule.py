"""Scene files and posed clips to train and validate on."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from torch.utils.data import DataLoader, Dataset

from wnv.data.datamodule import ExampleDataModule
from wnv.data.scene_dataset import SceneDataset
from wnv.data.view_sampling import HoldoutSampler, ViewSampler
from wnv.geometry.image_size import checked_image_size
from wnv.scenes.video import Decoder
from wnv.types import Batch, Example

log = logging.getLogger(__name__)


class SceneDataModule(ExampleDataModule):
    """Scene files, or clips with poses beside them: one place to train on and one to validate on.

    Args:
        root: Training scenes: a folder of scene files or posed clips, or one of these.
        val_root: Validation scenes, likewise; None takes `root`. The same scenes as those of training only with a
            holdout sampler on both sides.
        sampler: Which frames training shows and draws.
        val_sampler: Which frames validation shows and draws; its choice is the same every time.
        image_size: Height and width of the images in pixels.
        batch_size: Training examples per device and step.
        zoom_range: Smallest and largest zoom into the training images, at least 1; log-uniform, one a scene and draw.
        val_zoom_range: The same for validation.
        pose_normalization: How worlds are placed and scaled around their context cameras (`fit_world_frame`).
        split: Folder below `root` that is read, such as `scenes/static/train`; None reads `root` itself.
        val_split: The same below `val_root`.
        skip_short: Leave out, and count in the log, scenes with too few frames for their sampler; otherwise they are an
            error.
        decoder: What reads clips: `decord`, `pyav`, or `auto`.
        num_val_examples: Only the first so many validation examples; None takes all.
        cache_frames: How many fitted frames each loader process keeps in memory; for few scenes and no random zoom.
        seed: What the order of the training scenes and their draws depend on.
        val_seed: What the choice of validation frames depends on.
        val_batch_size: Validation examples per device and step; None takes `batch_size`.
        num_workers: Loader processes per device; 0 loads in the training process.
        allow_changed_order: Continue from a checkpoint made with another seed or number of scenes.

    Raises:
        ValueError: If a number is out of its range, or the two samplers hold out different frames.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        val_root: str | Path | None = None,
        sampler: ViewSampler,
        val_sampler: ViewSampler,
        image_size: Sequence[int],
        batch_size: int,
        zoom_range: Sequence[float | int] = (1.0, 1.0),
        val_zoom_range: Sequence[float | int] = (1.0, 1.0),
        pose_normalization: Literal["mean", "first"] = "mean",
        split: str | None = None,
        val_split: str | None = None,
        skip_short: bool = False,
        decoder: Decoder = "auto",
        num_val_examples: int | None = None,
        cache_frames: int = 0,
        seed: int = 0,
        val_seed: int = 0,
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
        if num_val_examples is not None and num_val_examples < 1:
            raise ValueError(f"num_val_examples must be at least 1, or null for all, got {num_val_examples}")
        hold_outs = {s.every for s in (sampler, val_sampler) if isinstance(s, HoldoutSampler)}
        if len(hold_outs) > 1:
            raise ValueError(
                f"sampler and val_sampler must hold out the same frames, got every={sampler.every} and "
                f"every={val_sampler.every}"
            )
        self.num_val_examples = num_val_examples
        root, val_root = _below(root, split), _below(root if val_root is None else val_root, val_split)
        self._train_settings = {"root": root, "sampler": sampler, "zoom_range": zoom_range, "seed": seed}
        self._val_settings = {"root": val_root, "sampler": val_sampler, "zoom_range": val_zoom_range, "seed": val_seed}
        self._settings = {
            "image_size": checked_image_size(image_size),
            "pose_normalization": pose_normalization,
            "cache_frames": cache_frames,
            "skip_short": skip_short,
            "decoder": decoder,
        }

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return self._settings["image_size"]

    @property
    def val_settings(self) -> dict[str, Any]:
        """What the validation data set is made with."""
        return {**self._val_settings, **self._settings}

    @property
    def num_val_scenes(self) -> int:
        """Validation examples."""
        available = len(self.val_dataset)
        return available if self.num_val_examples is None else min(self.num_val_examples, available)

    def _make_train_dataset(self) -> Dataset[Example]:
        return SceneDataset(**self._train_settings, **self._settings)

    def _make_val_dataset(self) -> Dataset[Example]:
        try:
            return SceneDataset(**self.val_settings)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"no scenes to validate on: {error}. Set val_root (and val_split) to other scenes, make more scenes so "
                "that some fall on the side of validation, or train without: trainer.limit_val_batches=0"
            ) from error

    def val_dataloader(self) -> DataLoader[Batch]:
        """As that of every data module; scenes that are trained on as well are warned about."""
        self.warn_of_shared_scenes()
        return super().val_dataloader()

    def warn_of_shared_scenes(self) -> None:
        """Log a warning where scenes that are trained on are validated on, unless frames are held out."""
        shared = set(self.val_dataset.scene_ids) & set(self.train_dataset.scene_ids)
        apart = all(isinstance(s["sampler"], HoldoutSampler) for s in (self._train_settings, self._val_settings))
        if shared and not apart:
            log.warning(
                "%d scenes are in training and in validation (%s first): validation will not show how well unseen "
                "scenes are drawn; use another val_root, or the holdout sampler for both",
                len(shared),
                min(shared),
            )


def _below(root: str | Path, folder: str | None) -> str:
    """A folder below a local root or a URL; None is the root itself."""
    return str(root) if folder is None else f"{str(root).rstrip('/')}/{folder.strip('/')}"
