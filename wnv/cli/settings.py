"""Settings as people type them: what a configuration holds, checked before anything relies on it."""

import os
import re
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from omegaconf import DictConfig, OmegaConf

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    dict: "named values, as {degrees: 90}",
}


def plain(cfg: DictConfig, name: str) -> Any:
    """The value of a setting without OmegaConf's wrapping, its interpolations resolved."""
    value = cfg[name]
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def path_setting(cfg: DictConfig, name: str) -> str:
    """A setting that is a path, a URL or a name: a text even if it looks like a number, `~` made the home folder."""
    return os.path.expanduser(str(cfg[name]))


def local_path_setting(cfg: DictConfig, name: str) -> Path:
    """A setting that is a local path, `~` expanded.

    Raises:
        ValueError: If it is a URL, which would become a folder named `s3:`.
    """
    path = path_setting(cfg, name)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path):
        raise ValueError(f"{name} must be a local path, got {path}; download it, or mount it as a folder")
    return Path(path)


def switch(cfg: DictConfig, name: str) -> bool:
    """A setting that is true or false.

    Raises:
        ValueError: If it is anything else: a `no` is a text to Hydra, and a text counts as true to Python.
    """
    check_setting(name, cfg[name], bool)
    return cfg[name]


def check_setting(name: str, value: Any, kind: Any) -> None:
    """Refuse a value that is not of the kind a function declares for it.

    Args:
        name: The setting, as it is typed.
        value: Its plain value.
        kind: A type, `Literal[...]`, `list[...]`, or a union of them, with None for what may be left out.

    Raises:
        ValueError: If the value is none of these.
    """
    if not _is_a(value, kind):
        kinds = _kinds(kind)
        hidden = {type(None), int} if float in kinds else {type(None)}
        words = [_words(option) for option in kinds if option not in hidden]
        unset = "; null leaves it out" if type(None) in kinds else ""
        raise ValueError(f"{name} must be {' or '.join(words)}, got {value!r}{unset}")


def _kinds(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (UnionType, Union) else (kind,)


def _is_a(value: Any, kind: Any) -> bool:
    if len(_kinds(kind)) > 1:
        return any(_is_a(value, option) for option in _kinds(kind))
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_is_a(item, get_args(kind)[0]) for item in value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    return "a list of numbers, as [0,10]" if get_origin(kind) is list else _WORDS[kind]
