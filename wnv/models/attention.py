"""Multi-head attention with cacheable keys and values of the context."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from wnv.models.camera_encoding import TokenMaps


class KeyValue(NamedTuple):
    """Keys and values of all context tokens in one layer, with their camera maps applied."""

    key: Float[Tensor, "batch head token dim"]
    value: Float[Tensor, "batch head token dim"]


class HeadNorm(nn.Module):
    """RMS norm over the features of a head, always computed in float32.

    (Autocast runs `rms_norm` in float32 on some devices only.)
    """

    def __init__(self, *, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def reset_parameters(self) -> None:
        """Set the weight to one."""
        nn.init.ones_(self.weight)

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Normalise to unit mean square, then multiply by the weight."""
        dtype = x.dtype
        wide = x.float() if dtype in (torch.bfloat16, torch.float16) else x
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (normed * self.weight).to(dtype)


class Attention(nn.Module):
    """Attention with a camera encoding, without biases.

    Args:
        dim: Features per token.
        num_heads: Heads; divides `dim`.
        qk_norm: Normalise queries and keys per head, before the camera maps.
        qk_norm_eps: The eps of these norms.
    """

    def __init__(self, *, dim: int, num_heads: int, qk_norm: bool, qk_norm_eps: float = 1e-6) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)
        self.query_norm = HeadNorm(dim=dim // num_heads, eps=qk_norm_eps) if qk_norm else nn.Identity()
        self.key_norm = HeadNorm(dim=dim // num_heads, eps=qk_norm_eps) if qk_norm else nn.Identity()

    def project_key_value(self, tokens: Float[Tensor, "batch view token dim"], maps: TokenMaps) -> KeyValue:
        """Compute keys and values of all tokens of all views, valid for queries from any camera."""
        key = maps.map_key_value(self.key_norm(self._heads(self.key(tokens))))
        value = maps.map_key_value(self._heads(self.value(tokens)))
        return KeyValue(key=_sequence(key), value=_sequence(value))

    def attend_all(
        self, tokens: Float[Tensor, "batch view token dim"], maps: TokenMaps, key_value: KeyValue
    ) -> Float[Tensor, "batch view token dim"]:
        """Attend from every token to all of `key_value`."""
        query = maps.map_query(self.query_norm(self._heads(self.query(tokens))))
        attended = functional.scaled_dot_product_attention(_sequence(query), key_value.key, key_value.value)
        attended = attended.transpose(1, 2).reshape(query.shape)
        return self.output(maps.map_output(attended).flatten(-2))

    def attend_views(
        self, tokens: Float[Tensor, "batch view token dim"], maps: TokenMaps, context: KeyValue
    ) -> Float[Tensor, "batch view token dim"]:
        """Attend from every token to the context and to its own view, but not to other target views."""
        batch, num_views = tokens.shape[:2]
        query = maps.map_query(self.query_norm(self._heads(self.query(tokens))))
        own_key = maps.map_key_value(self.key_norm(self._heads(self.key(tokens))))
        own_value = maps.map_key_value(self._heads(self.value(tokens)))
        attended = functional.scaled_dot_product_attention(
            query.flatten(0, 1).transpose(1, 2),
            _append(context.key, own_key),
            _append(context.value, own_value),
        )
        attended = attended.transpose(1, 2).unflatten(0, (batch, num_views))
        return self.output(maps.map_output(attended).flatten(-2))

    def _heads(self, x: Float[Tensor, "batch view token dim"]) -> Float[Tensor, "batch view token head head_dim"]:
        return x.unflatten(-1, (self.num_heads, -1))


def _sequence(x: Float[Tensor, "batch view token head dim"]) -> Float[Tensor, "batch head sequence dim"]:
    return x.flatten(1, 2).transpose(1, 2)


def _append(
    context: Float[Tensor, "batch head context dim"], own: Float[Tensor, "batch view token head dim"]
) -> Float[Tensor, "batch_view head sequence dim"]:
    """Concatenate the context's keys (or values) with those of each view."""
    own = own.transpose(2, 3)
    context = context[:, None].expand(-1, own.shape[1], -1, -1, -1)
    return torch.cat([context, own], dim=-2).flatten(0, 1)
