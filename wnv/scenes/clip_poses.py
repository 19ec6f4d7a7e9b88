"""The poses of a clip: a JSON file beside the video, `<clip>.json` for `<clip>.mp4`.

The video stays as it was cut, lens distortion and all; the poses name the frames that have one. `wnv.scenes.posed_clip`
reads the two together as one scene.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from wnv.runtime.atomic import atomic_file
from wnv.scenes.json_fields import read_field, read_matrix, to_float
from wnv.scenes.schema import (
    MAX_FRAMES,
    MAX_SCENE_JSON_BYTES,
    Frame,
    SceneError,
    SceneInfo,
    SceneKind,
    check_id,
    check_kind,
    frame_label,
)
from wnv.scenes.undistort import Distortion

CLIP_SCHEMA_VERSION = 1
POSES_SUFFIX = ".json"
VIDEO_SUFFIX = ".mp4"

_FRAME_RATE = re.compile(r"[0-9]{1,9}(/0*[1-9][0-9]{0,8})?")


@dataclass(frozen=True, eq=False, kw_only=True)
class PosedFrame:
    """One frame of a clip that has a pose.

    Attributes:
        index: Its number in the clip, from 0.
        time_s: Seconds on the clip's clock: index / fps.
        camtoworld: world<-camera, rigid, OpenCV axes, translation in scene units.
    """

    index: int
    time_s: float
    camtoworld: Float64[np.ndarray, "4 4"]


@dataclass(frozen=True, eq=False, kw_only=True)
class ClipPoses:
    """The camera of a clip and where it was. Making one checks every rule that can be checked without the video.

    Attributes:
        id: Name of the clip and of the scene that it is: letters, digits, `._-`.
        kind: `static` if nothing but the camera moves, else `dynamic`.
        width: Width of the clip in pixels.
        height: Height of the clip in pixels.
        fps: Frames a second, constant.
        K: image<-camera, in pixels of the clip as it is stored; the first pixel's centre is (0.5, 0.5).
        distortion: What the lens does besides `K`.
        frames: The frames with a pose, at least one, in order.
        scale: Metres in one scene unit; None where it is unknown, as structure from motion leaves it.
        source: Where the clip and its poses came from: any JSON object.

    Raises:
        SceneError: If a rule is broken.
    """

    id: str
    kind: SceneKind
    width: int
    height: int
    fps: Fraction
    K: Float64[np.ndarray, "3 3"]
    distortion: Distortion
    frames: tuple[PosedFrame, ...]
    scale: float | int | None = None
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # What holds for a scene holds for a clip.
        self.scene_info(self.K)
        if self.fps <= 0:
            raise SceneError(f"scene '{self.id}': fps must be positive, got {self.fps}")
        if not np.isfinite(self.distortion.coefficients).all():
            raise SceneError(f"scene '{self.id}': distortion must be finite, got {self.distortion}")
        last = -1
        for position, frame in enumerate(self.frames):
            where = frame_label(self.id, position)
            if frame.index <= last:
                raise SceneError(f"{where}: indices must be 0 or more and increase, got {frame.index} after {last}")
            last = frame.index
            if not abs(frame.time_s * self.fps - frame.index) < 0.5:
                raise SceneError(
                    f"{where}: time_s must be index / fps = {float(frame.index / self.fps):g} s, got {frame.time_s:g}; "
                    "a clip's clock starts at its first frame"
                )

    def scene_info(self, K: Float64[np.ndarray, "3 3"]) -> SceneInfo:
        """The scene that these frames are, seen by a camera `K` of the clip's size."""
        return SceneInfo(
            id=self.id,
            kind=self.kind,
            width=self.width,
            height=self.height,
            frames=tuple(
                Frame(time_s=frame.time_s, K=K, camtoworld=frame.camtoworld, source_index=frame.index)
                for frame in self.frames
            ),
            scale=self.scale,
            source=self.source,
        )


def write_poses(path: str | Path, poses: ClipPoses) -> Path:
    """Write the poses of a clip, in place of earlier ones; a failed or killed write leaves those as they were.

    Raises:
        SceneError: If `source` is not JSON.
        ValueError: If the path does not end in `.json`.
    """
    path = Path(path)
    if path.suffix != POSES_SUFFIX:
        raise ValueError(f"poses lie in a {POSES_SUFFIX} file beside the clip, got {path}")
    text = _to_json(poses)
    with atomic_file(path, overwrite=True) as file:
        file.write(text.encode())
    return path


