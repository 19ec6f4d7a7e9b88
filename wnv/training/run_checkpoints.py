"""Checkpoints of a run while it trains."""

import logging
import math
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from typing_extensions import override

from wnv.checkpoints.layout import BEST, LAST, sharded_folders
from wnv.checkpoints.read import read_checkpoint
from wnv.training.module import TrainingDiverged
from wnv.training.strategies import FullyShardedStrategy

log = logging.getLogger(__name__)


class RunCheckpoints(Checkpoint):
    """Keep `last.ckpt`, its predecessor, and the best checkpoint by a validation metric.

    Sharded checkpoints are folders to which every process writes its shards (`step-00001234`, `best-00001234`);
    `last.ckpt` and `best.ckpt` are then links to them.

    Args:
        folder: Folder of the checkpoints.
        every_n_steps: Optimiser steps between saves of `last.ckpt`, which is also saved at the end.
        monitor: Validation metric that decides which checkpoint is best; None keeps no best.
        mode: Whether the metric should be large (`max`) or small (`min`).
        sharded: Write sharded checkpoints, if the strategy supports them.

    Raises:
        ValueError: If `every_n_steps` is not positive.
    """

    def __init__(
        self,
        *,
        folder: str | Path,
        every_n_steps: int = 1000,
        monitor: str | None = "val/psnr",
        mode: Literal["max", "min"] = "max",
        sharded: bool = False,
    ) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
        self.folder = Path(folder)
        self.every_n_steps = every_n_steps
        self.monitor = monitor
        self.mode = mode
        self.sharded = sharded
        self.best: float | None = None
        self._saved_at_step = -1
        self._position: dict[str, Any] = {}  # of loops and data after the last whole step
        self._step = -1  # the last whole step; -1 while the optimizer changes the weights
        self._is_rescue = False

    @override
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if isinstance(trainer.strategy, FullyShardedStrategy):
            trainer.strategy.save_sharded = self.sharded
        elif self.sharded:
            rank_zero_warn(
                f"callbacks.checkpoints.sharded is ignored under {type(trainer.strategy).__name__}, which writes whole "
                "files; set strategy=fsdp"
            )

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._saved_at_step = trainer.global_step
        if trainer.global_step > 0:
            self.best = trainer.strategy.broadcast(self._find_best(trainer.global_step))

    @override
    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self._step = -1

    @override
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:  # checkpoints hold no accumulated gradients
            return
        # The last step is saved here and not at the end of the fit: by then Lightning has counted the batch as done,
        # and a longer resumed run would number its steps wrongly.
        is_last = trainer.global_step == trainer.max_steps or trainer.should_stop
        if trainer.global_step % self.every_n_steps == 0 or is_last:
            self._save_last(trainer)
        self._step, self._position = trainer.global_step, _position(trainer)

    @override
    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Save the last whole step if an error of data or disk ended the run and the weights are sound.

        Not after an error within the optimizer's step, nor with weights sharded over processes, which would have to
        save together.
        """
        is_sound = self._step == trainer.global_step != self._saved_at_step
        if not is_sound or isinstance(exception, TrainingDiverged) or not isinstance(exception, Exception):
            return
        if isinstance(trainer.strategy, FullyShardedStrategy):
            return
        self._is_rescue = True
        try:
            # Without the barrier of `Trainer.save_checkpoint`: other ranks may be blocked, or fail too.
            checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
            trainer.strategy.checkpoint_io.save_checkpoint(checkpoint, self.folder / LAST)
            self._saved_at_step = trainer.global_step
        except Exception as error:  # the disk may be full; what ended the run is reported
            log.warning("step %d is not saved: %s", trainer.global_step, error)
        finally:
            self._is_rescue = False

    @override
    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._is_rescue:  # the position is now inside the next step
            checkpoint["loops"]["fit_loop"] = self._position["fit_loop"]
            checkpoint |= self._position["data"]

    @override
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save_last(trainer)

    @override
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING or self.monitor is None:
            return
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics)) or "none"
            raise ValueError(f"monitor must be a validation metric (one of {known}), got {self.monitor!r}")
        value = float(trainer.callback_metrics[self.monitor])
        if math.isnan(value):
            return
        if self.best is None or (value > self.best if self.mode == "max" else value < self.best):
            self.best = value
            trainer.save_checkpoint(self.folder / BEST, weights_only=False)  # with the optimiser state

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "monitor": self.monitor, "mode": self.mode}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"] if self._has_same_metric(state_dict) else None

    def _has_same_metric(self, state_dict: dict[str, Any]) -> bool:
        # Older checkpoints lack both.
        return (state_dict.get("monitor", self.monitor), state_dict.get("mode", self.mode)) == (self.monitor, self.mode)

    def _find_best(self, step: int) -> float | None:
        """Find the best value up to a resumed step.

        `last.ckpt` may not hold it, because it is written before the validation after the same step.
        """
        if not (self.folder / BEST).exists():
            is_linkless = any(folder.name.startswith("best-") for folder in sharded_folders(self.folder))
            return self.best if is_linkless else None  # the best of the run that this one continues
        try:
            checkpoint = read_checkpoint(self.folder / BEST, trees=())
        except ValueError as error:
            log.warning("the next validation counts as the best: %s", error)
            return None
        state = checkpoint["callbacks"].get(self.state_key, {"best": None})
        if not self._has_same_metric(state):
            return None
        is_later = checkpoint["global_step"] > step  # of a discarded continuation
        return self.best if is_later else state["best"]

    def _save_last(self, trainer: L.Trainer) -> None:
        if trainer.global_step != self._saved_at_step:  # else gradients are being accumulated
            self._saved_at_step = trainer.global_step
            trainer.save_checkpoint(self.folder / LAST, weights_only=False)


def _position(trainer: L.Trainer) -> dict[str, Any]:
    """The position of loops, and of data that count their samples, as a checkpoint holds it."""
    data = getattr(trainer, "datamodule", None)
    state = {type(data).__qualname__: data.state_dict()} if data is not None and hasattr(data, "advance") else {}
    return {"fit_loop": trainer.fit_loop.state_dict(), "data": state}
