"""Settings of a resumed run: its own configuration, with what is set now on top."""

import pkgutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from wnv.cli.overrides import parse
from wnv.training.run_folder import CONFIG_FILE, STARTS_FILE, flatten_config, read_lines

OWN_RUN = ("last", "auto")
"""Values of `resume` that continue the run of `run_dir`; others are the checkpoint of another run."""

# Settings of this start: where it runs and what it continues.
_OF_THE_START = ("resume", "run_dir", "paths")
_OF_THE_MACHINE = ("accelerator", "devices", "num_nodes", "default_root_dir")


def with_own_overrides(words: Sequence[str]) -> list[str]:
    """Return a command line that resumes a run with the overrides that the run was started with in front.

    Overrides of the same key are left out. Settings of groups that only the run has chosen can thus be set.

    Args:
        words: Flags and overrides as typed.
    """
    given = {_key(word): word for word in words}
    resume, run_dir = (_value(given.get(name)) for name in ("resume", "run_dir"))
    if resume not in OWN_RUN or run_dir is None or {"-m", "--multirun"} & {*words}:
        return [*words]
    return [*(word for word in own_overrides(Path(run_dir)) if _key(word) not in given), *words]


def own_overrides(run_dir: Path) -> list[str]:
    """Return the overrides of a run's last start; none if it has no record of them."""
    starts = read_lines(run_dir / STARTS_FILE)
    words = starts[-1].get("overrides") or [] if starts else []
    return [word for word in words if _key(word) not in _OF_THE_START]


def own_configuration(cfg: DictConfig, *, run_dir: Path, overrides: Sequence[str]) -> DictConfig:
    """Return the configuration in a run's folder, changed by the overrides that the run was not started with.

    Args:
        cfg: What the run's and the given overrides compose.
        run_dir: Folder of the run.
        overrides: The run's and the given overrides.
    """
    file = run_dir / CONFIG_FILE
    if cfg.resume not in OWN_RUN or not file.is_file():
        return cfg
    saved: Any = OmegaConf.to_container(OmegaConf.load(file))
    composed: Any = OmegaConf.to_container(cfg, resolve=True)
    settings = _fill(_moved(saved, str(saved.get("run_dir")), str(run_dir)), composed)
    own = own_overrides(run_dir)
    if any(word not in own and _key(word) not in _OF_THE_START for word in overrides):
        try:
            before = flatten_config(_compose([*own, *(word for word in overrides if _key(word) in _OF_THE_START)]))
        except HydraException:  # the run has options that this version lacks, and that are replaced now
            return cfg
        after = flatten_config(composed)
        for name in [*before, *after]:
            if name not in after:
                _remove(settings, name)
            elif name not in before or before[name] != after[name]:
                _set(settings, name, after[name])
    for name in _OF_THE_START:
        settings[name] = composed[name]
    settings["trainer"] |= {name: composed["trainer"][name] for name in _OF_THE_MACHINE}
    result: Any = OmegaConf.create(settings)
    OmegaConf.set_struct(result, True)
    return result


def is_known(target: Any) -> bool:
    """Whether a class or function exists, so that it can be built."""
    try:
        pkgutil.resolve_name(str(target))
    except (ImportError, AttributeError, ValueError):
        return False
    return True


def _compose(overrides: Sequence[str]) -> Any:
    hydra_config = HydraConfig.get()
    words = [*overrides, *(word for word in hydra_config.overrides.hydra if word.startswith("hydra.searchpath"))]
    loader = GlobalHydra.instance().config_loader()
    cfg = loader.load_configuration(hydra_config.job.config_name, words, RunMode.RUN)
    OmegaConf.set_struct(cfg, False)
    del cfg["hydra"]
    return OmegaConf.to_container(cfg, resolve=True)


def _fill(saved: Any, composed: Any) -> Any:
    """Add settings that the run's version of wnv did not have; take parts whose class has been renamed from now."""
    if not (isinstance(saved, dict) and isinstance(composed, dict)):
        return saved
    if saved.get("_target_") != composed.get("_target_"):
        return saved if is_known(saved.get("_target_")) else composed
    filled = {name: _fill(value, composed[name]) if name in composed else value for name, value in saved.items()}
    return filled | {name: value for name, value in composed.items() if name not in saved}


def _moved(tree: Any, old: str, new: str) -> Any:
    """Replace the folder of a run in all settings."""
    if isinstance(tree, dict):
        return {name: _moved(value, old, new) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_moved(value, old, new) for value in tree]
    is_inside = isinstance(tree, str) and (tree == old or tree.startswith(f"{old}/"))
    return new + tree[len(old) :] if is_inside else tree


def _set(settings: dict[str, Any], name: str, value: Any) -> None:
    *groups, last = name.split(".")
    for group in groups:
        if not isinstance(settings.get(group), dict):
            settings[group] = {}
        settings = settings[group]
    settings[last] = value


def _remove(settings: dict[str, Any], name: str) -> None:
    group, _, rest = name.partition(".")
    if not rest:
        settings.pop(group, None)
    elif isinstance(inner := settings.get(group), dict):
        _remove(inner, rest)
        if not inner:
            del settings[group]


def _key(word: str) -> str | None:
    override = parse(word)
    return None if override is None else override.key_or_group


def _value(word: str | None) -> str | None:
    override = None if word is None else parse(word)
    return None if override is None else str(override.value())
