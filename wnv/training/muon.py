"""Muon: momentum whose matrices are orthogonalised before they are added (K. Jordan, 2024; arXiv:2502.16982)."""

import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from torch.optim.adamw import adamw

# Coefficients of the quintic Newton-Schulz iteration, chosen by the authors for its slope at zero.
_QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(Optimizer):
    """Muon for parameter groups with `orthogonal` True, AdamW for the others, with one learning rate.

    Muon's updates are scaled to the root mean square of AdamW's (0.2, arXiv:2502.16982), so a learning rate means about
    the same for both.

    Args:
        params: Parameters or parameter groups; those of orthogonal groups must be matrices.
        lr: Learning rate of all groups.
        betas: AdamW's decay rates; the first is also Muon's momentum.
        weight_decay: Decoupled weight decay.

    Matrices sharded by FSDP are gathered to be orthogonalized, in each process; momentum stays sharded.

    Raises:
        ValueError: If a parameter of an orthogonal group does not have two axes.
    """

    separate_blocks: ClassVar[bool] = True  # `make_optimizer` makes the matrices of the blocks an orthogonal group

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.95, 0.95),
        weight_decay: float = 0.05,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "orthogonal": False})
        for matrix in (matrix for group in self.param_groups if group["orthogonal"] for matrix in group["params"]):
            if matrix.ndim != 2:
                raise ValueError(f"optim.optimizer=muon needs parameters of two axes, got {tuple(matrix.shape)}")

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor | float | None] | None = None) -> Tensor | float | None:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group["orthogonal"]:
                self._step_orthogonal(parameters, group)
            elif parameters:
                self._step_adamw(parameters, group)
        return loss

    def _step_orthogonal(self, parameters: list[nn.Parameter], group: dict) -> None:
        by_shape: dict[torch.Size, list[nn.Parameter]] = {}
        for parameter in parameters:
            by_shape.setdefault(parameter.shape, []).append(parameter)
        momentum = group["betas"][0]
        for shape, alike in by_shape.items():
            looked_ahead = []
            for parameter in alike:
                state = self.state[parameter]
                if not state:
                    state["mean"] = torch.zeros_like(parameter)
                mean, gradient = state["mean"], cast(Tensor, parameter.grad)
                mean.lerp_(gradient, 1 - momentum)
                looked_ahead.append(gradient.lerp(mean, momentum))
            directions = orthogonalize(torch.stack([_gather(matrix) for matrix in looked_ahead]))
            scale = 0.2 * math.sqrt(max(shape))
            for parameter, direction in zip(alike, directions, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(_shard(direction.to(parameter.dtype), parameter), alpha=-group["lr"] * scale)

    def _step_adamw(self, parameters: list[nn.Parameter], group: dict) -> None:
        states = [self.state[parameter] for parameter in parameters]
        for parameter, state in zip(parameters, states, strict=True):
            if not state:
                state["step"] = torch.tensor(0.0)
                state["mean"] = torch.zeros_like(parameter)
                state["mean_square"] = torch.zeros_like(parameter)
        adamw(
            cast(list[Tensor], parameters),
            [cast(Tensor, parameter.grad) for parameter in parameters],
            [state["mean"] for state in states],
            [state["mean_square"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )


def _gather(matrix: Tensor) -> Tensor:
    """The whole matrix, on the device that computes even if it is kept elsewhere (`cpu_offload`)."""
    if not isinstance(matrix, DTensor):
        return matrix
    on_device = cast(DTensor, matrix.to(matrix.device_mesh.device_type))
    return on_device.full_tensor()


def _shard(matrix: Tensor, like: Tensor) -> Tensor:
    """Split a matrix that every process holds as `like` is split, without communication."""
    if not isinstance(like, DTensor):
        return matrix
    sharded = distribute_tensor(matrix, like.device_mesh, like.placements, src_data_rank=None)
    return sharded.to(like.device)


def orthogonalize(matrices: Tensor, *, num_iterations: int = 5) -> Tensor:
    """Approximate the nearest orthogonal matrix: singular values near 1 (0.7 to 1.2), same singular vectors.

    Computed in float32 on CPUs and in bfloat16 on accelerators, as its authors do.

    Args:
        matrices: Matrices in the last two axes.
        num_iterations: Newton-Schulz iterations.
    """
    a, b, c = _QUINTIC
    x = matrices.float() if matrices.device.type == "cpu" else matrices.bfloat16()
    is_tall = x.shape[-2] > x.shape[-1]
    if is_tall:
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(num_iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if is_tall else x
