import logging
import math
from collections.abc import Callable

import lightning as L
import pytest
import torch

from wnv.geometry.poses import nearest_pose
from wnv.metrics.image import psnr, ssim
from wnv.training.module import ViewSynthesisModule


class Recorder(L.Callback):
    """Keeps what was logged, and the weights, after every training batch."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []
        self.weights: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: object) -> None:
        self.metrics.append({name: float(value) for name, value in trainer.callback_metrics.items()})
        self.weights.append(pl_module.model.head.weight.detach().clone())


class SpoiledGradient(L.Callback):
    """Multiplies the gradient at given steps."""

    def __init__(self, factors: dict[int, float]) -> None:
        self.factors = factors

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        factor = self.factors.get(trainer.global_step)
        if factor is not None:
            for parameter in pl_module.model.parameters():
                parameter.grad.mul_(factor)


def test_training_learns_a_batch_by_heart(
    make_batch: Callable, make_module: Callable, make_trainer: Callable, loader: Callable
) -> None:
    recorder = Recorder()
    trainer = make_trainer(max_steps=40, callbacks=[recorder])
    trainer.fit(make_module(lr=5e-3), loader([make_batch()] * 40))
    assert recorder.metrics[-1]["train/loss"] < 0.95 * recorder.metrics[0]["train/loss"]
    last = recorder.metrics[-1]
    assert last["train/psnr"] == pytest.approx(-10 * math.log10(last["train/mse"]), abs=1e-4)
    assert last["train/skipped_steps"] == 0
    assert last["train/grad_norm"] > 0


def test_learning_rate_logged_is_the_one_of_the_step(
    make_batch: Callable, make_module: Callable, make_trainer: Callable, loader: Callable
) -> None:
    recorder = Recorder()
    make_trainer(max_steps=4, callbacks=[recorder]).fit(
        make_module(lr=1e-3, warmup_steps=2), loader([make_batch()] * 4)
    )
    seen = [metrics["train/lr"] for metrics in recorder.metrics[1:]]  # a batch's own come with the next one
    assert seen == pytest.approx([5e-4, 1e-3, 1e-3])


def test_validation_is_the_mean_over_scenes_whatever_the_batches(
    make_batch: Callable, make_module: Callable, make_trainer: Callable, loader: Callable
) -> None:
    batches = [make_batch(1, num_scenes=3), make_batch(2, num_scenes=1)]
    module = make_module()
    metrics = make_trainer().validate(module, loader(batches), verbose=False)[0]
    each = {"psnr": [], "ssim": [], "psnr_copy": []}
    module.eval()
    for batch in batches:
        for i in range(len(batch)):
            with torch.no_grad():
                drawn = module.draw(batch)[i]
            nearest = nearest_pose(batch.target.cameras.camtoworld[i], batch.context.cameras.camtoworld[i])
            each["psnr"].append(psnr(drawn, batch.target.images[i]).mean())
            each["ssim"].append(ssim(drawn, batch.target.images[i]).mean())
            each["psnr_copy"].append(psnr(batch.context.images[i][nearest], batch.target.images[i]).mean())
    for name, values in each.items():
        assert metrics[f"val/{name}"] == pytest.approx(float(torch.stack(values).mean()), abs=1e-4), name


@pytest.mark.parametrize("factor", [math.nan, math.inf, 1e6])
def test_a_bad_gradient_changes_nothing_and_is_counted(
    make_batch: Callable,
    make_module: Callable,
    make_trainer: Callable,
    loader: Callable,
    factor: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = Recorder()
    module = make_module(warmup_steps=1)
    trainer = make_trainer(max_steps=5, callbacks=[SpoiledGradient({3: factor}), recorder])
    with caplog.at_level(logging.WARNING):
        trainer.fit(module, loader([make_batch(i) for i in range(5)]))
    torch.testing.assert_close(recorder.weights[3], recorder.weights[2], rtol=0, atol=0)
    assert not torch.equal(recorder.weights[4], recorder.weights[3])
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())
    assert module.skipped_steps == 1
    assert "step 3 skipped: gradient norm" in caplog.text
    steps = {float(state["step"]) for state in trainer.optimizers[0].state.values()}
    assert steps == {4.0}, "the optimiser must not count a skipped step"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_skips_the_step_and_its_scenes_are_named(
    make_batch: Callable,
    make_module: Callable,
    make_trainer: Callable,
    loader: Callable,
    value: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also a loss whose gradient is finite, and one of several batches of a step."""

    class Spoiled(torch.nn.Module):
        calls = 0

        def forward(self, drawn: torch.Tensor, truth: torch.Tensor) -> dict[str, torch.Tensor]:
            mse, self.calls = (drawn - truth).square().mean(), self.calls + 1
            return {"loss": mse + value if self.calls == 3 else mse, "mse": mse}

    recorder, module = Recorder(), make_module(warmup_steps=1)
    module.loss = Spoiled()
    trainer = make_trainer(max_steps=3, accumulate_grad_batches=2, callbacks=[recorder])
    with caplog.at_level(logging.WARNING):
        trainer.fit(module, loader([make_batch(i) for i in range(6)]))
    torch.testing.assert_close(recorder.weights[3], recorder.weights[1], rtol=0, atol=0)
    assert not torch.equal(recorder.weights[5], recorder.weights[3])
    assert module.skipped_steps == 1
    assert f"rank 0 had loss {value:g} of scene-2-0, scene-2-1; loss " in caplog.text
    assert "scene-1-0" not in caplog.text


