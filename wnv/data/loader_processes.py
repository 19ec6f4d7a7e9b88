"""Loader processes: forked from a server that has imported torch, deaf to the signals of others."""

import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import current_process, forkserver, get_context, parent_process, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext, ForkServerContext, ForkServerProcess
from types import ModuleType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, *((signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ()))
# What workers import before their first example.
_PRELOAD = [
    "wnv.data.faults",
    "wnv.data.loader",
    "wnv.data.scene_dataset",
    "wnv.synthetic.dataset",
    "torch.fx.experimental.symbolic_shapes",
]
_PRELOAD += ["numpy.random", "PIL.JpegImagePlugin", "PIL.PngImagePlugin"]


def loader_context(dataset: Any = None) -> BaseContext:
    """The multiprocessing context of loader workers of a data set.

    Workers are forked from a server process that has imported torch and the data sets, and no more: forking a process
    that has threads or a device may deadlock, and a new interpreter per worker takes seconds and its own memory.

    They ignore signals that the training process did not send: Ctrl-C in a terminal, Slurm's warnings and a shutdown
    reach all processes, but the training answers them after its current step and needs its loaders until then.

    The user's script is not imported again, unless the data set is defined in it.

    Raises:
        SystemExit: If this process is a worker itself, because it imports an unguarded script.
    """
    if getattr(current_process(), "_inheriting", False):
        sys.stderr.write(
            "wnv: loader processes import the script, because it defines the data set: put what it runs below "
            "`if __name__ == '__main__':`, or the data set into a module, or set data.num_workers=0\n"
        )
        raise SystemExit(1)
    if not hasattr(signal, "sigwaitinfo"):  # Windows and macOS do not report the sender of a signal
        return get_context("spawn")
    context = _LoaderContext()
    context.set_forkserver_preload(_PRELOAD)
    # Both helpers inherit the mask. The first one, for shared memory, resets it in this process.
    with _blocked_signals():
        resource_tracker.ensure_running()
    with _blocked_signals():
        forkserver.ensure_running()
    context.needs_script = b"__main__" in pickle.dumps(dataset)
    return context


class _LoaderProcess(ForkServerProcess):
    needs_script = False

    def start(self) -> None:
        if self.needs_script:
            super().start()
        else:
            with _hidden_script():
                super().start()

    def run(self) -> None:
        threading.Thread(target=_exit_on_parents_signal, daemon=True).start()
        threading.Thread(target=_exit_with_parent, daemon=True).start()
        super().run()

    def _bootstrap(self, parent_sentinel: int | None = None) -> int:
        # Skips the interpreter's shutdown: torch's threads or those above can abort it.
        os._exit(super()._bootstrap(parent_sentinel=parent_sentinel))  # pyright: ignore[reportAttributeAccessIssue]


class _ScriptProcess(_LoaderProcess):
    needs_script = True


class _LoaderContext(ForkServerContext):
    needs_script = False

    @property
    def Process(self) -> type[_LoaderProcess]:
        return _ScriptProcess if self.needs_script else _LoaderProcess


def _exit_on_parents_signal() -> None:
    """Wait for a SIGTERM from the parent process, then exit."""
    parent = parent_process()
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != (parent.pid if parent else os.getppid()):
        pass
    os._exit(0)


def _exit_with_parent() -> None:
    """Exit when the parent is gone, even if it was killed; the server that forks workers lives as long as they do."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(0)


@contextmanager
def _hidden_script() -> Iterator[None]:
    """Hide `__main__`, whose file a new process would import."""
    script, empty = sys.modules["__main__"], ModuleType("__main__")
    sys.modules["__main__"] = empty
    try:
        yield
    finally:
        sys.modules["__main__"] = script


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """Block, in this thread, the signals that stop a training; pending ones are delivered after the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
