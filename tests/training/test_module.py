import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    EMAWeightAveraging,
    LearningRateFinder,
    StochasticWeightAveraging,
)
from lightning.pytorch.plugins.precision import MixedPrecision

from wnv.checkpoints.read import read_checkpoint
from wnv.geometry.poses import nearest_pose
from wnv.metrics.image import psnr, ssim
from wnv.models.konet import KoNet
from wnv.training.image_grid import ImageGrid
from wnv.training.module import TrainingDiverged, ViewSynthesisModule
from wnv.training.optim import lr_factor
from wnv.training.precision import AgreedGradScaler
from wnv.training.run_checkpoints import RunCheckpoints


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


@pytest.mark.slow
def test_training_overfits_a_batch(make_batch: Callable, make_module: Callable, fit: Callable) -> None:
    recorder = Recorder()
    fit([make_batch()] * 40, recorder, module=make_module(lr=5e-3))
    rates = [metrics["train/lr"] for metrics in recorder.metrics[1:4]]  # those of a batch are logged with the next one
    assert rates == pytest.approx([2.5e-3, 5e-3, 5e-3], rel=0.01)
    assert recorder.metrics[-1]["train/loss"] < 0.95 * recorder.metrics[0]["train/loss"]
    last = recorder.metrics[-1]
    assert last["train/skipped_steps"] == 0
    assert last["train/grad_norm"] > 0


def test_validation_and_test_are_means_over_scenes_and_predict_returns_images(
    make_batch: Callable, make_module: Callable, make_trainer: Callable, loader: Callable
) -> None:
    batches, module = [make_batch(1, num_scenes=3), make_batch(2, num_scenes=1)], make_module()
    validated = make_trainer().validate(module, loader(batches), verbose=False)[0]
    tested = make_trainer().test(module, loader(batches), verbose=False)[0]
    images = make_trainer().predict(module, loader(batches))
    each = {"psnr": [], "ssim": [], "psnr_copy": []}
    for rendered, batch in zip(images, batches, strict=True):
        assert rendered.shape == batch.target.images.shape
        for i in range(len(batch)):
            nearest = nearest_pose(batch.target.cameras.camtoworld[i], batch.context.cameras.camtoworld[i])
            each["psnr"].append(psnr(rendered[i], batch.target.images[i]).mean())
            each["ssim"].append(ssim(rendered[i], batch.target.images[i]).mean())
            each["psnr_copy"].append(psnr(batch.context.images[i][nearest], batch.target.images[i]).mean())
    for name, values in each.items():
        assert validated[f"val/{name}"] == pytest.approx(float(torch.stack(values).mean()), abs=1e-4), name
    assert tested == {name.replace("val/", "test/"): value for name, value in validated.items()}


