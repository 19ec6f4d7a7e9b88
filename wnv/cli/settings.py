"""Read settings of a composed configuration, and check their types."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from omegaconf import DictConfig, OmegaConf

_WORDS = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    list: "a list, such as [0,10]",
    dict: "a mapping, such as {degrees: 90}",
}


def plain(cfg: DictConfig, name: str) -> Any:
    """Return a setting as plain Python, its interpolations resolved."""
    value = cfg[name]
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def path_setting(cfg: DictConfig, name: str) -> str:
    """Return a path, URL or name as text, `~` expanded, even if it looks like a number."""
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
    """Return a setting that must be true or false: `no` is text to Hydra, and text is true to Python."""
    check_setting(name, cfg[name], bool)
    return cfg[name]


def check_setting(name: str, value: Any, kind: Any) -> None:
    """Check a value against a type annotation.

    Args:
        name: The setting, as it is typed.
        value: Its plain value.
        kind: Any annotation: a type, `Literal[...]`, `list[...]`, a union, ...

    Raises:
        ValueError: If the value does not fit.
    """
    if not fits(value, kind):
        options = [option for option in _options(kind) if option is not NoneType]
        words = dict.fromkeys(_describe(option) for option in options if not (option is int and float in options))
        unset = " or null" if NoneType in _options(kind) else ""
        raise ValueError(f"{name} must be {' or '.join(words)}{unset}, got {value!r}")


def fits(value: Any, kind: Any) -> bool:
    """Whether a plain value of a configuration can be passed as an argument annotated with `kind`."""
    if isinstance(value, dict) and "_target_" in value:
        return True  # known only when it is built
    first, *others = _options(kind)
    if others:
        return fits(value, first) or any(fits(value, option) for option in others)
    kind = first
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin is Literal:
        return value in arguments
    if not isinstance(origin, type) or origin in (object, Any, Callable):
        return True
    if origin is NoneType:
        return value is None
    if origin in (bool, str):
        return isinstance(value, origin)
    if origin in (int, float):
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return False
        return origin is float or float(value).is_integer()
    if isinstance(value, list) and origin is tuple:
        return _items_fit(value, arguments, is_tuple=True)
    if isinstance(value, list):
        return _is_base(origin, list) and _items_fit(value, arguments, is_tuple=False)
    if isinstance(value, dict):
        return _is_base(origin, dict) and (len(arguments) < 2 or all(fits(v, arguments[1]) for v in value.values()))
    return isinstance(value, str) and (_is_base(origin, Path) or not _is_built(origin))


def _is_base(kind: Any, derived: type) -> bool:
    try:
        return issubclass(derived, kind)
    except TypeError:  # no class, or a protocol that cannot be checked
        return False


def _items_fit(values: list[Any], kinds: tuple[Any, ...], *, is_tuple: bool) -> bool:
    if is_tuple and kinds and kinds[-1] is not Ellipsis:
        return len(values) == len(kinds) and all(map(fits, values, kinds))
    return not kinds or all(fits(value, kinds[0]) for value in values)


def _is_built(kind: type) -> bool:
    """Whether values of a class come from a `_target_`, not from text as those of `torch.device` and enums do."""
    return not hasattr(kind, "__members__") and kind.__module__ != "torch"


def _options(kind: Any) -> tuple[Any, ...]:
    if get_origin(kind) is Annotated:
        return _options(get_args(kind)[0])
    if get_origin(kind) in (UnionType, Union):
        return tuple(option for part in get_args(kind) for option in _options(part))
    return (NoneType if kind is None else object if isinstance(kind, TypeVar) else kind,)


def _describe(kind: Any) -> str:
    origin = get_origin(kind) or kind
    if origin is Literal:
        return " or ".join(map(str, get_args(kind)))
    if origin in _WORDS:
        return _WORDS[origin]
    if origin is tuple or _is_base(origin, list):
        sizes = [part for part in get_args(kind) if part is not Ellipsis]
        numbers = f" of {len(sizes)} values" if origin is tuple and len(sizes) == len(get_args(kind)) > 0 else ""
        return f"a list{numbers}, such as [0,10]"
    if _is_base(origin, dict):
        return _WORDS[dict]
    if _is_base(origin, Path):
        return "a path"
    return f"an object of {getattr(origin, '__name__', origin)} with its _target_"
