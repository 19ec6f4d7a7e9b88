"""`scene.json`: the text of a `SceneInfo`.

Unknown fields are ignored, so that a later wnv may add some. A change of meaning raises `SCHEMA_VERSION`; unknown
versions are rejected.
"""

from wnv.scenes.json_fields import JsonObject, dump_object
from wnv.scenes.schema import SCENE_JSON, Frame, SceneInfo, frame_label

SCHEMA_VERSION = 1


def info_to_json(info: SceneInfo) -> str:
    """Write `scene.json`, one line per frame; numbers keep all digits.

    Raises:
        SceneError: If `source` is not JSON.
    """
    header = {
        "schema_version": SCHEMA_VERSION,
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
    fields = JsonObject.parse(text, where=f"scene '{name}': {SCENE_JSON}", version=SCHEMA_VERSION)
    header = fields.scene_header()
    frames = tuple(
        _frame_from_json(JsonObject(entry, where=frame_label(header["id"], index)))
        for index, entry in enumerate(fields.read("frames", list))
    )
    return SceneInfo(frames=frames, **header)


def _frame_from_json(fields: JsonObject) -> Frame:
    if not fields.read("file", str):
        fields.fail("file must not be empty; write the scene again")
    return Frame(
        file=fields.data["file"],
        time_s=fields.number("time_s"),
        source_index=fields.read("source_index", int, type(None)),
        K=fields.matrix("K", 3),
        camtoworld=fields.matrix("camtoworld", 4),
    )
