"""LVSM's decoder-only weights (arXiv:2410.17242) as a KoNet that draws the same images."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wnv.models.foreign_checkpoint import BlockNames, Converted, build, read_foreign

PROJECT = "LVSM decoder-only"
ANCHOR = "image_tokenizer.1.weight"
TARGET = "target_pose_tokenizer.1.weight"
CODE_CHANNELS = 6  # moment and direction of a ray
BLOCK = BlockNames(
    prefix="transformer_blocks.",
    attention_norm="norm1.weight",
    qkv="attn.to_qkv.weight",
    output="attn.fc.weight",
    query_norm="attn.q_norm.weight",
    key_norm="attn.k_norm.weight",
    mlp_norm="norm2.weight",
    expand="mlp.mlp.0.weight",
    contract="mlp.mlp.2.weight",
)
HINTS = {
    "query_tokenizer": "its names are those of PRoPE's code; set from=prope",
    "tokenizer.context": "its names are KoNet's own; set weights= instead of from=",
}
# The perceptual loss is saved with the model.
NOT_FOR_DRAWING = ("loss_computer.",)


def convert_lvsm(path: str | Path, *, num_heads: int | None = None) -> Converted:
    """Turn a published decoder-only checkpoint into a KoNet.

    In LVSM everything attends to everything, with one target a sequence; tokens are normalised before the first block,
    queries and keys with eps 1e-5; the feed-forwards have the exact GELU. Its patches hold all channels of a pixel
    together, colour before ray, where KoNet's tokens hold the colours of all pixels before the rays of all.

    Args:
        path: The checkpoint, see `read_foreign`.
        num_heads: Attention heads; needed only without qk-norm, whose weights tell.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not such a checkpoint, with the names that are missing or too much.
    """
    found = read_foreign(path, project=PROJECT, anchor=ANCHOR, hints=HINTS)
    weights, left_out = found.split(NOT_FOR_DRAWING)
    if weights.has("n_light_field_latent"):
        raise ValueError(
            f"{path} is not a checkpoint of {PROJECT} but of LVSM's encoder-decoder, which is another network; take a "
            "decoder-only checkpoint"
        )
    sizes = BLOCK.read_sizes(weights, num_heads=num_heads, heads_hint="LVSM's heads have 64 features")
    config = sizes | {
        "patch_size": math.isqrt(weights.shape(TARGET, num_axes=2)[1] // CODE_CHANNELS),
        "camera_encoding": "none",
        "patch_encoding": "none",
        "ray_code": "plucker",
        "attention": "joint",
        "qk_norm_eps": 1e-5,
        "activation": "gelu",
        "input_norm": True,
    }
    weights.check(_expected_shapes(config))
    state = BLOCK.rename(weights, config) | {
        "tokenizer.context.weight": _colours_first(weights.tensors[ANCHOR]),
        "tokenizer.target.weight": weights.tensors[TARGET],
        "tokenizer.norm.weight": weights.tensors["transformer_input_layernorm.weight"],
        "head_norm.weight": weights.tensors["image_token_decoder.0.weight"],
        "head.weight": weights.tensors["image_token_decoder.1.weight"],
    }
    return Converted(model=build(config, state), left_out=left_out)


def _expected_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    dim, area = config["dim"], config["patch_size"] ** 2
    return BLOCK.shapes(config) | {
        ANCHOR: (dim, (3 + CODE_CHANNELS) * area),
        TARGET: (dim, CODE_CHANNELS * area),
        "transformer_input_layernorm.weight": (dim,),
        "image_token_decoder.0.weight": (dim,),
        "image_token_decoder.1.weight": (3 * area, dim),
    }


def _colours_first(weight: Tensor) -> Tensor:
    """Columns in the order (pixel, colour and ray) as (pixel, colour) followed by (pixel, ray)."""
    colour, ray = weight.unflatten(1, (-1, 3 + CODE_CHANNELS)).split([3, CODE_CHANNELS], dim=-1)
    return torch.cat([colour.flatten(1), ray.flatten(1)], dim=1)
