"""One of the processes that train several runs in sequence; test_strategies.py starts them.

`python several_runs.py FOLDER NUM_PROCESSES CASE ...` with LOCAL_RANK set. A case `PORT:NAME:OVERRIDE:...` is a
run in FOLDER/NAME with these overrides and this port for its process group.
"""

import os
import sys
import warnings
from pathlib import Path

import torch
from hydra import compose, initialize_config_module

from wnv.cli.train import train

SETTINGS = [
    "experiment=smoke",
    "device=cpu",
    "trainer.max_steps=6",
    "trainer.val_check_interval=3",
    "data.num_val_scenes=3",  # of two processes one has two and one has one
    "callbacks=ema",
    "callbacks.checkpoints.every_n_steps=3",
    "callbacks.checkpoints.monitor=null",
    "callbacks.images=null",
    "callbacks.progress=null",
]


def main(folder: str, num_processes: str, *cases: str) -> None:
    warnings.filterwarnings("ignore")
    for case in cases:
        os.environ["MASTER_PORT"], name, *overrides = case.split(":")
        run_dir = Path(folder) / name
        # A step sees the same scenes for any number of processes.
        sizes = [f"trainer.devices={num_processes}", f"data.batch_size={4 // int(num_processes)}"]
        with initialize_config_module("wnv.conf", version_base="1.3"):
            cfg = compose("train", [*SETTINGS, *sizes, *overrides, f"run_dir={run_dir}"])
        train(cfg, run_dir=run_dir)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
