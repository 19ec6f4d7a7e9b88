"""What a run does beside its steps: checkpoints, progress, throughput and pictures."""

import logging
import sys
import time
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from jaxtyping import Float
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from PIL import Image
from torch import Tensor
from tqdm import tqdm
from typing_extensions import override

from wnv.runtime.atomic import atomic_file
from wnv.training.checkpoint import read_checkpoint
from wnv.training.checkpoint_layout import BEST, LAST
from wnv.types import Batch

log = logging.getLogger(__name__)


class RunCheckpoints(Checkpoint):
    """Keeps `last.ckpt`, from which a run continues, the one of before, and `best.ckpt` by a validation metric.

    Sharded ones are folders that every process writes its share of (`step-00001234`, `best-00001234`), to which
    `last.ckpt` and `best.ckpt` are links.

    Args:
        folder: Where to write.
        every_n_steps: Optimiser steps between two writings of the last; it is written at the end too.
        monitor: Metric of validation that decides what is best; None keeps no best.
        mode: Whether the metric should be large (`max`) or small (`min`).
        sharded: Write sharded checkpoints, where the strategy can.

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

    @override
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if hasattr(trainer.strategy, "save_sharded"):
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
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:  # a step begun: what it has of a gradient is in no file
            return
        # At the end of the run here already: a checkpoint made after Lightning has closed its books of the last step
        # would number the steps that follow wrongly when the run is made longer.
        is_last = trainer.global_step == trainer.max_steps or trainer.should_stop
        if trainer.global_step % self.every_n_steps == 0 or is_last:
            self._save_last(trainer)

    @override
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save_last(trainer)

    @override
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING or self.monitor is None:
            return
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics)) or "none"
            raise ValueError(f"monitor must name a metric of validation ({known}), got {self.monitor!r}")
        value = float(trainer.callback_metrics[self.monitor])
        if self.best is None or (value > self.best if self.mode == "max" else value < self.best):
            self.best = value
            trainer.save_checkpoint(self.folder / BEST, weights_only=False)  # with the optimiser state

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def _find_best(self, step: int) -> float | None:
        """The best value until a step from which the run goes on.

        The last checkpoint may not know it: it is written before the validation that follows the same step.
        """
        if not (self.folder / BEST).exists():
            return self.best
        try:
            checkpoint = read_checkpoint(self.folder / BEST, trees=())
        except ValueError as error:
            log.warning("the next validation is the best, as the one so far cannot be read: %s", error)
            return None
        is_later = checkpoint["global_step"] > step  # of a continuation that was given up
        return self.best if is_later else checkpoint["callbacks"][self.state_key]["best"]

    def _save_last(self, trainer: L.Trainer) -> None:
        if trainer.global_step == self._saved_at_step:  # also while gradients are being accumulated
            return
        self._saved_at_step = trainer.global_step
        trainer.save_checkpoint(self.folder / LAST, weights_only=False)


class Throughput(L.Callback):
    """Logs `speed/scenes_per_s` and `speed/views_per_s` over all devices, and `speed/scenes_seen` since the run began.

    Views are context and target views together. Loading and the writing of `last.ckpt` count as time, validation does
    not.

    Args:
        every_n_steps: Training batches that a figure averages over.
    """

    def __init__(self, *, every_n_steps: int = 50) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self.scenes_seen = 0
        self._restart()

    def _restart(self) -> None:
        self._scenes, self._views, self._seconds, self._batches = 0, 0, 0.0, 0
        self._left_off: float | None = None

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._restart()
        self._left_off = time.perf_counter()

    @override
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        scenes = len(batch) * trainer.world_size
        self.scenes_seen += scenes
        self._scenes += scenes
        self._views += scenes * (batch.context.images.shape[1] + batch.target.images.shape[1])
        self._batches += 1
        now = time.perf_counter()
        self._seconds += now - self._left_off
        self._left_off = now
        if self._batches < self.every_n_steps:
            return
        figures = {
            "speed/scenes_per_s": self._scenes / self._seconds,
            "speed/views_per_s": self._views / self._seconds,
            "speed/scenes_seen": float(self.scenes_seen),
        }
        pl_module.log_dict(figures, batch_size=len(batch))
        self._restart()
        self._left_off = now

    @override
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._left_off is not None:
            self._left_off = time.perf_counter()

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"scenes_seen": self.scenes_seen}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.scenes_seen = state_dict["scenes_seen"]


class StepProgressBar(ProgressBar):
    """One line over all steps of the run: loss, PSNR, and the last validation PSNR beside the nearest-view copy's.

    Args:
        refresh_s: Seconds between two redraws, where the output is not a terminal at least 30.
    """

    def __init__(self, *, refresh_s: float | int = 0.5) -> None:
        super().__init__()
        self.refresh_s = refresh_s
        self._enabled = True
        self._bar: tqdm | None = None

    @override
    def disable(self) -> None:
        self._enabled = False

    @override
    def enable(self) -> None:
        self._enabled = True

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if not self._enabled:  # on all processes but the first
            return
        is_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=trainer.max_steps if trainer.max_steps > 0 else None,
            initial=trainer.global_step,
            desc="train",
            unit="step",
            mininterval=self.refresh_s if is_terminal else max(30.0, self.refresh_s),
            dynamic_ncols=is_terminal,
            file=sys.stderr,
        )

    @override
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Reading a metric waits for the device, so the line's text is made only when it is about to be drawn.
        if self._bar is not None and trainer.global_step > self._bar.n:
            if time.time() - self._bar.last_print_t >= self._bar.mininterval:
                self._bar.set_postfix_str(_progress_text(trainer.callback_metrics), refresh=False)
            self._bar.update(trainer.global_step - self._bar.n)

    @override
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._close(trainer)

    @override
    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._close(trainer)

    @override
    def print(self, *args: Any, sep: str = " ", **kwargs: Any) -> None:
        tqdm.write(sep.join(map(str, args)), file=sys.stderr)

    def _close(self, trainer: L.Trainer) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(_progress_text(trainer.callback_metrics), refresh=True)
            self._bar.close()
            self._bar = None


def _progress_text(metrics: dict[str, Tensor]) -> str:
    shown = {"train/loss": "loss {:.4f}", "train/psnr": "psnr {:.2f}", "val/psnr": "val {:.2f} dB"}
    shown["val/psnr_copy"] = "copy {:.2f} dB"
    return ", ".join(text.format(float(metrics[name])) for name, text in shown.items() if name in metrics)


class ImageGrid(L.Callback):
    """After each validation a picture of its first scenes: context views | target | drawn | error, a row a scene.

    It is written to `FOLDER/step_00001000.png` and handed to TensorBoard or Weights & Biases where one of them logs.

    Args:
        folder: Where to write.
        num_scenes: Rows; at most the validation batch size.
        error_gain: What the absolute error is multiplied by, so that small errors can be seen.

    Raises:
        ValueError: If `num_scenes` is not positive.
    """

    def __init__(self, *, folder: str | Path, num_scenes: int = 4, error_gain: float | int = 3.0) -> None:
        if num_scenes < 1:
            raise ValueError(f"num_scenes must be at least 1, got {num_scenes}")
        self.folder = Path(folder)
        self.num_scenes = num_scenes
        self.error_gain = error_gain

    @override
    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: dict[str, Tensor],
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch_idx > 0 or trainer.sanity_checking or not trainer.is_global_zero:
            return
        grid = make_grid(batch, outputs["drawn"], num_scenes=self.num_scenes, error_gain=self.error_gain)
        pixels = (grid.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        with atomic_file(self.folder / f"step_{trainer.global_step:08d}.png", overwrite=True) as file:
            Image.fromarray(pixels).save(file, format="PNG")
        caption = f"a row a scene: context, target, drawn, error x {self.error_gain:g}"
        for logger in trainer.loggers:
            _log_image(logger, pixels, step=trainer.global_step, caption=caption)


def make_grid(
    batch: Batch,
    drawn: Float[Tensor, "batch target 3 height width"],
    *,
    num_scenes: int,
    error_gain: float | int = 3.0,
) -> Float[Tensor, "3 grid_height grid_width"]:
    """Rows of context views | first target | as drawn | absolute error, each picture with a white border.

    Raises:
        ValueError: If context and target images differ in size.
    """
    context, target = batch.context.images[:num_scenes].float(), batch.target.images[:num_scenes, :1].float()
    drawn = drawn[:num_scenes, :1].to(target)
    if context.shape[-2:] != target.shape[-2:]:
        raise ValueError(
            f"a grid needs context and target images of one size, got {tuple(context.shape[-2:])} and "
            f"{tuple(target.shape[-2:])} (height, width)"
        )
    error = ((drawn - target).abs() * error_gain).clamp(0, 1)
    cells = torch.cat([context, target, drawn, error], dim=1)  # [b, cell, 3, h, w]
    cells = torch.nn.functional.pad(cells, (1, 1, 1, 1), value=1.0)
    return torch.cat([torch.cat(row.unbind(0), dim=-1) for row in cells.unbind(0)], dim=-2)


def _log_image(logger: Any, pixels: np.ndarray, *, step: int, caption: str) -> None:
    if hasattr(logger, "log_image"):  # Weights & Biases
        logger.log_image(key="val/images", images=[pixels], step=step, caption=[caption])
    elif hasattr(getattr(logger, "experiment", None), "add_image"):  # TensorBoard
        logger.experiment.add_image("val/images", pixels, step, dataformats="HWC")
