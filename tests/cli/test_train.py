import csv
import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_module
from omegaconf import DictConfig
from wandb_files import wandb_run

from wnv.checkpoints.read import read_checkpoint
from wnv.cli.train import main, train
from wnv.models.konet import KoNet
from wnv.training.module import ViewSynthesisModule
from wnv.training.run_folder import read_lines

TRAIN = [sys.executable, "-m", "wnv.cli.train", "experiment=smoke", "device=cpu"]
TWO_STEPS = ["trainer.max_steps=2", "optim.warmup_steps=1", "trainer.val_check_interval=2"]


@pytest.fixture
def compose_smoke() -> Callable[..., DictConfig]:
    def make(run_dir: Path, *overrides: str) -> DictConfig:
        with initialize_config_module("wnv.conf", version_base="1.3"):
            return compose("train", ["experiment=smoke", "device=cpu", f"run_dir={run_dir}", *overrides])

    return make


@pytest.fixture
def fit(compose_smoke: Callable) -> Callable[..., dict[str, float]]:
    return lambda run_dir, *overrides, **options: train(compose_smoke(run_dir, *overrides), run_dir=run_dir, **options)


def losses(run_dir: Path) -> dict[int, float]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return {int(row["step"]): float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]}


def command(*overrides: str, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "WORLD_SIZE")}
    return subprocess.run(
        [*TRAIN, *overrides], cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def test_files_of_a_run(tmp_path: Path, fit: Callable) -> None:
    metrics = fit(tmp_path / "run")
    assert {"val/psnr", "val/ssim", "val/psnr_copy", "train/loss", "speed/scenes_per_s"} <= metrics.keys()
    names = {file.name for file in (tmp_path / "run").iterdir()}
    checkpoints = {"last.ckpt", "last-previous.ckpt", "best.ckpt"}
    assert names == {"config.yaml", "starts.jsonl", "ends.jsonl", "metrics.csv", "images"} | checkpoints
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["optim"]["lr"] == 1e-3
    assert "${" not in (tmp_path / "run" / "config.yaml").read_text(), "interpolations must be resolved"
    start = json.loads((tmp_path / "run" / "starts.jsonl").read_text())
    assert {"commit", "version", "torch", "command", "device", "date"} <= start.keys()
    (end,) = read_lines(tmp_path / "run" / "ends.jsonl")
    assert (end["how"], end["step"], end["message"]) == ("finished", 8, None)
    assert len(losses(tmp_path / "run")) == 8
    assert len(list((tmp_path / "run" / "images").glob("*.png"))) == 2
    assert read_checkpoint(tmp_path / "run")["global_step"] == 8
    assert KoNet.from_pretrained(tmp_path / "run").config["dim"] == 32
    with pytest.raises(FileExistsError, match=r"run.*resume=last"):
        fit(tmp_path / "run")


@pytest.mark.slow
def test_a_seed_determines_a_run(tmp_path: Path, fit: Callable) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fit(tmp_path / name, *TWO_STEPS, f"seed={seed}", "trainer.limit_val_batches=0")
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert losses(tmp_path / "a") != losses(tmp_path / "c")


@pytest.mark.slow  # the tests of stopped and of longer runs below need no kill
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, fit: Callable) -> None:
    """A real SIGKILL, at an arbitrary moment."""
    settings = [
        "trainer.max_steps=120",
        "trainer.val_check_interval=50",
        "callbacks.checkpoints.every_n_steps=5",
        "callbacks=ema",
        "data.num_scenes=7",
    ]
    for attempt in range(3):  # the run may end before this process continues
        run_dir = tmp_path / f"killed{attempt}"
        code, stderr = _kill_once_saved([*TRAIN, *settings, f"run_dir={run_dir}"], run_dir)
        assert code in (0, -signal.SIGKILL), stderr
        killed_at = read_checkpoint(run_dir)["global_step"]
        if killed_at < 120:
            break
    assert code == -signal.SIGKILL
    assert 0 < killed_at < 120

    resumed = fit(run_dir, *settings, "resume=last")
    straight = fit(tmp_path / "straight", *settings)

    expected = losses(tmp_path / "straight")
    assert len(expected) == 120
    if killed_at - 1 not in losses(run_dir):  # the kill came between checkpoint and row
        del expected[killed_at - 1]
    assert losses(run_dir) == pytest.approx(expected, abs=1e-6)
    for name in ("val/psnr", "val/ssim"):
        assert resumed[name] == pytest.approx(straight[name], abs=1e-5)
    one, other = read_checkpoint(run_dir), read_checkpoint(tmp_path / "straight")
    for key in ("state_dict", "ema_state_dict"):
        for name, value in other[key].items():
            torch.testing.assert_close(one[key][name], value, rtol=0, atol=1e-6, msg=f"{key} {name}")
    assert one["SyntheticDataModule"] == other["SyntheticDataModule"]
    starts = [json.loads(line) for line in (run_dir / "starts.jsonl").read_text().splitlines()]
    assert [start["resumed_from"] for start in starts] == [None, str(run_dir / "last.ckpt")]