def read_poses(path: str | Path) -> ClipPoses:
    """Read the poses of a clip.

    Raises:
        FileNotFoundError: If there is no such file.
        SceneError: If the text is not JSON, a field is missing or of the wrong type, or a rule is broken.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of poses; `wnv-data pose` writes it beside the clip")
    if path.stat().st_size > MAX_SCENE_JSON_BYTES:
        raise SceneError(f"{path}: more than {MAX_SCENE_JSON_BYTES} bytes cannot be the poses of a clip")
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise SceneError(f"{path} is not JSON ({error}); pose the clip again") from error
    if not isinstance(data, dict):
        raise SceneError(f"{path} must hold an object, got {type(data).__name__}; pose the clip again")
    version = data.get("schema_version")
    # The version comes first: another version may well lack the fields of this one.
    if version != CLIP_SCHEMA_VERSION or isinstance(version, bool):
        raise SceneError(
            f"{path}: schema_version must be {CLIP_SCHEMA_VERSION}, got {version!r}; pose the clip again, or "
            "upgrade wnv if a newer one wrote it"
        )
    return _from_json(data, file=path.name)


def _to_json(poses: ClipPoses) -> str:
    header = {
        "schema_version": CLIP_SCHEMA_VERSION,
        "id": poses.id,
        "kind": poses.kind,
        "width": poses.width,
        "height": poses.height,
        "fps": str(poses.fps),
        "K": poses.K.tolist(),
        "distortion": asdict(poses.distortion),
        "scale": poses.scale,
        "source": dict(poses.source),
    }
    try:
        head = json.dumps(header, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SceneError(f"scene '{poses.id}': source must be plain JSON without NaN ({error})") from error
    lines = [
        json.dumps({"index": frame.index, "time_s": float(frame.time_s), "camtoworld": frame.camtoworld.tolist()})
        for frame in poses.frames
    ]
    return head.removesuffix("\n}") + ',\n "frames": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"


def _from_json(data: dict[str, Any], *, file: str) -> ClipPoses:
    def read(key: str, kind: type | tuple[type, ...]) -> Any:
        return read_field(data, key, kind, where=f"clip '{file}'", file=file)

    name, kind, entries, lens = read("id", str), read("kind", str), read("frames", list), read("distortion", dict)
    check_id(name)
    where = f"scene '{name}'"
    check_kind(kind, where)
    if len(entries) > MAX_FRAMES:
        raise SceneError(f"{where}: a scene has 1 to {MAX_FRAMES} frames, got {len(entries)}; split it")
    scale = read("scale", (float, int, type(None)))
    coefficients = {
        term.name: to_float(read_field(lens, term.name, (float, int), where=where, file=file), f"{where}: {term.name}")
        for term in fields(Distortion)
    }
    return ClipPoses(
        id=name,
        kind=kind,
        width=read("width", int),
        height=read("height", int),
        fps=_frame_rate(read("fps", str), where),
        K=read_matrix(data, "K", 3, where=where, file=file),
        distortion=Distortion(**coefficients),
        frames=tuple(_frame(entry, frame_label(name, index), file) for index, entry in enumerate(entries)),
        scale=None if scale is None else to_float(scale, f"{where}: scale"),
        source=read("source", dict),
    )


def _frame(entry: object, where: str, file: str) -> PosedFrame:
    if not isinstance(entry, dict):
        raise SceneError(f"{where}: an entry of frames must be an object, got {type(entry).__name__}")
    time_s = to_float(read_field(entry, "time_s", (float, int), where=where, file=file), f"{where}: time_s")
    return PosedFrame(
        index=read_field(entry, "index", int, where=where, file=file),
        time_s=time_s,
        camtoworld=read_matrix(entry, "camtoworld", 4, where=where, file=file),
    )


def _frame_rate(text: str, where: str) -> Fraction:
    # A pattern, because a Fraction of "1e999999999" would fill the memory.
    if not _FRAME_RATE.fullmatch(text):
        raise SceneError(f"{where}: fps must be a fraction such as '30000/1001', got {text[:40]!r}")
    return Fraction(text)
