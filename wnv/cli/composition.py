"""Compose configurations outside `hydra.main`."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from wnv.cli.app import CONFIG_PATH
from wnv.cli.overrides import readable


@contextmanager
def composed(
    config_name: str,
    overrides: Sequence[str] | str = (),
    *,
    config_path: str = CONFIG_PATH,
    config_dir: str | Path | None = None,
    is_run: bool = True,
) -> Iterator[DictConfig]:
    """Compose a configuration, and describe the run in `HydraConfig` as `hydra.main` does.

    Args:
        config_name: Primary configuration.
        overrides: Overrides as typed on the command line.
        config_path: Package of the primary configuration.
        config_dir: Folder of further configuration files, as `--config-dir`.
        is_run: Whether something is to be run: names its folder, which needs heavy imports.
    """
    words = [readable(word) for word in ([overrides] if isinstance(overrides, str) else overrides)]
    if config_dir is not None:
        words.append(f"hydra.searchpath=[{readable(f'x=file://{Path(config_dir).absolute()}').removeprefix('x=')}]")
    with initialize_config_module(config_path.removeprefix("pkg://"), version_base="1.3"):
        with described(compose(config_name, words, return_hydra_config=True), is_run=is_run) as cfg:
            yield cfg


@contextmanager
def described(cfg: DictConfig, *, is_run: bool = True) -> Iterator[DictConfig]:
    """Describe the run in `HydraConfig`, and return the configuration without its node `hydra`."""
    previous = HydraConfig.instance().cfg
    with read_write(cfg.hydra), open_dict(cfg.hydra):
        cfg.hydra.job.num = 0
        if is_run:
            cfg.hydra.runtime.output_dir = str(Path(cfg.hydra.run.dir).absolute())
    HydraConfig.instance().set_config(cfg)
    cfg = copy.deepcopy(cfg)  # interpolations of the hydra node refer to the original
    with open_dict(cfg):
        del cfg["hydra"]
    OmegaConf.set_struct(cfg, True)
    try:
        yield cfg
    finally:
        HydraConfig.instance().cfg = previous
