"""Attention is called in a form that one fused kernel computes, here and on an Ascend 910B.

torch_npu fuses where queries, keys and values are `batch head token dim`, of one format, with at most 512 features and
2048 heads, and the mask is boolean or none (op-plugin, ScaledDotProductAttentionKernelNpuOpApi.cpp); what it does not
fuse takes memory in the square of the tokens.
"""

from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from wnv.models import attention

MODELS = sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))


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
def test_every_call_is_one_that_fuses(make_model, make_views, make_cameras, monkeypatch, options, precision) -> None:
    attend = functional.scaled_dot_product_attention

    def check(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        assert query.ndim == key.ndim == value.ndim == 4
        assert query.shape[:2] == key.shape[:2]
        assert key.shape == value.shape
        assert query.shape[1] <= 2048
        assert query.shape[3] == key.shape[3] <= 512
        assert {query.dtype, key.dtype, value.dtype} == {precision}
        return attend(query, key, value)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", check)
    monkeypatch.setattr(attention, "has_flash_attention", lambda query: False)  # as on an NPU
    model = make_model(**options).train()
    context, cameras, times = make_views(view=2), make_cameras(view=3, seed=5), torch.rand(2, 3)
    with (
        sdpa_kernel(SDPBackend.FLASH_ATTENTION),  # raises where a call does not fuse
        torch.autocast("cpu", precision, enabled=precision != torch.float32),
    ):
        model(context, cameras, times).square().mean().backward()
        with torch.no_grad():
            model.render(model.encode(context), cameras, times)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_the_configured_heads_are_small_enough(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    if {"dim", "num_heads"} <= config.keys():
        assert config["dim"] // config["num_heads"] <= 512
        assert (config["dim"] // config["num_heads"]) % 16 == 0, "a multiple of what the matrix units take"