def _kill_once_saved(command: list[str], run_dir: Path) -> tuple[int, str]:
    process = subprocess.Popen(
        command, cwd=run_dir.parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 250
    while not (run_dir / "last.ckpt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    _, stderr = process.communicate()
    return process.returncode, stderr


@pytest.mark.slow
def test_a_longer_run_continues_a_shorter_one(tmp_path: Path, fit: Callable) -> None:
    quiet = ["trainer.limit_val_batches=0", "optim.warmup_steps=0"]
    fit(tmp_path / "short", *quiet, "trainer.max_steps=3")
    fit(tmp_path / "long", *quiet, "trainer.max_steps=5", f"resume={tmp_path / 'short'}")
    assert sorted(losses(tmp_path / "short")) == [0, 1, 2]
    assert sorted(losses(tmp_path / "long")) == [3, 4]


def test_resume_auto_starts_and_continues_a_run_and_changes_are_logged(
    tmp_path: Path, fit: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    fit(tmp_path / "run", *TWO_STEPS, "resume=auto", "+learning_rate=1")
    assert "not read by wnv-train: learning_rate" in caplog.text
    assert "settings changed" not in caplog.text
    fit(tmp_path / "run", *TWO_STEPS, "resume=auto", "trainer.max_steps=3")
    starts = [json.loads(line) for line in (tmp_path / "run" / "starts.jsonl").read_text().splitlines()]
    assert [start["resumed_from"] for start in starts] == [None, str(tmp_path / "run" / "last.ckpt")]
    assert "trainer.max_steps: 2 -> 3" in caplog.text
    assert "run_dir" not in caplog.text


def test_resume_last_needs_run_dir(tmp_path: Path, fit: Callable) -> None:
    for resume in ("last", "auto"):
        with pytest.raises(ValueError, match=rf"resume={resume} .*run_dir="):
            fit(tmp_path / "run", f"resume={resume}", is_run_dir_given=False)


@pytest.mark.slow
def test_a_run_without_a_newer_model_argument_is_resumed(tmp_path: Path, fit: Callable) -> None:
    fit(tmp_path / "run", *TWO_STEPS)
    last = tmp_path / "run" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    del checkpoint["model_config"]["activation"]
    torch.save(checkpoint, last)
    fit(tmp_path / "run", *TWO_STEPS, "resume=last", "trainer.max_steps=3")
    assert read_checkpoint(last)["global_step"] == 3


@pytest.mark.slow
def test_init_from(tmp_path: Path, fit: Callable) -> None:
    fit(tmp_path / "first", *TWO_STEPS)
    KoNet.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "weights")
    for source in ("first", "weights"):
        fit(tmp_path / f"from_{source}", *TWO_STEPS, f"init_from={tmp_path / source}", "optim.lr=1e-12", "seed=5")
        begun, given = KoNet.from_pretrained(tmp_path / f"from_{source}"), KoNet.from_pretrained(tmp_path / "first")
        torch.testing.assert_close(begun.state_dict(), given.state_dict(), rtol=0, atol=1e-6)


@pytest.mark.skipif(importlib.util.find_spec("torch_npu") is not None, reason="torch_npu is installed")
def test_an_unusable_device_is_one_line(run_in_process: Callable) -> None:
    code, _, err = run_in_process(main, "experiment=smoke", "device=npu", "run_dir=run", "hydra/job_logging=none")
    assert code == 2
    assert err.startswith("wnv-train: error: device=npu: torch_npu")
    assert err.count("\n") == 1


@pytest.mark.slow
def test_an_interrupted_run_can_be_resumed(tmp_path: Path, fit: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(module: ViewSynthesisModule, *args: object) -> None:
        if module.trainer.global_step == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(ViewSynthesisModule, "on_train_batch_end", interrupt)
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt, match=r"at step 5; continue with run_dir=.*run resume=last"):
            fit(tmp_path / "run")
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored
    monkeypatch.undo()
    assert read_checkpoint(tmp_path / "run")["global_step"] == 4
    fit(tmp_path / "run", "resume=last")
    assert sorted(losses(tmp_path / "run")) == list(range(8))
    ends = [(end["how"], end["message"]) for end in read_lines(tmp_path / "run" / "ends.jsonl")]
    assert ends == [("stopped", "SIGINT"), ("finished", None)]


@pytest.mark.slow
def test_a_failure_is_recorded(tmp_path: Path, fit: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(module: ViewSynthesisModule, *args: object) -> None:
        if module.trainer.global_step == 3:
            raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(ViewSynthesisModule, "on_train_batch_end", fail)
    with pytest.raises(RuntimeError):
        fit(tmp_path / "run")
    (end,) = read_lines(tmp_path / "run" / "ends.jsonl")
    assert (end["how"], end["step"], end["message"]) == ("failed", 3, "RuntimeError: out of memory")


@pytest.mark.slow
def test_a_stopped_run_reports_how_to_resume(
    tmp_path: Path,
    fit: Callable,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(module: ViewSynthesisModule, *args: object) -> None:
        if module.trainer.global_step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    run_dir = tmp_path / "run"
    arguments = ["experiment=smoke", "device=cpu", f"run_dir={run_dir}", "hydra/job_logging=none"]
    monkeypatch.setattr(sys, "argv", ["wnv-train", *arguments])
    monkeypatch.setattr(ViewSynthesisModule, "on_train_batch_start", stop)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as caught:
            main()
    finally:
        signal.signal(signal.SIGTERM, handler)
    monkeypatch.undo()
    assert caught.value.code == 75
    answer = f"wnv-train: stopped by SIGTERM at step 6; continue with run_dir={run_dir} resume=last"
    assert capsys.readouterr().err.splitlines()[-1] == answer
    assert read_checkpoint(run_dir)["global_step"] == 6
    (end,) = read_lines(run_dir / "ends.jsonl")
    assert (end["how"], end["step"], end["message"]) == ("stopped", 6, "SIGTERM")
    fit(run_dir, "resume=last")
    fit(tmp_path / "straight")
    assert losses(run_dir) == pytest.approx(losses(tmp_path / "straight"), abs=1e-6)


@pytest.mark.slow
def test_a_resumed_run_without_time_left_is_a_warning(
    tmp_path: Path, fit: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    fit(tmp_path / "run", *TWO_STEPS)
    with caplog.at_level(logging.WARNING):
        fit(tmp_path / "run", "resume=last", "trainer.max_time='00:00:00:00'")
    assert "nothing was trained" in caplog.text


@pytest.mark.slow
def test_compile_gives_the_same_losses(tmp_path: Path) -> None:
    settings = [*TWO_STEPS, "trainer.max_steps=3", "callbacks.images=null"]
    for name, compiled in (("plain", "off"), ("compiled", "blocks")):
        done = command(*settings, f"module.compile={compiled}", f"run_dir={name}", cwd=tmp_path, timeout=800)
        assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), abs=1e-4)
    KoNet.from_pretrained(tmp_path / "compiled")


@pytest.mark.slow
def test_sweep_jobs_have_folders_and_failures_are_reported(tmp_path: Path) -> None:
    """Each job is a W&B run of its own, which a resumed job continues."""
    offline = ["logger=wandb", "logger.wandb.offline=true"]
    swept = ["optim.lr=1e-3,2e-3", "model.dim=32,33"]
    done = command(*TWO_STEPS, *offline, *swept, "run_dir=sweep", "-m", cwd=tmp_path)
    assert done.returncode == 2
    rows = [line.split() for line in done.stdout.splitlines() if line.lstrip().startswith(("job", "0 ", "1 "))]
    assert rows[0] == ["job", "overrides", "val/psnr"]
    assert rows[1][:2] == ["0", "optim.lr=0.001,model.dim=32"]
    assert float(rows[1][2]) > 0
    assert rows[2] == ["1", "optim.lr=0.001,model.dim=33", "failed"]
    answers = [line for line in done.stderr.splitlines() if line.startswith("wnv-train: ")]
    reason = "dim must be a multiple of num_heads=2, got 33 (config key model)"
    assert answers[:2] == [f"wnv-train: job {job} failed: {reason}" for job in (1, 3)]
    assert answers[2].startswith("wnv-train: error: jobs 1, 3 ")
    for job, rate in (("0", 1e-3), ("2", 2e-3)):
        run_dir = tmp_path / "sweep" / job
        assert yaml.safe_load((run_dir / "config.yaml").read_text())["optim"]["lr"] == rate
        assert {"last.ckpt", "metrics.csv"} <= {file.name for file in run_dir.iterdir()}
        overrides = json.loads((run_dir / "starts.jsonl").read_text())["overrides"]
        assert {"model.dim=32", f"optim.lr={rate}"} <= {*overrides}
        (path,) = run_dir.glob("wandb/offline-run-*/*.wandb")
        logged, config = wandb_run(path)
        assert (logged.display_name, logged.run_group) == (f"optim.lr={rate},model.dim=32", "sweep")
        assert config["optim"]["lr"] == rate
        assert config["start"]["global_batch"] == 2
    assert command("run_dir=sweep/0", "resume=last", "trainer.max_steps=3", cwd=tmp_path).returncode == 0
    paths = (tmp_path / "sweep").glob("0/wandb/offline-run-*/*.wandb")
    assert len({path.name for path in paths}) == 1


@pytest.mark.slow
def test_a_sweep_over_several_devices_starts_processes(tmp_path: Path) -> None:
    settings = ["trainer.devices=1,2", "data.batch_size=2", "callbacks.images=null"]
    done = command(*TWO_STEPS, *settings, "run_dir=sweep", "-m", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in (tmp_path / "sweep").iterdir()) == ["0", "1", "multirun.yaml"]
    for job, num_devices in (("0", 1), ("1", 2)):
        starts = (tmp_path / "sweep" / job / "starts.jsonl").read_text().splitlines()
        assert [json.loads(line)["devices"] for line in starts] == [num_devices]
        assert sorted(losses(tmp_path / "sweep" / job)) == [0, 1]


def test_a_sweep_in_one_process_has_one_device(tmp_path: Path, fit: Callable) -> None:
    with pytest.raises(ValueError, match=r"sweep.*devices=2"):
        fit(tmp_path / "run", "trainer.devices=2", is_sweep=True)


@pytest.mark.slow
def test_lightnings_slurm_checkpoint_is_not_resumed_by_default(
    tmp_path: Path, fit: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "1")
    fit(tmp_path / "run", *TWO_STEPS)
    (tmp_path / "other").mkdir()
    (tmp_path / "run" / "last.ckpt").rename(tmp_path / "other" / "hpc_ckpt_1.ckpt")
    with pytest.raises(FileExistsError, match="holds a run already"):
        fit(tmp_path / "other", *TWO_STEPS)
