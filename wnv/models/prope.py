"""Weights of PRoPE's view-synthesis code (arXiv:2507.10496) and its forks as a KoNet that draws the same images."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wnv.models.foreign_checkpoint import BlockNames, Converted, ForeignTensors, build, read_foreign

PROJECT = "PRoPE's view synthesis"
ANCHOR = "input_tokenizer.weight"
TARGET = "query_tokenizer.weight"
CODE_CHANNELS = 6
BLOCK = BlockNames(
    prefix="encoder.layers.",
    attention_norm="norm1.weight",
    qkv="self_attn.in_proj_weight",
    output="self_attn.out_proj.weight",
    query_norm="self_attn.q_norm.weight",
    key_norm="self_attn.k_norm.weight",
    mlp_norm="norm2.weight",
    expand="linear1.weight",
    contract="linear2.weight",
)
HINTS = {
    "image_tokenizer": "its names are those of LVSM; set from=lvsm",
    "tokenizer.context": "its names are KoNet's own; set weights= instead of from=",
}
RAY_CODES = {  # a run's ray_encoding -> KoNet's channels among the six that a pixel has there
    "plucker": [3, 4, 5, 0, 1, 2],  # there the direction comes before the moment
    "raymap": [0, 1, 2, 3, 4, 5],
    "camray": [0, 1, 2],  # the moment of a ray through the origin is zero
    "fixed": [0, 1, 2, 3, 4, 5],
}
CAMERA_ENCODINGS = ("geope", "gta", "none")
# Tables of the rotary encoding, which older versions saved.
NOT_FOR_DRAWING = ("attention.coeffs_",)


def convert_prope(
    path: str | Path,
    *,
    camera_encoding: str | None = None,
    ray_code: str | None = None,
    num_heads: int | None = None,
    pose_normalization: str = "first",
) -> Converted:
    """Turn a checkpoint of PRoPE's view-synthesis code into a KoNet.

    There everything attends to everything, with one target a sequence; colours enter as 0..1, tokens are normalised
    before the first block, queries and keys (if at all) with eps 1e-5, and the feed-forwards have ReLU. Which encodings
    a run was trained with its weights do not tell.

    Args:
        path: The checkpoint, see `read_foreign`.
        camera_encoding: The run's `pos_enc`: `geope` (called `prope` there), `gta` or `none`; the first two come with
            the rotary encoding of patches.
        ray_code: Its `ray_encoding`: `plucker`, `raymap`, `camray`, or `fixed`, which is called `none` there and which
            the file tells.
        num_heads: Attention heads; needed only without qk-norm, whose weights tell.
        pose_normalization: How the worlds of its training were placed: `first` as the published code has it, with the
            first camera in the origin and the other context camera at distance 1; `mean` in some early versions.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not such a checkpoint, with the names that are missing or too much, or if an encoding is
            not given.
    """
    found = read_foreign(path, project=PROJECT, anchor=ANCHOR, hints=HINTS)
    weights, left_out = found.split(NOT_FOR_DRAWING)
    if weights.has("d_proj_weight"):
        raise ValueError(
            f"{path} predicts depths for its encoding (RayRoPE, arXiv:2601.15275), which KoNet has no counterpart of"
        )
    ray_code = _settle_ray_code(weights, ray_code)
    if camera_encoding not in CAMERA_ENCODINGS:
        raise ValueError(
            "the weights do not tell how cameras were encoded: set camera_encoding= to the run's pos_enc, "
            f"{', '.join(CAMERA_ENCODINGS)} (geope is called prope there), got {camera_encoding}"
        )
    sizes = BLOCK.read_sizes(weights, num_heads=num_heads, heads_hint="the run's nhead; PRoPE's scripts have 16")
    config = sizes | {
        "patch_size": math.isqrt(weights.shape(TARGET, num_axes=2)[1] // CODE_CHANNELS),
        "camera_encoding": camera_encoding,
        "patch_encoding": "none" if camera_encoding == "none" else "rope2d",
        "ray_code": "unit_camray" if ray_code == "camray" else ray_code,
        "ray_size": list(weights.shape("shared_rays", num_axes=3)[:2]) if ray_code == "fixed" else None,
        "attention": "joint",
        "qk_norm_eps": 1e-5,
        "activation": "relu",
        "input_norm": True,
        "colour_range": "unit",
        "pose_normalization": pose_normalization,
    }
    weights.check(_expected_shapes(config))
    channels = RAY_CODES[ray_code]
    colour, ray = weights.tensors[ANCHOR].tensor_split([3 * config["patch_size"] ** 2], dim=1)
    state = BLOCK.rename(weights, config) | {
        "tokenizer.context.weight": torch.cat([colour, _pick(ray, channels)], dim=1),
        "tokenizer.target.weight": _pick(weights.tensors[TARGET], channels),
        "tokenizer.norm.weight": weights.tensors["encoder.in_norm.weight"],
        "head_norm.weight": weights.tensors["encoder.out_norm.weight"],
        "head.weight": weights.tensors["output_layer.weight"],
    }
    if ray_code == "fixed":
        state["tokenizer.fixed_rays"] = weights.tensors["shared_rays"]
    return Converted(model=build(config, state), left_out=left_out)


def _settle_ray_code(weights: ForeignTensors, ray_code: str | None) -> str:
    is_fixed = "shared_rays" in weights.tensors
    if ray_code is None and is_fixed:
        return "fixed"
    if ray_code not in RAY_CODES:
        raise ValueError(
            "the weights do not tell how rays were written into tokens: set ray_code= to the run's ray_encoding, "
            f"{', '.join(RAY_CODES)} (fixed is called none there), got {ray_code}"
        )
    if (ray_code == "fixed") != is_fixed:
        has = "has" if is_fixed else "lacks"
        raise ValueError(
            f"{weights.path} {has} shared_rays, the rays of ray_code=fixed, got ray_code={ray_code}; give the one that "
            "the run had"
        )
    return ray_code


def _expected_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    dim, area = config["dim"], config["patch_size"] ** 2
    shapes = BLOCK.shapes(config) | {
        ANCHOR: (dim, (3 + CODE_CHANNELS) * area),
        TARGET: (dim, CODE_CHANNELS * area),
        "encoder.in_norm.weight": (dim,),
        "encoder.out_norm.weight": (dim,),
        "output_layer.weight": (3 * area, dim),
    }
    if config["ray_size"] is not None:
        shapes["shared_rays"] = (*config["ray_size"], CODE_CHANNELS)
    return shapes


def _pick(weight: Tensor, channels: list[int]) -> Tensor:
    """The columns of some channels of every pixel, in their order."""
    return weight.unflatten(1, (-1, CODE_CHANNELS))[..., channels].flatten(1)
