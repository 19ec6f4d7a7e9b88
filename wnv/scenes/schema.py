"""Description of a scene without its pixels, and the rules that scenes must satisfy."""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float64

SCHEMA_VERSION = 1
SCENE_JSON = "scene.json"
FRAMES_FOLDER = "frames"
INDEX_FILE = "index.jsonl"

SceneKind = Literal["static", "dynamic"]

# Limits on the memory that an untrusted file can make a reader allocate.
MAX_FRAMES = 100_000
MAX_IMAGE_PIXELS = 2**26
MAX_SCENE_JSON_BYTES = 2**26
MAX_IMAGE_BYTES = 2**28

# Allows for float32 rounding only, so that poses survive a conversion to quaternions and back.
ROTATION_TOLERANCE = 1e-5
MIN_FOCAL_OVER_SIDE = 0.02
MAX_FOCAL_OVER_SIDE = 1000.0

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


class SceneError(ValueError):
    """An invalid scene; the message names scene, frame, rule, value and fix."""


def frame_label(scene: str, index: int, file: str = "") -> str:
    """Name of a frame in messages."""
    return f"scene '{scene}', frame {index}" + (f" ({file})" if file else "")


def frame_file(index: int, suffix: str) -> str:
    """Archive name of a frame: `frames/000000.jpg`."""
    return f"{FRAMES_FOLDER}/{index:06d}{suffix}"


def safe_id(name: str) -> str:
    """Convert any text to a scene id of letters, digits and `._-`.

    A name that must be changed gets a prefix of its SHA-256, so that different names never become one id.
    """
    if _ID.fullmatch(name):
        return name
    kept = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-")[:150]
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{kept or 'scene'}-{digest}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Frame:
    """One posed image.

    Attributes:
        time_s: Time in seconds; 0, 1, 2, ... for photographs without a clock.
        K: image<-camera, in pixels of the stored image, no skew; the centre of the first pixel is (0.5, 0.5).
        camtoworld: world<-camera, rigid, OpenCV axes (+x right, +y down, +z forward), translation in scene units.
        source_index: Index in the source, if known: in the clip for packed clips, in the sorted images for imports.
        file: Name in the archive, set by the writer; leave it empty for a new scene.
    """

    time_s: float | int
    K: Float64[np.ndarray, "3 3"]
    camtoworld: Float64[np.ndarray, "4 4"]
    source_index: int | None = None
    file: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class SceneInfo:
    """Description of a scene without its pixels, checked on construction.

    Attributes:
        id: Name of the scene and stem of its file: letters, digits, `._-`.
        kind: `static` if only the camera moves, else `dynamic`.
        width: Width of every image in pixels.
        height: Height of every image in pixels.
        frames: At least one, in the order of their times.
        scale: Metres per scene unit; None if unknown, as after structure from motion.
        source: Where the scene comes from: any JSON object.
        schema_version: Version of `scene.json`.

    Raises:
        SceneError: If the scene is invalid.
    """

    id: str
    kind: SceneKind
    width: int
    height: int
    frames: tuple[Frame, ...]
    scale: float | int | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        _check_header(self)
        _check_files(self)
        _check_times(self)
        _check_intrinsics(self)
        _check_poses(self)

    @property
    def K(self) -> Float64[np.ndarray, "frame 3 3"]:
        """Intrinsics of all frames."""
        return np.stack([frame.K for frame in self.frames])

    @property
    def camtoworld(self) -> Float64[np.ndarray, "frame 4 4"]:
        """Poses of all frames."""
        return np.stack([frame.camtoworld for frame in self.frames])

    @property
    def times_s(self) -> Float64[np.ndarray, " frame"]:
        """Times of all frames in seconds, strictly increasing."""
        return np.array([frame.time_s for frame in self.frames], dtype=np.float64)


def _check_header(info: SceneInfo) -> None:
    check_id(info.id)
    if info.schema_version != SCHEMA_VERSION:
        raise SceneError(version_message(info.id, info.schema_version))
    where = f"scene '{info.id}'"
    check_kind(info.kind, where)
    if info.width < 1 or info.height < 1 or info.width * info.height > MAX_IMAGE_PIXELS:
        raise SceneError(
            f"{where}: width and height must be at least 1 and width * height at most {MAX_IMAGE_PIXELS}, "
            f"got {info.width} x {info.height}; scale the images down"
        )
    if not 1 <= len(info.frames) <= MAX_FRAMES:
        raise SceneError(f"{where}: a scene has 1 to {MAX_FRAMES} frames, got {len(info.frames)}; remove or split it")
    if info.scale is not None and not (math.isfinite(info.scale) and info.scale > 0):
        raise SceneError(f"{where}: scale (metres per unit) must be positive or null, got {info.scale}")
    for index, frame in enumerate(info.frames):
        if frame.source_index is not None and frame.source_index < 0:
            raise SceneError(
                f"{frame_label(info.id, index)}: source_index must be 0 or more or null, got {frame.source_index}"
            )


def check_id(name: str) -> None:
    """Check that an id is a valid file name on every system.

    Raises:
        SceneError: If it is not 1 to 200 letters, digits or `._-`, or starts with `.` or `-`.
    """
    if not _ID.fullmatch(name):
        raise SceneError(
            f"scene id {name[:250]!r} must be 1 to 200 letters, digits or ._- and start with a letter, digit or _; "
            f"use {safe_id(name)!r}"
        )


def check_kind(kind: str, where: str) -> None:
    """Check the kind of a scene; `where` is the subject of the message.

    Raises:
        SceneError: If it is not a `SceneKind`.
    """
    if kind not in get_args(SceneKind):
        raise SceneError(f"{where}: kind must be 'static' or 'dynamic', got {kind!r}")


