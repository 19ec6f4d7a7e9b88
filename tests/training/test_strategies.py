from collections.abc import Callable

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy

from wnv.training.strategies import DataParallelStrategy, settle_strategy


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_devices_that_lightning_knows_keep_their_strategy(device: str) -> None:
    for strategy in ("auto", "ddp", DDPStrategy(), DataParallelStrategy()):
        settled = settle_strategy(strategy, device=torch.device(device), devices=2, num_nodes=1)
        assert settled is strategy


def test_a_hook_that_lightning_would_pass_over_in_silence_is_told(fake: Callable) -> None:
    strategy = fake(DataParallelStrategy, _ddp_comm_hook=print, root_device=torch.device("cpu"))
    with pytest.warns(UserWarning, match=r"ddp_comm_hook is ignored on cpu: it needs CUDA"):
        strategy._register_ddp_hooks()
