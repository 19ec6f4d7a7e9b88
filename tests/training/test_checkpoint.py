import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from wnv.checkpoints.read import read_checkpoint, resolve_checkpoint
from wnv.models.konet import KoNet
from wnv.training.checkpoint import AtomicCheckpointIO


@pytest.fixture
def run_dir(trained: Path, tmp_path: Path) -> Path:
    """A run of four steps, with an average of the weights."""
    return shutil.copytree(trained, tmp_path / "run")


def test_a_model_with_averaged_weights_is_rebuilt_from_the_checkpoint_alone(
    run_dir: Path, make_batch: Callable
) -> None:
    checkpoint = torch.load(run_dir / "last.ckpt", weights_only=True)
    (run_dir / "last.ckpt").rename(run_dir / "best.ckpt")  # which serves if there is no last
    model = KoNet.from_pretrained(run_dir)
    assert model.config == checkpoint["model_config"]
    assert not model.training
    torch.testing.assert_close(model.head.weight, checkpoint["ema_state_dict"]["head.weight"])
    assert not torch.equal(model.head.weight, checkpoint["state_dict"]["model.head.weight"])
    batch = make_batch()
    assert model(batch.context, batch.target.cameras).shape == batch.target.images.shape


@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere", "nowhere"), (".", r"last\.ckpt")],
)
def test_absent_checkpoints_are_named(tmp_path: Path, name: str, message: str) -> None:
    for read in (resolve_checkpoint, KoNet.from_pretrained):
        with pytest.raises(FileNotFoundError, match=message):
            read(tmp_path / name)


def test_truncated_and_foreign_files_are_refused(run_dir: Path, tmp_path: Path) -> None:
    content = (run_dir / "last.ckpt").read_bytes()
    (tmp_path / "truncated.ckpt").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.ckpt").write_text("hello")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "foreign.ckpt")
    for name in ("truncated", "text"):
        with pytest.raises(ValueError, match=rf"{name}\.ckpt is damaged"):
            read_checkpoint(tmp_path / f"{name}.ckpt")
    with pytest.raises(ValueError, match="state_dict or model_config"):
        read_checkpoint(tmp_path / "foreign.ckpt")


def test_a_checkpoint_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple:
            return (os.mkdir, (str(tmp_path / "pwned"),))

    torch.save({"state_dict": {}, "model_config": Malicious()}, tmp_path / "bad.ckpt")
    with pytest.raises(ValueError, match=r"bad\.ckpt is damaged"):
        KoNet.from_pretrained(tmp_path / "bad.ckpt")
    assert not (tmp_path / "pwned").exists()


def test_weights_that_do_not_fit_are_refused(run_dir: Path) -> None:
    checkpoint = torch.load(run_dir / "last.ckpt", weights_only=True)
    for spoil, message in (
        (lambda c: (c["state_dict"].pop("model.head.weight"), c["ema_state_dict"].clear()), "head.weight"),
        (lambda c: c["model_config"].update(num_layers=3), "transformer.blocks.2"),
        (lambda c: c["model_config"].update(num_wheels=3), "num_wheels"),
    ):
        spoiled = {
            **checkpoint,
            **{key: dict(checkpoint[key]) for key in ("state_dict", "ema_state_dict", "model_config")},
        }
        spoil(spoiled)
        torch.save(spoiled, run_dir / "last.ckpt")
        with pytest.raises(ValueError, match=message):
            KoNet.from_pretrained(run_dir)


def test_the_previous_checkpoint_is_kept(tmp_path: Path) -> None:
    io = AtomicCheckpointIO()
    for step in (1, 2, 3):
        io.save_checkpoint({"step": step}, tmp_path / "last.ckpt")
        io.save_checkpoint({"step": step}, tmp_path / "best.ckpt")
    kept = {file.name: io.load_checkpoint(file, weights_only=True)["step"] for file in tmp_path.iterdir()}
    assert kept == {"last.ckpt": 3, "last-previous.ckpt": 2, "best.ckpt": 3}


@pytest.mark.parametrize("damage", ["truncated", "empty", "absent"])
def test_the_newest_complete_checkpoint_is_used_and_skipped_ones_are_logged(
    run_dir: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    last, previous = run_dir / "last.ckpt", run_dir / "last-previous.ckpt"
    shutil.copy(previous, run_dir / "best.ckpt")
    assert [read_checkpoint(file)["global_step"] for file in (last, previous)] == [4, 2]
    content = last.read_bytes()
    if damage == "absent":  # killed between two renames
        last.unlink()
    else:
        last.write_bytes(content[: len(content) * 9 // 10] if damage == "truncated" else b"")
    assert resolve_checkpoint(run_dir) == previous
    assert (str(last) in caplog.text and str(previous) in caplog.text) == last.exists()
    (run_dir / "best.ckpt").write_bytes(content)  # of a later step
    assert resolve_checkpoint(run_dir) == run_dir / "best.ckpt"


def test_a_folder_without_a_complete_checkpoint_is_refused(run_dir: Path) -> None:
    for name in ("last.ckpt", "last-previous.ckpt"):
        (run_dir / name).write_bytes(b"half")
    with pytest.raises(ValueError, match=r"last\.ckpt.*last-previous\.ckpt"):
        resolve_checkpoint(run_dir)


def test_a_full_disk_is_reported_and_keeps_the_previous_checkpoint(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    io, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    io.save_checkpoint({"step": 1}, path)

    opened = []

    def open_full(file: Path, mode: str) -> object:
        Path(file).touch()
        opened.append(file)
        return open("/dev/full", "wb")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wnv.runtime.atomic.open", open_full, raising=False)
        with pytest.raises(OSError, match=r"No space left on device.*last\.ckpt") as caught:
            io.save_checkpoint({"x": torch.zeros(100_000)}, path)
    assert caught.value.errno == errno.ENOSPC
    assert opened
    assert io.load_checkpoint(path, weights_only=True) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
