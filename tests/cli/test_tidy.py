"""A refused start removes what it has written, and nothing else."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from wnv.cli.app import hydra_command

START = ("train.log", "train_ddp_process_1.log", "config.yaml", "starts.jsonl", "ends.jsonl", "wandb/run/debug.log")


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    ("before", "written", "error", "kept"),
    [
        ((), (), ValueError, ()),
        ((), START, ValueError, ()),
        ((), (*START, "last.ckpt"), ValueError, (*START, "last.ckpt")),
        (("notes.txt",), ("train.log",), ValueError, ("notes.txt", "train.log")),
        (("config.yaml", "starts.jsonl"), ("train.log",), ValueError, ("config.yaml", "starts.jsonl", "train.log")),
        ((), ("train.log",), RuntimeError, ("train.log",)),
    ],
)
def test_only_what_a_refused_start_wrote_is_removed(
    run_in_process: Callable,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    before: tuple[str, ...],
    written: tuple[str, ...],
    error: type[Exception],
    kept: tuple[str, ...],
) -> None:
    def run(cfg: object) -> None:
        write(tmp_path / "runs" / "mine", *written)
        raise error("width=3")

    monkeypatch.setitem(sys.modules, "task_of_the_test", SimpleNamespace(run=run))
    write(tmp_path / "runs" / "mine", *before)
    main = hydra_command("task_of_the_test:run", config_name="train", prog="wnv-x")
    try:
        code, _, err = run_in_process(main, "run_dir=runs/mine", "hydra/job_logging=none")
        assert (code, err) == (2, "wnv-x: error: width=3\n")
    except RuntimeError:
        assert error is RuntimeError
    assert {str(path.relative_to(tmp_path / "runs" / "mine")) for path in tmp_path.rglob("*") if path.is_file()} == {
        *kept
    }
    assert (tmp_path / "runs" / "mine").exists() == bool(kept)
