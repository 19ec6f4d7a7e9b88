"""The canonical list on disk: one JSON object per line, written atomically and validated when read."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.manifest.urls import read_address
from wnv.runtime.atomic import atomic_file
from wnv.scenes.schema import SceneKind

MAX_S = 1e9


def write_lines(path: Path, lines: Iterable[ManifestLine], *, overwrite: bool = False) -> None:
    """Write a canonical list atomically.

    Raises:
        FileExistsError: If the file exists and `overwrite` is not set.
    """
    with atomic_file(path, overwrite=overwrite) as file:
        for line in lines:
            file.write(encode_json(line.fields()) + b"\n")


def write_json(path: Path, value: Any, *, indent: int = 2, overwrite: bool = False) -> None:
    """Write a JSON file atomically."""
    with atomic_file(path, overwrite=overwrite) as file:
        file.write(encode_json(value, indent=indent) + b"\n")


def encode_json(value: Any, *, indent: int | None = None) -> bytes:
    """Encode JSON as readable UTF-8; text that UTF-8 cannot represent is escaped."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=indent).encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent).encode()


def read_lines(path: Path) -> list[ManifestLine]:
    """Read a canonical list.

    A key that does not match its address, or that points outside its folder, is rejected: the line is kept with `key`
    None and the code `key_refused`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is invalid; names the line.
    """
    lines = []
    with open(path, encoding="utf-8-sig", newline="\n") as file:
        try:
            for number, text in enumerate(file, 1):
                if text.strip():
                    lines.append(_line(text, where=f"{path}, line {number}"))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}, line {len(lines) + 1} or after: not UTF-8 ({error})") from None
    return lines


def is_inside(name: str) -> bool:
    """Whether a relative path stays inside its folder and is valid UTF-8."""
    path = PurePosixPath(name)
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _line(text: str, *, where: str) -> ManifestLine:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not JSON ({error}); each line is one object") from None
    if not isinstance(values, dict):
        raise ValueError(f"{where}: each line must be an object, got {text.strip()[:40]!r}")
    if unknown := [name for name in values if name not in _RULES]:
        raise ValueError(f"{where}: unknown field {unknown[0]!r}; known are {', '.join(_RULES)}")
    for name, (rule, is_valid) in _RULES.items():
        if name not in values and name not in _OPTIONAL:
            raise ValueError(f"{where}: the field {name!r} is missing")
        if name in values and not is_valid(values[name]):
            raise ValueError(f"{where}: {name} must be {rule}, got {str(values[name])[:200]}")
    line = ManifestLine.from_json(values)
    if line.key is None or _matches_url(line.key, line.url or ""):
        return line
    return line.with_code("key_refused", key=None, url=None)


def _are_segments(values: Any) -> bool:
    if not isinstance(values, list):
        return False
    last_s = -1.0
    for value in values:
        if not isinstance(value, list) or len(value) != 2 or not all(type(item) in (int, float) for item in value):
            return False
        start_s, end_s = value
        # NaN compares false.
        if not 0 <= start_s < end_s <= MAX_S or start_s <= last_s:
            return False
        last_s = end_s
    return True


def _are(kind: type) -> Callable[[Any], bool]:
    return lambda values: isinstance(values, list) and all(isinstance(value, kind) for value in values)


_SEGMENTS = "[[start_s, end_s], ...] with 0 <= start < end <= 1e9, sorted and disjoint"
_OPTIONAL = ("other_segments", "photos", "rows", "codes")
_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "key": ("a string or null", lambda value: value is None or isinstance(value, str)),
    "url": ("a string or null", lambda value: value is None or isinstance(value, str)),
    "title": ("a string", lambda value: isinstance(value, str)),
    "kind": ("static or dynamic", lambda value: value in get_args(SceneKind)),
    "segments": (_SEGMENTS, _are_segments),
    "other_segments": (f"{_SEGMENTS}, or null", lambda value: value is None or _are_segments(value)),
    "photos": ("a list of strings", _are(str)),
    "rows": ("a list of objects", _are(dict)),
    "codes": ("a list of strings", _are(str)),
}
"""By field of a line: the rule and its check."""


def _matches_url(key: str, url: str) -> bool:
    if key.startswith("file:"):
        return key == f"file:{url}" and is_inside(url)
    if key.startswith("photos:"):
        return key.endswith("/.") if url == "." else key == f"photos:{url}" and is_inside(url)
    address = read_address(url)
    return (address.key, address.url) == (key, url)
