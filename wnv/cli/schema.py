"""Check a composed configuration against the signatures of its `_target_`s, before anything is built."""

import inspect
import pkgutil
import re
import typing
from collections.abc import Iterator
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from wnv.cli.early_checks import check_early
from wnv.cli.overrides import did_you_mean, nearest, parse
from wnv.cli.settings import check_setting
from wnv.cli.torchvision_fit import broken_torchvision

_SPECIAL = ("_target_", "_convert_", "_recursive_", "_partial_", "_args_")
INSTEAD = {"trainer.gradient_clip_val": "optim.clip_norm", "trainer.gradient_clip_algorithm": "optim.clip_norm"}
"""Settings that Lightning's users expect, and the ones that take their place."""
_RESOLVED = ("trainer.precision",)  # has a value of ours, `auto`; checked where it is resolved


def check_config(cfg: DictConfig) -> None:
    """Check every part of a configuration, and that every setting added with `+` is read by something.

    Raises:
        ValueError: With the setting, its value, and what it must be.
    """
    check_early(cfg)
    for path, part in _parts(cfg):
        check_part(path, part)
    check_added(cfg)


def check_part(path: str, part: DictConfig, *, target: str | None = None) -> None:
    """Check names and types of the settings of one object against the signature that they are passed to.

    Args:
        path: Where the object stands in the configuration.
        part: Its settings.
        target: Class or function; None takes the object's own `_target_`.
    """
    target = target or str(part["_target_"])
    parameters = _parameters(target)
    if parameters is None:
        return
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter, _ in parameters.values())
    names = [str(name) for name in part if name not in _SPECIAL]
    if replaced := next((f"{path}.{name}" for name in names if f"{path}.{name}" in INSTEAD), None):
        raise ValueError(f"{replaced} must not be set; set {INSTEAD[replaced]} instead")
    if unknown := [name for name in names if name not in parameters and not takes_any]:
        raise ValueError(_unknown(path, unknown, part, target, parameters))
    for name in (name for name in names if name in parameters and f"{path}.{name}" not in _RESOLVED):
        try:
            value = part[name]
            value = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        except OmegaConfBaseException:  # missing, or refers to what is: reported where it is read
            continue
        check_setting(f"{path}.{name}", value, parameters[name][1])


def check_added(cfg: DictConfig) -> None:
    """Check that each `+KEY=VALUE` of the command line is an argument of an object, or referred to by a setting."""
    hydra_config = HydraConfig.get()
    typed = [(word, parse(word)) for word in hydra_config.overrides.task]
    added = [item for _, item in typed if item is not None and (item.is_add() or item.is_force_add())]
    loader = GlobalHydra.instance().config_loader()
    known: list[str] | None = None
    for item in added:
        key = item.key_or_group
        if loader.get_group_options(key) or _is_read(cfg, key):
            continue
        if known is None:  # what there is without them
            others = [word for word, other in typed if other not in added]
            base = loader.load_configuration(hydra_config.job.config_name, others, RunMode.RUN)
            known = [*dotted_keys(OmegaConf.to_container(base)), *hydra_config.runtime.choices]
        if key in known:
            continue
        group = key.rpartition(".")[0]
        if group.startswith(("callbacks.", "logger.")) and group not in known:
            raise ValueError(f"{key}: {group} has no _target_; add +{group}._target_=CLASS")
        near = did_you_mean(nearest(key, known)) or "; its --help lists them"
        raise ValueError(f"{key} is not a setting of this command{near}")


def _is_read(cfg: DictConfig, key: str) -> bool:
    """Whether a key is or holds an object, belongs to one, or is referred to by an interpolation."""
    names = key.split(".")
    nodes = [OmegaConf.select(cfg, ".".join(names[: i + 1]), throw_on_missing=False) for i in range(len(names))]
    if any(isinstance(node, DictConfig) and "_target_" in node for node in nodes):
        return True
    if isinstance(nodes[-1], (DictConfig, ListConfig)) and any(True for _ in _parts(nodes[-1])):
        return True
    return re.search(rf"\$\{{{re.escape(key)}\W", OmegaConf.to_yaml(cfg)) is not None


def _parameters(target: str) -> dict[str, tuple[inspect.Parameter, Any]] | None:
    """Return the parameters of a class or function with their annotations; None where they cannot be known."""
    try:
        found = pkgutil.resolve_name(target)
    except Exception as error:
        if broken_torchvision(error) is not None:
            raise
        return None  # reported when it is built
    functions = [(found, found)]
    if inspect.isclass(found):
        functions = [(base, vars(base)["__init__"]) for base in found.__mro__ if "__init__" in vars(base)]
    parameters: dict[str, tuple[inspect.Parameter, Any]] = {}
    for owner, function in functions:
        try:
            own = inspect.signature(function).parameters
        except (TypeError, ValueError):
            break
        try:
            hints = typing.get_type_hints(function)
        except Exception:  # names that only type checkers know
            hints = {}
        extra = next((name for name, parameter in own.items() if parameter.kind is parameter.VAR_KEYWORD), None)
        parameters = {name: (parameter, hints.get(name, object)) for name, parameter in own.items()} | parameters
        # **kwargs of our classes are the arguments of the base class; elsewhere they may be anything.
        if extra is None or not owner.__module__.startswith("wnv."):
            break
        del parameters[extra]
    return parameters


def _parts(cfg: DictConfig | ListConfig, path: str = "") -> Iterator[tuple[str, DictConfig]]:
    if isinstance(cfg, DictConfig) and "_target_" in cfg and not OmegaConf.is_missing(cfg, "_target_"):
        yield path, cfg
    names: Any = range(len(cfg)) if isinstance(cfg, ListConfig) else [*cfg]
    for name in names:
        node = cfg._get_node(name)
        if isinstance(node, (DictConfig, ListConfig)) and not (
            node._is_none() or node._is_missing() or node._is_interpolation()
        ):
            yield from _parts(node, f"{path}.{name}".lstrip("."))


def dotted_keys(container: Any, path: str = "") -> Iterator[str]:
    """Yield the dotted name of every setting, parents before children."""
    if isinstance(container, dict):
        for name, value in container.items():
            yield f"{path}.{name}".lstrip(".")
            yield from dotted_keys(value, f"{path}.{name}".lstrip("."))


def _unknown(path: str, names: list[str], part: DictConfig, target: str, parameters: dict[str, Any]) -> str:
    keys = [f"{path}.{name}" for name in names]
    message = f"{', '.join(keys)}: not an argument of {target}"
    nested = [other for other in dotted_keys(OmegaConf.to_container(part)) if other.endswith(f".{names[0]}")]
    config = HydraConfig.get() if HydraConfig.initialized() else None
    if config is None or any(word.lstrip("+").startswith(f"{keys[0]}=") for word in config.overrides.task):
        close = next(iter(nested), None) or nearest(names[0], parameters)
        return f"{message}{did_you_mean(close and f'{path}.{close}')}"
    experiment = config.runtime.choices.get("experiment")
    setter = f" (experiment={experiment} sets it)" if experiment else ""
    instead = f"set {path}.{nested[0]} and " if nested else ""
    them = "it" if len(keys) == 1 else "them"
    return f"{message}{setter}; {instead}leave {them} out with {' '.join(f'~{key}' for key in keys)}"
