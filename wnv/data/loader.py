"""The data loader: its processes, and what it reports while the first batch is late or when one of them dies."""

import logging
import os
import random
import signal
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from typing_extensions import override

from wnv.data.sample_order import StreamOrder, seeded_generator
from wnv.runtime.errors import RunFailed
from wnv.runtime.machine import num_cores

log = logging.getLogger(__name__)

LATE_AFTER_S = 30.0


class ExampleLoader(DataLoader):
    """A `DataLoader` that reports a late first batch, and raises `RunFailed` when one of its processes has died."""

    @override
    def __iter__(self) -> Any:
        batches = _Batches(self)
        self._started = weakref.ref(batches)
        return batches

    def end_processes(self) -> None:
        """End processes that no epoch ended, because Lightning stopped before the last batch."""
        batches = getattr(self, "_started", lambda: None)()
        if batches is not None:
            batches.end()


class _Batches(Iterator):
    def __init__(self, loader: DataLoader) -> None:
        with _kept_handler():
            self._batches: Iterator[Any] = DataLoader.__iter__(loader)
        self._is_first = True
        has_end = not (loader.persistent_workers or isinstance(loader.sampler, StreamOrder))
        self._num_left = len(loader) if has_end else None

    @override
    def __next__(self) -> Any:
        batch = self._next()
        if self._num_left is not None:
            self._num_left -= 1
            if self._num_left == 0:
                self.end()  # Lightning does not ask for a batch after the last one
        return batch

    def end(self) -> None:
        """End the processes; there are no further batches."""
        self._batches = iter(())

    def _next(self) -> Any:
        try:
            if not self._is_first:
                return next(self._batches)
            self._is_first = False
            with self._reported_when_late():
                return next(self._batches)
        except (RuntimeError, OSError, EOFError) as error:
            for worker in self._workers():
                worker.join(0.2)  # its end may be noticed before its exit code is known
            codes = [worker.exitcode for worker in self._workers() if worker.exitcode]
            if not codes:
                raise
            raise RunFailed(_describe_end(codes[0])) from error

    @contextmanager
    def _reported_when_late(self) -> Iterator[None]:
        timer = threading.Timer(LATE_AFTER_S, self._report_late)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _report_late(self) -> None:
        num_workers, cores = len(self._workers()), num_cores()
        if num_workers == 0:
            reason = "the training process reads or renders it itself; data.num_workers=1 or more does so in parallel"
        elif num_workers > cores:
            reason = f"{num_workers} loader processes start on {cores} cores; lower data.num_workers"
        else:
            reason = f"{num_workers} loader processes start, or read their first scenes from slow storage"
        load = f"{os.getloadavg()[0]:.0f} processes want {cores} cores" if hasattr(os, "getloadavg") else ""
        log.warning("no batch after %.0f s: %s (%s)", LATE_AFTER_S, reason, load or f"{cores} cores")

    def _workers(self) -> list[Any]:
        return getattr(self._batches, "_workers", [])


def seed_worker(worker: int, *, rank: int) -> None:
    """Seed the global generators of a loader process, for data sets that use them.

    Lightning would add a function of its own, for which each loader process imports Lightning.
    """
    seed = seeded_generator(torch.initial_seed(), rank).initial_seed()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _describe_end(code: int) -> str:
    if code == -signal.SIGKILL:
        return (
            "a loader process was killed (SIGKILL), as the system does when memory is short; lower data.num_workers or "
            "data.batch_size, or ask for more memory"
        )
    if code == -signal.SIGBUS:
        return "a loader process ran out of shared memory (SIGBUS); enlarge /dev/shm, or lower data.num_workers"
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return f"a loader process ended {how}; its message is above, or set data.num_workers=0 to see it"


@contextmanager
def _kept_handler() -> Iterator[None]:
    """Keep the handler of SIGCHLD: torch's raises wherever the training is, even in the middle of a step.

    Without it a dead process is noticed when the next batch is due.
    """
    is_main = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD")
    handler = signal.getsignal(signal.SIGCHLD) if is_main else None
    try:
        yield
    finally:
        if handler is not None:
            signal.signal(signal.SIGCHLD, handler)
