"""`scene.json`: the text of a `SceneInfo`.

Unknown fields are ignored when reading, so that a later wnv may add notes without a new schema version; a change of
meaning raises `SCHEMA_VERSION`, and a version this wnv does not know is refused.
"""

import json
from typing import Any

import numpy as np
from jaxtyping import Float64

from wnv.scenes.schema import (
    MAX_FRAMES,
    SCENE_JSON,
    SCHEMA_VERSION,
    Frame,
    SceneError,
    SceneInfo,
    check_id,
    check_kind,
    frame_label,
    version_message,
)


def info_to_json(info: SceneInfo) -> str:
    """The text of `scene.json`: one frame a line; numbers keep all their digits.

    Raises:
        SceneError: If `source` is not JSON.
    """
    header: dict[str, Any] = {
        "schema_version": info.schema_version,
        "id": info.id,
        "kind": info.kind,
        "width": info.width,
        "height": info.height,
        "scale": info.scale,
        "source": dict(info.source),
    }
    try:
        head = json.dumps(header, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SceneError(f"scene '{info.id}': source must be plain JSON without NaN ({error})") from error
    lines = [
        json.dumps(
            {
                "file": frame.file,
                "time_s": float(frame.time_s),
                "source_index": frame.source_index,
                "K": frame.K.tolist(),
                "camtoworld": frame.camtoworld.tolist(),
            }
        )
        for frame in info.frames
    ]
    return head.removesuffix("\n}") + ',\n "frames": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"


def info_from_json(text: str | bytes, *, name: str) -> SceneInfo:
    """Read `scene.json`.

    Args:
        text: The file's content, UTF-8 when bytes.
        name: What error messages call the scene until its id is known, its path say.

    Raises:
        SceneError: If the text is not JSON, a field is missing or of the wrong type, or a rule is broken.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SceneError(f"scene '{name}': {SCENE_JSON} is not JSON ({error}); write the scene again") from error
    if not isinstance(data, dict):
        raise SceneError(f"scene '{name}': {SCENE_JSON} must hold an object, got {type(data).__name__}")
    # The version comes first: another version may well lack the fields of this one.
    if data.get("schema_version") != SCHEMA_VERSION or isinstance(data["schema_version"], bool):
        raise SceneError(version_message(name, data.get("schema_version")))
    where = f"scene '{name}'"
    scene = _field(data, "id", str, where)
    check_id(scene)
    where = f"scene '{scene}'"
    kind = _field(data, "kind", str, where)
    check_kind(kind, where)
    scale = _field(data, "scale", (float, int, type(None)), where)
    entries = _field(data, "frames", list, where)
    if len(entries) > MAX_FRAMES:
        raise SceneError(f"{where}: a scene has 1 to {MAX_FRAMES} frames, got {len(entries)}; split it")
    return SceneInfo(
        id=scene,
        kind=kind,
        width=_field(data, "width", int, where),
        height=_field(data, "height", int, where),
        frames=tuple(_frame_from_json(entry, frame_label(scene, index)) for index, entry in enumerate(entries)),
        scale=None if scale is None else _number(scale, f"{where}: scale"),
        source=_field(data, "source", dict, where),
        schema_version=SCHEMA_VERSION,
    )


def _frame_from_json(entry: object, where: str) -> Frame:
    if not isinstance(entry, dict):
        raise SceneError(f"{where}: an entry of frames must be an object, got {type(entry).__name__}")
    file = _field(entry, "file", str, where)
    if not file:
        raise SceneError(f"{where}: file is empty; write the scene again")
    return Frame(
        file=file,
        time_s=_number(_field(entry, "time_s", (float, int), where), f"{where}: time_s"),
        source_index=_field(entry, "source_index", (int, type(None)), where),
        K=_matrix(entry, "K", 3, where),
        camtoworld=_matrix(entry, "camtoworld", 4, where),
    )


def _field(data: dict[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    if key not in data:
        raise SceneError(f"{where}: {SCENE_JSON} lacks the field {key!r}; write the scene again")
    value = data[key]
    # bool is an int to Python, and a width of `true` is nobody's intention.
    if not isinstance(value, kind) or isinstance(value, bool):
        names = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        raise SceneError(f"{where}: field {key!r} must be {names}, got {type(value).__name__} {str(value)[:40]!r}")
    return value


def _number(value: float | int, what: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise SceneError(f"{what} must be a finite number, got an integer beyond any float") from error


def _matrix(entry: dict[str, Any], key: str, size: int, where: str) -> Float64[np.ndarray, "n n"]:
    rows = _field(entry, key, list, where)
    square = len(rows) == size and all(isinstance(row, list) and len(row) == size for row in rows)
    if not square or any(isinstance(x, bool) or not isinstance(x, int | float) for row in rows for x in row):
        raise SceneError(f"{where}: field {key!r} must be {size} rows of {size} numbers, got {str(rows)[:60]!r}")
    return np.array([[_number(x, f"{where}: {key}") for x in row] for row in rows], dtype=np.float64)
