"""Number formats: what `precision` means on each device."""

import torch
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from torch.amp import GradScaler
from torch.amp.grad_scaler import OptState
from torch.optim import Optimizer
from typing_extensions import override

# By Lightning's names, as configurations hold them.
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def make_precision(precision: str, device: torch.device) -> Precision:
    """Lightning's plugin for a number format, made for the device.

    Of the format's name alone Lightning makes a plugin for CUDA, which on an NPU trains in float32 without a word.
    float16 scales the loss, so that small gradients do not vanish, and lowers the scale where it overflows.

    Args:
        precision: `32-true`, `bf16-mixed` or `16-mixed`.
        device: Where the network is trained.

    Raises:
        ValueError: If there is no such format, or the device cannot train in it.
    """
    if precision not in PRECISIONS.values():
        raise ValueError(
            f"trainer.precision must be one of {', '.join(PRECISIONS.values())}, because cameras stay in float32 "
            f"whatever the matrix products do, got {precision}; set precision=fp32, precision=bf16 or precision=fp16"
        )
    if precision == "32-true":
        return Precision()
    if device.type == "cpu" and precision == "16-mixed":
        raise ValueError("precision=fp16 does not train on a CPU; set precision=bf16 or precision=fp32, or device=cuda")
    scaler = Float32GradScaler(device.type) if device.type == "npu" and precision == "16-mixed" else None
    # This very class, since the scaler's state stands in checkpoints under its name.
    return MixedPrecision(precision, device=device.type, scaler=scaler)


def low_dtype(precision: Precision) -> torch.dtype | None:
    """The format of the matrix products under a plugin; None where it is that of the weights."""
    return _DTYPES.get(precision.precision)


class Float32GradScaler(GradScaler):
    """torch's loss scaler, which inverts the scale in float64, for devices that have none.

    Scales are powers of two, as torch begins with one and halves or doubles it, so float32 inverts them exactly.
    """

    @override
    def unscale_(self, optimizer: Optimizer) -> None:
        self._check_scale_growth_tracker("unscale_")
        state = self._per_optimizer_states[id(optimizer)]
        if state["stage"] is not OptState.READY:
            raise RuntimeError("unscale_() is called once a step, after the backward pass and before step()")
        found_inf = torch.zeros((), dtype=torch.float32, device=self._scale.device)
        state["found_inf_per_device"] = self._unscale_grads_(optimizer, self._scale.reciprocal(), found_inf, False)
        state["stage"] = OptState.UNSCALED
