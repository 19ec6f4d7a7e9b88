"""Loaders for training and validation that continue exactly where a run stopped.

Position is counted by the samples that training has consumed, never by what workers have read ahead. The count, the
seed and the number of scenes are all that a checkpoint needs to hold; the process and worker counts may change.
"""

import logging
import multiprocessing
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from wnv.data.image_size import checked_image_size
from wnv.data.order import DrawOrder, EvaluationOrder, StreamOrder
from wnv.data.scene_dataset import SceneDataset
from wnv.data.synthetic import SyntheticDataset
from wnv.data.view_sampling import HoldoutSampler, ViewSampler
from wnv.scenes.video import Decoder
from wnv.types import Batch, Example, collate

log = logging.getLogger(__name__)


class ExampleDataModule(L.LightningDataModule):
    """What the data modules share: an endless resumable training stream and a fixed validation set.

    The trainer must be built with `use_distributed_sampler=False`, a limit of steps or time, and
    `check_val_every_n_epoch=None` with `val_check_interval` in steps. Once a training batch, before a checkpoint can be
    saved, it calls `advance(global_batch_size)`: from `training_step` or a callback, not from a later hook of the
    LightningModule, because Lightning lets checkpoint callbacks run before those.

    Args:
        seed: What the order of the training scenes and their draws depend on.
        batch_size: Training scenes per device and step.
        val_batch_size: Validation scenes per device and step; None takes `batch_size`.
        num_workers: Loader processes per device; 0 loads in the training process.
        allow_changed_order: Continue from a checkpoint made with another seed or number of scenes, whose order was
            another one; otherwise that is an error.

    Raises:
        ValueError: If a number is out of its range.
    """

    def __init__(
        self,
        *,
        seed: int,
        batch_size: int,
        val_batch_size: int | None,
        num_workers: int,
        allow_changed_order: bool,
    ) -> None:
        super().__init__()
        val_batch_size = batch_size if val_batch_size is None else val_batch_size
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("val_batch_size", val_batch_size, 1),
            ("num_workers", num_workers, 0),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        self.seed = seed
        self.batch_size = batch_size
        self.val_batch_size = val_batch_size
        self.num_workers = num_workers
        self.allow_changed_order = allow_changed_order
        self._samples_consumed = 0
        self._order: StreamOrder | None = None
        self._train_dataset: Dataset[Example] | None = None
        self._val_dataset: Dataset[Example] | None = None

    @property
    @abstractmethod
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""

    @abstractmethod
    def _make_train_dataset(self) -> Dataset[Example]: ...

    @abstractmethod
    def _make_val_dataset(self) -> Dataset[Example]: ...

    @property
    def train_dataset(self) -> Dataset[Example]:
        """The training data set, made when first asked for."""
        if self._train_dataset is None:
            self._train_dataset = self._make_train_dataset()
        return self._train_dataset

    @property
    def val_dataset(self) -> Dataset[Example]:
        """The validation data set, made when first asked for."""
        if self._val_dataset is None:
            self._val_dataset = self._make_val_dataset()
        return self._val_dataset

    @property
    def num_train_scenes(self) -> int | None:
        """Examples of one training epoch; None when the training data is endless."""
        return len(self.train_dataset)

    @property
    def samples_consumed(self) -> int:
        """Training samples that all devices together have consumed since the run began."""
        return self._samples_consumed

    @property
    def global_batch_size(self) -> int:
        """Training samples that all devices together consume in one batch."""
        return self.batch_size * self._shard()[1]

    def advance(self, num_global_samples: int) -> None:
        """Count samples as consumed, over all devices; to be called once a training batch.

        Raises:
            ValueError: If the number is negative.
        """
        if num_global_samples < 0:
            raise ValueError(f"num_global_samples must be at least 0, got {num_global_samples}")
        self._samples_consumed += num_global_samples
        if self._order is not None:
            self._order.start = self._samples_consumed

    def state_dict(self) -> dict[str, Any]:
        """Where the training stream stands: plain numbers, the same on every rank."""
        return {"samples_consumed": self._samples_consumed, **self._order_settings()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the stream of a checkpoint.

        Raises:
            ValueError: If the checkpoint's seed, number of scenes or mixture differs, unless `allow_changed_order`.
        """
        for name, now in self._order_settings().items():
            then = state_dict.get(name)
            if then == now:
                continue
            message = f"the checkpoint was trained with data {name}={then}, this run has {name}={now}"
            if not self.allow_changed_order:
                raise ValueError(
                    f"{message}; the run would not draw what it would have drawn. Set {name} back to {then}, or set "
                    "allow_changed_order=true to continue with the new order"
                )
            log.warning("%s; continuing with the new order", message)
        self._samples_consumed = int(state_dict["samples_consumed"])
        if self._order is not None:
            self._order.start = self._samples_consumed

    def train_dataloader(self) -> DataLoader[Batch]:
        """An endless loader of `Batch`es that begins at `samples_consumed`.

        Raises:
            ValueError: If the trainer would never stop, or would replace the order by one of its own.
        """
        rank, world_size = self._shard()
        self._check_trainer(world_size)
        self._order = self._make_order(rank=rank, world_size=world_size)
        self._order.start = self._samples_consumed
        return self._loader(self.train_dataset, self._order, batch_size=self.batch_size)

    def val_dataloader(self) -> DataLoader[Batch]:
        """A loader over the fixed validation examples, shared out over the devices without repeats.

        Raises:
            ValueError: If the devices would get different numbers of batches, on which sharded models wait forever.
        """
        rank, world_size = self._shard()
        num_examples = self.num_val_scenes
        if world_size > 1:
            counts = {
                -(-len(EvaluationOrder(num_examples, rank=r, world_size=world_size)) // self.val_batch_size)
                for r in range(world_size)
            }
            if len(counts) != 1:
                raise ValueError(
                    f"{num_examples} validation examples give the {world_size} devices different numbers of batches of "
                    f"val_batch_size={self.val_batch_size}: {sorted(counts)}; make the number of validation examples a "
                    f"multiple of {world_size}"
                )
        order = EvaluationOrder(num_examples, rank=rank, world_size=world_size)
        return self._loader(self.val_dataset, order, batch_size=self.val_batch_size)

    def _order_settings(self) -> dict[str, Any]:
        """What the order of the training stream depends on besides the position, as plain values."""
        return {"seed": self.seed, "num_scenes": self.num_train_scenes}

    def _make_order(self, *, rank: int, world_size: int) -> StreamOrder:
        return DrawOrder(self.num_train_scenes, seed=self.seed, rank=rank, world_size=world_size)

    def _loader(self, dataset: Dataset[Example], order: Sampler, *, batch_size: int) -> DataLoader[Batch]:
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=order,
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            multiprocessing_context=_start_method() if self.num_workers > 0 else None,
            # The loader draws a seed for its workers; from its own generator, it leaves the global one as it is.
            generator=torch.Generator().manual_seed(0),
        )

    def _shard(self) -> tuple[int, int]:
        """This device's number among those that read different data, and how many those are."""
        if self.trainer is None:
            return 0, 1
        # Absent on one device; with model-parallel strategies it names data-parallel groups, not processes.
        shard = getattr(self.trainer.strategy, "distributed_sampler_kwargs", None)
        return (0, 1) if shard is None else (shard["rank"], shard["num_replicas"])

    def _check_trainer(self, world_size: int) -> None:
        trainer = self.trainer
        if trainer is None:
            return
        endless_epoch = trainer.limit_train_batches == 1.0
        if endless_epoch and trainer.max_steps == -1 and trainer.max_epochs != -1:
            raise ValueError(
                "trainer.max_steps must be set, because an epoch of the training stream has no end, got -1 with "
                f"max_epochs={trainer.max_epochs}; to stop by time instead, set trainer.max_time and max_epochs=-1"
            )
        if endless_epoch and trainer.val_check_interval == 1.0 and trainer.limit_val_batches > 0:
            log.warning(
                "validation will not run: trainer.val_check_interval counts epochs, and an epoch of the training "
                "stream has no end; set it to a number of steps, or limit_val_batches=0 to train without validation"
            )
        # Lightning keeps this setting private, and would otherwise replace the order without a word.
        if world_size > 1 and getattr(trainer._accelerator_connector, "use_distributed_sampler", False):
            raise ValueError(
                "trainer.use_distributed_sampler must be false: the data module shares the scenes out itself, got true"
            )


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
        root, val_root = below(root, split), below(root if val_root is None else val_root, val_split)
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


def below(root: str | Path, folder: str | None) -> str:
    """A folder below a local root or a URL; None is the root itself."""
    return str(root) if folder is None else f"{str(root).rstrip('/')}/{folder.strip('/')}"


def _start_method() -> Literal["forkserver", "spawn"]:
    """Workers start from a fresh process: a forked copy of one that runs threads or a device may hang."""
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