def test_training_draws_nothing_from_the_global_generator(
    make_batch: Callable, make_module: Callable, make_trainer: Callable, loader: Callable
) -> None:
    """So a resumed run needs no state of it. What is random draws from a generator of its own, seeded by the sample."""
    states = []

    class States(L.Callback):
        def on_train_batch_end(self, *args: object, **kwargs: object) -> None:
            states.append(torch.get_rng_state())

    make_trainer(max_steps=3, callbacks=[States()]).fit(make_module(), loader([make_batch(i) for i in range(3)]))
    assert all(torch.equal(state, states[0]) for state in states)


def test_a_long_gradient_is_clipped_in_the_warmup_and_not_skipped(
    make_batch: Callable, make_module: Callable, make_trainer: Callable, loader: Callable
) -> None:
    norms = []

    class ClippedNorm(L.Callback):
        def on_before_zero_grad(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: object) -> None:
            gradients = [p.grad for p in pl_module.model.parameters() if p.grad is not None]
            if gradients:
                norms.append(float(torch.nn.utils.get_total_norm(gradients)))

    module = make_module(warmup_steps=3, clip_norm=0.5)
    trainer = make_trainer(max_steps=4, callbacks=[SpoiledGradient({1: 1e4}), ClippedNorm()])
    trainer.fit(module, loader([make_batch(i) for i in range(4)]))
    assert module.skipped_steps == 0
    assert norms[1] == pytest.approx(0.5, rel=1e-4)


def test_many_skipped_steps_in_a_row_stop_the_run(
    make_batch: Callable, make_module: Callable, make_trainer: Callable, loader: Callable
) -> None:
    spoiled = SpoiledGradient({step: math.nan for step in range(2, 9)})
    trainer = make_trainer(max_steps=9, callbacks=[spoiled])
    with pytest.raises(RuntimeError, match=r"3 steps in a row had a gradient norm above .* lower optim.lr"):
        trainer.fit(make_module(max_skipped_in_a_row=3), loader([make_batch(i) for i in range(9)]))


def test_gradients_are_accumulated_over_batches(
    make_batch: Callable, make_module: Callable, make_trainer: Callable, loader: Callable
) -> None:
    """Two batches of one scene a step give the gradient of one batch of both."""
    both = make_batch(0, num_scenes=2)
    halves = [_scene(both, 0), _scene(both, 1)]
    whole, parts = Recorder(), Recorder()
    make_trainer(max_steps=3, callbacks=[whole]).fit(make_module(), loader([both] * 3))
    make_trainer(max_steps=3, accumulate_grad_batches=2, callbacks=[parts]).fit(make_module(), loader(halves * 3))
    torch.testing.assert_close(parts.weights[-1], whole.weights[-1], rtol=1e-4, atol=1e-6)


def _scene(batch: object, index: int) -> object:
    return type(batch)(
        scenes=batch.scenes[index : index + 1],
        context=batch.context[index : index + 1],
        target=batch.target[index : index + 1],
    )


def test_batches_are_moved_as_a_whole(make_batch: Callable, make_module: Callable) -> None:
    moved = make_module().transfer_batch_to_device(make_batch(), torch.device("meta"), 0)
    tensors = [moved.context.images, moved.context.cameras.K, moved.target.cameras.camtoworld, moved.target.times]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.scenes == make_batch().scenes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "lr must be positive, got 0.0"),
        ({"clip_norm": -1}, "clip_norm must be positive, got -1"),
        ({"skip_norm_factor": 0.5}, "skip_norm_factor must be at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(make_module: Callable, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_module(**options)


def test_the_trainer_must_have_a_last_step(
    make_batch: Callable, make_module: Callable, make_trainer: Callable, loader: Callable
) -> None:
    with pytest.raises(ValueError, match=r"trainer\.max_steps must be positive"):
        make_trainer(max_steps=-1, max_epochs=1).fit(make_module(), loader([make_batch()]))


def test_the_trainers_own_clipping_is_refused(
    make_batch: Callable, make_module: Callable, make_trainer: Callable, loader: Callable
) -> None:
    with pytest.raises(ValueError, match=r"gradient_clip_val must not be set, got 1\.0; set optim.clip_norm"):
        make_trainer(gradient_clip_val=1.0).fit(make_module(), loader([make_batch()] * 4))


def test_bf16_trains_and_its_loss_is_float32(
    make_batch: Callable, make_module: Callable, make_trainer: Callable, loader: Callable
) -> None:
    recorder = Recorder()
    make_trainer(max_steps=3, precision="bf16-mixed", callbacks=[recorder]).fit(
        make_module(), loader([make_batch()] * 3)
    )
    assert math.isfinite(recorder.metrics[-1]["train/loss"])
    assert recorder.weights[-1].dtype == torch.float32


def test_compiling_keeps_the_names_of_the_weights(
    make_module: Callable, make_batch: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []
    module: ViewSynthesisModule = make_module(compile=True)
    monkeypatch.setattr(type(module.model), "compile", lambda self: compiled.append(self))
    module.configure_model()
    module.configure_model()
    assert compiled == [module.model], "Lightning calls configure_model more than once"
    assert module.state_dict().keys() == make_module().state_dict().keys()
