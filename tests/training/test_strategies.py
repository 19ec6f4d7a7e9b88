import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy

from wnv.training.strategies import DataParallelStrategy, settle_strategy


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_devices_that_lightning_knows_keep_their_strategy(device: str) -> None:
    for strategy in ("auto", "ddp", DDPStrategy(), DataParallelStrategy()):
        settled = settle_strategy(strategy, device=torch.device(device), devices=2, num_nodes=1)
        assert settled is strategy
