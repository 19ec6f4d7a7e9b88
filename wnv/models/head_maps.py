"""RMS norm and linear maps of the features of attention heads, as one operation with its own backward pass.

As separate operations they would dominate a training step on an accelerator: they copy queries, keys and values in
float32 many times and save most copies for the backward pass. Here the backward pass recomputes them from the input.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

Gradients = tuple[Tensor | None, ...]


def norm_and_map(
    x: Float[Tensor, "batch view token head dim"],
    *,
    weight: Float[Tensor, " dim"] | None,
    eps: float,
    matrix: Float[Tensor, "batch view 4 4"] | None,
    cos: Float[Tensor, "token 1 half"] | None,
    sin: Float[Tensor, "token 1 half"] | None,
    swap: Float[Tensor, "half half"] | None,
) -> Float[Tensor, "batch view token head dim"]:
    """Normalize each head, then multiply half of its features by a matrix and rotate the other half.

    Computed in float32 at least; the result has the type of `x`. The maps get no gradient.

    Args:
        x: Features of all heads.
        weight: Weight of the norm; None to leave it out.
        eps: The eps of the norm.
        matrix: Multiplies rows of four features of the first half from the right; None to leave it out.
        cos: Cosine per feature of the second half; None to leave the rotation out.
        sin: Signed sine per feature of the second half.
        swap: Permutation that exchanges the features of each pair of the second half.
    """
    return _NormAndMap.apply(x, weight, eps, matrix, cos, sin, swap)


class _NormAndMap(torch.autograd.Function):
    @override
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        eps: float,
        matrix: Tensor | None,
        cos: Tensor | None,
        sin: Tensor | None,
        swap: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, matrix, cos, sin, swap)
        ctx.eps = eps
        wide = _widen(x)
        if weight is not None:
            wide = wide * _scale(wide, eps) * weight
        return _map(wide, matrix, cos, sin, swap).to(x.dtype)

    @override
    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Gradients:
        x, weight, matrix, cos, sin, swap = ctx.saved_tensors
        transposed = None if matrix is None else matrix.transpose(-1, -2)
        gradient = _map(_widen(gradients[0]), transposed, cos, None if sin is None else -sin, swap)
        weight_gradient = None
        if weight is not None:
            wide = _widen(x)
            scale = _scale(wide, ctx.eps)
            normed = wide * scale
            weight_gradient = (gradient * normed).flatten(0, -2).sum(0)
            gradient = gradient * weight
            gradient = scale * (gradient - normed * (gradient * normed).mean(-1, keepdim=True))
        return gradient.to(x.dtype), weight_gradient, None, None, None, None, None


def _widen(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _scale(x: Tensor, eps: float) -> Tensor:
    return torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def _map(x: Tensor, matrix: Tensor | None, cos: Tensor | None, sin: Tensor | None, swap: Tensor | None) -> Tensor:
    """Map both halves. A compiler fuses sums of products; without one, matrix products take the fewest passes."""
    fuse = torch.compiler.is_compiling()
    camera, place = x.chunk(2, dim=-1)
    if matrix is not None:
        if fuse:
            camera = (camera.unflatten(-1, (-1, 4, 1)) * matrix[:, :, None, None, None]).sum(-2).flatten(-2)
        else:
            camera = (camera.reshape(*camera.shape[:2], -1, 4) @ matrix).view(camera.shape)
    if cos is not None and sin is not None and swap is not None:
        if fuse:
            place = place * cos + place.unflatten(-1, (2, 2, -1)).flip(-2).flatten(-3) * sin
        else:
            place = torch.addcmul(place * cos, place @ swap, sin)
    if fuse:
        half = camera.shape[-1]
        return functional.pad(camera, (0, half)) + functional.pad(place, (half, 0))
    return torch.cat([camera, place], dim=-1)
