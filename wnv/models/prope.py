"""Convert weights of PRoPE's view-synthesis code (arXiv:2507.10496) and its forks to a KoNet with the same images."""

from pathlib import Path

import torch
from torch import Tensor

from wnv.models.foreign_checkpoint import Converted, checkpoint_errors, read_renamed, read_sizes
from wnv.models.konet import KoNet

RENAMES = {
    "input_tokenizer.weight": "tokenizer.context.weight",
    "query_tokenizer.": "tokenizer.target.",
    "shared_rays": "tokenizer.fixed_rays",
    "encoder.in_norm.": "tokenizer.norm.",
    "encoder.out_norm.": "head_norm.",
    "output_layer.": "head.",
    "encoder.layers.": "transformer.blocks.",
    ".norm1.": ".attention_norm.",
    ".norm2.": ".mlp_norm.",
    ".self_attn.in_proj_weight": ".attention.qkv.weight",
    ".self_attn.out_proj.": ".attention.output.",
    ".self_attn.q_norm.": ".attention.query_norm.",
    ".self_attn.k_norm.": ".attention.key_norm.",
    ".linear1.": ".mlp.expand.",
    ".linear2.": ".mlp.contract.",
}
RAY_CODES = {  # the run's ray_encoding -> KoNet's channels among PRoPE's six per pixel
    "plucker": [3, 4, 5, 0, 1, 2],  # PRoPE puts the direction before the moment
    "raymap": [0, 1, 2, 3, 4, 5],
    "camray": [0, 1, 2],  # a ray through the origin has no moment
    "fixed": [0, 1, 2, 3, 4, 5],
}
CAMERA_ENCODINGS = ("prope", "geope", "gta", "none")


def convert_prope(
    path: str | Path,
    *,
    camera_encoding: str | None = None,
    ray_code: str | None = None,
    num_heads: int | None = None,
    pose_normalization: str = "first",
) -> Converted:
    """Convert a checkpoint of PRoPE's view-synthesis code.

    PRoPE uses joint attention with one target per sequence, colours in 0..1, normalised tokens, an eps of 1e-5 in
    qk-norm (if any) and ReLU. The file does not record the encodings of its run.

    Args:
        path: The checkpoint, see `read_renamed`.
        camera_encoding: The run's `pos_enc`: `prope` (the same as `geope`), `gta` or `none`. The first two imply the
            rotary encoding of patches.
        ray_code: The run's `ray_encoding`: `plucker`, `raymap`, `camray`, or `fixed`, which PRoPE calls `none` and the
            file does record.
        num_heads: Attention heads; only needed for weights without qk-norm. (PRoPE's scripts use 16.)
        pose_normalization: How the training placed its worlds: `first`, with the first camera at the origin and the
            other context camera at distance 1, as in the published code; `mean` in some early versions.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not such a checkpoint, or an encoding is missing.
    """
    path = Path(path)
    with checkpoint_errors(path, "PRoPE's view synthesis"):
        state, left_out = read_renamed(path, renames=RENAMES, ignored=("attention.coeffs_",))  # rotary tables
        if any(name.endswith("d_proj_weight") for name in state):
            raise ValueError("it predicts depths for its encoding (RayRoPE, arXiv:2601.15275), which KoNet does not")
        fixed_rays = state.get("tokenizer.fixed_rays")
        if ray_code is None and fixed_rays is not None:
            ray_code = "fixed"
        if ray_code not in RAY_CODES or (ray_code == "fixed") != (fixed_rays is not None):
            has = "has" if fixed_rays is not None else "has no"
            raise ValueError(
                f"ray_code must be the run's ray_encoding, one of {', '.join(RAY_CODES)} (fixed is called none there; "
                f"this file {has} shared_rays, the rays of fixed), got {ray_code}"
            )
        if camera_encoding not in CAMERA_ENCODINGS:
            choices = ", ".join(CAMERA_ENCODINGS)
            raise ValueError(f"camera_encoding must be the run's pos_enc, one of {choices}, got {camera_encoding}")
        config = read_sizes(state, num_heads=num_heads) | {
            "camera_encoding": camera_encoding,
            "patch_encoding": "none" if camera_encoding == "none" else "rope2d",
            "ray_code": "unit_camray" if ray_code == "camray" else ray_code,
            "ray_size": None if fixed_rays is None else list(fixed_rays.shape[:2]),
            "attention": "joint",
            "qk_norm_eps": 1e-5,
            "activation": "relu",
            "input_norm": True,
            "colour_range": "unit",
            "pose_normalization": pose_normalization,
        }
        colour, ray = state["tokenizer.context.weight"].tensor_split([3 * config["patch_size"] ** 2], dim=1)
        state["tokenizer.context.weight"] = torch.cat([colour, _select_channels(ray, RAY_CODES[ray_code])], dim=1)
        state["tokenizer.target.weight"] = _select_channels(state["tokenizer.target.weight"], RAY_CODES[ray_code])
        return Converted(model=KoNet.from_weights(config, state, source=path), left_out=left_out)


def _select_channels(weight: Tensor, channels: list[int]) -> Tensor:
    """Select columns by channel, in the order given, of a matrix over (pixel, 6 channels)."""
    return weight.unflatten(1, (-1, 6))[..., channels].flatten(1)
