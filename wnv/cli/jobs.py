"""Run `wnv-train` in new processes: jobs of sweeps and searches on several devices."""

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

# Environment variables of the launcher, which do not apply to the job.
_PLACE_VARIABLES = (
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_USE_AGENT_STORE", "PL_GLOBAL_SEED"),
)
_PARENT_VARIABLE = "WNV_JOB_OF"
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
# Settings of the sweep, not of the job.
_OF_THE_SWEEP = ("hydra.mode", "hydra.run.", "hydra.sweep.", "hydra/launcher", "hydra.launcher", "hydra/sweeper")
_OF_THE_SWEEP += ("hydra.sweeper", "run_dir=")


def run_job(overrides: Sequence[str], *, run_dir: Path, flags: Sequence[str] = ()) -> dict[str, float]:
    """Train in new processes, which end with this one, and return the last value of each metric.

    Signals to this process are forwarded.

    Args:
        overrides: Overrides of the run; those of a sweep and its folders are left out.
        run_dir: Folder of the run.
        flags: Flags of the command, such as `--config-dir`.

    Raises:
        JobFailed: If it failed, and reported why.
        Stopped: If a signal stopped it; it can be resumed.
        KeyboardInterrupt: If Ctrl-C did not wait for the end of the step.
    """
    kept = [item for item in overrides if not item.lstrip("+~").startswith(_OF_THE_SWEEP)]
    command = [sys.executable, "-m", "wnv.cli.train", *flags, *kept, f"run_dir={Path(run_dir).absolute()}"]
    environment = {name: value for name, value in os.environ.items() if name not in _PLACE_VARIABLES}
    environment[_PARENT_VARIABLE] = str(os.getpid())
    # In another process group: Ctrl-C would arrive twice, and the second does not wait.
    process = subprocess.Popen(command, env=environment, process_group=0)
    try:
        with _forward_signals(process):
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
        code = code if code > 0 else 128 - code  # as in a shell, for a signal
        raise JobFailed(f"the run in {run_dir} failed with exit code {code}; see its messages above", code=code)
    return last_metrics(run_dir / METRICS_FILE)


def follow_parent() -> None:
    """Stop as by SIGTERM when the process that started this one with `run_job` ends."""
    if os.environ.get(_PARENT_VARIABLE) != str(os.getppid()):
        return
    die_with_parent(signal.SIGTERM)
    if os.environ[_PARENT_VARIABLE] != str(os.getppid()):  # it ended meanwhile
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _forward_signals(process: subprocess.Popen) -> Iterator[None]:
    """Forward signals to a process inside the block."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread can have handlers
        yield
        return
    before = {number: signal.signal(number, lambda sent, _: process.send_signal(sent)) for number in _FORWARDED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
