"""Loggers of a run: one Weights & Biases run per training, continued when the training is resumed."""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf, open_dict

from wnv.cli.overrides import quote
from wnv.cli.settings import plain
from wnv.cli.sweep import swept_overrides

# Settings of a sweep's command line that say nothing about a job.
_NO_NAMES = ("run_dir", "device", "experiment", "logger", "paths", "resume", "name")


def name_wandb_run(cfg: DictConfig, overrides: Sequence[str]) -> list[str]:
    """Name the W&B run of a sweep's job by its own overrides, in a group named as the sweep's folder.

    Returns:
        The settings as overrides, for a job in other processes.
    """
    part = _wandb_part(cfg)
    if part is None:
        return []
    own = swept_overrides(overrides) or [
        word for word in overrides if not word.lstrip("+~").partition("=")[0].startswith(_NO_NAMES)
    ]
    settings = {"name": ",".join(own), "group": Path(HydraConfig.get().sweep.dir).name}
    given = {name for name in settings if part.get(name) not in (None, cfg.name)}
    with open_dict(part):
        part.update({name: value for name, value in settings.items() if name not in given})
    return [f"logger.wandb.{name}={quote(value)}" for name, value in settings.items() if name not in given]


def identify_wandb_run(cfg: DictConfig) -> None:
    """Give the W&B run an id, which the run's configuration keeps, and check that it can be logged.

    Raises:
        ValueError: If there is no API key, and the run is not offline.
    """
    part = _wandb_part(cfg)
    if part is None:
        return
    mode = os.environ.get("WANDB_MODE", "online")
    if rank_zero_only.rank == 0 and mode in ("online", "shared") and not plain(part, "offline"):
        import wandb

        if not wandb.login(prompt=False, verify=False):
            raise ValueError(
                "logger=wandb needs an API key: run `wandb login`, or set WANDB_API_KEY; without an account set "
                "logger.wandb.offline=true"
            )
    if part.get("id") is None:
        with open_dict(part):
            part.id = secrets.token_hex(4)


def log_facts(loggers: Sequence[Logger], cfg: DictConfig, facts: dict[str, Any]) -> None:
    """Log the resolved configuration and the facts of this start to every logger."""
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    for logger in loggers:
        logger.log_hyperparams(settings | {"start": facts})


@contextmanager
def closed_at_end(loggers: Sequence[Logger]) -> Iterator[None]:
    """End the W&B run at the end of the block, so that the next training of this process has its own."""
    code = 1
    try:
        yield
        code = 0
    finally:
        if rank_zero_only.rank == 0 and any(isinstance(logger, WandbLogger) for logger in loggers):
            import wandb

            wandb.finish(exit_code=code)


def _wandb_part(cfg: DictConfig) -> DictConfig | None:
    part = OmegaConf.select(cfg, "logger.wandb")
    return part if isinstance(part, DictConfig) and str(part.get("_target_")).endswith("WandbLogger") else None
