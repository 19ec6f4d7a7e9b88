"""Sharded training: PyTorch's FSDP2, on the CPU (gloo) as on an accelerator."""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.optim import Optimizer
from typing_extensions import override

from wnv.models.konet import KoNet


class FullyShardedStrategy(ModelParallelStrategy):
    """Every process holds a slice of the weights, gradients and optimiser state, and reads its own share of the data.

    Lightning's own `auto` sizes shard the matrices within a node instead of the data (tensor parallelism). Its whole
    checkpoints number the optimiser's parameters in the order of the module, others in that of the optimiser's groups,
    so that it mistakes one parameter's state for another's where there are several groups. Here both number them like
    the groups, and a checkpoint of one strategy continues under any other.

    Args:
        process_group_backend: `gloo`, `nccl`, ...; None takes the device's own.
        timeout_s: How long processes wait for each other before they give up, in seconds.
    """

    def __init__(
        self,
        *,
        process_group_backend: str | None = None,
        timeout_s: float | int = 1800,
    ) -> None:
        super().__init__(
            data_parallel_size=1,
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,  # one whole file, which any strategy and `load_model` read
            process_group_backend=process_group_backend,
            timeout=timedelta(seconds=timeout_s),
        )

    @override
    def setup_environment(self) -> None:
        # The number of processes is known only once the trainer has handed the devices over.
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    @override
    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        optimizer = getattr(optimizer, "optimizer", optimizer)  # out of Lightning's wrapper
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state = get_optimizer_state_dict(self.model, optimizer, options=options)
        numbers = {name: number for number, name in enumerate(self._parameter_names(optimizer))}
        return _renamed(state, numbers.__getitem__) if self.global_rank == 0 else {}

    @override
    def load_checkpoint(self, checkpoint_path: str | os.PathLike, weights_only: bool | None = None) -> dict[str, Any]:
        path = self.broadcast(checkpoint_path)
        checkpoint = torch.load(path, mmap=True, map_location="cpu", weights_only=True)
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=True)
        set_model_state_dict(self.model, checkpoint.pop("state_dict"), options=options)
        for optimizer, state in zip(self.optimizers, checkpoint.pop("optimizer_states"), strict=False):
            named = _renamed(state, self._parameter_names(optimizer).__getitem__)
            set_optimizer_state_dict(self.model, optimizer, named, options=options)
        return checkpoint

    def _parameter_names(self, optimizer: Optimizer) -> list[str]:
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def shard_model(model: KoNet, mesh: DeviceMesh) -> None:
    """Shard a model in place over a mesh: each transformer block by itself, then what is left.

    Weights of a block are gathered when it runs and given up after it, so that at most one block is whole at a time.
    """
    for block in model.transformer.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def reshard_model(model: KoNet) -> None:
    """Give up weights that a sharded model has gathered; nothing where it is not sharded.

    After a forward pass without gradients the outermost module keeps its weights gathered: `parameters()` are then not
    those of the optimiser, and what is written into the shards does not reach the next forward pass.
    """
    if isinstance(model, FSDPModule):
        model.reshard()


def _renamed(state: dict[str, Any], rename: Callable[[Any], Any]) -> dict[str, Any]:
    """An optimiser's state dictionary with its parameters' keys replaced."""
    return {
        "state": {rename(key): value for key, value in state["state"].items()},
        "param_groups": [
            group | {"params": [rename(key) for key in group["params"]]} for group in state["param_groups"]
        ],
    }
