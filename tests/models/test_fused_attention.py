"""Attention is called in a form that one fused kernel computes, here and on an Ascend 910B.

torch_npu fuses where queries, keys and values are `batch head token dim`, of one format, with at most 512 features and
2048 heads, and the mask is boolean or none (op-plugin, ScaledDotProductAttentionKernelNpuOpApi.cpp); what it does not
fuse takes memory in the square of the tokens. On the CPU it is seen which kernel was taken.
"""

from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

MODELS = sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """The arguments of every call of attention."""
    attend = functional.scaled_dot_product_attention
    seen = []

    def record(query: Tensor, key: Tensor, value: Tensor, **options: object) -> Tensor:
        seen.append({"query": query, "key": key, "value": value} | options)
        return attend(query, key, value, **options)

    # Not by a torch mode: modes are off while the backward pass recomputes activations.
    monkeypatch.setattr(functional, "scaled_dot_product_attention", record)
    return seen


class Kernels(TorchDispatchMode):
    """Counts the calls of attention kernels by name and dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[tuple[str, torch.dtype]] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0]
        if "scaled_dot_product" in name or "softmax" in name:
            self.seen[name, args[0].dtype] += 1
        return function(*args, **(kwargs or {}))


def check(call: dict) -> None:
    """Refuse a call that an NPU does not fuse."""
    query, key, value = parts = [call[name] for name in ("query", "key", "value")]
    assert [x.ndim for x in parts] == [4, 4, 4]
    assert query.shape[:2] == key.shape[:2] == value.shape[:2]
    assert key.shape == value.shape
    assert query.shape[1] <= 2048
    assert query.shape[3] == key.shape[3] <= 512
    assert query.dtype == key.dtype == value.dtype
    assert query.dtype != torch.float32 or query.shape[3] % 4 == 0
    mask = call.get("attn_mask")
    assert mask is None or mask.dtype == torch.bool
    assert mask is None or not call.get("is_causal", False)
    assert not call.get("dropout_p", 0.0)


@pytest.mark.parametrize(
    ("options", "precision"),
    [
        ({"camera_encoding": "geope"}, torch.float32),
        ({"camera_encoding": "gta", "patch_encoding": "quaternion", "attention": "joint"}, torch.bfloat16),
        ({"camera_encoding": "none", "patch_encoding": "none", "qk_norm": False}, torch.bfloat16),
        ({"time_code": True, "adaln_zero": True, "activation_checkpointing": True}, torch.bfloat16),
        ({"camera_encoding": "none", "attention": "joint", "activation_checkpointing": True}, torch.float32),
    ],
    ids=["geope-fp32", "gta-joint-bf16", "none-bf16", "dynamic-bf16", "joint-fp32"],
)
def test_every_call_is_one_that_fuses(make_model, make_views, make_cameras, calls, options, precision) -> None:
    model = make_model(**options).train()
    context, cameras = make_views(view=2), make_cameras(view=3, seed=5)
    times = torch.rand(2, 3)
    with Kernels() as kernels, torch.autocast("cpu", precision, enabled=precision != torch.float32):
        model(context, cameras, times).square().mean().backward()
        with torch.no_grad():
            scene = model.encode(context)
            model.render(scene, cameras, times)
    for call in calls:
        check(call)
    layers = model.config["num_layers"]
    # The context passes all layers but the last, targets all layers; joint attention does both in each `render`.
    once = layers if model.attention == "joint" else 2 * layers - 1
    recomputed = once if options.get("activation_checkpointing") else 0
    assert len(calls) == 2 * once + recomputed
    assert {dtype for _, dtype in kernels.seen} == {precision}
    forward = {name: count for (name, _), count in kernels.seen.items() if "backward" not in name}
    assert forward == {"_scaled_dot_product_flash_attention_for_cpu": len(calls)}, "a softmax by itself"


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_the_configured_heads_are_small_enough(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    if {"dim", "num_heads"} <= config.keys():
        assert config["dim"] // config["num_heads"] <= 512
        assert (config["dim"] // config["num_heads"]) % 16 == 0, "a multiple of what the matrix units take"


def test_the_check_rejects_what_does_not_fuse() -> None:
    good = {name: torch.zeros(1, 2, 3, 8) for name in ("query", "key", "value")}
    check(good | {"attn_mask": torch.ones(3, 3, dtype=torch.bool)})
    bad: list[dict[str, Tensor]] = [
        {"attn_mask": torch.zeros(3, 3)},
        {"query": torch.zeros(2, 3, 8)},
        {"value": torch.zeros(1, 2, 3, 8, dtype=torch.bfloat16)},
        {name: torch.zeros(1, 2, 3, 520) for name in good},
        {name: torch.zeros(1, 2, 3, 6) for name in good},
    ]
    for change in bad:
        with pytest.raises(AssertionError):
            check(good | change)
