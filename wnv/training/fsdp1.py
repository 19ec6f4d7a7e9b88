"""Training sharded by PyTorch's first FSDP (arXiv:2304.11277), with its choice of what is sharded, on every device."""

import os
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.strategies import FSDPStrategy, Strategy
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffload, FullyShardedDataParallel, MixedPrecision, ShardingStrategy
from torch.distributed.fsdp.wrap import ModuleWrapPolicy, size_based_auto_wrap_policy
from torch.optim import Optimizer
from typing_extensions import override

from wnv.models.attention import Attention
from wnv.models.konet import KoNet
from wnv.models.tokens import Tokenizer
from wnv.models.transformer import Block
from wnv.training.precision import low_dtype
from wnv.training.sharded_checkpoint import read_sharded
from wnv.training.strategies import load_states, numbered_optimizer_state

SHARDINGS = ("FULL_SHARD", "SHARD_GRAD_OP", "NO_SHARD", "HYBRID_SHARD")
AUTO_WRAPS = ("layer", "size", "none")
_WRAPPER = "_fsdp_wrapped_module."
# FSDP gathers the weights of what is called; these are used by their methods or weights, so what holds them gathers.
_NOT_CALLED = {nn.ModuleList, nn.Embedding, Attention, Tokenizer}


class FlatShardedStrategy(FSDPStrategy):
    """Every process holds a slice of the weights laid end to end, and reads its own share of the data.

    PyTorch's FSDP of before `fully_shard`, of which Lightning makes CUDA only. Checkpoints are whole files, which any
    strategy continues, at any number of processes.

    Args:
        sharding: `FULL_SHARD` shards weights, gradients and optimiser state; `SHARD_GRAD_OP` keeps the weights whole
            from the forward pass to the end of the backward pass; `NO_SHARD` shards nothing; `HYBRID_SHARD` shards
            within groups of processes, each of which holds the whole.
        num_replicas: With `HYBRID_SHARD` the number of such groups; None takes a machine for a group.
        cpu_offload: Keep slices of weights and gradients in the CPU's memory, and run the optimiser there.
        auto_wrap: What is gathered and given up as one: each transformer block (`layer`), modules of at least
            `min_num_params` weights (`size`), or the whole network (`none`).
        min_num_params: With `size` the least number of weights; None for a million.
        process_group_backend: `gloo`, `nccl`, `hccl`, ...; None takes the device's own.
        timeout_s: How long processes wait for each other before they give up, in seconds.

    Raises:
        ValueError: If a choice is none of those named, or a number is out of its range.
    """

    def __init__(
        self,
        *,
        sharding: str = "FULL_SHARD",
        num_replicas: int | None = None,
        cpu_offload: bool = False,
        auto_wrap: str = "layer",
        min_num_params: int | None = None,
        process_group_backend: str | None = None,
        timeout_s: float | int = 1800,
    ) -> None:
        if sharding not in SHARDINGS:
            raise ValueError(f"trainer.strategy.sharding must be one of {', '.join(SHARDINGS)}, got {sharding!r}")
        if auto_wrap not in AUTO_WRAPS:
            raise ValueError(f"trainer.strategy.auto_wrap must be one of {', '.join(AUTO_WRAPS)}, got {auto_wrap!r}")
        for name, value in (("min_num_params", min_num_params), ("num_replicas", num_replicas)):
            if value is not None and value < 1:
                raise ValueError(f"trainer.strategy.{name} must be at least 1, or null, got {value}")
        super().__init__(
            process_group_backend=process_group_backend,
            timeout=timedelta(seconds=timeout_s),
            cpu_offload=cpu_offload,
        )
        self.sharding = sharding
        self.num_replicas = num_replicas
        self.auto_wrap = auto_wrap
        self.min_num_params = min_num_params

    # Lightning's FSDP takes plugins of its own only, which name CUDA; those of `make_precision` serve here as well.
    @property
    @override
    def precision_plugin(self) -> Precision:
        return Strategy.precision_plugin.fget(self)

    @precision_plugin.setter
    @override
    def precision_plugin(self, precision_plugin: Precision | None) -> None:
        self._precision_plugin = precision_plugin

    @override
    def setup_environment(self) -> None:
        super().setup_environment()
        if self.root_device.type == "npu":
            # torch would split a group that is bound to a device to make the mesh's, and HCCL cannot split groups.
            torch.distributed.group.WORLD.bound_device_id = None

    def shard(self, model: KoNet) -> FullyShardedDataParallel:
        """Wrap a model, each process keeping its slice; the wrapper passes for the model.

        Gradients are summed over processes in float32, and inputs are left as they are, since cameras must not be
        rounded.

        Raises:
            ValueError: If the processes cannot be shared out as asked.
        """
        self.precision_plugin.convert_module(model)
        for parameter in model.parameters():
            parameter.whole_shape = parameter.shape
        self._warn_of_ignored()
        mixed_precision = None
        if (dtype := low_dtype(self.precision_plugin)) is not None:
            mixed_precision = MixedPrecision(
                param_dtype=dtype,
                reduce_dtype=torch.float32,
                cast_forward_inputs=False,
                cast_root_forward_inputs=False,
            )
        with warnings.catch_warnings():
            # Of what was asked for (NO_SHARD), or cannot be otherwise (a single process).
            warnings.filterwarnings("ignore", message="The `NO_SHARD` sharding strategy is deprecated")
            warnings.filterwarnings("ignore", message="FSDP is switching to use `NO_SHARD`")
            return FullyShardedDataParallel(
                model,
                sharding_strategy=ShardingStrategy[self.sharding],
                device_mesh=self._make_mesh(),
                cpu_offload=CPUOffload(offload_params=self.cpu_offload.offload_params and self._can_offload),
                auto_wrap_policy=self._wrap_policy(),
                mixed_precision=mixed_precision,
                device_id=self.root_device,
                use_orig_params=True,
            )

    def total_norm(self, gradients: list[Tensor]) -> Tensor:
        """The norm of the whole gradient, of which this process holds some slices; the same on all processes."""
        lengths = [torch.linalg.vector_norm(gradient, dtype=torch.float32) for gradient in gradients]
        square = torch.stack(lengths).square().sum() if lengths else torch.zeros(())
        square = square.to(self.root_device)
        if (group := _shard_group(self.lightning_module.model)) is not None:
            dist.all_reduce(square, group=group)
        return square.sqrt()

    @override
    def _setup_model(self, model: nn.Module) -> nn.Module:
        for child in model.children():  # the loss has weights of its own; the network is where it belongs
            if not isinstance(child, FullyShardedDataParallel):
                child.to(self.root_device)
        return model

    @override
    def lightning_module_state_dict(self) -> dict[str, Any]:
        return get_model_state_dict(self.model, options=self._whole)

    @override
    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        parameters = plain_parameters(self.model)
        state = numbered_optimizer_state(self.model, optimizer, parameters, options=self._whole)
        return state if self.global_rank == 0 else {}

    @override
    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | os.PathLike, storage_options: Any = None
    ) -> None:
        Strategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    @override
    def load_checkpoint(self, checkpoint_path: str | os.PathLike, weights_only: bool | None = None) -> dict[str, Any]:
        path = Path(self.broadcast(checkpoint_path))
        if path.is_dir():
            checkpoint = read_sharded(path)
        else:
            checkpoint = torch.load(path, mmap=True, map_location="cpu", weights_only=True)
        options = StateDictOptions(full_state_dict=True, strict=True)
        load_states(self.model, self.optimizers, checkpoint, plain_parameters(self.model), options=options)
        return checkpoint

    @property
    def _whole(self) -> StateDictOptions:
        # On a CPU torch 2.13 frees what it is to hand out (pytorch-lightning#21804).
        return StateDictOptions(full_state_dict=True, cpu_offload=self.root_device.type != "cpu")

    @property
    def _can_offload(self) -> bool:
        return self.root_device.type != "cpu"

    def _make_mesh(self) -> dist.DeviceMesh | None:
        if self.sharding != "HYBRID_SHARD":
            return None
        num_replicas = self.num_nodes if self.num_replicas is None else self.num_replicas
        num_shards, left = divmod(self.world_size, num_replicas)
        if left or num_shards < 2:
            raise ValueError(
                f"sharding=HYBRID_SHARD shares {self.world_size} processes out to trainer.strategy.num_replicas="
                f"{num_replicas} groups of equal size, at least 2; set another number, or sharding=FULL_SHARD (one "
                "group) or NO_SHARD (a group a process)"
            )
        return init_device_mesh(
            self.root_device.type, (num_replicas, num_shards), mesh_dim_names=("replicate", "shard")
        )

    def _wrap_policy(self) -> Any:
        if self.auto_wrap == "layer":
            return ModuleWrapPolicy({Block})
        if self.auto_wrap == "none":
            return None

        def is_large(module: nn.Module, recurse: bool, nonwrapped_numel: int) -> bool:
            return size_based_auto_wrap_policy(
                module,
                recurse,
                nonwrapped_numel,
                min_num_params=self.min_num_params or 1_000_000,
                exclude_wrap_modules=_NOT_CALLED,
            )

        return is_large

    def _warn_of_ignored(self) -> None:
        if self.cpu_offload.offload_params and not self._can_offload:
            rank_zero_warn("trainer.strategy.cpu_offload is ignored on a CPU: its memory is where the weights are")
        if self.num_replicas is not None and self.sharding != "HYBRID_SHARD":
            rank_zero_warn("trainer.strategy.num_replicas is ignored: it is of sharding=HYBRID_SHARD only")
        if self.min_num_params is not None and self.auto_wrap != "size":
            rank_zero_warn("trainer.strategy.min_num_params is ignored: it is of auto_wrap=size only")


