from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch
from together import free_ports

from wnv.checkpoints.read import read_checkpoint
from wnv.training.checkpoint import AtomicCheckpointIO
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


def test_average_equals_the_written_out_recursion_and_is_what_validation_sees(
    make_batch: Callable, make_module: Callable, make_trainer: Callable, loader: Callable
) -> None:
    weights, module = Weights(), make_module(lr=1e-2)
    average = module.model.head.weight.detach().clone()
    trainer = make_trainer(max_steps=4, val_check_interval=4, callbacks=[weights, WeightAverage(decay=0.25)])
    trainer.fit(module, loader([make_batch(i) for i in range(4)]), loader([make_batch(9)]))
    for step, weight in enumerate(weights.trained, start=1):
        decay = min(0.25, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
    torch.testing.assert_close(weights.validated[0], average)
    torch.testing.assert_close(module.model.head.weight, weights.trained[-1], rtol=0, atol=0)


def test_training_itself_is_not_changed(
    make_batch: Callable, make_module: Callable, make_trainer: Callable, loader: Callable
) -> None:
    ends = []
    for callbacks in ([], [WeightAverage(decay=0.9)]):
        module = make_module()
        trainer = make_trainer(max_steps=6, val_check_interval=2, callbacks=callbacks)
        trainer.fit(module, loader([make_batch(i) for i in range(6)]), loader([make_batch(9)]))
        ends.append(module.model.head.weight)
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_resumed_average_is_that_of_the_uninterrupted_run(
    tmp_path: Path,
    make_batch: Callable,
    make_module: Callable,
    make_trainer: Callable,
    loader: Callable,
    accumulated: int,
) -> None:
    batches = [make_batch(i) for i in range(6 * accumulated)]

    def run(num: int, first: int = 0, ckpt_path: Path | None = None) -> dict:
        class Stop(L.Callback):
            def on_train_batch_end(self, trainer: L.Trainer, *args: object) -> None:
                trainer.should_stop = trainer.global_step == num

        trainer = make_trainer(
            max_steps=6,
            min_steps=0,
            accumulate_grad_batches=accumulated,
            callbacks=[Stop(), WeightAverage(decay=0.5)],
            plugins=[AtomicCheckpointIO()],
        )
        # A loader of the remaining batches replaces the data module, which would continue by itself.
        trainer.fit(
            make_module(lr=1e-2), loader(batches[first:] + batches[:first]), ckpt_path=ckpt_path, weights_only=True
        )
        trainer.save_checkpoint(tmp_path / f"{num}-{first}.ckpt", weights_only=False)
        return read_checkpoint(tmp_path / f"{num}-{first}.ckpt")

    straight = run(6)
    run(3)
    resumed = run(6, first=3 * accumulated, ckpt_path=tmp_path / "3-0.ckpt")
    for key in ("state_dict", "ema_state_dict"):
        for name, value in straight[key].items():
            torch.testing.assert_close(resumed[key][name], value, rtol=0, atol=0, msg=name)


def test_an_error_in_validation_leaves_the_weights_as_they_were(
    make_batch: Callable,
    make_module: Callable,
    make_trainer: Callable,
    loader: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights, module = Weights(), make_module(lr=1e-2)

    def fail(batch: object, batch_idx: int) -> None:
        raise RuntimeError("broken picture")

    monkeypatch.setattr(module, "validation_step", fail)
    trainer = make_trainer(max_steps=4, val_check_interval=2, callbacks=[weights, WeightAverage(decay=0.5)])
    with pytest.raises(RuntimeError, match="broken picture"):
        trainer.fit(module, loader([make_batch(i) for i in range(4)]), loader([make_batch(9)]))
    torch.testing.assert_close(module.model.head.weight, weights.trained[-1], rtol=0, atol=0)


@pytest.mark.parametrize("decay", [0.0, 1.0, 1.5])
def test_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay must lie between 0 and 1"):
        WeightAverage(decay=decay)


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module .* returned a view tensor")
@pytest.mark.parametrize("strategy", [None, FullyShardedStrategy])
def test_an_average_that_begins_with_a_resumed_run_begins_with_its_weights(
    tmp_path: Path,
    make_batch: Callable,
    make_module: Callable,
    make_trainer: Callable,
    loader: Callable,
    monkeypatch: pytest.MonkeyPatch,
    strategy: type | None,
) -> None:
    """Sharding strategies restore the weights after the average was created, others before."""
    batches = [make_batch(0)]  # an epoch is a step, so that a run is resumed between epochs

    def run(max_steps: int, *callbacks: L.Callback, resume: Path | None = None) -> dict:
        monkeypatch.setenv("MASTER_PORT", str(free_ports(1)[0]))
        sharing = {} if strategy is None else {"strategy": strategy()}
        folder = tmp_path / str(max_steps)
        callbacks = [*callbacks, RunCheckpoints(folder=folder, monitor=None)]
        trainer = make_trainer(max_steps=max_steps, callbacks=callbacks, plugins=[AtomicCheckpointIO()], **sharing)
        try:
            trainer.fit(make_module(lr=1e-2), loader(batches), weights_only=True, ckpt_path=resume)
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
        return read_checkpoint(folder)

    before = run(2)["state_dict"]
    after = run(3, WeightAverage(decay=0.999), resume=tmp_path / "2" / "last.ckpt")
    for name, value in after["ema_state_dict"].items():
        expected = before[f"model.{name}"].lerp(after["state_dict"][f"model.{name}"], 1 - 4 / 13)
        torch.testing.assert_close(value, expected, msg=name)
