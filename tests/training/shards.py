"""One of two processes of test_sharded_checkpoint.py: `python shards.py PORT FOLDER` with LOCAL_RANK set."""

import os
import resource
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

from wnv.checkpoints.layout import LAST
from wnv.checkpoints.sharded import read_sharded, save_sharded


def main(port: str, folder: Path) -> None:
    rank = int(os.environ["LOCAL_RANK"])
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    weight = distribute_tensor(torch.arange(300_000.0).view(3, 100_000), mesh, [Shard(0)])  # 2 rows and 1
    checkpoint = {
        "state_dict": {"model.a": weight},
        "ema_state_dict": {"a": weight * 2},
        "optimizer_states": [{"state": {0: {"exp_avg": weight * 3, "step": torch.tensor(7.0)}}, "param_groups": []}],
    }
    for step in (1, 2):
        save_sharded(checkpoint | {"global_step": step}, folder / "run" / LAST)
    read = read_sharded(folder / "run" / "step-00000002", like=lambda path: weight)
    state = read["optimizer_states"][0]["state"][0]
    is_same = torch.equal(state["exp_avg"].to_local(), 3 * weight.to_local()) and float(state["step"]) == 7
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if rank == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))  # less than its share
    begun = time.monotonic()
    try:
        save_sharded(checkpoint | {"global_step": 3}, folder / "run" / LAST)
        error = "none"
    except OSError as raised:
        error = f"{type(raised).__name__} {raised.errno}: {raised}"
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    torch.save([is_same, error, time.monotonic() - begun], folder / f"seen.{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
