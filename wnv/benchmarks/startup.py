"""Start-up times: of `--help` of each command, and of a training until its first step."""

import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from wnv.benchmarks.tables import Table
from wnv.benchmarks.timing import measure_in_turns
from wnv.training.run_folder import METRICS_FILE

COMMANDS = ("wnv-train", "wnv-eval", "wnv-render", "wnv-demo", "wnv-export", "wnv-bench loader", "wnv-data pose")
BASES = ("import torch", "import torch, lightning")


def run(
    *,
    commands: Sequence[str] = COMMANDS,
    training: Sequence[str] = (
        "experiment=konet_tiny",
        "device=cpu",
        "trainer.max_steps=1",
        "trainer.limit_val_batches=0",
        "callbacks.progress=null",
    ),
    repeats: int = 5,
) -> Table:
    """Time commands in turns, from the start of their process, on the wall clock.

    The first training step counts as done when its row is in `metrics.csv`; checkpoints and other later work do not
    count. Bare imports, which every training needs, are listed for comparison.

    Args:
        commands: Commands of this package, with the arguments before `--help`.
        training: Settings of a short training, which runs in its own folder.
        repeats: Timed runs of each, after one to warm up the disk cache; the table shows the median.

    Raises:
        ValueError: If `repeats` is below 1.
        FileNotFoundError: If a command is not installed beside this Python.
        RuntimeError: If a command fails.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    programs = {f"python -c {code!r}": [sys.executable, "-c", code] for code in BASES}
    programs |= {f"{command} --help": [*_program(command), "--help"] for command in commands}
    first_step = "wnv-train: first step"
    cases: dict[str, Callable[[], float]] = {name: partial(_time, program) for name, program in programs.items()}
    seconds = measure_in_turns(cases | {first_step: partial(_time_first_step, training)}, repeats=repeats)
    return _tabulate(seconds, first_step, training)


def _tabulate(seconds: dict[str, list[float]], first_step: str, training: Sequence[str]) -> Table:
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    torch_s, lightning_s = (medians[f"python -c {code!r}"] for code in BASES)
    rows = [
        (name, f"{median:.2f}", f"{min(seconds[name]):.2f} to {max(seconds[name]):.2f}", f"{median / torch_s:.2f}")
        for name, median in medians.items()
    ]
    return Table(
        title=(
            f"Start-up, median of {len(seconds[first_step])}: from the start of the process to its end, or to the "
            f"first step of wnv-train {' '.join(training)}"
        ),
        columns=("command", "s", "range, s", "of `import torch`"),
        rows=rows,
        figures={
            "seconds": seconds,
            "first_step_s": medians[first_step],
            "first_step_per_imports": medians[first_step] / lightning_s,
        },
    )


def _program(command: str) -> list[str]:
    name, *arguments = command.split()
    path = Path(sysconfig.get_path("scripts")) / name
    if not path.exists():
        raise FileNotFoundError(f"{path} not found; install the package (make setup)")
    return [str(path), *arguments]


def _time(command: Sequence[str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    taken = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with code {done.returncode}: {done.stderr}")
    return taken


def _time_first_step(training: Sequence[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        run_dir, output = Path(folder) / "run", Path(folder) / "output"
        command = [*_program("wnv-train"), *training, f"run_dir={run_dir}", "trainer.log_every_n_steps=1"]
        table = run_dir / METRICS_FILE
        with output.open("w") as file:
            start = time.perf_counter()
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=_unlaunched())
            while not _has_row(table) and process.poll() is None:
                time.sleep(0.01)
            taken = time.perf_counter() - start
            process.wait()
        if process.returncode or not _has_row(table):
            raise RuntimeError(f"{' '.join(command)} ended with code {process.returncode}: {output.read_text()}")
    return taken


def _has_row(table: Path) -> bool:
    return table.exists() and table.read_text().count("\n") > 1


def _unlaunched() -> dict[str, str]:
    """This environment without the variables of a launcher."""
    return {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "RANK", "WORLD_SIZE")}
