"""How several processes share a training, on every device: data parallel, and sharded by PyTorch's FSDP2."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import (
    DDPStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
    Strategy,
)
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel, MixedPrecisionPolicy, fully_shard
from torch.nn import Module, Parameter
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from typing_extensions import override

from wnv.models.konet import KoNet
from wnv.runtime.device import device_module
from wnv.training.accelerator import NPUAccelerator
from wnv.training.sharded_checkpoint import (
    AVERAGE,
    MODEL,
    OPTIMIZERS,
    TensorPath,
    read_sharded,
    save_sharded,
)


def settle_strategy(
    strategy: str | Strategy, *, device: torch.device, devices: int | str | list[int], num_nodes: int
) -> str | Strategy:
    """The strategy to hand to the trainer; other than the one given only on an NPU.

    Of `auto`, and of a strategy's name, Lightning makes one that leaves an NPU for the CPU, or calls for CUDA on it.
    Its own FSDP is for CUDA only, and for number formats of its own.

    Args:
        strategy: As the trainer takes it.
        device: Where the network is trained.
        devices: Devices of each machine, as the trainer takes them.
        num_nodes: Number of machines.

    Raises:
        ValueError: If the strategy is one of Lightning's own, or there are no such devices.
    """
    given = strategy if isinstance(strategy, str) else type(strategy).__name__
    if type(strategy) is FSDPStrategy or (isinstance(strategy, str) and strategy.startswith("fsdp")):
        raise ValueError(
            f"trainer.strategy is Lightning's own {given}, which does not run with the number formats of wnv, nor on "
            "every device; set strategy=fsdp1, or strategy=fsdp for FSDP2"
        )
    if device.type != "npu":
        return strategy
    if strategy == "auto":
        indices = NPUAccelerator.parse_devices(devices)
        if len(indices) == 1 and num_nodes == 1:
            return SingleDeviceStrategy(device=torch.device("npu", indices[0]))
        return DataParallelStrategy()
    if isinstance(strategy, str) or type(strategy) is DDPStrategy:
        raise ValueError(
            f"trainer.strategy is Lightning's own {given}, which does not run on an NPU; set strategy=auto, "
            "strategy=ddp, strategy=fsdp or strategy=fsdp1"
        )
    return strategy


class DataParallelStrategy(DDPStrategy):
    """Every process holds the whole network and reads its own share of the data; gradients are averaged.

    Lightning's DDP, which sets the network up on a stream of CUDA, on whichever device.

    Args:
        gradient_as_bucket_view: Keep gradients in the buffers that are sent: saves one copy of them.
        process_group_backend: `gloo`, `nccl`, `hccl`, ...; None takes the device's own.
        timeout_s: How long processes wait for each other before they give up, in seconds.
        options: Others of `torch.nn.parallel.DistributedDataParallel`.
    """

    def __init__(
        self,
        *,
        gradient_as_bucket_view: bool = True,
        process_group_backend: str | None = None,
        timeout_s: float | int = 1800,
        **options: Any,
    ) -> None:
        super().__init__(
            gradient_as_bucket_view=gradient_as_bucket_view,
            process_group_backend=process_group_backend,
            timeout=timedelta(seconds=timeout_s),
            **options,
        )

    @override
    def _setup_model(self, model: Module) -> DistributedDataParallel:
        device_ids = self.determine_ddp_device_ids()
        module = device_module(self.root_device)
        with nullcontext() if device_ids is None else module.stream(module.Stream()):
            return DistributedDataParallel(module=model, device_ids=device_ids, **self._ddp_kwargs)

    @override
    def _register_ddp_hooks(self) -> None:
        if self._ddp_comm_hook is not None and self.root_device.type != "cuda":
            rank_zero_warn(f"trainer.strategy.ddp_comm_hook is ignored on {self.root_device.type}: it needs CUDA")
        super()._register_ddp_hooks()


class FullyShardedStrategy(ModelParallelStrategy):
    """Every process holds a slice of the weights, gradients and optimiser state, and reads its own share of the data.

    Lightning's own `auto` sizes shard the matrices within a node instead of the data (tensor parallelism). Its whole
    checkpoints number the optimiser's parameters in the order of the module, others in that of the optimiser's groups,
    so that it mistakes one parameter's state for another's where there are several groups. Here both number them like
    the groups, and a checkpoint of one strategy continues under any other, be it whole or sharded.

    Attributes:
        save_sharded: Whether checkpoints are folders that every process writes its share of, instead of whole files.

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
            save_distributed_checkpoint=False,  # not as Lightning does it, which a kill may cost the one of before
            process_group_backend=process_group_backend,
            timeout=timedelta(seconds=timeout_s),
        )
        self.save_sharded = False

    @override
    def setup_environment(self) -> None:
        # The number of processes is known only once the trainer has handed the devices over.
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    @override
    def _setup_distributed(self) -> None:
        super()._setup_distributed()
        if self.root_device.type == "npu":
            # torch would split a group that is bound to a device to make the mesh's, and HCCL cannot split groups.
            torch.distributed.group.WORLD.bound_device_id = None

    @override
    def lightning_module_state_dict(self) -> dict[str, Any]:
        return get_model_state_dict(self.model, options=self._saved_form)

    @override
    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        return numbered_optimizer_state(self.model, optimizer, self._named_parameters, options=self._saved_form)

    @override
    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | os.PathLike, storage_options: Any = None
    ) -> None:
        path = Path(self.broadcast(filepath))
        if self.save_sharded:
            save_sharded(checkpoint, path)
        else:
            Strategy.save_checkpoint(self, checkpoint, path, storage_options)

    @override
    def load_checkpoint(self, checkpoint_path: str | os.PathLike, weights_only: bool | None = None) -> dict[str, Any]:
        path = Path(self.broadcast(checkpoint_path))
        if path.is_dir():
            checkpoint = read_sharded(path, like=self._sharded_like)
            options = StateDictOptions(strict=True)
        else:
            checkpoint = torch.load(path, mmap=True, map_location="cpu", weights_only=True)
            options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=True)
        load_states(self.model, self.optimizers, checkpoint, self._named_parameters, options=options)
        return checkpoint

    @property
    def _saved_form(self) -> StateDictOptions:
        return StateDictOptions(full_state_dict=not self.save_sharded, cpu_offload=not self.save_sharded)

    def _sharded_like(self, path: TensorPath) -> Tensor | None:
        """The parameter that a tensor of a checkpoint is sharded like."""
        if path[0] == OPTIMIZERS:
            name = _parameter_names(self.optimizers[path[1]], self._named_parameters)[path[3]]
        else:
            name = f"model.{path[1]}" if path[0] == AVERAGE else path[1]
        return self._named_parameters.get(name)

    @property
    def _named_parameters(self) -> dict[str, Parameter]:
        return dict(self.model.named_parameters())


