"""A run that accumulates gradients is saved and stopped after whole steps only, and so resumes exactly."""

from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch

from wnv.checkpoints.layout import LAST
from wnv.checkpoints.read import read_checkpoint
from wnv.data.synthetic_datamodule import SyntheticDataModule
from wnv.training.ema import WeightAverage
from wnv.training.module import ViewSynthesisModule
from wnv.training.run_checkpoints import RunCheckpoints

NUM_BATCHES = 3  # a step
SETTINGS = {
    "accumulate_grad_batches": NUM_BATCHES,
    "val_check_interval": 1000,
    "limit_val_batches": 0,
    "check_val_every_n_epoch": None,
    "use_distributed_sampler": False,
}


class TimeIsOver(L.Callback):
    """Requests a stop after each batch from a given one on, as Lightning's timer does."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_end(self, trainer: L.Trainer, module: object, outputs: object, batch: object, idx: int) -> None:
        trainer.should_stop = trainer.should_stop or idx >= self.batch


@pytest.fixture
def fit(make_module: Callable, make_trainer: Callable) -> Callable[..., ViewSynthesisModule]:
    def run(folder: Path, *callbacks: L.Callback, **options: object) -> ViewSynthesisModule:
        data = SyntheticDataModule(image_size=(16, 24), num_context=2, num_target=2, batch_size=2, num_val_scenes=2)
        checkpoints = RunCheckpoints(folder=folder, every_n_steps=100, monitor=None)
        module = make_module()
        trainer = make_trainer(**SETTINGS, callbacks=[*callbacks, checkpoints], max_steps=4)
        trainer.fit(module, datamodule=data, weights_only=True, **options)
        return module

    return run


@pytest.mark.slow
@pytest.mark.parametrize("batch", [3, 4, 5])  # the first, second and last of the second step
def test_a_run_that_is_to_stop_within_a_step_ends_after_it_and_goes_on_exactly(
    fit: Callable, tmp_path: Path, batch: int
) -> None:
    straight = fit(tmp_path / "straight")
    fit(tmp_path / "stopped", TimeIsOver(batch))
    saved = read_checkpoint(tmp_path / "stopped")
    assert saved["global_step"] == 2
    assert saved["SyntheticDataModule"]["samples_consumed"] == 2 * NUM_BATCHES * 2
    resumed = fit(tmp_path / "resumed", ckpt_path=tmp_path / "stopped" / LAST)
    for found, expected in zip(resumed.model.parameters(), straight.model.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


class Broken(L.Callback):
    """Raises at a moment of the second batch of the third step, as damaged data or a full disk do."""

    def __init__(self, moment: str) -> None:
        setattr(self, moment, self.fail)

    def fail(self, trainer: L.Trainer, *args: object) -> None:
        if trainer.fit_loop.epoch_loop.batch_idx == 2 * NUM_BATCHES + 1:
            raise FileNotFoundError("scenes/a.zip")


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["on_train_batch_start", "on_after_backward", "on_train_batch_end"])
def test_a_run_that_an_error_ends_is_saved_at_its_last_step_and_resumes_exactly(
    fit: Callable, tmp_path: Path, moment: str
) -> None:
    straight = fit(tmp_path / "straight", WeightAverage())
    with pytest.raises(FileNotFoundError):
        fit(tmp_path / "broken", WeightAverage(), Broken(moment))
    assert read_checkpoint(tmp_path / "broken")["global_step"] == 2
    resumed = fit(tmp_path / "broken", WeightAverage(), ckpt_path=tmp_path / "broken" / LAST)
    torch.testing.assert_close(resumed.state_dict(), straight.state_dict(), rtol=0, atol=0)
    one, other = read_checkpoint(tmp_path / "broken"), read_checkpoint(tmp_path / "straight")
    assert one["loops"]["fit_loop"] == other["loops"]["fit_loop"]
    assert one["SyntheticDataModule"] == other["SyntheticDataModule"]
    torch.testing.assert_close(one["ema_state_dict"], other["ema_state_dict"], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate_grad_batches": 2, "val_check_interval": 3}, r"accumulate_grad_batches=2.*3.*4"),
        ({"val_check_interval": 0}, r"trainer\.val_check_interval must be at least 1, got 0"),
        ({"accumulate_grad_batches": 0}, r"trainer\.accumulate_grad_batches must be at least 1, got 0"),
    ],
)
def test_validation_within_a_step_is_refused(
    make_module: Callable, make_trainer: Callable, options: dict, message: str
) -> None:
    module = make_module()
    module.trainer = make_trainer()
    for name, value in options.items():
        setattr(module.trainer, name, value)
    with pytest.raises(ValueError, match=message):
        module.on_fit_start()
