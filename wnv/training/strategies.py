"""Strategies for several devices: data parallel (DDP) and fully sharded (FSDP2), on every device type."""

# Lightning types a strategy's model and devices as optional; they are set before these hooks run.
# pyright: reportOptionalMemberAccess=false, reportArgumentType=false, reportCallIssue=false

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.distributed import _get_default_process_group_backend_for_device
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
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.nn import Module, Parameter
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from typing_extensions import override

from wnv.checkpoints.sharded import (
    AVERAGE,
    MODEL,
    OPTIMIZERS,
    TensorPath,
    read_sharded,
    save_sharded,
)
from wnv.models.konet import KoNet
from wnv.runtime.device import device_module
from wnv.training.accelerator import NPUAccelerator
from wnv.training.parts import transformer_blocks
from wnv.training.precision import low_dtype
from wnv.training.processes import count_devices

SHARDINGS = ("FULL_SHARD", "SHARD_GRAD_OP", "HYBRID_SHARD")


def resolve_strategy(
    strategy: str | Strategy, *, device: torch.device, devices: int | str | list[int], num_nodes: int
) -> str | Strategy:
    """Resolve the trainer's strategy: `auto` means a single device, or `DataParallelStrategy` on several.

    Args:
        strategy: Value of `trainer.strategy`.
        device: Device type to train on.
        devices: Value of `trainer.devices`.
        num_nodes: Number of machines.

    Raises:
        ValueError: If the strategy is Lightning's own FSDP (CUDA only, with its own precision plugins), or on an NPU
            another of Lightning's own; or if there are no such devices.
    """
    given = strategy if isinstance(strategy, str) else type(strategy).__name__
    if type(strategy) is FSDPStrategy or (isinstance(strategy, str) and strategy.startswith("fsdp")):
        raise ValueError(f"trainer.strategy={given} is not supported; set strategy=fsdp (PyTorch's FSDP2)")
    if strategy == "auto" and device.type == "npu":
        indices = NPUAccelerator.parse_devices(devices)
        if len(indices) * num_nodes == 1:  # Lightning would choose the CPU
            return SingleDeviceStrategy(device=torch.device("npu", indices[0]))
        return DataParallelStrategy()
    if strategy == "auto":
        return DataParallelStrategy() if count_devices(devices, device) * num_nodes > 1 else strategy
    if device.type == "npu" and (isinstance(strategy, str) or type(strategy) is DDPStrategy):
        raise ValueError(
            f"trainer.strategy={given} is Lightning's own and does not run on an NPU; set strategy=auto, strategy=ddp "
            "or strategy=fsdp"
        )
    return strategy


# torch 2.13 renamed DDP's argument.
_SYNC_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in signature(DistributedDataParallel.__init__).parameters
    else "broadcast_buffers"
)


