"""Multi-head attention with cacheable keys and values of the context."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from wnv.models.camera_encoding import TokenMaps
from wnv.models.flash_attention import flash_attention, flash_attention_backward, has_flash_attention
from wnv.models.precision import HeadNorm


class KeyValue(NamedTuple):
    """Keys and values of all context tokens in one layer, with their camera maps applied."""

    key: Float[Tensor, "batch head token dim"]
    value: Float[Tensor, "batch head token dim"]


class Attention(nn.Module):
    """Attention with a camera encoding, without biases.

    Args:
        dim: Features per token.
        num_heads: Heads; divides `dim`.
        qk_norm: Normalize queries and keys per head, before the camera maps.
        qk_norm_eps: The eps of these norms.
    """

    def __init__(self, *, dim: int, num_heads: int, qk_norm: bool, qk_norm_eps: float = 1e-6) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)
        self.query_norm = HeadNorm(dim=dim // num_heads, eps=qk_norm_eps) if qk_norm else None
        self.key_norm = HeadNorm(dim=dim // num_heads, eps=qk_norm_eps) if qk_norm else None

    def project_key_value(self, tokens: Float[Tensor, "batch view token dim"], maps: TokenMaps) -> KeyValue:
        """Compute keys and values of all tokens of all views, valid for queries from any camera."""
        key, value = self._project(tokens, self.key, self.value)
        return self._map_key_value(key, value, maps)

    def attend_all(
        self, tokens: Float[Tensor, "batch view token dim"], maps: TokenMaps
    ) -> tuple[Float[Tensor, "batch view token dim"], KeyValue]:
        """Attend from every token to all tokens; also return the keys and values."""
        query, key, value = self._project(tokens, self.query, self.key, self.value)
        key_value = self._map_key_value(key, value, maps)
        query = maps.map_query(query, self.query_norm)
        attended = functional.scaled_dot_product_attention(_sequence(query), key_value.key, key_value.value)
        attended = attended.transpose(1, 2).reshape(query.shape)
        return self.output(maps.map_output(attended).flatten(-2)), key_value

    def attend_views(
        self, tokens: Float[Tensor, "batch view token dim"], maps: TokenMaps, context: KeyValue
    ) -> Float[Tensor, "batch view token dim"]:
        """Attend from every token to the context and to its own view, but not to other target views."""
        query, key, value = self._project(tokens, self.query, self.key, self.value)
        attended = attend_context_and_own(
            maps.map_query(query, self.query_norm),
            maps.map_key_value(key, self.key_norm),
            maps.map_key_value(value),
            context,
        )
        return self.output(maps.map_output(attended).flatten(-2))

    def _project(
        self, tokens: Float[Tensor, "batch view token dim"], *layers: nn.Linear
    ) -> tuple[Float[Tensor, "batch view token head head_dim"], ...]:
        """Apply several layers as one product, which reads the tokens once."""
        is_eager_cpu = tokens.device.type == "cpu" and not torch.compiler.is_compiling()  # joining would cost more
        # Layers that somebody has replaced or extended (LoRA, quantization) are called as they are.
        if is_eager_cpu or any(type(layer) is not nn.Linear for layer in layers):
            return tuple(layer(tokens).unflatten(-1, (self.num_heads, -1)) for layer in layers)
        weight = torch.cat([layer.weight for layer in layers])
        heads = functional.linear(tokens, weight).unflatten(-1, (len(layers), self.num_heads, -1))
        return heads.unbind(-3)

    def _map_key_value(self, key: Tensor, value: Tensor, maps: TokenMaps) -> KeyValue:
        key, value = maps.map_key_value(key, self.key_norm), maps.map_key_value(value)
        return KeyValue(key=_sequence(key), value=_sequence(value))


def attend_context_and_own(
    query: Float[Tensor, "batch view token head dim"],
    key: Float[Tensor, "batch view token head dim"],
    value: Float[Tensor, "batch view token head dim"],
    context: KeyValue,
) -> Float[Tensor, "batch view token head dim"]:
    """Attend from every token to the context and to the keys and values of its own view."""
    if has_flash_attention(query):
        return _ContextAndOwn.apply(query, key, value, *context)
    attended = functional.scaled_dot_product_attention(
        _per_view(query), _append(context.key, key), _append(context.value, value)
    )
    return attended.transpose(1, 2).unflatten(0, query.shape[:2])


class _ContextAndOwn(torch.autograd.Function):
    """Attention to the context and to the own view, without a copy of the context's keys and values per view.

    Attention to each of the two is computed separately; the logarithms of the softmax sums say how to add them. The
    backward pass of each, given the sum of both, computes its probabilities within the whole (FlashAttention,
    arXiv:2205.14135).
    """

    @override
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, context_key: Tensor, context_value: Tensor
    ) -> Tensor:
        from_context, context_sum = flash_attention(_sequence(query), context_key, context_value)
        own, own_sum = flash_attention(_per_view(query), _per_view(key), _per_view(value))
        shape = query.shape[:-1]
        context_sum, own_sum = (part.transpose(1, 2).reshape(shape) for part in (context_sum, own_sum))
        log_sum = torch.logaddexp(context_sum, own_sum)
        weight = (context_sum - log_sum).exp().unsqueeze(-1)
        own, from_context = (part.transpose(1, 2).reshape(query.shape).to(weight.dtype) for part in (own, from_context))
        attended = own.lerp(from_context, weight).to(query.dtype)
        ctx.save_for_backward(query, key, value, context_key, context_value, attended, log_sum)
        return attended

    @override
    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        query, key, value, context_key, context_value, attended, log_sum = ctx.saved_tensors
        gradient = gradients[0]
        context_query_gradient, *context_gradients = flash_attention_backward(
            *(_sequence(gradient), _sequence(query), context_key, context_value, _sequence(attended)),
            log_sum.flatten(1, 2).transpose(1, 2),
        )
        own_gradients = flash_attention_backward(
            *(_per_view(gradient), _per_view(query), _per_view(key), _per_view(value), _per_view(attended)),
            log_sum.flatten(0, 1).transpose(1, 2),
        )
        query_gradient, *own_gradients = (part.transpose(1, 2).reshape(query.shape) for part in own_gradients)
        query_gradient = query_gradient + context_query_gradient.transpose(1, 2).reshape(query.shape)
        return query_gradient, *own_gradients, *context_gradients


def _sequence(x: Float[Tensor, "batch view token head dim"]) -> Float[Tensor, "batch head sequence dim"]:
    return x.flatten(1, 2).transpose(1, 2)


def _per_view(x: Float[Tensor, "batch view token head dim"]) -> Float[Tensor, "batch_view head token dim"]:
    return x.flatten(0, 1).transpose(1, 2)


def _append(
    context: Float[Tensor, "batch head context dim"], own: Float[Tensor, "batch view token head dim"]
) -> Float[Tensor, "batch_view head sequence dim"]:
    """Concatenate the context's keys (or values) with those of each view."""
    own = own.transpose(2, 3)
    context = context[:, None].expand(-1, own.shape[1], -1, -1, -1)
    return torch.cat([context, own], dim=-2).flatten(0, 1)
