import errno
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from together import free_ports, run_together

from wnv.checkpoints.layout import holds_checkpoint
from wnv.checkpoints.read import read_checkpoint, resolve_checkpoint
from wnv.checkpoints.sharded import TREES, read_sharded, save_sharded
from wnv.models.konet import KoNet
from wnv.training.checkpoint import AtomicCheckpointIO
from wnv.training.run_checkpoints import RunCheckpoints


@pytest.fixture
def checkpoint(trained: Path) -> dict:
    return torch.load(trained / "last.ckpt", weights_only=True)


@pytest.fixture
def save(checkpoint: dict, tmp_path: Path) -> Callable[..., Path]:
    """Writes a sharded checkpoint of a step into a run."""

    def write(step: int, name: str = "last.ckpt") -> Path:
        save_sharded(checkpoint | {"global_step": step}, tmp_path / "run" / name)
        return tmp_path / "run"

    return write


def leaves(tree: Any, path: tuple = ()) -> dict[tuple, Any]:
    if isinstance(tree, dict | list):
        parts = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {key: leaf for name, part in parts for key, leaf in leaves(part, (*path, name)).items()}
    return {path: tree}


def names(run_dir: Path) -> list[str]:
    return sorted(entry.name for entry in run_dir.iterdir())


def test_a_sharded_checkpoint_reads_like_a_whole_file(save: Callable, checkpoint: dict) -> None:
    run_dir = save(2)
    everything = AtomicCheckpointIO().load_checkpoint(run_dir / "last.ckpt", weights_only=True)
    found, expected = leaves(everything), leaves(checkpoint | {"global_step": 2})
    assert found.keys() == expected.keys()
    for path, leaf in expected.items():
        assert torch.equal(found[path], leaf) if torch.is_tensor(leaf) else found[path] == leaf, path


