"""`scene.json`: the text of a `SceneInfo`.

Unknown fields are ignored when reading, so that a later wnv may add notes without a new schema version; a change of
meaning raises `SCHEMA_VERSION`, and a version this wnv does not know is refused.
"""

import json
from typing import Any

from wnv.scenes.json_fields import read_field, read_matrix, to_float
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
        scale=None if scale is None else to_float(scale, f"{where}: scale"),
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
        time_s=to_float(_field(entry, "time_s", (float, int), where), f"{where}: time_s"),
        source_index=_field(entry, "source_index", (int, type(None)), where),
        K=read_matrix(entry, "K", 3, where=where, file=SCENE_JSON),
        camtoworld=read_matrix(entry, "camtoworld", 4, where=where, file=SCENE_JSON),
    )


def _field(data: dict[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    return read_field(data, key, kind, where=where, file=SCENE_JSON)
