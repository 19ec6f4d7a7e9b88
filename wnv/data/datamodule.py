"""Data modules whose training stream resumes exactly where a run stopped.

Your own data module can be any `LightningDataModule` whose loaders yield `wnv.types.Batch`. Two members are optional:

- `image_size`: `(height, width)` in pixels. The model checks it before training starts.
- `advance(num_samples)`: called once per training batch with the number of samples over all devices. Together with
  `state_dict` and `load_state_dict` it lets a data module resume at the exact sample.
"""

import itertools
import logging
import warnings
from abc import abstractmethod
from collections.abc import Sized
from functools import partial
from typing import Any, cast, get_args

import lightning as L
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch.utils.data import DataLoader, Dataset, Sampler
from typing_extensions import override

from wnv.data.faults import DataError, GuardedDataset, OnError
from wnv.data.loader import ExampleLoader, seed_worker
from wnv.data.loader_processes import loader_context
from wnv.data.sample_order import EvaluationOrder, SampleOrder, StreamOrder
from wnv.runtime.machine import num_cores
from wnv.types import Batch, Example, collate

log = logging.getLogger(__name__)


class ExampleDataModule(L.LightningDataModule):
    """Base of the data modules: an endless, resumable training stream and a fixed validation set.

    The position in the stream is the number of samples that training has consumed, not what workers have read ahead.
    A checkpoint holds it with the seed and the number of scenes; the number of processes and workers may change.

    The trainer needs a limit of steps or time, `check_val_every_n_epoch=None`, and `val_check_interval` in steps.
    `training_step` or a callback calls `advance(global_batch_size)` once per batch. A later hook of the
    LightningModule is too late: Lightning lets checkpoint callbacks run before it.

    Testing and prediction read the validation examples.

    Args:
        batch_size: Training examples per device and step.
        val_batch_size: Validation examples per device and step; None means `batch_size`.
        num_workers: Loader processes per device; 0 loads in the training process.
        seed: Seed of the order of training scenes and of everything sampled from them.
        allow_changed_order: Resume from a checkpoint with another seed or number of scenes, hence another order,
            instead of raising.
        on_error: What happens when an example cannot be read: `raise` ends the run, `skip` lets another example of the
            same data take its place, logs the scene, and counts it in `skipped_share`.
        max_skipped_share: With `skip`, end the run when more than this share of the examples cannot be read.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        val_batch_size: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        allow_changed_order: bool = False,
        on_error: OnError = "raise",
        max_skipped_share: float | int = 0.05,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.val_batch_size = batch_size if val_batch_size is None else val_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.allow_changed_order = allow_changed_order
        self.on_error: OnError = on_error
        self.max_skipped_share = max_skipped_share
        if on_error not in get_args(OnError):
            raise ValueError(f"on_error must be one of {', '.join(get_args(OnError))}, got {on_error!r}")
        if not 0 <= max_skipped_share <= 1:
            raise ValueError(f"max_skipped_share must lie between 0 and 1, got {max_skipped_share}")
        for name, least in (("batch_size", 1), ("val_batch_size", 1), ("num_workers", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        self._samples_consumed = 0
        self._skipped: dict[str, set[tuple[str, int]]] = {"training": set(), "validation": set()}
        self._order: StreamOrder | None = None
        self._validation: ExampleLoader | None = None

    @property
    @abstractmethod
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""

    @property
    @abstractmethod
    def train_dataset(self) -> Dataset[Example]:
        """The training data set, created on first access."""

    @property
    @abstractmethod
    def val_dataset(self) -> Dataset[Example]:
        """The validation data set, created on first access."""

    @property
    def num_train_scenes(self) -> int | None:
        """Examples per training epoch; None for endless data."""
        return len(cast(Sized, self.train_dataset))

    @property
    def num_val_scenes(self) -> int:
        """Number of validation examples."""
        return len(cast(Sized, self.val_dataset))

    @property
    def samples_consumed(self) -> int:
        """Training samples consumed by all devices since the run began."""
        return self._samples_consumed

    @property
    def skipped_share(self) -> float | None:
        """Share of the training examples that this process could not read; None with `on_error=raise`."""
        if self.on_error == "raise":
            return None
        return len(self._skipped["training"]) / (self.num_train_scenes or max(1, self._samples_consumed))

    @property
    def global_batch_size(self) -> int:
        """Training samples per batch over all devices."""
        return self.batch_size * self._shard()[1]

    def advance(self, num_samples: int) -> None:
        """Count samples, over all devices, as consumed. Call it once per training batch.

        Raises:
            ValueError: If the number is negative.
        """
        if num_samples < 0:
            raise ValueError(f"num_samples must be at least 0, got {num_samples}")
        self._move_to(self._samples_consumed + num_samples)

    @override
    def state_dict(self) -> dict[str, Any]:
        """The position in the training stream: plain values, the same on every rank."""
        return {"samples_consumed": self._samples_consumed, **self._order_settings()}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume at a checkpoint's position.

        Raises:
            ValueError: If the checkpoint's seed, number of scenes or mixture differs and `allow_changed_order` is off.
        """
        for name, now in self._order_settings().items():
            then = state_dict.get(name)
            if then == now:
                continue
            message = (
                f"data {name} has changed from {then} in the checkpoint to {now}, and with it the order of samples"
            )
            if not self.allow_changed_order:
                raise ValueError(f"{message}; set {name} back, or allow_changed_order=true to resume in the new order")
            log.warning("%s; resuming in the new order", message)
        self._move_to(int(state_dict["samples_consumed"]))

    @override
    def setup(self, stage: str) -> None:
        """Open the data set of the stage: training for `fit`, else validation."""
        if self.num_workers > 0:
            loader_context()  # its server imports torch meanwhile
        _ = self.train_dataset if stage == "fit" else self.val_dataset

    @override
    def train_dataloader(self) -> DataLoader:
        """An endless loader that starts at `samples_consumed`; with `trainer.overfit_batches`, the first batches.

        Raises:
            ValueError: If the trainer has no limit at which to stop, or `overfit_batches` is a share of an epoch.
        """
        rank, world_size = self._shard()
        order = self._make_order(rank=rank, world_size=world_size)
        dataset = self._guard(self.train_dataset, self.num_train_scenes)
        loader = self._loader(dataset, order, batch_size=self.batch_size, is_persistent=True)
        self._check_limits()
        self._check_workers()
        if num_batches := self._num_overfit_batches():
            batches = list(itertools.islice(loader, num_batches))
            return DataLoader(cast(Dataset, batches), batch_size=None)
        order.start = self._samples_consumed
        self._order = order
        return loader

    @override
    def val_dataloader(self) -> DataLoader:
        """A loader over the validation examples, sharded over the devices without repeats.

        Raises:
            ValueError: If the devices would get different numbers of batches, which deadlocks sharded models.
        """
        return self._evaluation_loader()

    @override
    def test_dataloader(self) -> DataLoader:
        """The loader over the validation examples."""
        return self._evaluation_loader()

    @override
    def predict_dataloader(self) -> DataLoader:
        """The loader over the validation examples."""
        return self._evaluation_loader()

    def _evaluation_loader(self) -> DataLoader:
        rank, world_size = self._shard()
        orders = [EvaluationOrder(self.num_val_scenes, rank=r, world_size=world_size) for r in range(world_size)]
        num_batches = {-(-len(order) // self.val_batch_size) for order in orders}
        if len(num_batches) > 1:
            raise ValueError(
                f"the number of validation examples must be a multiple of the {world_size} devices, got "
                f"{self.num_val_scenes}: with val_batch_size={self.val_batch_size} some devices get "
                f"{min(num_batches)} batches, others {max(num_batches)}"
            )
        dataset = self._guard(self.val_dataset, self.num_val_scenes)
        # Its processes end with each validation, so that they take memory from no training step.
        self._validation = self._loader(dataset, orders[rank], batch_size=self.val_batch_size, is_persistent=False)
        return self._validation

    @override
    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Copy a batch without waiting for the device; Lightning copies custom types with blocking copies.

        Raises:
            DataError: If too many examples cannot be read.
        """
        if self.trainer is not None and self.trainer.training and self._validation is not None:
            self._validation.end_processes()
        self._note_skipped(batch)
        return batch.to(device, non_blocking=device.type != "cpu")

    def _note_skipped(self, batch: Batch) -> None:
        is_training = self.trainer is not None and self.trainer.training
        stage = "training" if is_training else "validation"
        seen = self._skipped[stage]
        for skipped in batch.skipped:
            if (skipped.scene, skipped.index) in seen:
                continue
            seen.add((skipped.scene, skipped.index))
            total = self.num_train_scenes if is_training else self.num_val_scenes
            total = total or self._samples_consumed + len(batch)
            found = f"{len(seen)} of {total} {stage} examples cannot be read"
            if len(seen) > self.max_skipped_share * total:
                raise DataError(
                    f"{found}, a share above data.max_skipped_share={self.max_skipped_share:g}, the last of scene "
                    f"{skipped.scene}: {skipped.reason}; mend or remove them, or raise the limit"
                )
            log.warning("scene %s skipped: %s; %s", skipped.scene, skipped.reason, found)

    def _guard(self, dataset: Dataset[Example], num_examples: int | None) -> Dataset[Example]:
        return GuardedDataset(dataset, num_examples=num_examples, on_error=self.on_error)

    def _move_to(self, position: int) -> None:
        self._samples_consumed = position
        if self._order is not None:
            self._order.start = position

    def _order_settings(self) -> dict[str, Any]:
        """Everything but the position that determines the order of samples, as plain values."""
        return {"seed": self.seed, "num_scenes": self.num_train_scenes}

    def _make_order(self, *, rank: int, world_size: int) -> StreamOrder:
        return SampleOrder(self.num_train_scenes, seed=self.seed, rank=rank, world_size=world_size)

    def _loader(
        self, dataset: Dataset[Example], order: Sampler, *, batch_size: int, is_persistent: bool
    ) -> ExampleLoader:
        # _check_workers says it for all loaders and devices.
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        return ExampleLoader(
            dataset,
            batch_size=batch_size,
            sampler=order,
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=self._feeds_cuda(),
            persistent_workers=is_persistent and self.num_workers > 0,
            multiprocessing_context=loader_context(dataset) if self.num_workers > 0 else None,
            worker_init_fn=partial(seed_worker, rank=self._shard()[0]),
            # The loader samples a seed for its workers; this leaves the global generator alone.
            generator=torch.Generator().manual_seed(0),
        )

    def _shard(self) -> tuple[int, int]:
        """This device's rank among those that read different data, and their number."""
        # With model-parallel strategies these are data-parallel groups, not processes.
        shard = None if self.trainer is None else self.trainer.distributed_sampler_kwargs
        return (0, 1) if shard is None else (shard["rank"], shard["num_replicas"])

    def _feeds_cuda(self) -> bool:
        if self.trainer is None:
            return torch.cuda.is_available()
        # Pinning takes memory on a GPU, even on one that the training does not use.
        return self.trainer.strategy.root_device.type == "cuda"

    def _num_overfit_batches(self) -> int:
        # Lightning sets this public attribute dynamically.
        setting = 0 if self.trainer is None else self.trainer.overfit_batches  # pyright: ignore[reportAttributeAccessIssue]
        if setting and isinstance(setting, float):
            raise ValueError(
                "trainer.overfit_batches must be a number of batches, because the training stream is endless, got "
                f"{setting}"
            )
        return int(setting)

    def _check_workers(self) -> None:
        num_devices = 1 if self.trainer is None else self.trainer.num_devices
        num_processes, cores = self.num_workers * num_devices, num_cores()
        if num_processes > cores and rank_zero_only.rank == 0:
            log.warning(
                "data.num_workers=%d on %d device%s are %d loader processes for %d cores; %d is enough",
                self.num_workers,
                num_devices,
                "s" if num_devices > 1 else "",
                num_processes,
                cores,
                max(1, cores // num_devices),
            )

    def _check_limits(self) -> None:
        trainer = self.trainer
        if trainer is None:
            return
        if not _is_whole_epoch(trainer.limit_train_batches):
            return
        if trainer.max_steps == -1 and trainer.max_epochs != -1:
            raise ValueError(
                "trainer.max_steps must be set, because the training stream is endless, got -1 with "
                f"max_epochs={trainer.max_epochs}; to stop by time instead, set trainer.max_time and max_epochs=-1"
            )
        if _is_whole_epoch(trainer.val_check_interval) and trainer.limit_val_batches > 0:
            log.warning(
                "validation will not run: trainer.val_check_interval=1.0 counts epochs, and the training stream is "
                "endless; set it to a number of steps, or limit_val_batches=0 to train without validation"
            )


def _is_whole_epoch(setting: int | float) -> bool:
    """Whether a limit or interval of Lightning means one epoch (1.0) rather than one batch (1)."""
    return isinstance(setting, float) and setting == 1.0
