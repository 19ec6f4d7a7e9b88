"""One process of a shared evaluation; arguments: OUT, whether to resume, whether to die halfway."""

import os
import sys

import torch

from wnv.evaluation.evaluator import evaluate
from wnv.evaluation.ranks import joined_ranks
from wnv.models.konet import KoNet
from wnv.synthetic.dataset import SyntheticDataset


def model() -> KoNet:
    torch.manual_seed(0)
    return KoNet(dim=32, num_layers=1, num_heads=2, mlp_dim=32)


def dataset() -> SyntheticDataset:
    return SyntheticDataset(num_scenes=9, seed=3, image_size=(16, 24), num_context=2, num_target=2)


def run(out: str, *, resume: bool, dies: bool) -> None:
    torch.set_num_threads(1)
    with joined_ranks() as ranks:

        def die(_record: object) -> None:
            if dies and ranks.rank == ranks.world_size - 1:
                os._exit(9)

        summary = evaluate(
            model(),
            dataset(),
            device=torch.device("cpu"),
            out=out,
            batch_size=2,
            resume=resume,
            ranks=ranks,
            on_record=die,
        )
        sys.stdout.write(f"{ranks.rank} {summary.main.model['psnr'].mean} {summary.num_processes}\n")


if __name__ == "__main__":
    run(sys.argv[1], resume="resume" in sys.argv, dies="die" in sys.argv)
