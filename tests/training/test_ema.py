from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch
from together import free_ports

from wnv.checkpoints.read import read_checkpoint
from wnv.training.ema import WeightAverage
from wnv.training.run_checkpoints import RunCheckpoints
from wnv.training.strategies import FullyShardedStrategy


class Weights(L.Callback):
    """Keeps the weights after each step and while validation runs."""

    def __init__(self) -> None:
        self.trained: list[torch.Tensor] = []
        self.validated: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: object) -> None:
        self.trained.append(pl_module.model.head.weight.detach().clone())

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: object) -> None:
        self.validated.append(pl_module.model.head.weight.detach().clone())


def test_validation_sees_the_written_out_average_and_training_is_unchanged(
    make_batch: Callable, make_module: Callable, fit: Callable
) -> None:
    batches, plain, averaged = [make_batch(i) for i in range(4)], Weights(), Weights()
    fit(batches, plain, module=make_module(lr=1e-2))
    module = make_module(lr=1e-2)
    average = module.model.head.weight.detach().clone()
    callbacks = averaged, WeightAverage(decay=0.25)
    fit(batches, *callbacks, module=module, validate=[make_batch(9)], val_check_interval=2)
    for step, weight in enumerate(plain.trained, start=1):
        decay = min(0.25, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
        torch.testing.assert_close(averaged.trained[step - 1], weight, rtol=0, atol=0)
    torch.testing.assert_close(averaged.validated[-1], average)
    torch.testing.assert_close(module.model.head.weight, plain.trained[-1], rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_resumed_average_is_that_of_the_uninterrupted_run(
    tmp_path: Path, make_batch: Callable, make_module: Callable, fit: Callable, accumulated: int
) -> None:
    batches = [make_batch(i) for i in range(6 * accumulated)]

    def run(num: int, first: int = 0, resume: Path | None = None) -> dict:
        class Stop(L.Callback):
            def on_train_batch_end(self, trainer: L.Trainer, *args: object) -> None:
                trainer.should_stop = trainer.global_step == num

        folder, options = tmp_path / f"{num}-{first}", {"min_steps": 0, "accumulate_grad_batches": accumulated}
        callbacks = [Stop(), WeightAverage(decay=0.5)]
        # A loader of the remaining batches replaces the data module, which would continue by itself.
        remaining = batches[first:] + batches[:first]
        trainer = fit(remaining, *callbacks, module=make_module(lr=1e-2), resume=resume, **options)
        trainer.save_checkpoint(folder / "last.ckpt", weights_only=False)
        return read_checkpoint(folder)

    straight = run(6)
    run(3)
    resumed = run(6, first=3 * accumulated, resume=tmp_path / "3-0" / "last.ckpt")
    for key in ("state_dict", "ema_state_dict"):
        torch.testing.assert_close(resumed[key], straight[key], rtol=0, atol=0)


def test_an_error_in_validation_leaves_the_weights_as_they_were(
    make_batch: Callable, make_module: Callable, fit: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, module = Weights(), make_module(lr=1e-2)

    def fail(batch: object, batch_idx: int) -> None:
        raise RuntimeError("broken picture")

    monkeypatch.setattr(module, "validation_step", fail)
    with pytest.raises(RuntimeError, match="broken picture"):
        fit([make_batch(i) for i in range(2)], weights, WeightAverage(), module=module, validate=[make_batch()])
    torch.testing.assert_close(module.model.head.weight, weights.trained[-1], rtol=0, atol=0)


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay must lie between 0 and 1"):
        WeightAverage(decay=decay)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module .* returned a view tensor")
@pytest.mark.parametrize("strategy", [None, FullyShardedStrategy])
def test_an_average_that_begins_with_a_resumed_run_begins_with_its_weights(
    tmp_path: Path,
    make_batch: Callable,
    make_module: Callable,
    fit: Callable,
    monkeypatch: pytest.MonkeyPatch,
    strategy: type | None,
) -> None:
    """Sharding strategies restore the weights after the average was created, others before."""

    def run(max_steps: int, *callbacks: L.Callback, resume: Path | None = None) -> dict:
        monkeypatch.setenv("MASTER_PORT", str(free_ports(1)[0]))
        sharing = {} if strategy is None else {"strategy": strategy()}
        folder = tmp_path / str(max_steps)
        callbacks = [*callbacks, RunCheckpoints(folder=folder, monitor=None)]
        try:  # an epoch is a step, so that a run is resumed between epochs
            fit([make_batch()], *callbacks, module=make_module(), resume=resume, max_steps=max_steps, **sharing)
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
        return read_checkpoint(folder)

    before = run(2)["state_dict"]
    after = run(3, WeightAverage(decay=0.999), resume=tmp_path / "2" / "last.ckpt")
    for name, value in after["ema_state_dict"].items():
        expected = before[f"model.{name}"].lerp(after["state_dict"][f"model.{name}"], 1 - 4 / 13)
        torch.testing.assert_close(value, expected, msg=name)
