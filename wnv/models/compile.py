"""Compilation of the network by `torch.compile`."""

from typing import Any

import torch
import torch._functorch.config
from torch import nn
from torch.utils._triton import has_triton

COMPILE_MODES = ("auto", "off", "blocks", "model")

# Inductor stores a pointwise result that reads many values, by default more than 8. The maps of heads read four
# features and four entries of a matrix per feature; stored in float32, their results would cost more than they do.
COMPILER_OPTIONS: dict[str, Any] = {
    "realize_acc_reads_threshold": 100,
    "realize_reads_threshold": 16,
    "realize_opcount_threshold": 200,
}


def compile_network(model: nn.Module, mode: str, *, device_type: str) -> None:
    """Compile a network in place, before it is wrapped or sharded.

    Args:
        model: The network.
        mode: One of `COMPILE_MODES`. A model without transformer blocks is compiled as a whole for `blocks`.
        device_type: Where it runs; `auto` compiles on CUDA only.
    """
    if mode == "auto":
        mode = "blocks" if device_type == "cuda" and has_triton() else "off"
    transformer = getattr(model, "transformer", None)
    if mode == "off":
        return
    if mode == "blocks" and transformer is not None:
        compile_blocks(transformer.blocks, options=COMPILER_OPTIONS)
    else:
        model.compile()


def compile_blocks(blocks: nn.ModuleList, **options: Any) -> None:
    """Compile each block; layers with the same arguments share one compilation.

    The hooks of a block (FSDP's, for example) stay outside.

    Args:
        blocks: Blocks of a transformer.
        **options: Of `torch.compile`.
    """
    # Recompute activations in the backward pass even where a matrix product reads them: memory for a little traffic.
    torch._functorch.config.ban_recompute_materialized_backward = False
    for block in blocks:
        block.forward = torch.compile(block.forward, fullgraph=True, dynamic=False, **options)
