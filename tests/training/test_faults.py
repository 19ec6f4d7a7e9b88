"""Runs of two processes with injected faults: how they end, and that they resume exactly."""

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module

from wnv.checkpoints.read import read_checkpoint, resolve_checkpoint
from wnv.cli.train import train

pytestmark = pytest.mark.slow

SETTINGS = [
    "experiment=smoke",
    "device=cpu",
    "trainer.max_steps=10",
    "trainer.val_check_interval=10",
    "callbacks=ema",
    "callbacks.checkpoints.every_n_steps=4",
    "callbacks.images=null",
]
SHARDED = ["strategy=fsdp", "callbacks.checkpoints.sharded=true"]
# How often each kind of checkpoint is killed in the middle; `WNV_FAULT_KILLS=20 pytest -k kill_while_saving -s`.
NUM_KILLS = int(os.environ.get("WNV_FAULT_KILLS", "2"))
LIGHTNING = [sys.executable, "-m", "wnv.cli.train"]
TORCHRUN = [str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node=2", "-m", "wnv.cli.train"]


class Outcome:
    """End of a run: exit code, output, and seconds from the fault until no process was left."""

    def __init__(self, code: int, text: str, seconds: float) -> None:
        self.code, self.text, self.seconds = code, text, seconds


def start(
    run_dir: Path, *overrides: str, launcher: list[str] = LIGHTNING, notes: Path | None = None, **fault: object
) -> Outcome:
    notes = notes or run_dir.parent  # where there is room for them
    stamp, output = notes / "stamp", notes / "output"
    fault |= {"_target_": "faults.Fault", "folder": run_dir, "stamp": stamp}
    command = [*launcher, *SETTINGS, "trainer.devices=2", f"run_dir={run_dir}", *overrides]
    command += [f"+callbacks.fault.{name}={value}" for name, value in fault.items()]
    drop = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "MASTER_PORT", "PL_GLOBAL_SEED")
    environment = {name: value for name, value in os.environ.items() if name not in drop}
    environment |= {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    # Output goes to a file, because a leftover process would keep a pipe open.
    with output.open("w") as file:
        process = subprocess.Popen(command, env=environment, cwd=run_dir.parent, stdout=file, stderr=subprocess.STDOUT)
        try:
            code = process.wait(timeout=400)
            while left := processes_of(run_dir):
                assert time.time() - float(stamp.read_text()) < 60, f"left behind: {left}"
                time.sleep(0.05)
        finally:
            for pid in processes_of(run_dir):
                os.kill(pid, signal.SIGKILL)
            process.wait()
    assert stamp.exists(), output.read_text()
    return Outcome(code, output.read_text(), time.time() - float(stamp.read_text()))


def processes_of(run_dir: Path) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            is_one = f"run_dir={run_dir}" in (entry / "cmdline").read_text().split("\0")
            if is_one and (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(int(entry.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


@pytest.fixture(scope="module")
def fit_alone() -> Callable[..., None]:
    """Trains in this process alone, with the batch size of two processes together."""

    def fit(run_dir: Path, *overrides: str) -> None:
        with initialize_config_module("wnv.conf", version_base="1.3"):
            settings = [*SETTINGS, "data.batch_size=4", "callbacks.progress=null", f"run_dir={run_dir}"]
            train(compose("train", [*settings, *overrides]), run_dir=run_dir)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    return fit


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, fit_alone: Callable) -> Path:
    """The run without a fault."""
    run_dir = tmp_path_factory.mktemp("straight") / "run"
    fit_alone(run_dir)
    return run_dir


@pytest.fixture
def resumes_to(straight: Path, fit_alone: Callable) -> Callable[..., None]:
    """Checks the step that a run resumes from, and that it ends like the undisturbed one, also with one process."""

    def check(run_dir: Path, step: int, *overrides: str) -> None:
        fit_alone(run_dir, "resume=last", *overrides)
        expected, found = losses(straight), losses(run_dir)
        assert [number for number in found if number >= step] == list(range(step, 10))
        for number in range(step, 10):
            assert found[number] == pytest.approx(expected[number], abs=1e-6)
        assert_same_weights(run_dir, straight)

    return check


def report(row: str, ended: Outcome, taken: str) -> None:
    """A row of the table of faults; shown by `pytest -s`."""
    print(f"| {row} | {ended.seconds:.1f} s | {ended.code} | {taken} |")  # noqa: T201


def losses(run_dir: Path) -> dict[int, float]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return {int(row["step"]): float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]}


def assert_same_weights(run_dir: Path, other: Path) -> None:
    one, two = read_checkpoint(run_dir), read_checkpoint(other)
    assert one["global_step"] == two["global_step"] == 10
    assert one["SyntheticDataModule"] == two["SyntheticDataModule"]
    for key in ("state_dict", "ema_state_dict"):
        torch.testing.assert_close(one[key], two[key], rtol=0, atol=2e-5)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 16 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("a disk of its own cannot be mounted here")
    try:
        # Also makes the folder read-only for root.
        if os.geteuid() == 0 and subprocess.run(["chattr", "-i", folder], capture_output=True).returncode != 0:
            pytest.skip("a folder cannot be made unwritable for root here")
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ({"what": "SIGTERM", "rank": 0}, "SIGTERM"),
        ({"what": "SIGTERM", "rank": 1}, "SIGTERM"),
        ({"what": "SIGTERM"}, "SIGTERM"),
        ({"what": "SIGUSR1", "rank": 1, "also": "SIGTERM"}, "SIGUSR1"),
        ({"what": "SIGINT"}, "SIGINT"),  # the one with sharded checkpoints
    ],
    ids=[
        "SIGTERM to rank 0",
        "to rank 1",
        "to all",
        "SIGUSR1 to rank 1 and a step later SIGTERM to rank 0",
        "Ctrl-C to all",
    ],
)
def test_a_signal_stops_all_after_the_step(tmp_path: Path, fault: dict, name: str, resumes_to: Callable) -> None:
    run_dir, is_sharded = tmp_path / "run", name == "SIGINT"
    ended = start(run_dir, *(SHARDED if is_sharded else []), at_step=5, **fault)
    assert ended.code == 75, ended.text
    assert ended.text.count(f"wnv-train: stopped by {name} at step 6; continue with run_dir={run_dir} resume=last") == 1
    assert ended.seconds < 15
    assert read_checkpoint(run_dir / "last.ckpt")["global_step"] == 6
    previous = "step-00000004" if is_sharded else "last-previous.ckpt"
    assert read_checkpoint(run_dir / previous)["global_step"] == 4
    report(f"{fault}", ended, "last.ckpt, step 6")
    if fault == {"what": "SIGTERM", "rank": 0}:
        damaged = tmp_path / "damaged"
        shutil.copytree(run_dir, damaged)
        os.truncate(damaged / "last.ckpt", (damaged / "last.ckpt").stat().st_size // 2)
        resumes_to(damaged, 4)
    resumes_to(run_dir, 6)


def test_a_signal_to_torchrun_stops_all_after_the_step(tmp_path: Path, resumes_to: Callable) -> None:
    run_dir = tmp_path / "run"
    ended = start(run_dir, launcher=TORCHRUN, what="parent", at_step=5, rank=0)
    assert ended.code == 1, ended.text  # torchrun's, independent of its processes' codes
    assert ended.text.count("wnv-train: stopped by SIGTERM at step ") == 1
    assert ended.seconds < 15
    step = read_checkpoint(run_dir / "last.ckpt")["global_step"]
    report("SIGTERM to torchrun", ended, f"last.ckpt, step {step}")
    assert step > 5  # torchrun forwards the signal after any number of steps
    resumes_to(run_dir, step)


def test_a_killed_process_takes_the_other_with_it(tmp_path: Path, resumes_to: Callable) -> None:
    run_dir = tmp_path / "run"
    ended = start(run_dir, what="SIGKILL", at_step=5, rank=1)
    assert ended.code in (1, -signal.SIGKILL), ended.text
    assert ended.seconds < 20
    # The process that is left saves its last whole step.
    report("SIGKILL of rank 1", ended, "last.ckpt, step 5")
    resumes_to(run_dir, 5)


def moments(kind: str) -> list[object]:
    """Ranks to kill and positions in their saves: one random position in each part of the save."""
    random_number = random.Random(f"a kill while saving {kind}")
    shares = [(number + random_number.random()) / NUM_KILLS for number in range(NUM_KILLS)]
    ranks = [0 if kind == "whole" else random_number.randrange(2) for _ in shares]
    return [
        pytest.param(kind, *it, id=f"{kind}, rank {it[0]} at {it[1]:.3f}") for it in zip(ranks, shares, strict=True)
    ]


@pytest.mark.parametrize(("kind", "rank", "share"), moments("whole") + moments("sharded"))
def test_a_kill_while_saving_leaves_a_complete_checkpoint(
    tmp_path: Path, kind: str, rank: int, share: float, resumes_to: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    run_dir, settings = tmp_path / "run", SHARDED if kind == "sharded" else []
    every_two = "callbacks.checkpoints.every_n_steps=2"
    ended = start(run_dir, *settings, every_two, what="kill_saving", at_step=8, save_steps=2, rank=rank, share=share)
    assert ended.code in (1, -signal.SIGKILL), ended.text
    assert ended.seconds < 20
    names = sorted(os.listdir(run_dir))
    left = [name for name in names if name.endswith(".tmp")]
    left += [name for name in names if name.startswith("step-") and not (run_dir / name / "complete").exists()]
    taken = resolve_checkpoint(run_dir)
    step = read_checkpoint(taken, trees=())["global_step"]
    assert step in (6, 8)
    for name in left:
        assert f"{run_dir / name} is" in caplog.text
    report(
        f"SIGKILL of rank {rank} at {share:.3f} of a {kind} save", ended, f"{taken.name}, step {step}; skipped {left}"
    )
    resumes_to(run_dir, step, *settings)
    assert not [name for name in os.listdir(run_dir) if name.endswith(".tmp")]


@pytest.mark.parametrize(
    ("kind", "what", "reason"),
    [
        ("whole", "full", "No space left"),
        ("sharded", "full", "No space left"),
        ("sharded", "unwritable", "not permitted|Permission denied"),
    ],
)
def test_a_checkpoint_that_cannot_be_written_ends_the_run_and_leaves_the_one_of_before(
    small_disk: Path, tmp_path: Path, kind: str, what: str, reason: str, resumes_to: Callable
) -> None:
    run_dir, settings = small_disk / "run", SHARDED if kind == "sharded" else []
    # Without rows of metrics, which would find no room either.
    ended = start(run_dir, "trainer.log_every_n_steps=100", *settings, notes=tmp_path, what=what, at_step=5, rank=0)
    assert ended.code not in (0, 75), ended.text
    assert ended.seconds < 20
    assert "cannot write the checkpoint" in ended.text
    assert any(text in ended.text for text in reason.split("|"))
    report(f"disk {what} at a {kind} save", ended, f"{resolve_checkpoint(run_dir).name}, step 4")
    shutil.copytree(run_dir, tmp_path / "run", symlinks=True, ignore=shutil.ignore_patterns("ballast"))
    resumes_to(tmp_path / "run", 4)


def test_an_error_in_one_ranks_dataset_ends_all_with_its_traceback(tmp_path: Path, resumes_to: Callable) -> None:
    run_dir = tmp_path / "run"
    ended = start(run_dir, what="error", at_step=5, rank=1)
    assert ended.code in (1, -signal.SIGKILL), ended.text
    assert ended.seconds < 20
    assert "RuntimeError: this scene is damaged" in ended.text
    assert "raised on rank 1 of 2 at step 6" in ended.text
    assert "in _raise_damaged" in ended.text
    report("exception in the dataset of rank 1", ended, "last.ckpt, step 6")
    resumes_to(run_dir, 6)  # saved by the rank that failed


def test_pictures_that_are_not_finite_on_one_rank_skip_the_step_on_all(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    ended = start(run_dir, what="spoil", at_step=5, rank=1)
    assert ended.code == 0, ended.text
    for rank, loss in ((0, "loss 0."), (1, "loss nan of ")):
        assert f"1 skipped so far; rank {rank} had {loss}" in ended.text
    checkpoint = read_checkpoint(run_dir)
    assert checkpoint["skipped_steps"] == 1
    report("NaN in the images of rank 1 at step 5: skipped, the run continues to its end", ended, "")
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())
