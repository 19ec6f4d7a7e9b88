"""Run a benchmark of `wnv-bench` once its configuration is composed."""

from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from wnv.benchmarks.tables import Table, describe_machine


def run(cfg: DictConfig) -> None:
    """Run the benchmark and print its table."""
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    out = None if cfg.out is None else Path(cfg.out).expanduser()
    if out is not None:
        if out.exists():
            raise FileExistsError(f"{out} exists; choose another out=")
        out.parent.mkdir(parents=True, exist_ok=True)  # now, and not after an hour of measuring
    table: Table = instantiate(cfg.bench, _convert_="all")
    print(f"{table.to_markdown()}\n\n{describe_machine()}")
    if out is not None:
        table.write_json(out)
