import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import lightning as L
import pytest
import torch

from wnv.training.run_checkpoints import RunCheckpoints
from wnv.training.stopping import StopOnSignal

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Kill(L.Callback):
    """Sends this process a signal in the middle of a batch."""

    def __init__(self, *numbers: signal.Signals, at_batch: int) -> None:
        self.numbers, self.at_batch = numbers, at_batch
        self.validated = 0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        if batch_idx == self.at_batch:
            for number in self.numbers:
                os.kill(os.getpid(), number)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.validated += 1


@pytest.fixture
def listen(make_batch: Callable, make_module: Callable, make_trainer: Callable, loader: Callable) -> Callable:
    """Train on twelve batches, and validate, while signals are recorded."""

    def run(stop: StopOnSignal, *callbacks: L.Callback, **options: object) -> L.Trainer:
        trainer = make_trainer(callbacks=[stop, *callbacks], **options)
        with stop.listening(trainer):
            trainer.fit(make_module(), loader([make_batch()] * 12), loader([make_batch(1)]))
        return trainer

    return run


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_run_after_the_step_with_a_checkpoint(
    tmp_path: Path, listen: Callable, number: signal.Signals
) -> None:
    """Also during gradient accumulation, with a minimum number of steps, and when a validation is due."""
    stop, kill = StopOnSignal(), Kill(number, at_batch=2)
    keeper = RunCheckpoints(folder=tmp_path, every_n_steps=100, monitor=None)
    trainer = listen(stop, kill, keeper, max_steps=6, min_steps=6, accumulate_grad_batches=2, val_check_interval=4)
    assert stop.stopped_by == number.name
    assert trainer.global_step == 2
    assert kill.validated == 0
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 2


def test_a_second_ctrl_c_does_not_wait_for_the_step(listen: Callable) -> None:
    stop = StopOnSignal()
    with pytest.raises(SystemExit):
        listen(stop, Kill(signal.SIGINT, signal.SIGINT, at_batch=2))
    assert stop.stopped_by is None


def test_processes_compare_at_the_interval_only(listen: Callable) -> None:
    stop = StopOnSignal(every_n_steps=3)
    assert listen(stop, Kill(signal.SIGUSR1, at_batch=0)).global_step == 3


def test_previous_handlers_are_restored(make_trainer: Callable) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    stop = StopOnSignal()
    with stop.listening(make_trainer(callbacks=[stop])):
        assert all(signal.getsignal(number) == stop._note for number in SIGNALS)
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.slow
def test_a_process_that_raised_exits_though_its_teardown_hangs() -> None:
    program = """
        import time
        from types import SimpleNamespace
        from wnv.training.stopping import LeaveOnError
        alone, trainer = (SimpleNamespace(world_size=n, global_rank=1, global_step=7) for n in (1, 2))
        try:
            raise RuntimeError("a damaged scene")
        except RuntimeError as error:
            LeaveOnError(after_s=0).on_exception(alone, None, error)  # no other rank to wait for
            time.sleep(0.2)
            LeaveOnError(after_s=0.1).on_exception(trainer, None, error)
        time.sleep(1000)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 1
    assert "RuntimeError: a damaged scene\nraised on rank 1 of 2 at step 7" in done.stderr
