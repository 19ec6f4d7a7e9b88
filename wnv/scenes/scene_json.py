"""`scene.json`: the text of a `SceneInfo`.

Unknown fields are ignored, so that a later wnv may add some. A change of meaning raises `SCHEMA_VERSION`; unknown
versions are rejected.
"""

from functools import partial

from wnv.scenes.json_fields import dump_object, load_object, read_field, read_float, read_matrix, read_scale
from wnv.scenes.schema import (
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
    """Write `scene.json`, one line per frame; numbers keep all digits.

    Raises:
        SceneError: If `source` is not JSON.
    """
    header = {
        "schema_version": info.schema_version,
        "id": info.id,
        "kind": info.kind,
        "width": info.width,
        "height": info.height,
        "scale": info.scale,
        "source": dict(info.source),
    }
    frames = (
        {
            "file": frame.file,
            "time_s": float(frame.time_s),
            "source_index": frame.source_index,
            "K": frame.K.tolist(),
            "camtoworld": frame.camtoworld.tolist(),
        }
        for frame in info.frames
    )
    return dump_object(header, frames, where=f"scene '{info.id}'")


def info_from_json(text: str | bytes, *, name: str) -> SceneInfo:
    """Read `scene.json`.

    Args:
        text: Content of the file, UTF-8 if bytes.
        name: Name of the scene in error messages until its id is known, for example its path.

    Raises:
        SceneError: If the text is not JSON, a field is missing or of the wrong type, or the scene is invalid.
    """
    data = load_object(text, where=f"scene '{name}': {SCENE_JSON}")
    # The version is checked first, since other versions may lack the fields of this one.
    if data.get("schema_version") != SCHEMA_VERSION or isinstance(data["schema_version"], bool):
        raise SceneError(version_message(name, data.get("schema_version")))
    scene = read_field(data, "id", str, where=f"scene '{name}'", file=SCENE_JSON)
    check_id(scene)
    where = f"scene '{scene}'"
    read = partial(read_field, data, where=where, file=SCENE_JSON)
    kind, entries = read("kind", str), read("frames", list)
    check_kind(kind, where)
    return SceneInfo(
        id=scene,
        kind=kind,
        width=read("width", int),
        height=read("height", int),
        frames=tuple(_frame_from_json(entry, frame_label(scene, index)) for index, entry in enumerate(entries)),
        scale=read_scale(data, where=where, file=SCENE_JSON),
        source=read("source", dict),
        schema_version=SCHEMA_VERSION,
    )


def _frame_from_json(entry: object, where: str) -> Frame:
    file = read_field(entry, "file", str, where=where, file=SCENE_JSON)
    if not file:
        raise SceneError(f"{where}: file must not be empty; write the scene again")
    return Frame(
        file=file,
        time_s=read_float(entry, "time_s", where=where, file=SCENE_JSON),
        source_index=read_field(entry, "source_index", (int, type(None)), where=where, file=SCENE_JSON),
        K=read_matrix(entry, "K", 3, where=where, file=SCENE_JSON),
        camtoworld=read_matrix(entry, "camtoworld", 4, where=where, file=SCENE_JSON),
    )
