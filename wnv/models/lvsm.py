"""Convert LVSM's decoder-only weights (arXiv:2410.17242) to a KoNet that renders the same images."""

from pathlib import Path

import torch

from wnv.models.foreign_checkpoint import Converted, checkpoint_errors, read_renamed, read_sizes
from wnv.models.konet import KoNet

RAY_CHANNELS = 6  # moment and direction
RENAMES = {
    "image_tokenizer.1.weight": "tokenizer.context.weight",
    "target_pose_tokenizer.1.": "tokenizer.target.",
    "transformer_input_layernorm.": "tokenizer.norm.",
    "image_token_decoder.0.": "head_norm.",
    "image_token_decoder.1.": "head.",
    "transformer_blocks.": "transformer.blocks.",
    ".norm1.": ".attention_norm.",
    ".norm2.": ".mlp_norm.",
    ".attn.to_qkv.": ".attention.qkv.",
    ".attn.fc.": ".attention.output.",
    ".attn.q_norm.": ".attention.query_norm.",
    ".attn.k_norm.": ".attention.key_norm.",
    ".mlp.mlp.0.": ".mlp.expand.",
    ".mlp.mlp.2.": ".mlp.contract.",
}


def convert_lvsm(path: str | Path, *, num_heads: int | None = None) -> Converted:
    """Convert a published decoder-only checkpoint.

    LVSM uses joint attention with one target per sequence, normalised tokens, an eps of 1e-5 in qk-norm and the exact
    GELU. Its patches interleave colour and ray per pixel; KoNet's tokens hold all colours before all rays.

    Args:
        path: The checkpoint, see `read_renamed`.
        num_heads: Attention heads; only needed for weights without qk-norm. (LVSM's heads have 64 features.)

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not such a checkpoint.
    """
    path = Path(path)
    with checkpoint_errors(path, "LVSM decoder-only"):
        state, left_out = read_renamed(path, renames=RENAMES, ignored=("loss_computer.",))
        if "n_light_field_latent" in state:
            raise ValueError("it is LVSM's encoder-decoder, a different network; use a decoder-only checkpoint")
        config = read_sizes(state, num_heads=num_heads) | {
            "camera_encoding": "none",
            "patch_encoding": "none",
            "ray_code": "plucker",
            "attention": "joint",
            "qk_norm_eps": 1e-5,
            "activation": "gelu",
            "input_norm": True,
        }
        pixels = state["tokenizer.context.weight"].unflatten(1, (-1, 3 + RAY_CHANNELS))
        colour, ray = pixels.split([3, RAY_CHANNELS], dim=-1)
        state["tokenizer.context.weight"] = torch.cat([colour.flatten(1), ray.flatten(1)], dim=1)
        return Converted(model=KoNet.from_weights(config, state, source=path), left_out=left_out)