def test_only_what_is_needed_is_read(save: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = save(2)
    assert TREES[2] not in read_checkpoint(run_dir)
    monkeypatch.setattr("wnv.checkpoints.sharded.dcp.load", None)
    rest = read_checkpoint(run_dir, trees=())
    assert not rest.keys() & {*TREES}
    assert rest["global_step"] == 2


@pytest.mark.parametrize("source", [".", "last.ckpt", "step-00000002"])
def test_a_model_is_rebuilt_from_the_folder_its_link_and_the_run(save: Callable, checkpoint: dict, source: str) -> None:
    run_dir = save(2)
    assert resolve_checkpoint(run_dir / source).resolve() == run_dir / "step-00000002"
    torch.testing.assert_close(KoNet.from_pretrained(run_dir / source).state_dict(), checkpoint["ema_state_dict"])


def test_two_are_kept_and_the_best(save: Callable) -> None:
    for step in (1, 2, 3):
        run_dir = save(step)
        save(step, "best.ckpt")
    folders = ["best-00000003", "step-00000002", "step-00000003"]
    assert names(run_dir) == ["best-00000003", "best.ckpt", "last.ckpt", *folders[1:]]
    assert [os.readlink(run_dir / name) for name in ("last.ckpt", "best.ckpt")] == [folders[2], folders[0]]
    assert resolve_checkpoint(run_dir) == run_dir / "step-00000003"  # the last where both are of one step


def test_a_run_continued_from_an_earlier_step_removes_later_ones(save: Callable) -> None:
    for step in (2, 4, 4, 3):  # 4 twice: written again as well
        run_dir = save(step)
    assert names(run_dir) == ["last.ckpt", "step-00000002", "step-00000003"]
    assert resolve_checkpoint(run_dir) == run_dir / "step-00000003"


def test_a_run_may_change_between_whole_and_sharded(save: Callable, checkpoint: dict) -> None:
    run_dir = save(2)
    AtomicCheckpointIO().save_checkpoint(checkpoint | {"global_step": 4}, run_dir / "last.ckpt")
    assert resolve_checkpoint(run_dir) == run_dir / "last.ckpt"
    save(6)
    assert read_checkpoint(run_dir / "last-previous.ckpt")["global_step"] == 4
    assert resolve_checkpoint(run_dir) == run_dir / "step-00000006"
    save(8)
    assert names(run_dir) == ["last.ckpt", "step-00000006", "step-00000008"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "complete").unlink(), "is incomplete"),
        (lambda folder: (folder / "complete").write_text("{"), "'complete'"),
        (lambda folder: os.truncate(folder / "__0_0.distcp", 1000), "__0_0.distcp has 1000 bytes"),
        (lambda folder: (folder / ".metadata").unlink(), ".metadata is missing"),
        (
            lambda folder: folder.rename(folder.with_name(f".{folder.name}.tmp")),
            ".tmp is left",
        ),
    ],
    ids=["no marker", "broken marker", "truncated shard", "no list", "killed before the rename"],
)
def test_the_newest_complete_one_is_used_skipped_ones_are_logged_and_leftovers_removed(
    save: Callable, damage: Callable, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(2)
    run_dir = save(4)
    damage(run_dir / "step-00000004")
    assert resolve_checkpoint(run_dir) == run_dir / "step-00000002"
    assert str(run_dir / "step-00000002") in caplog.text
    assert reason in caplog.text
    save(6)
    assert names(run_dir) == ["last.ckpt", "step-00000002", "step-00000006"]


def test_an_interrupted_save_is_no_checkpoint(save: Callable) -> None:
    run_dir = save(2)
    assert holds_checkpoint(run_dir)
    (run_dir / "step-00000002" / "complete").unlink()
    assert not holds_checkpoint(run_dir)  # `resume=auto` then begins
    for source in (run_dir, run_dir / "step-00000002"):
        with pytest.raises(ValueError, match="step-00000002 is incomplete"):
            KoNet.from_pretrained(source)


@pytest.mark.parametrize("file", [".metadata", "meta.pt"])
def test_code_in_a_checkpoint_is_not_run(save: Callable, tmp_path: Path, file: str) -> None:
    class Malicious:
        def __reduce__(self) -> tuple:
            return (os.mkdir, (str(tmp_path / "pwned"),))

    folder = save(2) / "step-00000002"
    if file == "meta.pt":
        torch.save({"global_step": Malicious()}, folder / file)
    else:
        (folder / file).write_bytes(pickle.dumps(Malicious()))
    marker = json.loads((folder / "complete").read_text())
    marker["files"][file] = (folder / file).stat().st_size
    (folder / "complete").write_text(json.dumps(marker))
    with pytest.raises(ValueError, match=r"step-00000002 (cannot be read|is damaged): .*(posix|mkdir|Weights only)"):
        read_sharded(folder)
    assert not (tmp_path / "pwned").exists()


def test_a_file_system_without_links_needs_none(
    save: Callable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)
    run_dir = save(2)
    assert "last.ckpt is not written" in caplog.text
    assert resolve_checkpoint(run_dir) == run_dir / "step-00000002"


def test_sharded_is_ignored_with_a_warning_by_other_strategies(
    tmp_path: Path, make_batch: Callable, fit: Callable
) -> None:
    with pytest.warns(UserWarning, match=r"checkpoints\.sharded.*SingleDeviceStrategy"):
        fit([make_batch()], RunCheckpoints(folder=tmp_path, monitor=None, sharded=True))
    assert (tmp_path / "last.ckpt").is_file()


@pytest.mark.slow
def test_a_failed_write_of_one_process_is_raised_on_all(tmp_path: Path) -> None:
    """Two real processes; the file size limit of one is below the size of its shards."""
    (port,) = free_ports(1)
    run_together(Path(__file__).with_name("shards.py"), [str(port), str(tmp_path)])
    run_dir = tmp_path / "run"
    for rank in (0, 1):
        is_same, error, seconds = torch.load(tmp_path / f"seen.{rank}.pt", weights_only=True)
        assert is_same, "a share was not read as it was written"
        assert error.startswith(f"OSError {errno.EFBIG}: "), error
        assert "on rank 1: File too large" in error
        assert seconds < 5
    assert names(run_dir) == ["last.ckpt", "step-00000001", "step-00000002"]
    shares = [(run_dir / "step-00000002" / f"__{rank}_0.distcp").stat().st_size for rank in (0, 1)]
    assert shares[0] == pytest.approx(2 * shares[1], rel=0.1)  # each its own rows
    alone = read_sharded(run_dir / "step-00000002")
    assert torch.equal(alone["state_dict"]["model.a"], torch.arange(300_000.0).view(3, 100_000))
