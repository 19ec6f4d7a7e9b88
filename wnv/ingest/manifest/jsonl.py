"""The canonical list on disk: one JSON object per line, written atomically and validated when read."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from wnv.ingest.manifest.bilibili_pages import SHORT_CODE
from wnv.ingest.manifest.line import ManifestLine, Segments
from wnv.ingest.manifest.urls import read_address
from wnv.runtime.atomic import atomic_file
from wnv.scenes.schema import SceneKind

MAX_S = 1e9

_FIELDS = ("key", "url", "title", "kind", "segments", "other_segments", "rows", "codes")
_REQUIRED = ("key", "url", "title", "kind", "segments")


def write_lines(path: Path, lines: Iterable[ManifestLine], *, overwrite: bool = False) -> None:
    """Write a canonical list atomically.

    Raises:
        FileExistsError: If the file exists and `overwrite` is not set.
    """
    with atomic_file(path, overwrite=overwrite) as file:
        for line in lines:
            file.write(encode_json(vars(line)) + b"\n")  # vars: the fields in order, without a copy


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


def _line(text: str, *, where: str) -> ManifestLine:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not JSON ({error}); each line is one object") from None
    if not isinstance(values, dict):
        raise ValueError(f"{where}: each line must be an object, got {text.strip()[:40]!r}")
    if unknown := [name for name in values if name not in _FIELDS]:
        raise ValueError(f"{where}: unknown field {unknown[0]!r}; known are {', '.join(_FIELDS)}")
    if missing := [name for name in _REQUIRED if name not in values]:
        raise ValueError(f"{where}: the field {missing[0]!r} is missing")
    _check_types(values, where)
    other = values.get("other_segments")
    line = ManifestLine(
        key=values["key"],
        url=values["url"],
        title=values["title"],
        kind=values["kind"],
        segments=_segments(values["segments"], where),
        other_segments=None if other is None else _segments(other, where),
        rows=tuple(values.get("rows", ())),
        codes=tuple(values.get("codes", ())),
    )
    if line.key is None or _matches_url(line.key, line.url):
        return line
    return replace(line, key=None, url=None, codes=tuple(dict.fromkeys((*line.codes, "key_refused"))))


def _check_types(values: dict[str, Any], where: str) -> None:
    for name in ("key", "url"):
        if values[name] is not None and not isinstance(values[name], str):
            raise ValueError(f"{where}: {name} must be a string or null, got {values[name]!r}")
    if not isinstance(values["title"], str):
        raise ValueError(f"{where}: title must be a string, got {values['title']!r}")
    if values["kind"] not in get_args(SceneKind):
        raise ValueError(f"{where}: kind must be static or dynamic, got {values['kind']!r}")
    rows, codes = values.get("rows", []), values.get("codes", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{where}: rows must be a list of objects")
    if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
        raise ValueError(f"{where}: codes must be a list of strings")


def _segments(values: Any, where: str) -> Segments:
    rule = f"{where}: segments must be [[start_s, end_s], ...] with 0 <= start < end <= 1e9, sorted and disjoint"
    if not isinstance(values, list):
        raise ValueError(f"{rule}; got {values!r}")
    segments: list[tuple[float, float]] = []
    for value in values:
        if not isinstance(value, list) or len(value) != 2 or not all(type(item) in (int, float) for item in value):
            raise ValueError(f"{rule}; got {value!r}")
        start_s, end_s = value
        # NaN compares false.
        if not 0 <= start_s < end_s <= MAX_S or (segments and start_s <= segments[-1][1]):
            raise ValueError(f"{rule}; got {value!r}")
        segments.append((float(start_s), float(end_s)))
    return tuple(segments)


def _matches_url(key: str, url: str | None) -> bool:
    if url is None:
        return False
    if key.startswith("file:"):
        return key == f"file:{url}" and is_inside(url)
    if key.startswith("b23:"):
        return SHORT_CODE.fullmatch(key[4:]) is not None and url == f"https://b23.tv/{key[4:]}"
    address = read_address(url)
    return address.key == key and address.url == url


def is_inside(name: str) -> bool:
    """Whether a relative path stays inside its folder and is valid UTF-8."""
    path = PurePosixPath(name)
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name
