"""How a run ends before its last step: asked to, on all processes after the same step; or by an error, at once."""

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
    """Ends training after the step in which any process was sent SIGTERM, SIGUSR1 or SIGINT (Ctrl-C).

    The handler only makes a note. After a step the processes compare their notes, so that all of them stop after the
    same one, whichever was sent the signal and when; `RunCheckpoints` saves, and no validation follows. A second
    SIGINT interrupts at once. (Lightning's own handler waits for the other processes from within the handler, and so
    for ever if these are not in theirs.)

    Args:
        every_n_steps: Steps between two comparisons, each of which sends one number between the processes.

    Attributes:
        stopped_by: Name of the signal that ended the training, on all processes; None while none has.

    Raises:
        ValueError: If `every_n_steps` is not positive.
    """

    def __init__(self, *, every_n_steps: int = 1) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self.stopped_by: str | None = None
        self._noted = 0
        self._compared_at_step = -1

    @contextmanager
    def listening(self, trainer: L.Trainer) -> Iterator[None]:
        """Signals are noted inside the block, in which the trainer is to fit; handlers of before come back after it."""
        if threading.current_thread() is not threading.main_thread():  # which alone can have handlers
            yield
            return
        # In the place of Lightning's handlers, which would be put around ours; it has no public switch for them.
        trainer._signal_connector.register_signal_handlers = lambda: None
        before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self.stopped_by is not None:
                # What started the processes may end one that is still leaving because another has left.
                signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == self._noted == signal.SIGINT:
            raise KeyboardInterrupt
        self._noted = number

    @override
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step == self._compared_at_step or step % self.every_n_steps:  # the same: gradients are being accumulated
            return
        self._compared_at_step = step
        noted = self._noted
        if trainer.world_size > 1:
            noted = int(trainer.strategy.reduce(torch.tensor(noted, device=pl_module.device), reduce_op="max"))
        if noted:
            self.stopped_by = signal.Signals(noted).name
            trainer.should_stop = True
            trainer.limit_val_batches = 0  # else Lightning validates before it stops
            trainer.fit_loop.min_epochs = trainer.fit_loop.epoch_loop.min_steps = None  # else it goes on


class LeaveOnError(L.Callback):
    """Sees to it that a process whose training raised is gone soon, whatever the others wait for.

    What closes a run down may wait for processes that wait for this one, until their time is up (half an hour). The
    error is marked with the process that raised it.

    Args:
        after_s: Seconds that closing down may take.
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