@pytest.mark.parametrize("factor", [math.nan, math.inf, 1e6])
def test_a_bad_gradient_changes_nothing_and_is_counted(
    make_batch: Callable, make_module: Callable, fit: Callable, factor: float, caplog: pytest.LogCaptureFixture
) -> None:
    recorder, module = Recorder(), make_module(warmup_steps=1)
    with caplog.at_level(logging.WARNING):
        trainer = fit([make_batch(i) for i in range(5)], SpoiledGradient({3: factor}), recorder, module=module)
    torch.testing.assert_close(recorder.weights[3], recorder.weights[2], rtol=0, atol=0)
    assert not torch.equal(recorder.weights[4], recorder.weights[3])
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())
    assert module.skipped_steps == 1
    assert "step 3 skipped" in caplog.text
    steps = {float(state["step"]) for state in trainer.optimizers[0].state.values()}
    assert steps == {4.0}, "the optimiser must not count a skipped step"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_non_finite_loss_skips_the_step_and_logs_its_scenes(
    make_batch: Callable, make_module: Callable, fit: Callable, value: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Also if the gradient of the loss is finite, and if only one of several batches of a step is affected."""

    class Spoiled(torch.nn.Module):
        calls = 0

        def forward(self, rendered: torch.Tensor, truth: torch.Tensor) -> dict[str, torch.Tensor]:
            mse, self.calls = (rendered - truth).square().mean(), self.calls + 1
            return {"loss": mse + value if self.calls == 3 else mse, "mse": mse}

    recorder, module = Recorder(), make_module(warmup_steps=1)
    module.loss = Spoiled()
    with caplog.at_level(logging.WARNING):
        fit([make_batch(i) for i in range(6)], recorder, module=module, accumulate_grad_batches=2)
    torch.testing.assert_close(recorder.weights[3], recorder.weights[1], rtol=0, atol=0)
    assert not torch.equal(recorder.weights[5], recorder.weights[3])
    assert module.skipped_steps == 1
    assert f"loss {value:g} of scene-2-0, scene-2-1" in caplog.text
    assert "scene-1-0" not in caplog.text


def test_training_does_not_use_the_global_generator(make_batch: Callable, fit: Callable) -> None:
    """A resumed run thus does not need the generator's state."""
    states = []

    class States(L.Callback):
        def on_train_batch_end(self, *args: object, **kwargs: object) -> None:
            states.append(torch.get_rng_state())

    fit([make_batch(i) for i in range(3)], States())
    assert all(torch.equal(state, states[0]) for state in states)


def test_a_long_gradient_is_clipped_and_not_skipped_during_warmup(
    make_batch: Callable, make_module: Callable, fit: Callable
) -> None:
    norms = []

    class ClippedNorm(L.Callback):
        def on_before_zero_grad(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: object) -> None:
            gradients = [p.grad for p in pl_module.model.parameters() if p.grad is not None]
            if gradients:
                norms.append(float(torch.nn.utils.get_total_norm(gradients)))

    module = make_module(warmup_steps=3, clip_norm=0.5)
    fit([make_batch(i) for i in range(4)], SpoiledGradient({1: 1e4}), ClippedNorm(), module=module)
    assert module.skipped_steps == 0
    assert norms[1] == pytest.approx(0.5, rel=1e-4)


def test_many_consecutive_skipped_steps_stop_the_run(
    make_batch: Callable, make_module: Callable, fit: Callable
) -> None:
    spoiled = SpoiledGradient({step: math.nan for step in range(1, 4)})
    with pytest.raises(TrainingDiverged, match=r"3 consecutive .*scene-3-0.*optim\.lr"):
        fit([make_batch(i) for i in range(5)], spoiled, module=make_module(max_skipped_in_a_row=3))


def test_a_validation_that_is_not_finite_is_nan_and_the_second_ends_the_run(
    tmp_path: Path, make_batch: Callable, make_module: Callable, fit: Callable
) -> None:
    class Spoiled(L.Callback):
        def __init__(self, steps: tuple[int, ...]) -> None:
            self.steps = steps

        def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            self.weight = pl_module.model.head.weight.detach().clone()
            if trainer.global_step in self.steps:
                pl_module.model.head.weight.data.fill_(torch.nan)

        def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            pl_module.model.head.weight.data.copy_(self.weight)

    def run(*steps: int) -> L.Trainer:
        callbacks = Spoiled(steps), ImageGrid(folder=tmp_path), RunCheckpoints(folder=tmp_path)
        return fit([make_batch()] * 4, *callbacks, validate=[make_batch(9)], val_check_interval=1)

    assert math.isnan(run(1, 4).callback_metrics["val/psnr"])
    assert read_checkpoint(tmp_path / "best.ckpt")["global_step"] in (2, 3)
    with pytest.raises(TrainingDiverged, match=r"at step 3: .*2 consecutive validations.*scene-9-0.*optim\.lr"):
        run(2, 3)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # as the first optimizer step is left out
def test_overflows_that_lower_the_loss_scale_are_not_skipped_steps(
    make_batch: Callable, make_module: Callable, fit: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    scaler = AgreedGradScaler("cpu", init_scale=4.0)
    module, plugin = make_module(max_skipped_in_a_row=2), MixedPrecision("16-mixed", device="cpu", scaler=scaler)
    spoiled = SpoiledGradient(dict.fromkeys(range(4), math.inf))
    with pytest.raises(TrainingDiverged, match="2 consecutive"):
        fit([make_batch()] * 5, spoiled, module=module, plugins=[plugin])
    assert module.skipped_steps == 2, "the first two halve the scale from 4 to 1"
    assert "step 1 skipped" not in caplog.text


def test_a_resumed_run_uses_its_own_optimizer_settings_from_its_first_step(
    tmp_path: Path, make_batch: Callable, make_module: Callable, fit: Callable
) -> None:
    batch, recorder = make_batch(), Recorder()  # an epoch is a step, so that a run is resumed between epochs
    keeper = RunCheckpoints(folder=tmp_path, every_n_steps=3, monitor=None)
    fit([batch], keeper, module=make_module(warmup_steps=0), max_steps=3)
    new = {"lr": 5e-4, "betas": (0.5, 0.6), "weight_decay": 0.9, "warmup_steps": 0}
    last = tmp_path / "last.ckpt"
    resumed = fit([batch], recorder, keeper, module=make_module(**new), resume=last, max_steps=6)
    rates = [metrics["train/lr"] for metrics in recorder.metrics[1:]]  # those of a batch are logged with the next one
    assert rates == pytest.approx([5e-4 * lr_factor(step, warmup_steps=0, max_steps=6) for step in (3, 4)])
    groups = resumed.optimizers[0].param_groups
    assert [group["weight_decay"] for group in groups] == [0.9, 0.0]
    assert {group["betas"] for group in groups} == {(0.5, 0.6)}
    with pytest.raises(ValueError, match=r"optim\.optimizer.*muon.*adamw"):
        fit([batch], keeper, module=make_module(optimizer="muon"), resume=last, max_steps=6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lr": 0.0}, ValueError, r"lr.*0\.0"),
        ({"clip_norm": -1}, ValueError, r"clip_norm.*-1"),
        ({"skip_norm_factor": 0.5}, ValueError, r"skip_norm_factor.*0\.5"),
        ({"optimizer": "sgd"}, ValueError, r"optimizer.*sgd"),
        ({"optimizer": {"momentum": 0.9}}, TypeError, r"optimizer.*momentum"),
        ({"model": torch.nn.Linear(2, 2)}, TypeError, r"Linear.*\.config"),
    ],
)
def test_invalid_arguments_are_rejected(make_module: Callable, options: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        ViewSynthesisModule(**({"model": make_module().model, "loss": torch.nn.MSELoss()} | options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_steps": -1, "max_epochs": 1}, r"trainer\.max_steps.*-1"),
        ({"gradient_clip_val": 1.0}, r"gradient_clip_val.*1\.0.*optim\.clip_norm"),
        ({"callbacks": [LearningRateFinder()]}, r"LearningRateFinder.*optim\.lr"),
        ({"callbacks": [StochasticWeightAveraging(1e-2)]}, r"StochasticWeightAveraging.*ema"),
        ({"callbacks": [EMAWeightAveraging()]}, r"EMAWeightAveraging.*ema"),
        ({"callbacks": [BackboneFinetuning()]}, r"BackboneFinetuning.*requires_grad"),
    ],
)
def test_trainer_options_that_cannot_work_are_rejected(
    make_batch: Callable, fit: Callable, options: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit([make_batch()] * 4, **options)


class Loss(torch.nn.Module):
    """A user's loss: returns the given function of the mean absolute error."""

    def __init__(self, returned: Callable = lambda l1: {"loss": 2 * l1, "l1": l1}) -> None:
        super().__init__()
        self.returned = returned

    def forward(self, rendered: torch.Tensor, truth: torch.Tensor) -> object:
        return self.returned((rendered - truth).abs().mean())


@pytest.mark.parametrize(("loss", "logged"), [(Loss(), {"loss", "l1"}), (Loss(lambda l1: l1), {"loss"})])
def test_a_loss_returns_a_scalar_or_a_dictionary_of_terms(
    make_batch: Callable, make_module: Callable, fit: Callable, loss: Loss, logged: set[str]
) -> None:
    batch, module = make_batch(), make_module(loss=loss)
    expected = psnr(module.render(batch), batch.target.images).mean()
    metrics = fit([batch], module=module).callback_metrics
    own = {"psnr", "lr", "grad_norm", "skipped_steps"}
    assert {name.removeprefix("train/") for name in metrics} == logged | own
    torch.testing.assert_close(metrics["train/psnr"], expected)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda l1: None, "Loss.*NoneType"),
        (lambda l1: {"l1": l1}, "Loss.*l1"),
        (lambda l1: l1.expand(3), r"Loss.*\(3,\)"),
    ],
)
def test_other_returns_of_a_loss_are_rejected(
    make_batch: Callable, make_module: Callable, fit: Callable, returned: Callable, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        fit([make_batch()], module=make_module(loss=Loss(returned)))


def test_incomplete_batches_are_reported_by_name(make_batch: Callable, make_module: Callable) -> None:
    batch = make_batch()
    with pytest.raises(TypeError, match=r"times"):
        replace(batch.context, times=None)
    with pytest.raises(TypeError, match=r"target"):
        replace(batch, target=None)
    with pytest.raises(TypeError, match=r"Batch.*dict"):
        make_module().render({"context": batch.context})


def test_images_of_another_shape_are_reported_with_the_model(
    make_batch: Callable, make_module: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, batch = make_module(), make_batch()
    monkeypatch.setattr(module.model, "forward", lambda *views: batch.target.images[:, 0])
    with pytest.raises(ValueError, match=r"KoNet.*shape \(\d+, \d+, 3, \d+, \d+\).*got \(\d+, 3, \d+, \d+\)"):
        module.render(batch)


def test_the_module_loads_from_its_checkpoint_alone(
    tmp_path: Path, make_batch: Callable, make_module: Callable, fit: Callable
) -> None:
    module = make_module(lr=2e-3)
    fit([make_batch()] * 2, RunCheckpoints(folder=tmp_path, monitor=None), module=module)
    loaded = ViewSynthesisModule.load_from_checkpoint(tmp_path / "last.ckpt")
    assert (loaded.lr, loaded.warmup_steps, loaded.loss.perceptual_weight) == (2e-3, 2, 0.0)
    torch.testing.assert_close(loaded.render(make_batch()), module.render(make_batch()), rtol=0, atol=0)
    torch.testing.assert_close(loaded.model.state_dict(), KoNet.from_pretrained(tmp_path).state_dict(), rtol=0, atol=0)
    assert ViewSynthesisModule.load_from_checkpoint(tmp_path, clip_norm=0.5).clip_norm == 0.5


def test_a_loss_without_config_is_passed_at_loading(
    tmp_path: Path, make_batch: Callable, make_module: Callable, fit: Callable
) -> None:
    fit([make_batch()], RunCheckpoints(folder=tmp_path, monitor=None), module=make_module(loss=Loss()))
    with pytest.raises(ValueError, match=r"Loss.*loss="):
        ViewSynthesisModule.load_from_checkpoint(tmp_path)
    assert isinstance(ViewSynthesisModule.load_from_checkpoint(tmp_path, loss=Loss()).loss, Loss)
