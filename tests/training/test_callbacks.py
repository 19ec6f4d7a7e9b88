import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn
from PIL import Image

from wnv.checkpoints.read import read_checkpoint
from wnv.training.checkpoint import AtomicCheckpointIO
from wnv.training.image_grid import ImageGrid, make_grid
from wnv.training.progress import StepProgressBar
from wnv.training.run_checkpoints import RunCheckpoints
from wnv.training.stopping import StopOnSignal
from wnv.training.throughput import Throughput


def test_last_is_kept_at_its_interval_and_at_the_end(tmp_path: Path, make_batch: Callable, fit: Callable) -> None:
    seen = []

    class Io(AtomicCheckpointIO):
        def save_checkpoint(self, checkpoint: dict, path: Path, storage_options: object = None) -> None:
            seen.append((checkpoint["global_step"], Path(path).name))

    callback = RunCheckpoints(folder=tmp_path, every_n_steps=2, monitor=None)
    fit([make_batch()] * 10, callback, accumulate_grad_batches=2, plugins=[Io()])
    assert seen == [(2, "last.ckpt"), (4, "last.ckpt"), (5, "last.ckpt")]


@pytest.mark.parametrize(("mode", "expected"), [("max", [1, 3]), ("min", [1, 2, 4])])
def test_best_is_kept_by_its_metric(tmp_path: Path, fake: Callable, mode: str, expected: list[int]) -> None:
    callback = RunCheckpoints(folder=tmp_path, monitor="val/psnr", mode=mode)
    saved = []
    for step, value in enumerate([10.0, 9.0, 12.0, 8.0], start=1):
        trainer = fake(
            L.Trainer,
            sanity_checking=False,
            state=SimpleNamespace(fn=TrainerFn.FITTING),
            callback_metrics={"val/psnr": torch.tensor(value)},
            save_checkpoint=lambda self, path, weights_only, step=step: saved.append((step, path)),
        )
        callback.on_validation_end(trainer, fake(L.LightningModule))
        other = RunCheckpoints(folder=tmp_path, monitor="val/loss", mode=mode)
        other.load_state_dict(callback.state_dict())
        assert other.best is None, "values of another metric cannot be compared"
        resumed = RunCheckpoints(folder=tmp_path, monitor="val/psnr", mode=mode)
        resumed.load_state_dict(callback.state_dict())
        callback = resumed
    assert saved == [(step, tmp_path / "best.ckpt") for step in expected]


@pytest.mark.slow
def test_a_resumed_run_knows_the_best_of_the_validation_after_its_last_checkpoint(
    tmp_path: Path, make_batch: Callable, fit: Callable
) -> None:
    batches = [make_batch()]  # an epoch is a step, so that a run is resumed between epochs

    def best_step(max_steps: int, resume: Path | None = None) -> int:
        # The copy's score is the same each time, so the first is the best.
        callback = RunCheckpoints(folder=tmp_path, every_n_steps=1, monitor="val/psnr_copy")
        fit(batches, callback, validate=batches, resume=resume, max_steps=max_steps, check_val_every_n_epoch=1)
        return read_checkpoint(tmp_path / "best.ckpt")["global_step"]

    assert best_step(1) == 1
    last, early = tmp_path / "last.ckpt", tmp_path / "early.ckpt"
    shutil.copy(last, early)
    assert read_checkpoint(last)["callbacks"]["RunCheckpoints"]["best"] is None, "nothing is missing"
    assert best_step(3, resume=last) == 1
    (tmp_path / "best.ckpt").write_bytes(last.read_bytes())  # of a later step than the one resumed from
    assert best_step(3, resume=early) == 2
    (tmp_path / "best.ckpt").write_bytes(b"cut short")
    assert best_step(3, resume=early) == 2


def test_an_unknown_metric_is_rejected_with_the_known_ones(tmp_path: Path, make_batch: Callable, fit: Callable) -> None:
    callback = RunCheckpoints(folder=tmp_path, monitor="val/beauty")
    with pytest.raises(ValueError, match=r"monitor.*val/psnr.*val/beauty"):
        fit([make_batch()], callback, validate=[make_batch(9)])


def test_throughput_counts_all_views_of_all_scenes(
    make_batch: Callable, fake: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 2.0, 100.0, 102.0])
    monkeypatch.setattr("wnv.training.throughput.time.perf_counter", lambda: next(clock))
    logged = {}
    module = fake(L.LightningModule, log_dict=lambda self, values, batch_size: logged.update(values))
    trainer = fake(L.Trainer, world_size=4, is_global_zero=True, max_steps=1000, global_step=1)
    batch = make_batch(num_scenes=2, num_context=2, num_target=3)
    callback = Throughput(every_n_steps=2)
    callback.on_train_start(trainer, module)
    callback.on_train_batch_end(trainer, module, None, batch, 0)
    callback.on_validation_end(trainer, module)  # ends at 100 s
    callback.on_train_batch_end(trainer, module, None, batch, 1)
    assert logged == {
        "speed/scenes_per_s": 2 * 2 * 4 / 4.0,
        "speed/views_per_s": 2 * 2 * 4 * 5 / 4.0,
        "speed/scenes_seen": 16.0,
    }
    resumed = Throughput()
    resumed.load_state_dict(callback.state_dict())
    assert resumed.scenes_seen == 16


