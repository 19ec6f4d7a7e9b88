"""Precision plugins for every device."""

import logging
import platform
from contextlib import AbstractContextManager

import torch
import torch.distributed as dist
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.amp.grad_scaler import OptState
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from typing_extensions import override

log = logging.getLogger(__name__)

# Keyed by Lightning's names, which configurations use.
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed", "bf16_true": "bf16-true"}
AUTO = "auto"
_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16, "bf16-true": torch.bfloat16}


def make_precision(precision: str, device: torch.device) -> Precision:
    """Build Lightning's precision plugin for a device.

    Given only a name, Lightning builds a CUDA plugin, which silently trains in float32 on an NPU. `16-mixed` scales the
    loss, so that small gradients do not underflow.

    Args:
        precision: `32-true`, `bf16-mixed`, `16-mixed`, `bf16-true`, or `auto`: `bf16-mixed` where the device has
            instructions for it, else `32-true`.
        device: Device to train on.

    Raises:
        ValueError: If there is no such precision, or the device does not support it.
    """
    has_bf16 = has_bf16_instructions(device)
    if precision == AUTO:
        precision = "bf16-mixed" if has_bf16 else "32-true"
    if precision in ("bf16-mixed", "bf16-true") and device.type == "cpu" and not has_bf16:
        log.warning(
            "precision=bf16 is emulated on this processor, which has no bf16 instructions: steps take about nine times "
            "as long as with precision=fp32; set precision=fp32, or precision=auto"
        )
    if precision not in PRECISIONS.values():
        raise ValueError(
            f"trainer.precision must be one of {', '.join(PRECISIONS.values())}, got {precision}; set precision="
            f"{', precision='.join(list(PRECISIONS)[:-1])} or precision={list(PRECISIONS)[-1]}"
        )
    if precision == "32-true":
        return Precision()
    if precision == "bf16-true":
        return BFloat16Precision(device)
    if device.type == "cpu" and precision == "16-mixed":
        raise ValueError("precision=fp16 is not supported on a CPU; set precision=bf16, precision=fp32 or device=cuda")
    scaler = AgreedGradScaler(device.type) if precision == "16-mixed" else None
    # No subclass, because checkpoints store the scaler's state under the class's name.
    return MixedPrecision("16-mixed" if precision == "16-mixed" else "bf16-mixed", device=device.type, scaler=scaler)


def has_bf16_instructions(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 itself, rather than converting to float32 and back."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return True
    if platform.machine().lower() in ("x86_64", "amd64"):
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def low_dtype(precision: Precision) -> torch.dtype | None:
    """Return the dtype of matrix products under a plugin; None if it is that of the weights."""
    return _DTYPES.get(precision.precision)


class BFloat16Precision(Precision):
    """Weights, gradients and optimiser state in bfloat16: half the memory of `bf16-mixed`.

    Activations are as in `bf16-mixed`; cameras, their maps, frozen networks and an average of the weights stay in
    float32. (Lightning's plugin would round cameras to 3 digits.) It costs accuracy: with 8 bits of mantissa, updates
    smaller than about 1/256 of their weight are lost, which are most of them once the learning rate is small.

    Args:
        device: Device to train on.
    """

    precision = "bf16-true"

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @override
    def convert_module(self, module: nn.Module) -> nn.Module:
        """Round trainable parameters to bfloat16, in place."""
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16)
        return module

    @override
    def forward_context(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


class AgreedGradScaler(GradScaler):
    """Loss scaler for sharded gradients and for devices without float64.

    If one process finds a non-finite gradient, all processes skip the step. Scales are powers of two (torch starts with
    one and halves or doubles it), so float32 inverts them exactly.
    """

    @override
    def unscale_(self, optimizer: Optimizer) -> None:
        self._check_scale_growth_tracker("unscale_")
        state = self._per_optimizer_states[id(optimizer)]
        assert self._scale is not None, "unscale_() follows scale()"
        if state["stage"] is not OptState.READY:
            raise RuntimeError("unscale_() must be called once per step, after the backward pass and before step()")
        parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        by_kind: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for gradient in gradients:
            local = gradient.to_local() if isinstance(gradient, DTensor) else gradient
            by_kind.setdefault((local.device, local.dtype), []).append(local)
        found_inf = torch.zeros((), dtype=torch.float32, device=self._scale.device)
        inverse = self._scale.reciprocal()
        for (device, _), alike in by_kind.items():  # on the CPU with cpu_offload; a process may have none
            found = torch.zeros((), dtype=torch.float32, device=device)
            torch._amp_foreach_non_finite_check_and_unscale_(alike, found, inverse.to(device))
            found_inf = torch.maximum(found_inf, found.to(found_inf.device))
        if dist.is_initialized():
            dist.all_reduce(found_inf, op=dist.ReduceOp.MAX)
        state["found_inf_per_device"] = {found_inf.device: found_inf}
        state["stage"] = OptState.UNSCALED
