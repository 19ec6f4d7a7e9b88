"""Poses of a clip: a JSON file beside the video, `<clip>.json` for `<clip>.mp4`.

The video keeps its lens distortion; `wnv.scenes.posed_clip` reads both files as one scene.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from wnv.runtime.atomic import atomic_file
from wnv.scenes.json_fields import JsonObject, dump_object
from wnv.scenes.schema import MAX_SCENE_JSON_BYTES, Frame, SceneError, SceneInfo, SceneKind, frame_label
from wnv.scenes.undistort import Distortion

CLIP_SCHEMA_VERSION = 1
POSES_SUFFIX = ".json"
VIDEO_SUFFIX = ".mp4"

_FRAME_RATE = re.compile(r"[0-9]{1,9}(/0*[1-9][0-9]{0,8})?")


@dataclass(frozen=True, eq=False, kw_only=True)
class PosedFrame:
    """One frame of a clip that has a pose.

    Attributes:
        index: Index in the clip, from 0.
        time_s: Seconds on the clip's clock: index / fps.
        camtoworld: world<-camera, rigid, OpenCV axes, translation in scene units.
    """

    index: int
    time_s: float
    camtoworld: Float64[np.ndarray, "4 4"]


@dataclass(frozen=True, eq=False, kw_only=True)
class ClipPoses:
    """Camera and poses of a clip, checked on construction as far as possible without the video.

    Attributes:
        id: Name of the clip and its scene: letters, digits, `._-`.
        kind: `static` if only the camera moves, else `dynamic`.
        width: Width of the clip in pixels.
        height: Height of the clip in pixels.
        fps: Constant frame rate in frames per second.
        K: image<-camera, in pixels of the stored clip; the center of the first pixel is (0.5, 0.5).
        distortion: Lens distortion.
        frames: Frames with a pose, at least one, in order.
        scale: Meters per scene unit; None if unknown, as after structure from motion.
        source: Where the clip and its poses come from: any JSON object.

    Raises:
        SceneError: If the scene is invalid.
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
        self.scene_info(self.K)  # checks the rules of scenes
        if self.fps <= 0:
            raise SceneError(f"scene '{self.id}': fps must be positive, got {self.fps}")
        if not np.isfinite(self.distortion.coefficients).all():
            raise SceneError(f"scene '{self.id}': distortion must be finite, got {self.distortion}")
        last = -1
        for position, frame in enumerate(self.frames):
            where = frame_label(self.id, position)
            if frame.index <= last:
                raise SceneError(f"{where}: indices must increase from 0 or more, got {frame.index} after {last}")
            last = frame.index
            if not abs(frame.time_s * self.fps - frame.index) < 0.5:
                raise SceneError(
                    f"{where}: time_s must be index / fps = {float(frame.index / self.fps):g} s, got {frame.time_s:g}; "
                    "a clip's clock starts at its first frame"
                )

    def scene_info(self, K: Float64[np.ndarray, "3 3"]) -> SceneInfo:
        """Describe the frames as a scene with intrinsics `K`."""
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
    """Write the poses of a clip, replacing earlier ones; a failed or killed write leaves those unchanged.

    Raises:
        SceneError: If `source` is not JSON.
        ValueError: If the path does not end in `.json`.
    """
    path = Path(path)
    if path.suffix != POSES_SUFFIX:
        raise ValueError(f"poses must be a {POSES_SUFFIX} file beside the clip, got {path}")
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
    frames = (
        {"index": frame.index, "time_s": float(frame.time_s), "camtoworld": frame.camtoworld.tolist()}
        for frame in poses.frames
    )
    text = dump_object(header, frames, where=f"scene '{poses.id}'")
    with atomic_file(path, overwrite=True) as file:
        file.write(text.encode())
    return path


def read_poses(path: str | Path) -> ClipPoses:
    """Read the poses of a clip.

    Raises:
        FileNotFoundError: If there is no such file.
        SceneError: If the text is not JSON, a field is missing or of the wrong type, or the scene is invalid.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; `wnv-data pose` writes it beside the clip")
    if path.stat().st_size > MAX_SCENE_JSON_BYTES:
        raise SceneError(f"{path}: poses of a clip must be at most {MAX_SCENE_JSON_BYTES} bytes")
    clip = JsonObject.parse(path.read_bytes(), where=str(path), version=CLIP_SCHEMA_VERSION)
    header = clip.scene_header()
    lens = JsonObject(clip.read("distortion", dict), where=clip.where)
    fps = clip.read("fps", str)
    if not _FRAME_RATE.fullmatch(fps):  # Fraction("1e999999999") would fill the memory
        clip.fail(f"fps must be a fraction such as '30000/1001', got {fps[:40]!r}")
    entries = (
        JsonObject(entry, where=frame_label(header["id"], index))
        for index, entry in enumerate(clip.read("frames", list))
    )
    frames = tuple(
        PosedFrame(
            index=entry.read("index", int), time_s=entry.number("time_s"), camtoworld=entry.matrix("camtoworld", 4)
        )
        for entry in entries
    )
    return ClipPoses(
        fps=Fraction(fps),
        K=clip.matrix("K", 3),
        distortion=Distortion(**{term.name: lens.number(term.name) for term in fields(Distortion)}),
        frames=frames,
        **header,
    )
