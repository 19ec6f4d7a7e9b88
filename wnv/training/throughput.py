"""Training speed in scenes and views per second."""

import time
from typing import Any

import lightning as L
from typing_extensions import override

from wnv.types import Batch


class Throughput(L.Callback):
    """Log `speed/scenes_per_s` and `speed/views_per_s` over all devices, and `speed/scenes_seen` since the run began.

    Views are context and target views together. Data loading and saving count as time, validation does not.

    Args:
        every_n_steps: Training batches per logged average.
    """

    def __init__(self, *, every_n_steps: int = 50) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self.scenes_seen = 0
        self._restart()

    def _restart(self) -> None:
        self._scenes, self._views, self._seconds, self._batches = 0, 0, 0.0, 0
        self._last_time: float = 0.0

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._restart()
        self._last_time = time.perf_counter()

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
        self._last_time = now
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

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"scenes_seen": self.scenes_seen}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.scenes_seen = state_dict["scenes_seen"]
