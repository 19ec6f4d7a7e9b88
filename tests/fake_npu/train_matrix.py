"""One of two processes that train under a list of strategies and precisions, and record the results.

`python train_matrix.py DEVICE FOLDER STRATEGY:PRECISION:PORT ...` with LOCAL_RANK set; FOLDER/STRATEGY-PRECISION.pt
holds the gradients of the first step, dtypes inside the network, and the state of the loss scaler.
"""

import os
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader

from wnv.losses.image_loss import ImageLoss
from wnv.models.konet import KoNet
from wnv.runtime.device import device_module, resolve_device
from wnv.training.module import ViewSynthesisModule
from wnv.training.precision import PRECISIONS, make_precision
from wnv.training.strategies import DataParallelStrategy, FullyShardedStrategy
from wnv.types import Batch, Cameras, Views

HEIGHT, WIDTH = 16, 24
STRATEGIES = {
    "ddp": DataParallelStrategy,
    "fsdp": FullyShardedStrategy,
    "fsdp_grad": partial(FullyShardedStrategy, sharding="SHARD_GRAD_OP"),
    "fsdp_hybrid": partial(FullyShardedStrategy, sharding="HYBRID_SHARD"),  # of one machine: one group
    "fsdp_offload": partial(FullyShardedStrategy, cpu_offload=True),
}


def make_batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def views(num_views: int) -> Views:
        K = torch.tensor([[20.0, 0, WIDTH / 2], [0, 20, HEIGHT / 2], [0, 0, 1]]).repeat(2, num_views, 1, 1)
        camtoworld = torch.eye(4).repeat(2, num_views, 1, 1)
        camtoworld[..., :3, 3] = torch.randn(2, num_views, 3, generator=generator)
        return Views(
            images=torch.rand(2, num_views, 3, HEIGHT, WIDTH, generator=generator),
            cameras=Cameras(K=K, camtoworld=camtoworld, width=WIDTH, height=HEIGHT),
            times=torch.zeros(2, num_views),
        )

    return Batch(scenes=("a", "b"), context=views(2), target=views(3))


def whole(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor):
            tensor = tensor.to(tensor.device_mesh.device_type).full_tensor()
        found[name] = tensor.detach().cpu().clone()
    return found


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters()}


class Record(L.Callback):
    """Record the first step. In float16, break a gradient in the second step: if sharded, in one process only."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    def on_fit_start(self, trainer: L.Trainer, pl_module: ViewSynthesisModule) -> None:
        block = pl_module.model.transformer.blocks[0]

        def see_block(module: torch.nn.Module, arguments: tuple, keywords: dict) -> None:
            maps = keywords["context_maps"]
            tensors = [part for part in (getattr(maps, name) for name in vars(maps)) if torch.is_tensor(part)]
            self.seen["maps"] = {str(tensor.dtype) for tensor in tensors}

        def see_linear(module: torch.nn.Module, arguments: tuple, output: torch.Tensor) -> None:
            self.seen |= {"product": str(output.dtype), "weight": str(module.weight.dtype), "at": output.device.type}

        block.register_forward_pre_hook(see_block, with_kwargs=True)
        block.mlp.expand.register_forward_hook(see_linear)

    def on_after_backward(self, trainer: L.Trainer, pl_module: ViewSynthesisModule) -> None:
        if trainer.global_step == 1 and trainer.precision == "16-mixed":
            self.seen["weights_before"] = whole(dict(pl_module.model.named_parameters()))
            self.seen["scale_before"] = trainer.precision_plugin.scaler.get_scale()
            gradient = next(pl_module.model.parameters()).grad
            gradient = gradient.to_local() if isinstance(gradient, DTensor) else gradient
            if trainer.global_rank == 1 or isinstance(trainer.strategy, DataParallelStrategy):
                gradient.view(-1)[:1] = torch.inf

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: ViewSynthesisModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if trainer.global_step == 0:
            self.seen["gradients"] = whole(gradients(pl_module.model))

    def on_train_end(self, trainer: L.Trainer, pl_module: ViewSynthesisModule) -> None:
        self.seen["metrics"] = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.seen["weights"] = whole(dict(pl_module.model.named_parameters()))
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self.seen["scale"] = None if scaler is None else scaler.get_scale()


def main(device_name: str, folder: str, *cases: str) -> None:
    device, rank = resolve_device(device_name), int(os.environ["LOCAL_RANK"])
    warnings.filterwarnings("ignore")
    for case in cases:
        strategy, precision, os.environ["MASTER_PORT"] = case.split(":")
        torch.manual_seed(1)
        model = KoNet(dim=32, num_layers=2, num_heads=2, mlp_dim=64)
        module = ViewSynthesisModule(model=model, loss=ImageLoss(), lr=1e-3, warmup_steps=1)
        record = Record()
        trainer = L.Trainer(
            accelerator=device.type,
            devices=2,
            strategy=STRATEGIES[strategy](),
            plugins=[make_precision(PRECISIONS[precision], device)],
            max_steps=2,
            callbacks=[record],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=folder,
        )
        batches = DataLoader(
            [make_batch(2 * step + rank) for step in range(2)], batch_size=None, collate_fn=lambda b: b
        )
        trainer.fit(module, batches, batches)
        if device.type == "npu":
            record.seen["backend"] = torch.distributed.get_backend()
            record.seen["num_calls"] = device_module(device).num_calls()
        torch.save(record.seen, Path(folder) / f"{strategy}-{precision}.{rank}.pt")
        torch.distributed.barrier()
        if case != cases[-1]:
            torch.distributed.destroy_process_group()
    # Everything is saved: threads of gloo, by now of a dozen groups, sometimes abort an interpreter that exits.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
