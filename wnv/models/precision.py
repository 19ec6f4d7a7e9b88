"""Precision inside the network, the same on every device."""

from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override


class LayerNorm(nn.LayerNorm):
    """Layer norm without bias that reads and writes the type of its input.

    Autocast would run it in float32 on some devices, through copies of the whole input. Kernels compute means and
    variances in float32 whatever the type of the input.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, bias=False)

    @override
    def forward(self, input: Tensor) -> Tensor:
        with no_autocast(input.device.type):
            weight = self.weight.to(input.dtype)
            return functional.layer_norm(input, self.normalized_shape, weight, eps=self.eps)


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
        """Normalize to unit mean square, then multiply by the weight."""
        dtype = x.dtype
        wide = x.float() if dtype in (torch.bfloat16, torch.float16) else x
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (normed * self.weight).to(dtype)


def has_autocast(device_type: str) -> bool:
    """Whether a device has autocast; `meta` has none."""
    return torch.amp.is_autocast_available(device_type)


def no_autocast(device_type: str) -> AbstractContextManager:
    """Switch autocast off where the device has it."""
    return torch.autocast(device_type, enabled=False) if has_autocast(device_type) else nullcontext()
