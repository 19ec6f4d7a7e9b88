"""Optimisers with weight decay on matrices only, and schedules of the learning rate."""

import functools
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from wnv.training.muon import Muon
from wnv.training.parts import transformer_blocks

log = logging.getLogger(__name__)

SCHEDULES = ("cosine", "wsd")
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adamw": AdamW, "muon": Muon}


def make_optimizer(
    optimizer: str | Callable[..., Optimizer],
    model: nn.Module,
    *,
    lr: float | None = None,
    betas: Sequence[float] | None = None,
    weight_decay: float | int | None = None,
    fused: bool = False,
) -> Optimizer:
    """Build an optimiser over the model's trainable parameters.

    Args:
        optimizer: `adamw`, `muon`, or a callable that takes parameter groups: an optimiser's class, or a
            `functools.partial` of one, whose own arguments take precedence.
        model: The network.
        lr: Peak learning rate. This and the next two are passed to the optimiser unless None.
        betas: Decay rates of the running means of the gradient and of its square.
        weight_decay: Decay of parameters with two or more axes; the others never decay.
        fused: Make AdamW update all parameters of a group in one kernel.

    Raises:
        TypeError: If the optimiser does not take these arguments.
    """
    factory = OPTIMIZERS[optimizer] if isinstance(optimizer, str) else optimizer
    kind, own = getattr(factory, "func", factory), getattr(factory, "keywords", {})
    options: dict[str, Any] = {"lr": lr, "betas": None if betas is None else tuple(betas), "weight_decay": weight_decay}
    if fused and kind is AdamW and "foreach" not in own:
        options["fused"] = True
    options = {name: value for name, value in options.items() if value is not None and name not in own}
    groups = parameter_groups(model, separate_blocks=getattr(kind, "separate_blocks", False))
    try:
        return factory(groups, **options)
    except TypeError as error:
        raise TypeError(
            f"optim.optimizer {kind.__name__}: {error}; it is called with {', '.join(options)} (set optim.NAME=null to "
            "leave one out)"
        ) from error


def parameter_groups(model: nn.Module, *, separate_blocks: bool = False) -> list[dict[str, Any]]:
    """Group trainable parameters: those with two or more axes, then the others, with `weight_decay` 0.

    Args:
        model: The network.
        separate_blocks: Put the matrices of the transformer's blocks into a first group, with `orthogonal` True.

    Raises:
        ValueError: If nothing is trainable.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise ValueError(f"the model ({type(model).__name__}) has no trainable parameters")
    inside = set()
    if separate_blocks:
        blocks = transformer_blocks(model, reason="optim.optimizer=muon")
        inside = {parameter for parameter in blocks.parameters() if parameter.ndim == 2}
    groups = [
        {"params": [parameter for parameter in trainable if parameter in inside], "orthogonal": True},
        {"params": [parameter for parameter in trainable if parameter.ndim >= 2 and parameter not in inside]},
        {"params": [parameter for parameter in trainable if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def lr_factor(
    step: int, *, warmup_steps: int, max_steps: int, schedule: str = "cosine", decay_share: float = 0.2
) -> float:
    """Fraction of the peak learning rate at a step: linear up to 1 during the warm-up, then down to 0.

    The first step's is 1 / warmup_steps; step `max_steps` would be the first at 0. See `make_schedule`.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "wsd":
        return min(1.0, max(0.0, max_steps - step) / max(1.0, decay_share * max_steps))
    progress = (step - warmup_steps) / max(1, max_steps - warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def make_schedule(
    optimizer: Optimizer, *, warmup_steps: int, max_steps: int, schedule: str = "cosine", decay_share: float = 0.2
) -> LambdaLR:
    """Schedule of `lr_factor`, stepped once per optimiser step. Logs a warning if the run ends during the warm-up.

    Args:
        optimizer: Its groups' learning rates are the peaks.
        warmup_steps: Steps of linear warm-up.
        max_steps: Steps of the run.
        schedule: After the warm-up, `cosine` falls to 0 over the rest of the run; `wsd` (warm-up, stable, decay;
            arXiv:2405.18392) stays at the peak and falls linearly at the end, so that a run can be made longer.
        decay_share: Share of the run over which `wsd` falls.

    Raises:
        ValueError: If a setting is out of range.
    """
    if warmup_steps < 0:
        raise ValueError(f"optim.warmup_steps must be at least 0, got {warmup_steps}")
    if schedule not in SCHEDULES:
        raise ValueError(f"optim.schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")
    if not 0 <= decay_share <= 1:
        raise ValueError(f"optim.decay_share must be between 0 and 1, got {decay_share}")
    if warmup_steps >= max_steps:
        log.warning(
            "the run ends during the warm-up: trainer.max_steps=%d, optim.warmup_steps=%d; the learning rate reaches "
            "%.3g %% of its peak",
            max_steps,
            warmup_steps,
            100 * max_steps / warmup_steps,
        )
    options = {"warmup_steps": warmup_steps, "max_steps": max_steps, "schedule": schedule, "decay_share": decay_share}
    return LambdaLR(optimizer, functools.partial(lr_factor, **options))
