"""Explain why a configuration could not be composed: the mistyped key or option, and the nearest one that exists."""

import re
import shutil
from collections.abc import Sequence
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from wnv.cli.composition import composed
from wnv.cli.overrides import did_you_mean, nearest, parse
from wnv.cli.schema import INSTEAD, dotted_keys

_ALIASES = {"device=gpu": "cuda"}
_INSTEAD = {
    "hydra/sweeper=optuna": "call wnv.train from an Optuna objective in Python, as conf/README.md shows",
    "hydra/launcher=submitit_slurm": "hydra/launcher=slurm needs submitit: pip install 'wnv[slurm]'",
}


def check_launcher(arguments: Sequence[str]) -> None:
    """Check that Slurm is there before a sweep is submitted to it.

    Raises:
        ValueError: With a launcher that works here.
    """
    chosen = [word for word in arguments if word in ("hydra/launcher=slurm", "hydra/launcher=submitit_slurm")]
    if chosen and {"-m", "--multirun"} & {*arguments} and shutil.which("srun") is None:
        raise ValueError(
            f"{chosen[0]} needs Slurm's srun, which is not found here; start the sweep on a login node of the cluster, "
            "or leave the launcher out to run one job after the other"
        )


def explain(error: Exception, arguments: Sequence[str], *, config_path: str, config_name: str) -> str | None:
    """Return one line for a mistake in the overrides; None where Hydra's own message is as good.

    Args:
        error: What the composition raised.
        arguments: The command line.
        config_path: Package of the primary configuration.
        config_name: Primary configuration.
    """
    text = str(error)
    if isinstance(error, MissingConfigException):
        return _explain_option(error)
    if unread := re.match(r"Error parsing override '([^'=]*)'", text):
        return f"{unread[1]!r} is no setting; write GROUP=NAME or KEY=VALUE, see --help"
    found = re.match(
        r"Could not (override|delete from config\.|append to config\. An item is already at) '([^']+)'", text
    )
    is_null = text.startswith("Config group override must be a string or a list. Got NoneType")
    if found is None and not is_null:
        return None
    typed = get_args_parser().parse_known_args([*arguments])[0]
    words = {word: parse(word) for word in typed.overrides}
    if is_null:
        names = [item.key_or_group for item in words.values() if item is not None and item.value() is None]
        return f"{' or '.join(names)} must be one of its group's options, got null"
    assert found is not None
    key = found[2]
    if found[1].startswith("append"):
        return f"{key} exists already; set it without +"
    if key in INSTEAD:
        return f"{key} must not be set; set {INSTEAD[key]} instead"
    others = [word for word, item in words.items() if item is None or item.key_or_group != key.partition("@")[0]]
    for kept in (others, []):
        try:
            with composed(config_name, kept, config_path=config_path, config_dir=typed.config_dir, is_run=False) as cfg:
                return _explain_key(key, OmegaConf.to_container(cfg))
        except (HydraException, OmegaConfBaseException, ValueError):  # a second mistake, or the values of a sweep
            continue
    return f"{key} is not a setting of this command"


def _explain_option(error: MissingConfigException) -> str | None:
    if error.missing_cfg_file is None or error.options is None or "/" not in error.missing_cfg_file:
        return None
    group, _, name = error.missing_cfg_file.lstrip("/").rpartition("/")
    options = ", ".join(error.options)
    file = re.match(r"In '([^']+)'", str(error))
    where = "" if file is None or "/" not in file[1] else f" (in {file[1]}.yaml)"
    choice = f"{group}={name}"
    near = _ALIASES.get(choice) or nearest(name, error.options)
    advice = _INSTEAD.get(choice) or f"{did_you_mean(near and f'{group}={near}')} Options: {options}".lstrip("; ")
    return f"{choice} does not exist{where}; {advice}"


def _explain_key(key: str, settings: Any) -> str:
    known = [name for name in dotted_keys(settings) if "_target_" not in name]
    group, _, rest = key.partition(".")
    if option := _nested_option(key):
        return f"{key} needs {option}"
    if rest and (options := _options_with(group, rest.split("."))):
        first = {"callbacks": "default", "logger": "csv"}.get(group)
        names = options if first is None or first in options else [f"[{first},{name}]" for name in options]
        choices = " or ".join(f"{group}={name}" for name in names)
        return f"{key} needs {choices}"
    name = key.rpartition(".")[2]
    same = [other for other in known if other.rpartition(".")[2] == name and other.startswith(f"{group}.")]
    if key in _groups():
        chosen = sorted(group for group in HydraConfig.get().runtime.choices if "hydra/" not in group)
        return f"{key} is not a group of this command; its groups are {', '.join(chosen)}"
    near = next(iter(same), None) or nearest(key, [*known, *_groups()])
    if near is None and not rest:  # a nested name without its group, such as image_size
        near = next((other for other in known if other.endswith(f".{key}")), None)
    if near is None:
        return f"{key} is not a setting of this command; its --help lists them"
    return f"{key} is not a setting of this command; did you mean {near}?"


def _groups() -> list[str]:
    return GlobalHydra.instance().config_loader().get_group_options("", results_filter=ObjectType.GROUP)


def _nested_option(key: str) -> str | None:
    """Return the options with this key of a group inside a group, such as those of `data/sampler`."""
    mounted = {}  # where the options of a group stand -> how it is chosen
    for choice in HydraConfig.get().runtime.choices:
        group, _, package = choice.partition("@")
        if "/" in group and not group.startswith("hydra/"):
            mounted[package or group.replace("/", ".")] = choice
    for package, choice in mounted.items():
        if key.startswith(f"{package}."):
            names = key.removeprefix(f"{package}.").split(".")
            if options := _options_with(choice.partition("@")[0], names):
                return " or ".join(f"{choice}={name}" for name in options)
    return None


def _options_with(group: str, names: Sequence[str]) -> list[str]:
    """Return the options of a group whose files set `group.names`."""
    loader = GlobalHydra.instance().config_loader()
    found = []
    for option in loader.get_group_options(group):
        result = loader.repository.load_config(f"{group}/{option}")  # pyright: ignore[reportAttributeAccessIssue]
        if result is not None and ".".join(names) in dotted_keys(OmegaConf.to_container(result.config)):
            found.append(option)
    return found
