"""Early ends of a run: by a signal, on all processes after the same step, or by an error."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import lightning as L
import torch
from typing_extensions import override

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopOnSignal(L.Callback):
    """Stop training after the step in which any process received SIGTERM, SIGUSR1 or SIGINT (Ctrl-C).

    The handler only records the signal. After a step the processes compare their records, so that all of them stop
    after the same step; `RunCheckpoints` saves, and no validation follows. A second SIGINT interrupts immediately.
    (Lightning's handler waits for the other processes, and deadlocks if these are not in theirs.)

    Args:
        every_n_steps: Steps between comparisons, each an all-reduce of one number that waits for the device; None
            means 1, or 10 on several accelerators.

    Attributes:
        stopped_by: Name of the signal that stopped the training, on all processes; None if none did.

    Raises:
        ValueError: If `every_n_steps` is not positive.
    """

    def __init__(self, *, every_n_steps: int | None = None) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self.stopped_by: str | None = None
        self._noted = 0
        self._compared_at_step = -1

    @contextmanager
    def listening(self, trainer: L.Trainer) -> Iterator[None]:
        """Record signals while the trainer fits; restore the previous handlers afterwards."""
        if threading.current_thread() is not threading.main_thread():  # Python allows handlers only there
            yield
            return
        # Lightning would wrap our handlers with its own, and has no public switch against it.
        trainer._signal_connector.register_signal_handlers = lambda: None
        before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self.stopped_by is not None:
                # The launcher may signal a process that is still exiting because another has exited.
                signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == self._noted == signal.SIGINT:
            raise KeyboardInterrupt
        self._noted = number

    @override
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step, interval = trainer.global_step, self.every_n_steps
        if interval is None:
            interval = 10 if trainer.world_size > 1 and pl_module.device.type != "cpu" else 1
        if step == self._compared_at_step or step % interval:  # equal while gradients are accumulated
            return
        self._compared_at_step = step
        noted = self._noted
        if trainer.world_size > 1:
            noted = int(trainer.strategy.reduce(torch.tensor(noted, device=pl_module.device), reduce_op="max"))
        if noted:
            self.stopped_by = signal.Signals(noted).name
            trainer.should_stop = True
            trainer.limit_val_batches = 0  # no validation before the end
            trainer.fit_loop.min_epochs = trainer.fit_loop.epoch_loop.min_steps = None  # they would delay the stop


class LeaveOnError(L.Callback):
    """Exit within `after_s` seconds of an exception, even if other ranks are blocked.

    Teardown may wait for ranks that wait for this one, until their collectives time out (half an hour). A note with the
    rank is added to the exception.

    Args:
        after_s: Maximum duration of the teardown, in seconds.
    """

    def __init__(self, *, after_s: float | int = 15.0) -> None:
        self.after_s = after_s

    @override
    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if trainer.world_size == 1:
            return
        exception.add_note(
            f"raised on rank {trainer.global_rank} of {trainer.world_size} at step {trainer.global_step}"
        )
        timer = threading.Timer(self.after_s, _leave, args=[exception])
        timer.daemon = True
        timer.start()


def _leave(exception: BaseException) -> None:
    traceback.print_exception(exception)
    sys.stderr.flush()
    os._exit(1)
