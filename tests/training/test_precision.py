from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn
from torch.amp import GradScaler

from wnv.checkpoints.read import read_checkpoint
from wnv.models.konet import KoNet
from wnv.training.checkpoint import AtomicCheckpointIO
from wnv.training.ema import WeightAverage
from wnv.training.precision import AgreedGradScaler, low_dtype, make_precision
from wnv.training.run_checkpoints import RunCheckpoints

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("precision", "product", "weight"),
    [
        ("32-true", torch.float32, torch.float32),
        ("bf16-mixed", torch.bfloat16, torch.float32),
        ("bf16-true", torch.bfloat16, torch.bfloat16),
    ],
    ids=["fp32", "bf16", "bf16_true"],
)
def test_products_are_computed_in_the_given_precision(
    precision: str,
    product: torch.dtype,
    weight: torch.dtype,
    make_module: Callable,
    make_batch: Callable,
    fit: Callable,
) -> None:
    module, seen = make_module(warmup_steps=0), set()
    linear = module.model.transformer.blocks[0].mlp.expand
    linear.register_forward_hook(lambda module, arguments, output: seen.add((output.dtype, module.weight.dtype)))
    plugin = make_precision(precision, CPU)
    trainer = fit([make_batch()], module=module, plugins=[plugin])
    assert low_dtype(plugin) == (None if product is torch.float32 else product)
    assert seen == {(product, weight)}
    assert {parameter.dtype for parameter in module.model.parameters()} == {weight}
    state = trainer.optimizers[0].state.values()
    assert {values["exp_avg"].dtype for values in state} == {values["exp_avg_sq"].dtype for values in state} == {weight}
    assert trainer.callback_metrics["train/loss"].dtype == torch.float32
    assert trainer.callback_metrics["train/loss"].isfinite()


def test_bfloat16_weights_have_a_float32_average(tmp_path: Path, make_batch: Callable, fit: Callable) -> None:
    callbacks = WeightAverage(decay=0.5), RunCheckpoints(folder=tmp_path, monitor=None)
    fit([make_batch()] * 3, *callbacks, plugins=[make_precision("bf16-true", CPU), AtomicCheckpointIO()])
    checkpoint = read_checkpoint(tmp_path)
    assert {value.dtype for value in checkpoint["state_dict"].values()} == {torch.bfloat16}
    assert {value.dtype for value in checkpoint["ema_state_dict"].values()} == {torch.float32}
    weight = KoNet.from_pretrained(tmp_path).head.weight
    torch.testing.assert_close(weight, checkpoint["ema_state_dict"]["head.weight"], rtol=0, atol=0)
    assert not torch.equal(weight, weight.bfloat16().float()), "the average was rounded"


@pytest.mark.filterwarnings("ignore:torch.cuda.amp.GradScaler is enabled, but CUDA is not available")
def test_the_plugin_is_made_for_the_device() -> None:
    plugin = make_precision("16-mixed", torch.device("cuda"))
    assert type(plugin) is MixedPrecision, "a subclass would store the scaler's state under a name of its own"
    assert plugin.device == "cuda"
    assert low_dtype(plugin) is torch.float16


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_takes_bf16_where_the_processor_has_it_and_emulation_is_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, has_bf16: bool, expected: str
) -> None:
    monkeypatch.setattr("wnv.training.precision.has_bf16_instructions", lambda device: has_bf16)
    assert make_precision("auto", CPU).precision == expected
    assert not caplog.text
    make_precision("bf16-mixed", CPU)
    assert ("precision=bf16" in caplog.text and "precision=fp32" in caplog.text) == (not has_bf16)


def test_unsupported_precisions_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"precision=fp16.*precision=bf16"):
        make_precision("16-mixed", CPU)
    with pytest.raises(ValueError, match=r"trainer\.precision.*16-true"):
        make_precision("16-true", CPU)


@pytest.mark.parametrize("breaks_at", [None, 1])
def test_the_scaler_equals_torchs(breaks_at: int | None) -> None:
    ends = []
    for scaler in (GradScaler("cpu"), AgreedGradScaler("cpu")):
        weight = nn.Parameter(torch.linspace(-1, 1, 7))
        optimizer = torch.optim.SGD([weight], lr=0.1)
        for step in range(3):
            scaler.scale((weight**3).sum()).backward()
            if step == breaks_at:
                weight.grad[2] = torch.inf
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        ends.append((weight.detach(), scaler.get_scale()))
    assert torch.equal(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1] == 2.0 ** (16 if breaks_at is None else 15)
