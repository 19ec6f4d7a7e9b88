"""Fields of JSON that nobody vouches for: there, of the right type, and finite where they must become numbers."""

from typing import Any

import numpy as np
from jaxtyping import Float64

from wnv.scenes.schema import SceneError


def read_field(data: dict[str, Any], key: str, kind: type | tuple[type, ...], *, where: str, file: str) -> Any:
    """The value of a field.

    Args:
        data: The object that should hold it.
        key: Its name.
        kind: The types it may have; a bool is no int.
        where: Subject of error messages.
        file: The file that is read, as error messages call it.

    Raises:
        SceneError: If the field is missing or of another type.
    """
    if key not in data:
        raise SceneError(f"{where}: {file} lacks the field {key!r}; write the scene again")
    value = data[key]
    # bool is an int to Python, and a width of `true` is nobody's intention.
    if not isinstance(value, kind) or isinstance(value, bool):
        names = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        raise SceneError(f"{where}: field {key!r} must be {names}, got {type(value).__name__} {str(value)[:40]!r}")
    return value


def to_float(value: float | int, what: str) -> float:
    """A JSON number as a float; `what` is the subject of the message.

    Raises:
        SceneError: If it is an integer beyond any float.
    """
    try:
        return float(value)
    except OverflowError as error:
        raise SceneError(f"{what} must be a finite number, got an integer beyond any float") from error


def read_matrix(data: dict[str, Any], key: str, size: int, *, where: str, file: str) -> Float64[np.ndarray, "n n"]:
    """The value of a field that holds `size` rows of `size` numbers.

    Raises:
        SceneError: If the field is missing or holds anything else.
    """
    rows = read_field(data, key, list, where=where, file=file)
    square = len(rows) == size and all(isinstance(row, list) and len(row) == size for row in rows)
    # By exact types, of which JSON has few: opening a scene comes down to this check.
    if not square or not {kind for row in rows for kind in map(type, row)} <= {int, float}:
        raise SceneError(f"{where}: field {key!r} must be {size} rows of {size} numbers, got {str(rows)[:60]!r}")
    try:
        return np.array(rows, dtype=np.float64)
    except OverflowError as error:
        raise SceneError(f"{where}: {key} must be a finite number, got an integer beyond any float") from error
