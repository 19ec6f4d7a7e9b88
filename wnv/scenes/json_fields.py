"""Read and write the JSON of scenes and clips: typed fields, finite numbers, one line per frame."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Float64

from wnv.scenes.schema import SceneError, check_id, check_kind


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


class JsonObject:
    """Typed access to the fields of a JSON object of a scene; every fault is a SceneError.

    Args:
        data: The parsed object.
        where: Subject of error messages.
    """

    def __init__(self, data: object, *, where: str) -> None:
        self.where = where
        if not isinstance(data, dict):
            self.fail(f"must be an object, got {type(data).__name__}")
        self.data: dict[str, Any] = data

    @classmethod
    def parse(cls, text: str | bytes, *, where: str, version: int) -> "JsonObject":
        """Parse a file whose `schema_version` must be `version`; other versions may lack fields of this one."""
        try:
            fields = cls(json.loads(text), where=where)
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise SceneError(f"{where} is not JSON ({error}); write it again") from error
        found = fields.data.get("schema_version")
        if found != version or isinstance(found, bool):
            fields.fail(
                f"schema_version must be {version}, got {found!r}; write it again, or upgrade wnv if a newer one wrote "
                "it"
            )
        return fields

    def fail(self, reason: str) -> NoReturn:
        """Raise a SceneError about this object."""
        raise SceneError(f"{self.where}: {reason}")

    def read(self, key: str, *kinds: type) -> Any:
        """Read a field of one of the given types; a bool is not an int."""
        if key not in self.data:
            self.fail(f"lacks the field {key!r}")
        value = self.data[key]
        if not isinstance(value, kinds) or isinstance(value, bool):
            names = " or ".join(kind.__name__ for kind in kinds)
            self.fail(f"field {key!r} must be {names}, got {type(value).__name__} {str(value)[:40]!r}")
        return value

    def number(self, key: str) -> float:
        """Read a number."""
        try:
            return float(self.read(key, float, int))
        except OverflowError:
            self.fail(f"{key} must be a finite number, got an integer beyond float64")

    def matrix(self, key: str, size: int) -> Float64[np.ndarray, "n n"]:
        """Read `size` rows of `size` numbers."""
        rows = self.read(key, list)
        is_square = len(rows) == size and all(isinstance(row, list) and len(row) == size for row in rows)
        # Exact types, which JSON has few of, are fast to check; most of the time of opening a scene is spent here.
        if not is_square or not {kind for row in rows for kind in map(type, row)} <= {int, float}:
            self.fail(f"field {key!r} must be {size} rows of {size} numbers, got {str(rows)[:60]!r}")
        try:
            return np.array(rows, dtype=np.float64)
        except OverflowError:
            self.fail(f"{key} must be finite numbers, got an integer beyond float64")

    def scene_header(self) -> dict[str, Any]:
        """Read what scenes and clips share; later messages are about the scene of that id."""
        header: dict[str, Any] = {"id": self.read("id", str)}
        check_id(header["id"])
        self.where = f"scene '{header['id']}'"
        for key, kind in (("kind", str), ("width", int), ("height", int), ("source", dict)):
            header[key] = self.read(key, kind)
        check_kind(header["kind"], self.where)
        header["scale"] = None if self.read("scale", float, int, type(None)) is None else self.number("scale")
        return header
