"""Number formats: what `precision` means on each device."""

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

# By Lightning's names, as configurations hold them.
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed", "bf16_true": "bf16-true"}
_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16, "bf16-true": torch.bfloat16}


def make_precision(precision: str, device: torch.device) -> Precision:
    """Lightning's plugin for a number format, made for the device.

    Of the format's name alone Lightning makes a plugin for CUDA, which on an NPU trains in float32 without a word.
    float16 scales the loss, so that small gradients do not vanish, and lowers the scale where it overflows.

    Args:
        precision: `32-true`, `bf16-mixed`, `16-mixed` or `bf16-true`.
        device: Where the network is trained.

    Raises:
        ValueError: If there is no such format, or the device cannot train in it.
    """
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
        raise ValueError("precision=fp16 does not train on a CPU; set precision=bf16 or precision=fp32, or device=cuda")
    scaler = AgreedGradScaler(device.type) if precision == "16-mixed" else None
    # This very class, since the scaler's state stands in checkpoints under its name.
    return MixedPrecision("16-mixed" if precision == "16-mixed" else "bf16-mixed", device=device.type, scaler=scaler)


def low_dtype(precision: Precision) -> torch.dtype | None:
    """The format of the matrix products under a plugin; None where it is that of the weights."""
    return _DTYPES.get(precision.precision)


class BFloat16Precision(Precision):
    """Weights, gradients and the optimiser's state in bfloat16: half the memory of `bf16-mixed` for all of them.

    Activations are those of `bf16-mixed`, and cameras, their maps, networks that are not trained and an average of the
    weights stay in float32. (Lightning's own would round the cameras, to 3 digits.) It costs accuracy: bfloat16 has 8
    bits of mantissa, so that an update of less than about 1/256 of its weight is lost. That is most of them when the
    learning rate has become small.

    Args:
        device: Where the network is trained.
    """

    precision = "bf16-true"

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @override
    def convert_module(self, module: nn.Module) -> nn.Module:
        """Round what is trained to bfloat16, in place."""
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16)
        return module

    @override
    def forward_context(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


class AgreedGradScaler(GradScaler):
    """torch's loss scaler, where each process may hold a slice of the gradient, on devices without float64 as well.

    A step is passed over by all processes where one of them finds a number that is not finite. Scales are powers of
    two, as torch begins with one and halves or doubles it, so float32 inverts them exactly.
    """

    @override
    def unscale_(self, optimizer: Optimizer) -> None:
        self._check_scale_growth_tracker("unscale_")
        state = self._per_optimizer_states[id(optimizer)]
        assert self._scale is not None, "unscale_() follows scale()"
        if state["stage"] is not OptState.READY:
            raise RuntimeError("unscale_() is called once a step, after the backward pass and before step()")
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
