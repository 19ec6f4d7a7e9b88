"""A training as a job of its own: `wnv-train` in new processes, for sweeps and searches over several devices."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from wnv.cli.app import EXIT_STOPPED, JobFailed, Stopped
from wnv.runtime.lifetime import die_with_parent
from wnv.training.run_folder import METRICS_FILE, last_metrics

# What a process learns from the one that started it, and hands on to those that it starts.
_PLACE_VARIABLES = (
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_USE_AGENT_STORE", "PL_GLOBAL_SEED"),
)
_PARENT_VARIABLE = "WNV_JOB_OF"
_HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
# What is about the sweep and not about the job.
_OF_THE_SWEEP = ("hydra.mode", "hydra.run.", "hydra.sweep.", "hydra/launcher", "hydra.launcher", "hydra/sweeper")
_OF_THE_SWEEP += ("hydra.sweeper", "run_dir=")


def run_job(overrides: Sequence[str], *, run_dir: Path, flags: Sequence[str] = ()) -> dict[str, float]:
    """Train in new processes, which end when this one does; the last value of each metric.

    The job is sent the signals that this process is sent, and stops by them as any run does.

    Args:
        overrides: What `wnv-train` is told; what is about a sweep and its folders is left out.
        run_dir: Folder of the run.
        flags: Words before the overrides, such as `--config-dir`.

    Raises:
        JobFailed: If it ended with an error, which it has told.
        Stopped: If it was stopped by a signal, and can be resumed.
        KeyboardInterrupt: If Ctrl-C did not want to wait for the end of the step.
    """
    kept = [item for item in overrides if not item.lstrip("+~").startswith(_OF_THE_SWEEP)]
    command = [sys.executable, "-m", "wnv.cli.train", *flags, *kept, f"run_dir={Path(run_dir).absolute()}"]
    environment = {name: value for name, value in os.environ.items() if name not in _PLACE_VARIABLES}
    environment[_PARENT_VARIABLE] = str(os.getpid())
    # Of another group, or Ctrl-C would come twice, and the second one does not wait.
    process = subprocess.Popen(command, env=environment, process_group=0)
    try:
        with _handing_on(process):
            code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if code == EXIT_STOPPED:
        raise Stopped(f"in {run_dir}")
    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt(f"in {run_dir}")
    if code != 0:
        code = code if code > 0 else 128 - code  # as a shell tells that a signal ended it
        raise JobFailed(f"the run in {run_dir} ended with exit code {code}; what it said stands above", code=code)
    return last_metrics(run_dir / METRICS_FILE)


def follow_parent() -> None:
    """In a process that `run_job` started: stop, as by SIGTERM, when the one that started it ends."""
    if os.environ.get(_PARENT_VARIABLE) != str(os.getppid()):
        return
    die_with_parent(signal.SIGTERM)
    if os.environ[_PARENT_VARIABLE] != str(os.getppid()):  # it ended in between
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _handing_on(process: subprocess.Popen) -> Iterator[None]:
    """Signals to this process go to that one, inside the block."""
    if threading.current_thread() is not threading.main_thread():  # which alone can have handlers
        yield
        return
    before = {number: signal.signal(number, lambda sent, _: process.send_signal(sent)) for number in _HANDED_ON}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
