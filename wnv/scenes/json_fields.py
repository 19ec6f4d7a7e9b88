"""Read and write the JSON of scenes and clips: typed fields, finite numbers, one line per frame."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64

from wnv.scenes.schema import SceneError


def dump_object(header: Mapping[str, Any], frames: Iterable[Mapping[str, Any]], *, where: str) -> str:
    """Write an object and its list `frames`, one line per frame; numbers keep all digits.

    Raises:
        SceneError: If the header is not JSON.
    """
    try:
        head = json.dumps(header, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SceneError(f"{where}: source must be plain JSON without NaN ({error})") from error
    lines = [json.dumps(frame) for frame in frames]
    return head.removesuffix("\n}") + ',\n "frames": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"


def load_object(text: str | bytes, *, where: str) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        SceneError: If the text is not one.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SceneError(f"{where} is not JSON ({error}); write it again") from error
    if not isinstance(data, dict):
        raise SceneError(f"{where} must hold an object, got {type(data).__name__}; write it again")
    return data


def read_field(data: object, key: str, kind: type | tuple[type, ...], *, where: str, file: str) -> Any:
    """Read a field of an object.

    Args:
        data: The object.
        key: Name of the field.
        kind: Accepted types; a bool is not an int.
        where: Subject of error messages.
        file: Name of the file in error messages.

    Raises:
        SceneError: If `data` is not an object, or the field is missing or of another type.
    """
    if not isinstance(data, dict):
        raise SceneError(f"{where}: must be an object, got {type(data).__name__}")
    if key not in data:
        raise SceneError(f"{where}: {file} lacks the field {key!r}; write the scene again")
    value = data[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        names = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        raise SceneError(f"{where}: field {key!r} must be {names}, got {type(value).__name__} {str(value)[:40]!r}")
    return value


def read_float(data: object, key: str, *, where: str, file: str) -> float:
    """Read a field that holds a number; see `read_field`."""
    value = read_field(data, key, (float, int), where=where, file=file)
    try:
        return float(value)
    except OverflowError as error:
        raise SceneError(f"{where}: {key} must be a finite number, got an integer beyond float64") from error


def read_matrix(data: object, key: str, size: int, *, where: str, file: str) -> Float64[np.ndarray, "n n"]:
    """Read a field that holds `size` rows of `size` numbers; see `read_field`."""
    rows = read_field(data, key, list, where=where, file=file)
    is_square = len(rows) == size and all(isinstance(row, list) and len(row) == size for row in rows)
    # Exact types, which JSON has few of, are fast to check; most of the time of opening a scene is spent here.
    if not is_square or not {kind for row in rows for kind in map(type, row)} <= {int, float}:
        raise SceneError(f"{where}: field {key!r} must be {size} rows of {size} numbers, got {str(rows)[:60]!r}")
    try:
        return np.array(rows, dtype=np.float64)
    except OverflowError as error:
        raise SceneError(f"{where}: {key} must be finite numbers, got an integer beyond float64") from error


def read_scale(data: object, *, where: str, file: str) -> float | None:
    """Read `scale`, a number or null; see `read_field`."""
    if read_field(data, "scale", (float, int, type(None)), where=where, file=file) is None:
        return None
    return read_float(data, "scale", where=where, file=file)