def shard_model(model: KoNet, mesh: DeviceMesh, *, dtype: torch.dtype | None = None) -> None:
    """Shard a model in place over a mesh: each transformer block by itself, then what is left.

    Weights of a block are gathered when it runs and given up after it, so that at most one block is whole at a time.

    Args:
        model: The model; each process keeps its slice of the weights, in their own format.
        mesh: The processes.
        dtype: What weights are gathered in; None for their own format. Gradients are summed over processes in float32,
            and inputs are left as they are, since cameras must not be rounded.
    """
    policy = MixedPrecisionPolicy()
    if dtype is not None:
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in model.transformer.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


def reshard_model(model: KoNet | FullyShardedDataParallel) -> None:
    """Give up weights that a sharded model has gathered; nothing where it is not sharded.

    After a forward pass without gradients the outermost module keeps its weights gathered: `parameters()` are then not
    those of the optimiser (FSDP2), and what is written into the shards does not reach the next forward pass.
    """
    if isinstance(model, FSDPModule):
        model.reshard()
    for module in FullyShardedDataParallel.fsdp_modules(model):
        handle = module._handle
        # Before the first forward pass nothing is gathered, and there is no place for it.
        if handle is None or module._is_root is None or not handle.uses_sharded_strategy or handle.needs_unshard():
            continue
        handle.reshard(True)
        handle.post_reshard()


def numbered_optimizer_state(
    model: Module, optimizer: Optimizer, parameters: Mapping[str, Parameter], *, options: StateDictOptions
) -> dict[str, Any]:
    """An optimiser's state as checkpoints hold it: parameters numbered in the order of the optimiser's groups.

    Empty on all processes but the first where it is gathered there.

    Args:
        model: The sharded module.
        optimizer: Also in Lightning's wrapper.
        parameters: The parameters by the names that they have where nothing is wrapped.
        options: In which form.
    """
    optimizer = getattr(optimizer, "optimizer", optimizer)
    state = get_optimizer_state_dict(model, optimizer, options=options)
    numbers = {name: number for number, name in enumerate(_parameter_names(optimizer, parameters))}
    return _renamed(state, numbers.__getitem__) if state else {}


def load_states(
    model: Module,
    optimizers: Sequence[Optimizer],
    checkpoint: dict[str, Any],
    parameters: Mapping[str, Parameter],
    *,
    options: StateDictOptions,
) -> None:
    """Take weights and optimisers' states out of a checkpoint and into a sharded module and its optimisers."""
    set_model_state_dict(model, checkpoint.pop(MODEL), options=options)
    for optimizer, state in zip(optimizers, checkpoint.pop(OPTIMIZERS), strict=False):
        named = _renamed(state, _parameter_names(optimizer, parameters).__getitem__)
        set_optimizer_state_dict(model, optimizer, named, options=options)


def _parameter_names(optimizer: Optimizer, parameters: Mapping[str, Parameter]) -> list[str]:
    names = {parameter: name for name, parameter in parameters.items()}
    return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def _renamed(state: dict[str, Any], rename: Callable[[Any], Any]) -> dict[str, Any]:
    """An optimiser's state dictionary with its parameters' keys replaced."""
    return {
        "state": {rename(key): value for key, value in state["state"].items()},
        "param_groups": [
            group | {"params": [rename(key) for key in group["params"]]} for group in state["param_groups"]
        ],
    }
