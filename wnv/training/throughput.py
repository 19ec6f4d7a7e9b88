"""Training speed in scenes and views per second, and the time left."""

import datetime
import logging
import time
from typing import Any

import lightning as L
from typing_extensions import override

from wnv.types import Batch

log = logging.getLogger(__name__)

# Steps, or seconds if steps are slow, after which the time left is estimated; the first step is not typical.
_ESTIMATE_STEPS = 20
_ESTIMATE_S = 60.0


class Throughput(L.Callback):
    """Log `speed/scenes_per_s` and `speed/views_per_s` over all devices, and `speed/scenes_seen` since the run began.

    Views are context and target views together. Data loading and saving count as time, validation does not. The time
    left is logged once, when it can be estimated.

    Args:
        every_n_steps: Training batches per logged average.
    """

    def __init__(self, *, every_n_steps: int = 50) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self.scenes_seen = 0
        self._estimate_from: tuple[int, float] | None = None  # step, and training time in seconds
        self._train_s = 0.0
        self._is_estimated = False
        self._restart()

    def _restart(self) -> None:
        self._scenes, self._views, self._seconds, self._batches = 0, 0, 0.0, 0
        self._last_time: float = 0.0

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._restart()
        self._last_time = time.perf_counter()
        self._estimate_from, self._is_estimated = None, trainer.max_steps < 1 or not trainer.is_global_zero

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
        self._seconds += now - self._last_time
        self._train_s += now - self._last_time
        self._last_time = now
        if not self._is_estimated:
            self._estimate(trainer.global_step, max_steps=trainer.max_steps)
        if self._batches < self.every_n_steps:
            return
        figures = {
            "speed/scenes_per_s": self._scenes / self._seconds,
            "speed/views_per_s": self._views / self._seconds,
            "speed/scenes_seen": float(self.scenes_seen),
        }
        pl_module.log_dict(figures, batch_size=len(batch))
        self._restart()
        self._last_time = now

    @override
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_time = time.perf_counter()

    def _estimate(self, step: int, *, max_steps: int) -> None:
        """Log the time left once, after enough steps."""
        if self._estimate_from is None:
            self._estimate_from = step, self._train_s
            return
        steps, seconds = step - self._estimate_from[0], self._train_s - self._estimate_from[1]
        if steps < _ESTIMATE_STEPS and (seconds < _ESTIMATE_S or steps < 1):
            return
        self._is_estimated = True
        left = datetime.timedelta(seconds=round(seconds / steps * (max_steps - step)))
        log.info(
            "%.3g s per step: %d steps left take about %s, without validation", seconds / steps, max_steps - step, left
        )

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"scenes_seen": self.scenes_seen}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.scenes_seen = state_dict["scenes_seen"]
