"""Trainings in new processes: start, signals, exit codes; searches from Python."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from wnv.cli import api, train
from wnv.cli.app import JobFailed, Stopped
from wnv.cli.jobs import run_job
from wnv.training.run_folder import last_metrics

SMALL = [
    "experiment=smoke",
    "device=cpu",
    "trainer.max_steps=2",
    "optim.warmup_steps=1",
    "trainer.val_check_interval=2",
]
SMALL += ["callbacks.images=null", "callbacks.progress=null"]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Replace Python by a shell script; return the file that it knows as `$NOTE`."""

    def make(script: str) -> Path:
        note, program = tmp_path / "note", tmp_path / "python"
        program.write_text(f"#!/bin/sh\nNOTE={note}\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr("sys.executable", str(program))
        return note

    return make


def test_a_job_does_not_inherit_sweep_settings(
    tmp_path: Path, stand_in: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    note = stand_in('echo "$@" > $NOTE; echo "${LOCAL_RANK:-none}" >> $NOTE')
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "metrics.csv").write_text("step,val/psnr,train/loss\n1,2.5,0.5\n2,,0.25\n")
    overrides = ["optim.lr=1e-3", "run_dir=sweep", "+hydra.verbose=true", "hydra.mode=MULTIRUN", "hydra/launcher=slurm"]
    overrides += ["hydra.launcher.partition=gpu", "hydra.sweep.subdir=x", "seed=2"]
    metrics = run_job(overrides, run_dir=tmp_path / "job", flags=["--config-dir", "mine"])
    assert metrics == {"val/psnr": 2.5, "train/loss": 0.25}
    words = f"-m wnv.cli.train --config-dir mine optim.lr=1e-3 +hydra.verbose=true seed=2 run_dir={tmp_path}/job"
    assert note.read_text().splitlines() == [words, "none"]


@pytest.mark.parametrize(
    ("script", "error", "code"),
    [
        ("exit 2", JobFailed, 2),
        ("exit 1", JobFailed, 1),
        ("kill -9 $$", JobFailed, 137),
        ("exit 75", Stopped, None),
        ("exit 130", KeyboardInterrupt, None),
    ],
)
def test_exit_code_of_a_job(
    tmp_path: Path, stand_in: Callable, script: str, error: type[BaseException], code: int | None
) -> None:
    stand_in(script)
    with pytest.raises(error, match=f"in {tmp_path}/job") as caught:
        run_job([], run_dir=tmp_path / "job")
    if code is not None:
        assert caught.value.code == code


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_signals_are_forwarded_to_a_job(tmp_path: Path, stand_in: Callable, name: str) -> None:
    short = name.removeprefix("SIG")
    # A shell cannot trap a signal that was ignored at its start, such as Ctrl-C in a background job.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    note = stand_in(f"trap 'echo {short} >> $NOTE.got; exit 75' {short}; touch $NOTE; while :; do sleep 0.01; done")
    before = signal.getsignal(getattr(signal, name))

    def send() -> None:
        # The job may be there before this process has its own handlers, and would then be ended by the signal.
        while not note.exists() or signal.getsignal(getattr(signal, name)) is before:
            time.sleep(0.005)
        os.kill(os.getpid(), getattr(signal, name))

    threading.Thread(target=send, daemon=True).start()
    with pytest.raises(Stopped):
        run_job([], run_dir=tmp_path / "job")
    assert Path(f"{note}.got").read_text() == f"{short}\n"
    assert signal.getsignal(getattr(signal, name)) is before
    signal.signal(signal.SIGINT, ignored)


def test_a_job_ends_with_its_parent(tmp_path: Path) -> None:
    """If its parent is killed, the job receives SIGTERM and stops as usual."""
    # It installs its handler before it reports its start, because the kill may follow immediately.
    job = "import os, signal, time; from wnv.cli.jobs import follow_parent; "
    job += "signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b'stopped\\n'), exit())); "
    job += "follow_parent(); print('on', flush=True); time.sleep(60)"
    starter = "import os, subprocess, sys; os.environ['WNV_JOB_OF'] = str(os.getpid()); "
    starter += f"subprocess.run([sys.executable, '-c', {job!r}])"
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "on\n"
        process.kill()
        assert process.stdout.read() == "stopped\n"


@pytest.mark.slow
def test_a_stopped_job_of_submitit_fails_in_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Submitit forwards exceptions only."""

    def stop(*_arguments: object, **_options: object) -> None:
        raise Stopped("by SIGUSR1 at step 6; continue with ...")

    monkeypatch.setattr(train, "train", stop)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setattr(sys, "argv", ["wnv-train", "-m", "hydra/job_logging=none", f"run_dir={tmp_path}", *SMALL])
    with pytest.raises(SystemExit) as caught:
        train.main()
    assert caught.value.code == 75
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "wnv-train: job 0 failed: stopped by SIGUSR1 at step 6; continue with ..."
    assert lines[-1].startswith("wnv-train: error: job 0 of the sweep failed")
    failure = pickle.loads(pickle.dumps(JobFailed("stopped", code=75)))
    assert (str(failure), failure.code) == ("stopped", 75)


def test_training_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    metrics = api.train([*SMALL, "name=it's a name"], run_dir=Path("run [1]"))
    run_dir = tmp_path / "run [1]"
    assert {"config.yaml", "metrics.csv", "last.ckpt"} <= {file.name for file in run_dir.iterdir()}
    assert not (run_dir / "images").exists()  # callbacks.images=null
    assert last_metrics(run_dir / "metrics.csv").items() >= {"val/psnr": pytest.approx(metrics["val/psnr"])}.items()
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert (config["name"], config["run_dir"]) == ("it's a name", str(run_dir))
    assert config["trainer"]["default_root_dir"] == str(run_dir)
    assert "optim.warmup_steps=1" in json.loads((run_dir / "starts.jsonl").read_text())["overrides"]
    with pytest.raises(FileExistsError, match="holds a run already"):
        api.train(SMALL, run_dir="run [1]")
    resumed = api.train([*SMALL, "resume=last", "trainer.max_steps=3"], run_dir="run [1]")
    assert resumed.keys() == metrics.keys()


@pytest.mark.slow
def test_a_search_by_optuna(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("lr", 1e-4, 1e-2, log=True)
        return api.train([*SMALL, f"optim.lr={rate}"], run_dir=tmp_path / str(trial.number))["val/psnr"]

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=3)
    found = [last_metrics(tmp_path / str(number) / "metrics.csv")["val/psnr"] for number in range(3)]
    assert [trial.value for trial in study.trials] == pytest.approx(found)
    assert study.best_value == max(trial.value for trial in study.trials)
    rates = [yaml.safe_load((tmp_path / str(i) / "config.yaml").read_text())["optim"]["lr"] for i in range(3)]
    assert rates == [trial.params["lr"] for trial in study.trials]
    assert len({*rates}) == 3
