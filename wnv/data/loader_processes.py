"""Loader processes that ignore the signals sent to all processes of a training."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context, resource_tracker
from multiprocessing.context import BaseContext, SpawnContext, SpawnProcess

_SIGNALS = (signal.SIGINT, signal.SIGTERM, *((signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ()))


def loader_context() -> BaseContext:
    """The multiprocessing context of loader workers.

    Workers are spawned, because forking a process that has threads or a device may deadlock. They ignore signals that
    the training process did not send: Ctrl-C in a terminal, Slurm's warnings and a shutdown reach all processes, but
    the training answers them after its current step and needs its loaders until then.
    """
    if not hasattr(signal, "sigwaitinfo"):  # Windows and macOS do not report the sender of a signal
        return get_context("spawn")
    with _blocked_signals():
        resource_tracker.ensure_running()  # a helper process for shared memory, which inherits the mask
    return _LoaderContext()


class _LoaderProcess(SpawnProcess):
    def start(self) -> None:
        with _blocked_signals():  # the child inherits the mask, so it is safe while it still imports
            super().start()

    def run(self) -> None:
        threading.Thread(target=_exit_on_parents_signal, daemon=True).start()
        super().run()

    def _bootstrap(self, parent_sentinel: int | None = None) -> int:
        # Skips the interpreter's shutdown, as forked processes do: torch's threads or the thread above can abort it.
        os._exit(super()._bootstrap(parent_sentinel=parent_sentinel))  # pyright: ignore[reportAttributeAccessIssue]


class _LoaderContext(SpawnContext):
    Process = _LoaderProcess


def _exit_on_parents_signal() -> None:
    """Wait for a SIGTERM from the parent process, then exit."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """Block, in this thread, the signals that stop a training; pending ones are delivered after the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
