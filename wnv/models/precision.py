"""Precision inside the network, the same on every device."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from typing_extensions import override


class LayerNorm(nn.LayerNorm):
    """Layer norm without bias that returns the type of its input; under autocast only some devices do so."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, bias=False)

    @override
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).to(input.dtype)


def has_autocast(device_type: str) -> bool:
    """Whether a device has autocast; `meta` has none."""
    return torch.amp.is_autocast_available(device_type)


def no_autocast(device_type: str) -> AbstractContextManager:
    """Switch autocast off where the device has it."""
    return torch.autocast(device_type, enabled=False) if has_autocast(device_type) else nullcontext()
