"""The progress bar of a training run."""

import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from torch import Tensor
from tqdm import tqdm
from typing_extensions import override


class StepProgressBar(ProgressBar):
    """One progress bar over all steps: loss, PSNR, and the last validation's PSNR with that of the nearest-view copy.

    Args:
        refresh_s: Seconds between updates; at least 30 if the output is not a terminal.
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
        if not self._enabled:  # on all ranks but 0
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
        # Reading a metric synchronises with the device, so the text is made only when it is shown.
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