class DataParallelStrategy(DDPStrategy):
    """Replicate the network on every process and average the gradients (DDP).

    Lightning's DDP sets the network up on a CUDA stream; this one works on every device.

    Args:
        gradient_as_bucket_view: Let gradients share memory with the communication buckets, which saves one copy.
        process_group_backend: `gloo`, `nccl`, `hccl`, ...; None takes the device's default.
        timeout_s: Timeout of collectives, in seconds.
        options: Further arguments of `torch.nn.parallel.DistributedDataParallel`. Buffers are not synchronized in
            every step by default, because those of model and loss are constants.
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
            **({} if "broadcast_buffers" in options else {_SYNC_BUFFERS: False}),
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
    """Shard weights, gradients and optimiser state over the processes with PyTorch's FSDP2, block by block.

    With gradient accumulation, gradients are reduced once per step, after the last micro-batch; until then every
    process holds whole gradients.

    Lightning's whole checkpoints number the optimiser's parameters in the order of the module, other strategies' in
    that of the parameter groups, so one parameter's state would be restored as another's. Here they are numbered by
    groups, so that a checkpoint of any strategy, whole or sharded, resumes under any other.

    Args:
        sharding: `FULL_SHARD` frees gathered weights after each forward pass of a block and gathers them again for the
            backward pass; `SHARD_GRAD_OP` keeps them until the backward pass (faster, more memory); `HYBRID_SHARD` is
            `FULL_SHARD` within groups of processes, each of which holds a replica.
        num_replicas: Number of such groups for `HYBRID_SHARD`; None makes each machine a group.
        cpu_offload: Keep the shards in CPU memory and run the optimiser there.
        process_group_backend: `gloo`, `nccl`, ...; None takes the device's default.
        timeout_s: Timeout of collectives, in seconds.

    Attributes:
        save_sharded: Whether checkpoints are folders to which every process writes its shards, not whole files.

    Raises:
        ValueError: If `sharding` or `num_replicas` is invalid.
    """

    def __init__(
        self,
        *,
        sharding: str = "FULL_SHARD",
        num_replicas: int | None = None,
        cpu_offload: bool = False,
        process_group_backend: str | None = None,
        timeout_s: float | int = 1800,
    ) -> None:
        if sharding == "NO_SHARD":
            raise ValueError("trainer.strategy.sharding=NO_SHARD is data parallel training; set strategy=ddp")
        if sharding not in SHARDINGS:
            raise ValueError(f"trainer.strategy.sharding must be one of {', '.join(SHARDINGS)}, got {sharding!r}")
        if num_replicas is not None and num_replicas < 1:
            raise ValueError(f"trainer.strategy.num_replicas must be at least 1, or null, got {num_replicas}")
        super().__init__(
            data_parallel_size=1,
            tensor_parallel_size=1,  # Lightning's "auto" would shard matrices within a machine (tensor parallelism)
            save_distributed_checkpoint=False,  # Lightning's would overwrite the previous checkpoint in place
            process_group_backend=process_group_backend,
            timeout=timedelta(seconds=timeout_s),
        )
        self.sharding = sharding
        self.num_replicas = num_replicas
        self.cpu_offload = cpu_offload
        self.save_sharded = False

    @override
    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes  # known once the trainer has set the devices
        if self.num_replicas is not None and self.sharding != "HYBRID_SHARD":
            rank_zero_warn("trainer.strategy.num_replicas is ignored: it needs sharding=HYBRID_SHARD")
        if self.cpu_offload and self.root_device.type == "cpu":
            rank_zero_warn("trainer.strategy.cpu_offload is ignored on a CPU")
            self.cpu_offload = False
        super().setup_environment()

    @override
    def _get_process_group_backend(self) -> str:
        backend = self._process_group_backend or _get_default_process_group_backend_for_device(self.root_device)
        # Norms of offloaded gradients are reduced on the CPU.
        return f"cpu:gloo,{self.root_device.type}:{backend}" if self.cpu_offload and ":" not in backend else backend

    @override
    def _setup_distributed(self) -> None:
        super()._setup_distributed()
        if self.root_device.type == "npu":
            # torch would make the mesh's groups by splitting the device-bound group, which HCCL does not support.
            torch.distributed.group.WORLD.bound_device_id = None

    def shard(self, model: KoNet) -> None:
        """Shard a model in place: each transformer block separately, then the rest.

        Gradients are reduced in float32, and inputs keep their dtype, because cameras must not be rounded.

        Raises:
            ValueError: If the processes do not divide into the groups of `HYBRID_SHARD`.
        """
        policy = MixedPrecisionPolicy()
        if (dtype := low_dtype(self.precision_plugin)) is not None:
            policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
        options = {
            "mesh": self._make_mesh(),
            "reshard_after_forward": False if self.sharding == "SHARD_GRAD_OP" else None,
            "mp_policy": policy,
            "offload_policy": self._offload_policy,
        }
        for block in transformer_blocks(model, reason="strategy=fsdp"):
            fully_shard(block, **options)
        fully_shard(model, **options)

    @property
    def _offload_policy(self) -> OffloadPolicy:
        return CPUOffloadPolicy(pin_memory=self.root_device.type == "cuda") if self.cpu_offload else OffloadPolicy()

    def _make_mesh(self) -> DeviceMesh:
        if self.sharding != "HYBRID_SHARD":
            return self.device_mesh["data_parallel"]
        num_replicas = self.num_nodes if self.num_replicas is None else self.num_replicas
        num_shards, rest = divmod(self.world_size, num_replicas)
        if rest or num_shards < 2:
            raise ValueError(
                f"sharding=HYBRID_SHARD needs trainer.strategy.num_replicas groups of equal size (>= 2), "
                f"got num_replicas={num_replicas} for {self.world_size} processes; set another number, or "
                "sharding=FULL_SHARD (one group) or strategy=ddp (no sharding)"
            )
        return init_device_mesh(
            self.root_device.type, (num_replicas, num_shards), mesh_dim_names=("replicate", "shard")
        )

    @override
    def model_to_device(self) -> None:
        if not self.cpu_offload:
            super().model_to_device()
            return
        self.model._device = self.root_device
        for child in self.model.children():  # such as the loss; FSDP itself moves what it offloads
            if not isinstance(child, FSDPModule):
                child.to(self.root_device)

    @contextmanager
    @override
    def block_backward_sync(self) -> Iterator[None]:
        sharded = [child for child in self.model.children() if isinstance(child, FSDPModule)]
        for module in sharded:
            module.set_requires_gradient_sync(False)
        yield
        for module in sharded:
            module.set_requires_gradient_sync(True)

    @override
    def lightning_module_state_dict(self) -> dict[str, Any]:
        return get_model_state_dict(self.model, options=self._saved_form)

    @override
    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The optimiser's state with parameters numbered by groups; empty on ranks that do not write it."""
        optimizer = getattr(optimizer, "optimizer", optimizer)  # out of Lightning's wrapper
        state = get_optimizer_state_dict(self.model, optimizer, options=self._saved_form)
        numbers = {name: number for number, name in enumerate(self._parameter_names(optimizer))}
        return _renamed(state, numbers.__getitem__) if state else {}

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
        set_model_state_dict(self.model, checkpoint.pop(MODEL), options=options)
        for optimizer, state in zip(self.optimizers, checkpoint.pop(OPTIMIZERS), strict=False):
            named = _renamed(state, self._parameter_names(optimizer).__getitem__)
            set_optimizer_state_dict(self.model, optimizer, named, options=options)
        return checkpoint

    @property
    def _saved_form(self) -> StateDictOptions:
        return StateDictOptions(full_state_dict=not self.save_sharded, cpu_offload=not self.save_sharded)

    def _sharded_like(self, path: TensorPath) -> Tensor | None:
        """The parameter whose sharding a tensor of a checkpoint has."""
        if path[0] == OPTIMIZERS:
            name = self._parameter_names(self.optimizers[path[1]])[path[3]]
        else:
            name = f"model.{path[1]}" if path[0] == AVERAGE else path[1]
        return dict(self.model.named_parameters()).get(name)

    def _parameter_names(self, optimizer: Optimizer) -> list[str]:
        names: dict[Parameter, str] = {parameter: name for name, parameter in self.model.named_parameters()}
        return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def reshard_model(model: Module) -> None:
    """Free the weights that a sharded model has gathered; do nothing if it is not sharded.

    After a forward pass without gradients some weights stay gathered, and `parameters()` are then not those of the
    optimiser.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _renamed(state: dict[str, Any], rename: Callable[[Any], Any]) -> dict[str, Any]:
    """An optimiser's state dictionary with its parameter keys replaced."""
    return {
        "state": {rename(key): value for key, value in state["state"].items()},
        "param_groups": [
            group | {"params": [rename(key) for key in group["params"]]} for group in state["param_groups"]
        ],
    }