def plain_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters by the names that they have where nothing is wrapped."""
    return {name.replace(_WRAPPER, ""): parameter for name, parameter in module.named_parameters()}


def whole_shape(parameter: nn.Parameter) -> torch.Size:
    """The shape of a parameter, also where this process holds a flat slice of it."""
    return getattr(parameter, "whole_shape", parameter.shape)


def gather_slices(model: nn.Module, slices: dict[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors, on the CPU, of tensors that are sharded like the parameters of their names; as given if none are.

    Args:
        model: The wrapped model, or one that is not.
        slices: This process's slice of each, flat.
    """
    group = _shard_group(model)
    if group is None:
        return slices
    parameters, wholes = plain_parameters(model), {}
    lengths = _lengths(model, slices)
    for number, (name, piece) in enumerate(slices.items()):
        sizes = lengths[:, number].tolist()
        padded = torch.zeros(max(sizes), dtype=piece.dtype, device=model.compute_device)
        padded[: piece.numel()] = piece
        gathered = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(gathered, padded, group=group)
        flat = torch.cat([part[:size] for part, size in zip(gathered, sizes, strict=True)])
        wholes[name] = flat.view(whole_shape(parameters[name])).cpu()
    return wholes


def take_slices(model: nn.Module, slices: dict[str, Tensor], wholes: dict[str, Tensor]) -> dict[str, Tensor]:
    """What of whole tensors belongs into this process's slices: the inverse of `gather_slices`."""
    group = _shard_group(model)
    if group is None:
        return wholes
    starts = _lengths(model, slices)[: dist.get_rank(group)].sum(0).tolist()
    return {
        name: wholes[name].flatten()[start : start + piece.numel()]
        for start, (name, piece) in zip(starts, slices.items(), strict=True)
    }


def _shard_group(model: nn.Module) -> dist.ProcessGroup | None:
    """The processes whose slices make up a whole; None where each holds the whole."""
    if not isinstance(model, FullyShardedDataParallel) or model.sharding_strategy is ShardingStrategy.NO_SHARD:
        return None
    return model.process_group


def _lengths(model: FullyShardedDataParallel, slices: dict[str, Tensor]) -> Tensor:
    """Numbers in the slices of all processes of a group, a row a process."""
    own = torch.tensor([piece.numel() for piece in slices.values()], device=model.compute_device)
    rows = [torch.empty_like(own) for _ in range(dist.get_world_size(model.process_group))]
    dist.all_gather(rows, own, group=model.process_group)
    return torch.stack(rows).cpu()
