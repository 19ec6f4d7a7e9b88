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
from wnv.training.ema import WeightAverage
from wnv.training.run_checkpoints import RunCheckpoints


@pytest.fixture
def run_dir(
    tmp_path: Path, make_batch: Callable, make_module: Callable, make_trainer: Callable, loader: Callable
) -> Path:
    """A run of four steps, with an average of the weights."""
    folder = tmp_path / "run"
    callbacks = [RunCheckpoints(folder=folder, every_n_steps=2, monitor=None), WeightAverage(decay=0.5)]
    trainer = make_trainer(callbacks=callbacks, plugins=[AtomicCheckpointIO()])
    trainer.fit(make_module(lr=1e-2), loader([make_batch(i) for i in range(4)]))
    return folder


def test_a_model_is_rebuilt_from_the_checkpoint_alone(run_dir: Path, make_batch: Callable) -> None:
    checkpoint = torch.load(run_dir / "last.ckpt", weights_only=True)
    model = KoNet.from_pretrained(run_dir)
    assert model.config == checkpoint["model_config"]
    assert not model.training
    batch = make_batch()
    assert model(batch.context, batch.target.cameras).shape == batch.target.images.shape


def test_averaged_weights_are_preferred(run_dir: Path) -> None:
    checkpoint = read_checkpoint(run_dir)
    weight = KoNet.from_pretrained(run_dir / "last.ckpt").head.weight
    torch.testing.assert_close(weight, checkpoint["ema_state_dict"]["head.weight"])
    assert not torch.equal(weight, checkpoint["state_dict"]["model.head.weight"])


def test_checkpoints_have_the_permissions_of_other_files(run_dir: Path) -> None:
    other = run_dir / "other"
    other.touch()
    assert (run_dir / "last.ckpt").stat().st_mode == other.stat().st_mode


def test_the_best_serves_where_there_is_no_last(run_dir: Path) -> None:
    (run_dir / "last.ckpt").rename(run_dir / "best.ckpt")
    assert resolve_checkpoint(run_dir) == run_dir / "best.ckpt"


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


def test_a_failed_write_keeps_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    io, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    io.save_checkpoint({"step": 1}, path)

    def full_disk(checkpoint: object, file: object) -> None:
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        io.save_checkpoint({"step": 2}, path)
    monkeypatch.undo()
    assert io.load_checkpoint(path, weights_only=True) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


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


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        AtomicCheckpointIO().save_checkpoint({"step": 1}, tmp_path / "file" / "last.ckpt")
