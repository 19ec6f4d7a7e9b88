"""The shipped batch files and launcher, with a simulated Slurm that starts the processes on this machine."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import wnv.conf
from hydra import compose, initialize_config_module

from wnv.checkpoints.read import read_checkpoint
from wnv.cli.api import train

CONF = Path(wnv.conf.__path__[0])
ROOT = Path(__file__).parents[2]
SMALL = ["device=cpu", "precision=fp32", "trainer.max_steps=6", "trainer.val_check_interval=6", "optim.warmup_steps=1"]
SMALL += ["trainer.log_every_n_steps=1", "data.image_size=[16,24]", "data.num_workers=0", "data.num_val_scenes=2"]
SMALL += ["model.dim=32", "model.num_layers=2", "model.num_heads=2", "model.mlp_dim=64", "callbacks.images=null"]
SMALL += ["callbacks.checkpoints.every_n_steps=100"]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with Slurm's commands and this environment's; it also holds the jobs' exit codes."""
    commands = tmp_path / "slurm"
    commands.mkdir()
    for name in ("sbatch", "srun", "scontrol", "sacct"):
        program = commands / name
        program.write_text(
            f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("fake_slurm.py")} {name} "$@"\n'
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(commands))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "training"))  # for faults.py
    for name in ("LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return commands


def codes_of(job: str, slurm: Path, *, timeout_s: float = 200) -> list[int]:
    """Wait until a job has ended and return the exit code of each start."""
    ended, deadline = slurm / f"{job}.ended", time.monotonic() + timeout_s
    while not ended.exists():
        assert time.monotonic() < deadline, f"job {job} has not ended"
        time.sleep(0.05)
    return [int(code) for code in ended.read_text().split()]


def losses(run_dir: Path) -> dict[int, float]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return {int(row["step"]): float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]}


@pytest.mark.slow
def test_a_requeued_job_gives_the_same_losses(tmp_path: Path, slurm: Path) -> None:
    """Two machines with one process each; every process receives SIGUSR1 in the fourth step."""
    script = (CONF / "slurm" / "konet_fsdp.sbatch").read_text()
    smaller = script.replace("--ntasks-per-node=8", "--ntasks-per-node=1").replace("%x-%j.out", f"{tmp_path}/job.out")
    assert smaller.count("\n") == script.count("\n")
    (tmp_path / "job.sbatch").write_text(smaller)
    fault = {"_target_": "faults.Fault", "what": "SIGUSR1", "at_step": 3, "folder": tmp_path, "stamp": tmp_path / "hit"}
    words = [*SMALL, "data.batch_size=2", *(f"+callbacks.fault.{name}={value}" for name, value in fault.items())]
    submitted = subprocess.run(["sbatch", "job.sbatch", *words], capture_output=True, text=True, check=True).stdout
    job = submitted.split()[-1]
    codes, output = codes_of(job, slurm), (tmp_path / "job.out").read_text()
    assert codes == [75, 0], output
    run_dir = tmp_path / "runs" / "konet_fsdp" / f"slurm-{job}"
    assert output.count(f"wnv-train: stopped by SIGUSR1 at step 4; continue with run_dir={run_dir} resume=last") == 1
    starts = [json.loads(line) for line in (run_dir / "starts.jsonl").read_text().splitlines()]
    assert [start["resumed_from"] for start in starts] == [None, str(run_dir / "last.ckpt")]
    assert [start["devices"] for start in starts] == [2, 2]
    assert not list(tmp_path.rglob("hpc_ckpt*"))

    alone = ["experiment=konet_fsdp", "strategy=auto", "trainer.devices=1", "data.batch_size=4"]
    train([*alone, *SMALL, "callbacks.progress=null"], run_dir=tmp_path / "straight")
    assert sorted(losses(run_dir)) == list(range(6))
    one, other = read_checkpoint(run_dir), read_checkpoint(tmp_path / "straight")
    torch.testing.assert_close(one["state_dict"], other["state_dict"], rtol=0, atol=2e-5)


@pytest.mark.slow
def test_a_sweep_submits_slurm_jobs(tmp_path: Path, slurm: Path) -> None:
    """Two jobs with two processes each, one of which fails; the sweep receives their results."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    words = ["hydra/launcher=slurm", "experiment=smoke", *SMALL, "trainer.max_steps=2", "trainer.devices=2"]
    words += ["data.batch_size=2", "model.dim=32,33", "run_dir=sweep"]
    done = subprocess.run(
        [sys.executable, "-m", "wnv.cli.train", "-m", *words], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2, done.stderr
    answer = done.stderr.splitlines()[-1]
    assert answer.startswith("wnv-train: error: ")
    assert "dim must be a multiple of num_heads=2, got 33" in answer
    (start,) = (tmp_path / "sweep" / "0" / "starts.jsonl").read_text().splitlines()
    assert json.loads(start)["devices"] == 2
    assert sorted(losses(tmp_path / "sweep" / "0")) == [0, 1]
    assert not (tmp_path / "sweep" / "1" / "config.yaml").exists()
    (script,) = (tmp_path / "sweep" / ".submitit").rglob("*_submission.sh")
    options = {line.removeprefix("#SBATCH --") for line in script.read_text().splitlines()}
    assert {"nodes=1", "ntasks-per-node=2", "signal=USR1@300", "time=1440"} <= options


@pytest.mark.parametrize("name", ["konet_fsdp", "konet_fsdp_npu"])
def test_batch_files_compose(tmp_path: Path, slurm: Path, name: str) -> None:
    """The unchanged batch file, with a command that only records its arguments."""
    noted = slurm / "wnv-train"
    noted.write_text(f'#!/bin/sh\necho "$SLURM_PROCID: $@" >> {tmp_path}/called; exit 75\n')
    noted.chmod(0o755)
    submitted = subprocess.run(["sbatch", CONF / "slurm" / f"{name}.sbatch", "seed=3"], capture_output=True, text=True)
    job = submitted.stdout.split()[-1]
    assert codes_of(job, slurm) == [75] * 5, "the job is requeued until the simulated Slurm stops after five starts"
    calls = (tmp_path / "called").read_text().splitlines()
    assert len(calls) == 5 * 16
    (words,) = {call.partition(": ")[2] for call in calls}
    with initialize_config_module("wnv.conf", version_base="1.3"):
        cfg = compose("train", words.split())
    assert (cfg.trainer.devices, cfg.trainer.num_nodes, cfg.seed) == (8, 2, 3)
    assert cfg.run_dir == f"runs/konet_fsdp/slurm-{job}"
    assert cfg.resume == "auto"
    assert cfg.trainer.accelerator == ("npu" if name.endswith("npu") else "cuda")
    assert cfg.trainer.precision == "bf16-mixed"
