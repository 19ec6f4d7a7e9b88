"""Processes that share an evaluation, started by torchrun."""

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed

from wnv.runtime.device import device_module

_TIMEOUT = datetime.timedelta(days=1)  # a process waits at the end for slower ones


@dataclass(frozen=True)
class Ranks:
    """The rank of this process among `world_size`. Processes exchange small values over the CPU, on every device."""

    rank: int = 0
    world_size: int = 1

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank; waits for all of them."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        distributed.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Wait for all processes."""
        self.gather(None)


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Join the processes started by torchrun; without torchrun, this process is alone.

    Raises:
        ValueError: If the environment sets the world size but not the rank or master address.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield Ranks()
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ValueError(
            f"WORLD_SIZE={world_size} is set but not {', '.join(missing)}; start processes with torchrun, or unset "
            "WORLD_SIZE"
        )
    distributed.init_process_group("gloo", timeout=_TIMEOUT)
    try:
        yield Ranks(rank=distributed.get_rank(), world_size=world_size)
    finally:
        distributed.destroy_process_group()


def own_device(device: torch.device) -> torch.device:
    """The accelerator of this process among those of its machine; the CPU is shared.

    Raises:
        ValueError: If there are more processes than accelerators.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if device.type == "cpu" or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return device
    count = device_module(device).device_count()
    if local_rank >= count:
        raise ValueError(
            f"local rank {local_rank} needs its own {device.type} device, but there are {count}; set "
            f"--nproc-per-node={count} or device=cpu"
        )
    device_module(device).set_device(local_rank)
    return torch.device(device.type, local_rank)