def test_the_time_left_is_logged_once(
    make_batch: Callable, fake: Callable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """From steps after the first, and without the time of validation."""
    clock = [0.0]
    monkeypatch.setattr("wnv.training.throughput.time.perf_counter", lambda: clock[0])
    callback, module, batch = Throughput(every_n_steps=1000), fake(L.LightningModule), make_batch()
    callback.on_train_start(fake(L.Trainer, max_steps=100, is_global_zero=True), module)
    with caplog.at_level("INFO"):
        for step in range(1, 60):
            clock[0] += 50.0 if step == 1 else 2.0
            trainer = fake(L.Trainer, world_size=1, max_steps=100, global_step=step)
            callback.on_train_batch_end(trainer, module, None, batch, step - 1)
            if step == 10:
                clock[0] += 1000.0
                callback.on_validation_end(trainer, module)
    assert [record.getMessage() for record in caplog.records] == [
        "2 s per step: 79 steps left take about 0:02:38, without validation"
    ]


def test_grid_shows_context_target_rendered_and_error(make_batch: Callable) -> None:
    batch = make_batch(num_scenes=3, num_context=2)
    rendered = batch.target.images.clone()
    rendered[1, 0] = (rendered[1, 0] + 0.1).clamp(0, 1)
    grid = make_grid(batch, rendered, num_scenes=2, error_gain=2.0)
    height, width = 16 + 2, 24 + 2  # a border of one pixel on every side
    assert grid.shape == (3, 2 * height, 5 * width)
    cells = grid.unflatten(1, (2, height)).unflatten(3, (5, width)).permute(1, 3, 0, 2, 4)[..., 1:-1, 1:-1]
    torch.testing.assert_close(cells[0, :2], batch.context.images[0])
    torch.testing.assert_close(cells[0, 2], batch.target.images[0, 0])
    torch.testing.assert_close(cells[1, 3], rendered[1, 0])
    assert cells[0, 4].max() == 0
    torch.testing.assert_close(cells[1, 4], (rendered[1, 0] - batch.target.images[1, 0]).abs() * 2)
    other = replace(batch, target=replace(batch.target, images=batch.target.images[..., :8, :]))
    with pytest.raises(ValueError, match=r"got \(16, 24\) and \(8, 24\)"):
        make_grid(other, other.target.images, num_scenes=1)


def test_images_are_written_once_per_validation_and_logged(
    tmp_path: Path, make_batch: Callable, fake: Callable
) -> None:
    shown = []
    board = SimpleNamespace(add_image=lambda tag, pixels, step, dataformats: shown.append((tag, pixels.shape, step)))
    wandb = SimpleNamespace(log_image=lambda key, images, step, caption: shown.append((key, images[0].shape, step)))
    loggers = [SimpleNamespace(experiment=board), wandb, SimpleNamespace()]
    batch, callback = make_batch(), ImageGrid(folder=tmp_path / "images", num_scenes=2)

    def validate(batch_idx: int, **state: object) -> None:
        state = {"sanity_checking": False, "is_global_zero": True, "global_step": 7, "loggers": loggers} | state
        outputs = {"rendered": batch.target.images}
        callback.on_validation_batch_end(fake(L.Trainer, **state), fake(L.LightningModule), outputs, batch, batch_idx)

    validate(0)
    validate(1, global_step=8)
    validate(0, global_step=8, is_global_zero=False)
    validate(0, global_step=8, sanity_checking=True)
    assert shown == [("val/images", (36, 130, 3), 7)] * 2
    (file,) = (tmp_path / "images").iterdir()
    assert file.name == "step_00000007.png"
    with Image.open(file) as image:
        assert image.size == (5 * 26, 2 * 18)


@pytest.mark.parametrize("is_on", [True, False])
def test_progress_shows_steps_loss_and_the_copy_to_beat(
    make_batch: Callable, fit: Callable, capsys: pytest.CaptureFixture[str], is_on: bool
) -> None:
    bar = StepProgressBar()
    if not is_on:
        bar.disable()
    batches = [make_batch(), make_batch(1)]
    fit(batches, bar, validate=batches, val_check_interval=1, enable_progress_bar=True)
    shown = capsys.readouterr().err
    for text in ("2/2", "loss 0.", "psnr ", "val ", "copy "):
        assert (text in shown) == is_on


@pytest.mark.parametrize(
    ("part", "options", "name"),
    [
        (RunCheckpoints, {"folder": "", "every_n_steps": 0}, "every_n_steps"),
        (Throughput, {"every_n_steps": 0}, "every_n_steps"),
        (StopOnSignal, {"every_n_steps": 0}, "every_n_steps"),
        (ImageGrid, {"folder": "", "num_scenes": 0}, "num_scenes"),
    ],
)
def test_numbers_out_of_range_are_refused(part: type, options: dict, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        part(**options)
