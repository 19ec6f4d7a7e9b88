"""Sharded training: PyTorch's FSDP2, on the CPU (gloo) as on an accelerator."""

from datetime import timedelta

from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from typing_extensions import override

from wnv.models.konet import KoNet


class FullyShardedStrategy(ModelParallelStrategy):
    """Every process holds a slice of the weights, gradients and optimiser state, and reads its own share of the data.

    Lightning's own `auto` sizes shard the matrices within a node instead of the data (tensor parallelism).

    Args:
        save_distributed_checkpoint: Write a folder with a file a process instead of one whole file.
        process_group_backend: `gloo`, `nccl`, ...; None takes the device's own.
        timeout_s: How long processes wait for each other before they give up, in seconds.
    """

    def __init__(
        self,
        *,
        save_distributed_checkpoint: bool = False,
        process_group_backend: str | None = None,
        timeout_s: float | int = 1800,
    ) -> None:
        super().__init__(
            data_parallel_size=1,
            tensor_parallel_size=1,
            save_distributed_checkpoint=save_distributed_checkpoint,
            process_group_backend=process_group_backend,
            timeout=timedelta(seconds=timeout_s),
        )

    @override
    def setup_environment(self) -> None:
        # The number of processes is known only once the trainer has handed the devices over.
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()


def shard_model(model: KoNet, mesh: DeviceMesh) -> None:
    """Shard a model in place over a mesh: each transformer block by itself, then what is left.

    Weights of a block are gathered when it runs and given up after it, so that at most one block is whole at a time.
    """
    for block in model.transformer.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
