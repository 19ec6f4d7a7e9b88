"""One process of a shared evaluation; arguments: OUT, whether to resume, whether to die halfway."""

import os
import sys
from typing import Any

import torch

from wnv.evaluation.evaluator import evaluate
from wnv.evaluation.ranks import joined_ranks
from wnv.models.konet import KoNet
from wnv.synthetic.dataset import SyntheticDataset
from wnv.types import Views


class Dying(KoNet):
    """Kills its process in the second batch, after warm-up and first batch."""

    num_encoded = 0

    def encode(self, context: Views) -> Any:
        self.num_encoded += 1
        if self.num_encoded == 3:
            os._exit(9)
        return super().encode(context)


def run(out: str, *, resume: bool, dies: bool) -> None:
    torch.set_num_threads(1)
    with joined_ranks() as ranks:
        torch.manual_seed(0)
        is_last = ranks.rank == ranks.world_size - 1
        model = (Dying if dies and is_last else KoNet)(dim=32, num_layers=1, num_heads=2, mlp_dim=32)
        summary = evaluate(
            model,
            SyntheticDataset(num_scenes=9, seed=3, image_size=(16, 24), num_context=2, num_target=2),
            device=torch.device("cpu"),
            out=out,
            batch_size=2,
            resume=resume,
            ranks=ranks,
        )
        sys.stdout.write(f"{ranks.rank} {summary.main.model['psnr'].mean} {summary.num_processes}\n")


if __name__ == "__main__":
    run(sys.argv[1], resume="resume" in sys.argv, dies="die" in sys.argv)
