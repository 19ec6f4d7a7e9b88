"""Exponential moving average of the weights, which renders better than the weights at a high learning rate."""

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from typing_extensions import override

from wnv.checkpoints.sharded import AVERAGE
from wnv.training.strategies import reshard_model


class WeightAverage(L.Callback):
    """Keep an exponential moving average (EMA) of the weights, use it in validation, and save it in checkpoints.

    Training continues with the weights themselves. The average is float32 and sharded like the model. In the first
    steps the decay is (1 + step) / (10 + step), so that the initial weights are soon forgotten.

    Args:
        decay: Fraction of the average kept per step; 0.999 averages over about 1000 steps.

    Raises:
        ValueError: If `decay` is not between 0 and 1.
    """

    def __init__(self, *, decay: float = 0.999) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay must lie between 0 and 1, got {decay}")
        self.decay = decay
        self._average: dict[str, Tensor] = {}
        self._loaded: dict[str, Tensor] | None = None
        self._updated_at_step = 0
        self._weights: dict[str, Tensor] = {}  # put aside during validation

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._loaded is None:  # else the checkpoint has set it; the trainer restores its own count later
            self._updated_at_step = trainer.global_step
        self._start(pl_module)

    @override
    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step == self._updated_at_step:  # gradients are still being accumulated
            return
        self._updated_at_step = step
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = _parameters(pl_module)
        weights = [parameters[name].detach().float() for name in self._average]
        torch._foreach_lerp_(list(self._average.values()), weights, 1.0 - decay)

    @override
    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._average:
            parameters = _parameters(pl_module)
            self._weights = {name: value.detach().clone() for name, value in parameters.items()}
            _assign(parameters, self._average)

    @override
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._weights:
            _assign(_parameters(pl_module), self._weights)
            self._weights = {}

    @override
    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self.on_validation_end(trainer, pl_module)

    on_test_start = on_predict_start = on_validation_start
    on_test_end = on_predict_end = on_validation_end

    @override
    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._average:
            is_sharded = getattr(trainer.strategy, "save_sharded", False)
            checkpoint[AVERAGE] = {
                name: value if is_sharded else _gather(value) for name, value in self._average.items()
            }

    @override
    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._loaded = checkpoint.get(AVERAGE)
        self._updated_at_step = checkpoint["global_step"]
        if self._average:  # strategies that shard restore checkpoints after the fit has started, others before
            self._start(pl_module)

    @torch.no_grad()
    def _start(self, pl_module: L.LightningModule) -> None:
        self._average = {name: value.detach().float().clone() for name, value in _parameters(pl_module).items()}
        if self._loaded is not None:
            _assign(self._average, self._loaded)
            self._loaded = None


def _parameters(pl_module: L.LightningModule) -> dict[str, Tensor]:
    model = pl_module.get_submodule("model")
    reshard_model(model)
    return dict(model.named_parameters())


def _gather(tensor: Tensor) -> Tensor:
    if not isinstance(tensor, DTensor):
        return tensor
    on_device: DTensor = tensor.to(tensor.device_mesh.device_type)  # pyright: ignore[reportAssignmentType]
    return on_device.full_tensor().cpu()  # cpu_offload: gather on the device


@torch.no_grad()
def _assign(to: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    for name, tensor in to.items():
        value = values[name]
        if isinstance(tensor, DTensor) and not isinstance(value, DTensor):
            value = distribute_tensor(value.to(tensor.device_mesh.device_type), tensor.device_mesh, tensor.placements)
        tensor.copy_(value)
