"""Processes that load batches for a training, and what is sent to all processes of it."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context, resource_tracker
from multiprocessing.context import BaseContext, SpawnContext, SpawnProcess

from typing_extensions import override

_SIGNALS = (signal.SIGINT, signal.SIGTERM, *((signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ()))


def loader_context() -> BaseContext:
    """How loader processes are started: from nothing, as a copy of one that runs threads or a device may hang.

    A terminal's Ctrl-C, Slurm's signals before a job's end and a shutdown of the machine reach all processes. The
    training answers them after its step, and needs its loaders until then: these are deaf to all but the training.
    """
    if not hasattr(signal, "sigwaitinfo"):  # Windows and macOS do not tell who has sent a signal
        return get_context("spawn")
    with _signals_held_back():
        resource_tracker.ensure_running()  # which removes what processes share, and is as deaf as they are
    return _LoaderContext()


class _LoaderProcess(SpawnProcess):
    @override
    def start(self) -> None:
        with _signals_held_back():  # a process is born with what its parent holds back
            super().start()

    @override
    def run(self) -> None:
        threading.Thread(target=_end_when_told, daemon=True).start()
        super().run()

    @override
    def _bootstrap(self, parent_sentinel: int | None = None) -> int:
        # Ends at once when all is done, as forked processes do: torch's threads, or the one that waits for a signal,
        # now and then aborted an interpreter that was being taken down.
        os._exit(super()._bootstrap(parent_sentinel=parent_sentinel))


class _LoaderContext(SpawnContext):
    Process = _LoaderProcess


def _end_when_told() -> None:
    """Wait for the SIGTERM of the process that started this one."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Inside the block this thread is sent no signal that asks a training to stop; what has come, comes after it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