def _check_files(info: SceneInfo) -> None:
    seen: dict[str, int] = {}
    for index, frame in enumerate(info.frames):
        if not frame.file:
            continue
        check_member_name(frame.file, f"{frame_label(info.id, index)}: file")
        path = PurePosixPath(frame.file)
        if path.parts[0] != FRAMES_FOLDER or len(path.parts) < 2 or path.suffix.lower() not in _IMAGE_SUFFIXES:
            raise SceneError(
                f"{frame_label(info.id, index)}: file must be in {FRAMES_FOLDER}/ and end in .jpg, .jpeg or .png, "
                f"got {frame.file!r}; write the scene again"
            )
        if frame.file in seen:
            raise SceneError(
                f"{frame_label(info.id, index, frame.file)}: frame {seen[frame.file]} has the same file; "
                "every frame needs its own image"
            )
        seen[frame.file] = index


def check_member_name(name: str, what: str) -> None:
    """Check that an archive name stays in the folder it is unpacked to; `what` is the subject of the message.

    Raises:
        SceneError: If the name is absolute, or contains `..`, a backslash, a drive or a NUL.
    """
    parts = name.split("/")
    if not name or "\\" in name or "\0" in name or ":" in name or any(part in ("", ".", "..") for part in parts):
        raise SceneError(
            f"{what} {name!r} leaves the archive or is not a plain relative path with forward slashes; "
            "do not unpack this file, get it again from a trusted source"
        )


def _check_times(info: SceneInfo) -> None:
    times = info.times_s
    for index in np.flatnonzero(~np.isfinite(times)):
        raise SceneError(f"{_where(info, index)}: time_s must be finite, got {times[index]}")
    for index in np.flatnonzero(np.diff(times) <= 0) + 1:
        raise SceneError(
            f"{_where(info, index)}: times must increase strictly, got {times[index]} s after {times[index - 1]} s; "
            "sort the frames by time and remove duplicates"
        )


def _check_intrinsics(info: SceneInfo) -> None:
    K = info.K
    for index in np.flatnonzero(~np.isfinite(K).all(axis=(1, 2))):
        raise SceneError(f"{_where(info, index)}: K holds NaN or infinity; remove the frame or repair its camera")
    for index in np.flatnonzero((K[:, [0, 1, 2, 2], [1, 0, 0, 1]] != 0).any(axis=1) | (K[:, 2, 2] != 1)):
        raise SceneError(
            f"{_where(info, index)}: K must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], got {K[index].tolist()}; "
            "undistort the images to a pinhole camera without skew"
        )
    for axis, side, name in ((0, info.width, "x"), (1, info.height, "y")):
        focal, centre = K[:, axis, axis], K[:, axis, 2]
        for index in np.flatnonzero(focal <= 0):
            raise SceneError(
                f"{_where(info, index)}: focal length f{name} must be positive, got {focal[index]:g}; "
                "flip the axes in camtoworld, not in K"
            )
        for index in np.flatnonzero((focal < MIN_FOCAL_OVER_SIDE * side) | (focal > MAX_FOCAL_OVER_SIDE * side)):
            raise SceneError(
                f"{_where(info, index)}: focal length f{name} must be {MIN_FOCAL_OVER_SIDE} to "
                f"{MAX_FOCAL_OVER_SIDE:g} times the side of {side} px, got {focal[index]:g} px; multiply normalised "
                "intrinsics by width and height"
            )
        for index in np.flatnonzero((centre < -0.5 * side) | (centre > 1.5 * side)):
            raise SceneError(
                f"{_where(info, index)}: principal point c{name} must be at most half a side outside 0..{side} px, "
                f"got {centre[index]:g}; scale and crop K with the image"
            )


def _check_poses(info: SceneInfo) -> None:
    pose = info.camtoworld
    for index in np.flatnonzero(~np.isfinite(pose).all(axis=(1, 2))):
        raise SceneError(
            f"{_where(info, index)}: camtoworld holds NaN or infinity; remove the frame or repair its pose"
        )
    for index in np.flatnonzero((pose[:, 3] != (0, 0, 0, 1)).any(axis=1)):
        raise SceneError(
            f"{_where(info, index)}: the last row of camtoworld must be 0 0 0 1, got {pose[index, 3].tolist()}; "
            "is the matrix transposed?"
        )
    rotation = pose[:, :3, :3]
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.abs(rotation.swapaxes(1, 2) @ rotation - np.eye(3)).max(axis=(1, 2))
        determinant = np.linalg.det(rotation)
    # `not <=`, so that NaN is an error too.
    for index in np.flatnonzero(~(error <= ROTATION_TOLERANCE)):
        raise SceneError(
            f"{_where(info, index)}: camtoworld is not rigid (R^T R is {error[index]:.2g} off the identity, "
            f"{ROTATION_TOLERANCE:g} allowed); remove scale and shear from the rotation"
        )
    for index in np.flatnonzero(determinant < 0):
        raise SceneError(
            f"{_where(info, index)}: camtoworld is reflected (determinant {determinant[index]:.3f}); the axes must be "
            "right-handed: +x right, +y down, +z forward"
        )


def _where(info: SceneInfo, index: int | np.integer) -> str:
    return frame_label(info.id, int(index), info.frames[int(index)].file)


def version_message(scene: str, version: object) -> str:
    """Message for an unsupported schema version."""
    if isinstance(version, int) and not isinstance(version, bool) and version > SCHEMA_VERSION:
        return f"scene '{scene}': schema_version must be at most {SCHEMA_VERSION}, got {version}; upgrade wnv"
    return f"scene '{scene}': schema_version must be {SCHEMA_VERSION}, got {version!r}; write the scene again"
