"""AdamW or Muon with decay on matrices only, and a linear warm-up followed by a cosine."""

import functools
import logging
import math

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from wnv.models.konet import KoNet
from wnv.training.muon import Muon

log = logging.getLogger(__name__)

OPTIMIZERS = ("adamw", "muon")


def make_optimizer(
    name: str, model: KoNet, *, lr: float, betas: tuple[float, float], weight_decay: float | int
) -> Optimizer:
    """The optimiser of that name over the model's trainable parameters.

    Args:
        name: `adamw`, or `muon`: Muon for the matrices of the transformer's blocks, AdamW for the rest.
        model: The network.
        lr: Peak learning rate.
        betas: Decay of the running mean of the gradient and of its square.
        weight_decay: Decoupled decay of every parameter with two or more axes.
    """
    if name == "adamw":
        return adamw(model, lr=lr, betas=betas, weight_decay=weight_decay)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [
        parameter
        for parameter in model.transformer.blocks.parameters()
        if parameter.requires_grad and parameter.ndim == 2
    ]
    inside = {id(parameter) for parameter in matrices}
    rest = [parameter for parameter in trainable if id(parameter) not in inside]
    return Muon(
        matrices=matrices,
        others=[parameter for parameter in rest if parameter.ndim >= 2],
        undecayed=[parameter for parameter in rest if parameter.ndim < 2],
        lr=lr,
        betas=betas,
        weight_decay=weight_decay,
    )


def adamw(
    module: nn.Module, *, lr: float, betas: tuple[float, float] = (0.9, 0.95), weight_decay: float = 0.05
) -> AdamW:
    """AdamW over the trainable parameters, decaying matrices and nothing else (not biases, norms or scales).

    Args:
        module: Holder of the parameters; frozen ones are left out.
        lr: Peak learning rate.
        betas: Decay of the running mean of the gradient and of its square.
        weight_decay: Decoupled decay of every parameter with two or more axes.

    Raises:
        ValueError: If nothing is trainable.
    """
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trainable:
        raise ValueError("the model has no trainable parameters")
    groups = [
        {"params": [parameter for parameter in trainable if parameter.ndim >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trainable if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], lr=lr, betas=betas)


def lr_factor(step: int, *, warmup_steps: int, max_steps: int) -> float:
    """Share of the peak learning rate at a step: linear up to 1 over the warm-up, then a cosine down to 0.

    The first step already learns (its share is 1 / warmup_steps), and step `max_steps` would be the first at 0.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, max_steps - warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def warmup_cosine(optimizer: Optimizer, *, warmup_steps: int, max_steps: int) -> LambdaLR:
    """Schedule of `lr_factor`, to be stepped once an optimiser step.

    A trial of a few steps may end within the warm-up, which is told.

    Raises:
        ValueError: If the warm-up is negative.
    """
    if warmup_steps < 0:
        raise ValueError(f"warmup_steps must be at least 0, got {warmup_steps}; set optim.warmup_steps")
    if warmup_steps >= max_steps:
        log.warning(
            "the run of %d steps ends within the warm-up of %d, at %.3g of the peak learning rate; for more than a "
            "trial set optim.warmup_steps or trainer.max_steps",
            max_steps,
            warmup_steps,
            max_steps / warmup_steps,
        )
    return LambdaLR(optimizer, functools.partial(lr_factor, warmup_steps=warmup_steps, max_steps=max_steps))
