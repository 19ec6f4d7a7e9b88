"""Make one training step in float64: `python sharded_step.py FOLDER NUM_PROCESSES CASE:PORT ...` on each rank.

LOCAL_RANK is set; a CASE is STRATEGY-NUM_BATCHES or STRATEGY-NUM_BATCHES-OPTIMIZER. Reads network and scenes from
FOLDER/given.pt and writes FOLDER/CASE.RANK.pt: the gradient, the weights after the step, and the bytes of weights,
gradients and moments held by this process.
"""

import os
import sys
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import lightning as L
import torch
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader

from wnv.losses.image_loss import ImageLoss
from wnv.models.konet import KoNet
from wnv.training.module import ViewSynthesisModule
from wnv.training.strategies import DataParallelStrategy, FullyShardedStrategy
from wnv.types import Batch, Views

STRATEGIES = {
    "ddp": DataParallelStrategy,
    "fsdp": FullyShardedStrategy,
    "hybrid": partial(FullyShardedStrategy, sharding="HYBRID_SHARD", num_replicas=2),
}


def num_bytes(tensors: list[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def join(batches: list[Batch]) -> Batch:
    def views(parts: list[Views]) -> Views:
        cameras = [part.cameras for part in parts]
        return Views(
            images=torch.cat([part.images for part in parts]),
            cameras=replace(
                cameras[0],
                K=torch.cat([camera.K for camera in cameras]),
                camtoworld=torch.cat([camera.camtoworld for camera in cameras]),
            ),
            times=torch.cat([part.times for part in parts]),
        )

    return Batch(
        scenes=tuple(name for batch in batches for name in batch.scenes),
        context=views([batch.context for batch in batches]),
        target=views([batch.target for batch in batches]),
    )


class Record(L.Callback):
    """The whole gradient before clipping, and the bytes of gradient, weights and moments held by this process."""

    def __init__(self) -> None:
        self.gradients: dict[str, torch.Tensor] = {}
        self.held: dict[str, int] = {}
        self.reduced: list[bool] = []
        self.weights: dict[str, torch.Tensor] = {}

    def on_after_backward(self, trainer: L.Trainer, pl_module: ViewSynthesisModule) -> None:
        self.reduced.append(any(parameter.grad is not None for parameter in pl_module.model.parameters()))

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: ViewSynthesisModule, optimizer: torch.optim.Optimizer
    ) -> None:
        parameters = dict(pl_module.model.named_parameters())
        self.held["weights"] = num_bytes([local(parameter.detach()) for parameter in parameters.values()])
        self.held["gradients"] = num_bytes([local(parameter.grad) for parameter in parameters.values()])
        for name, parameter in parameters.items():
            self.gradients[name] = whole(parameter.grad).detach().clone()

    def on_train_end(self, trainer: L.Trainer, pl_module: ViewSynthesisModule) -> None:
        states = trainer.optimizers[0].state.values()
        moments = [local(value) for state in states for name, value in state.items() if name != "step"]
        self.held["moments"] = num_bytes(moments)
        self.weights = {name: whole(value).detach().clone() for name, value in pl_module.model.named_parameters()}


def main(folder: str, num_processes: str, *cases: str) -> None:
    rank = int(os.environ["LOCAL_RANK"])
    warnings.filterwarnings("ignore")
    given = torch.load(Path(folder) / "given.pt", weights_only=False)
    for entry in cases:
        case, os.environ["MASTER_PORT"] = entry.split(":")
        strategy, num_batches, optimizer = (*case.split("-"), "adamw")[:3]
        model = KoNet(**given["config"])
        model.load_state_dict(given["weights"])
        module = ViewSynthesisModule(model=model, loss=ImageLoss(), optimizer=optimizer, warmup_steps=0).double()
        # Interleaved, as the sampler shares scenes out.
        share = given["scenes"][rank :: int(num_processes)]
        size = len(share) // int(num_batches)
        batches = [join(share[start : start + size]) for start in range(0, len(share), size)]
        record = Record()
        trainer = L.Trainer(
            accelerator="cpu",
            devices=int(num_processes),
            strategy=STRATEGIES[strategy](),
            max_steps=1,
            accumulate_grad_batches=int(num_batches),
            callbacks=[record],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=folder,
        )
        trainer.fit(module, DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch))
        torch.save(
            {name: getattr(record, name) for name in ("gradients", "weights", "held", "reduced")},
            Path(folder) / f"{case}.{rank}.pt",
        )
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
