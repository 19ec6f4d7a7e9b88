"""Processes that share an evaluation: started by torchrun, each with a share of the examples."""

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed

from wnv.runtime.device import device_module

# What one process may be ahead of another at the end: a share of a long evaluation, on a slower machine.
_PATIENCE = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this one is. They exchange a few small values, over the CPU, on whatever device.

    Attributes:
        rank: This process, 0 <= rank < world_size.
        world_size: How many processes share the examples.
    """

    rank: int = 0
    world_size: int = 1

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in their order; returns when all have given theirs."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        distributed.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Return when all processes have come here."""
        self.gather(None)


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """The processes that torchrun started with this one, joined inside the block; this one alone without torchrun.

    Raises:
        ValueError: If the environment names a number of processes and not which one this is.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield Ranks()
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ValueError(
            f"WORLD_SIZE={world_size} is set and {', '.join(missing)} is not; start several processes by torchrun, or "
            "unset WORLD_SIZE"
        )
    distributed.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield Ranks(rank=distributed.get_rank(), world_size=world_size)
    finally:
        distributed.destroy_process_group()


def own_device(device: torch.device) -> torch.device:
    """The accelerator of this process among those of its machine; a CPU is everyone's.

    Raises:
        ValueError: If there are more processes than accelerators.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if device.type == "cpu" or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return device
    count = device_module(device).device_count()
    if local_rank >= count:
        raise ValueError(
            f"process {local_rank} of this machine has no {device.type} device of its own, there are {count}; set "
            f"--nproc-per-node={count}, or device=cpu"
        )
    device_module(device).set_device(local_rank)
    return torch.device(device.type, local_rank)
