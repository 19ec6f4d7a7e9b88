"""The decoder-only transformer: one stack of blocks for context and target tokens."""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from wnv.models.attention import Attention, KeyValue
from wnv.models.camera_encoding import TokenMaps
from wnv.models.precision import LayerNorm

# `gelu_tanh` gives the same values on all devices; `gelu` is LVSM's, `relu` PRoPE's activation.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "gelu": functional.gelu,
    "relu": functional.relu,
}


class FeedForward(nn.Module):
    """MLP of two linear layers without biases."""

    def __init__(self, *, dim: int, mlp_dim: int, activation: str) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        self.activation = activation
        self.expand = nn.Linear(dim, mlp_dim, bias=False)
        self.contract = nn.Linear(mlp_dim, dim, bias=False)

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Output of the branch, before the residual addition."""
        return self.contract(ACTIVATIONS[self.activation](self.expand(x)))


class Modulation(nn.Module):
    """AdaLN-Zero (arXiv:2212.09748): shift, scale and gate of a block's two branches, initially zero."""

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 6 * dim)

    def forward(self, condition: Float[Tensor, "batch view dim"]) -> tuple[Float[Tensor, "batch view 1 dim"], ...]:
        """Shift, scale and gate of the attention branch, then of the MLP branch."""
        return self.linear(functional.silu(condition)).unsqueeze(-2).chunk(6, dim=-1)


class Block(nn.Module):
    """Pre-norm attention and MLP, for context and target tokens in one call.

    Args:
        dim: Features per token.
        num_heads: Attention heads.
        mlp_dim: Hidden features of the MLP.
        qk_norm: Normalise queries and keys.
        qk_norm_eps: The eps of these norms.
        activation: Of the MLP, one of `ACTIVATIONS`.
        adaln_zero: Modulate both branches by one condition vector per view.
    """

    def __init__(
        self,
        *,
        dim: int,
        num_heads: int,
        mlp_dim: int,
        qk_norm: bool,
        qk_norm_eps: float,
        activation: str,
        adaln_zero: bool,
    ) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(dim)
        self.attention = Attention(dim=dim, num_heads=num_heads, qk_norm=qk_norm, qk_norm_eps=qk_norm_eps)
        self.mlp_norm = LayerNorm(dim)
        self.mlp = FeedForward(dim=dim, mlp_dim=mlp_dim, activation=activation)
        self.modulation = Modulation(dim=dim) if adaln_zero else None

    def forward(
        self,
        context: Float[Tensor, "batch context context_token dim"] | None,
        target: Float[Tensor, "batch target target_token dim"] | None,
        cache: KeyValue | None,
        *,
        context_maps: TokenMaps | None = None,
        target_maps: TokenMaps | None = None,
        context_condition: Float[Tensor, "batch context dim"] | None = None,
        target_condition: Float[Tensor, "batch target dim"] | None = None,
        update_context: bool = True,
    ) -> tuple[
        Float[Tensor, "batch context context_token dim"] | None,
        Float[Tensor, "batch target target_token dim"] | None,
        KeyValue,
    ]:
        """Run context tokens, target tokens, or both through the block.

        Context tokens attend to all context tokens; tokens of a target view attend to the context and to their own
        view.

        Args:
            context: Context tokens; None to use `cache`.
            target: Target tokens; None to encode the context alone.
            cache: Keys and values of the context from an earlier call.
            context_maps: Camera maps of the context views.
            target_maps: Camera maps of the target views.
            context_condition: Condition per context view, with AdaLN-Zero.
            target_condition: Condition per target view, with AdaLN-Zero.
            update_context: False in the last layer, which only needs the context's keys and values.

        Returns:
            The context tokens (None if not updated), the target tokens, the context's keys and values.
        """
        if context is not None:
            assert context_maps is not None
            modulation = self._modulate(context_condition)
            normed = _shift_scale(self.attention_norm(context), modulation[:2])
            if update_context:
                attended, cache = self.attention.attend_all(normed, context_maps)
                context = self._rest(context, attended, modulation)
            else:
                cache = self.attention.project_key_value(normed, context_maps)
                context = None
        assert cache is not None, "either context or cache is given"
        if target is not None:
            assert target_maps is not None
            modulation = self._modulate(target_condition)
            normed = _shift_scale(self.attention_norm(target), modulation[:2])
            attended = self.attention.attend_views(normed, target_maps, cache)
            target = self._rest(target, attended, modulation)
        return context, target, cache

    def _rest(self, x: Tensor, attended: Tensor, modulation: tuple[Tensor | None, ...]) -> Tensor:
        """The rest of the block: both residual additions and the MLP."""
        _, _, attention_gate, shift, scale, mlp_gate = modulation
        x = x + (attended if attention_gate is None else attended * attention_gate)
        hidden = self.mlp(_shift_scale(self.mlp_norm(x), (shift, scale)))
        return x + (hidden if mlp_gate is None else hidden * mlp_gate)

    def _modulate(self, condition: Tensor | None) -> tuple[Tensor | None, ...]:
        return (None,) * 6 if self.modulation is None else self.modulation(condition)


class Transformer(nn.Module):
    """A stack of blocks.

    Args:
        num_layers: Number of blocks.
        activation_checkpointing: Recompute each block's activations in the backward pass instead of storing them.
        **options: Arguments of `Block`.
    """

    def __init__(self, *, num_layers: int, activation_checkpointing: bool, **options: Any) -> None:
        super().__init__()
        self.activation_checkpointing = activation_checkpointing
        self.blocks = nn.ModuleList(Block(**options) for _ in range(num_layers))

    def initialize_linears(self) -> None:
        """Sample weights with std 0.02 / sqrt(2 (layer + 1)) (LVSM, arXiv:2410.17242); zero the modulations."""
        for layer, block in enumerate(self.blocks):
            for module in block.modules():
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=0.02 / math.sqrt(2 * (layer + 1)))
            if isinstance(block.modulation, Modulation):
                nn.init.zeros_(block.modulation.linear.weight)
                nn.init.zeros_(block.modulation.linear.bias)

    def forward(
        self,
        context: Float[Tensor, "batch context context_token dim"] | None,
        target: Float[Tensor, "batch target target_token dim"] | None,
        caches: list[KeyValue] | None = None,
        *,
        keep_context: bool = False,
        **views: Any,
    ) -> tuple[Tensor | None, Tensor | None, list[KeyValue]]:
        """Run tokens through all blocks.

        Args:
            context: Context tokens, or None with `caches`.
            target: Target tokens, or None.
            caches: Keys and values per layer, from an earlier call.
            keep_context: Also compute and return the context tokens of the last layer.
            **views: Camera maps and conditions, see `Block.forward`.

        Returns:
            Context tokens (None unless kept), target tokens (None without targets), keys and values per layer.
        """
        made = []
        for layer, block in enumerate(self.blocks):
            arguments = (context, target, None if caches is None else caches[layer])
            options = dict(views, update_context=keep_context or layer + 1 < len(self.blocks))
            if self.activation_checkpointing and torch.is_grad_enabled():
                context, target, cache = checkpoint(block, *arguments, use_reentrant=False, **options)
            else:
                context, target, cache = block(*arguments, **options)
            made.append(cache)
        return context, target, made


def _shift_scale(x: Tensor, modulation: tuple[Tensor | None, ...]) -> Tensor:
    shift, scale = modulation
    return x if shift is None or scale is None else torch.addcmul(shift, x, 1 + scale)
