"""Loaders for training and validation that continue exactly where a run stopped.

Position is counted by the samples that training has consumed, never by what workers have read ahead. The count, the
seed and the number of scenes are all that a checkpoint needs to hold; the process and worker counts may change.
"""

import logging
from abc import abstractmethod
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from wnv.data.loader_processes import loader_context
from wnv.data.sample_order import EvaluationOrder, SampleOrder, StreamOrder
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
        return SampleOrder(self.num_train_scenes, seed=self.seed, rank=rank, world_size=world_size)

    def _loader(self, dataset: Dataset[Example], order: Sampler, *, batch_size: int) -> DataLoader[Batch]:
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=order,
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=self._feeds_cuda(),
            persistent_workers=self.num_workers > 0,
            multiprocessing_context=loader_context() if self.num_workers > 0 else None,
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

    def _feeds_cuda(self) -> bool:
        if self.trainer is None:
            return torch.cuda.is_available()
        # Page-locked memory is the GPU's business: asking for it takes memory of a GPU that the training may not use.
        return self.trainer.strategy.root_device.type == "cuda"

    def _check_trainer(self, world_size: int) -> None:
        trainer = self.trainer
        if trainer is None:
            return
        endless_epoch = _is_whole_epoch(trainer.limit_train_batches)
        if endless_epoch and trainer.max_steps == -1 and trainer.max_epochs != -1:
            raise ValueError(
                "trainer.max_steps must be set, because an epoch of the training stream has no end, got -1 with "
                f"max_epochs={trainer.max_epochs}; to stop by time instead, set trainer.max_time and max_epochs=-1"
            )
        if endless_epoch and _is_whole_epoch(trainer.val_check_interval) and trainer.limit_val_batches > 0:
            log.warning(
                "validation will not run: trainer.val_check_interval counts epochs, and an epoch of the training "
                "stream has no end; set it to a number of steps, or limit_val_batches=0 to train without validation"
            )
        # Lightning keeps this setting private, and would otherwise replace the order without a word.
        if world_size > 1 and getattr(trainer._accelerator_connector, "use_distributed_sampler", False):
            raise ValueError(
                "trainer.use_distributed_sampler must be false: the data module shares the scenes out itself, got true"
            )


def _is_whole_epoch(setting: int | float) -> bool:
    """Whether a limit or interval of Lightning's is a whole epoch (1.0) rather than one batch (1)."""
    return isinstance(setting, float) and setting == 1.0
