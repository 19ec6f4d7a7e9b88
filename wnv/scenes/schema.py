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

SCENE_JSON = "scene.json"
FRAMES_FOLDER = "frames"
INDEX_FILE = "index.jsonl"
POINTS_FILE = "points.ply"

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
        K: image<-camera, in pixels of the stored image, no skew; the center of the first pixel is (0.5, 0.5).
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
        scale: Meters per scene unit; None if unknown, as after structure from motion.
        source: Where the scene comes from: any JSON object.

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
        raise SceneError(f"{where}: scale (meters per unit) must be positive or null, got {info.scale}")


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
    """Raise SceneError if `kind` is not a `SceneKind`; `where` is the subject of the message."""
    if kind not in get_args(SceneKind):
        raise SceneError(f"{where}: kind must be 'static' or 'dynamic', got {kind!r}")


def _check_files(info: SceneInfo) -> None:
    first_with_file: dict[str, int] = {}
    for index, frame in enumerate(info.frames):
        where = frame_label(info.id, index)
        if frame.source_index is not None and frame.source_index < 0:
            raise SceneError(f"{where}: source_index must be 0 or more or null, got {frame.source_index}")
        if not frame.file:
            continue
        check_member_name(frame.file, f"{where}: file")
        path = PurePosixPath(frame.file)
        if path.parts[0] != FRAMES_FOLDER or len(path.parts) < 2 or path.suffix.lower() not in _IMAGE_SUFFIXES:
            raise SceneError(
                f"{where}: file must be in {FRAMES_FOLDER}/ and end in .jpg, .jpeg or .png, got {frame.file!r}; "
                "write the scene again"
            )
        first = first_with_file.setdefault(frame.file, index)
        if first != index:
            raise SceneError(f"{where}: frame {first} has the same file {frame.file}; every frame needs its own image")


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


def _require(info: SceneInfo, valid: np.ndarray | np.bool_, rule: str, values: np.ndarray) -> None:
    """Raise SceneError with the broken rule for the first frame that is not valid; `{}` is the frame's value."""
    for index in np.flatnonzero(~valid).tolist():
        where = frame_label(info.id, index, info.frames[index].file)
        raise SceneError(f"{where}: {rule.format(values[index].tolist())}")


def _check_times(info: SceneInfo) -> None:
    times = info.times_s
    previous = np.concatenate([[-np.inf], times[:-1]])
    _require(info, np.isfinite(times), "time_s must be finite, got {}", times)
    _require(
        info,
        times > previous,
        "times must increase strictly, got {0[0]} s after {0[1]} s; sort the frames by time and remove duplicates",
        np.stack([times, previous], axis=1),
    )


def _check_intrinsics(info: SceneInfo) -> None:
    K = info.K
    finite, form = np.isfinite(K).all(axis=(1, 2)), np.equal(K[:, [0, 1, 2, 2], [1, 0, 0, 1]], 0)
    _require(info, finite, "K holds NaN or infinity; remove the frame or repair its camera", K)
    _require(
        info,
        form.all(axis=1) & (K[:, 2, 2] == 1),
        "K must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], got {}; undistort the images to a pinhole camera without "
        "skew",
        K,
    )
    for axis, side, name in ((0, info.width, "x"), (1, info.height, "y")):
        focal, center = K[:, axis, axis], K[:, axis, 2]
        _require(
            info,
            focal > 0,
            f"focal length f{name} must be positive, got {{:g}}; flip the axes in camtoworld, not in K",
            focal,
        )
        _require(
            info,
            (focal >= MIN_FOCAL_OVER_SIDE * side) & (focal <= MAX_FOCAL_OVER_SIDE * side),
            f"focal length f{name} must be {MIN_FOCAL_OVER_SIDE} to {MAX_FOCAL_OVER_SIDE:g} times the side of {side} "
            "px, got {:g} px; multiply normalized intrinsics by width and height",
            focal,
        )
        _require(
            info,
            (center >= -0.5 * side) & (center <= 1.5 * side),
            f"principal point c{name} must be at most half a side outside 0..{side} px, got {{:g}}; scale and crop K "
            "with the image",
            center,
        )


def _check_poses(info: SceneInfo) -> None:
    pose = info.camtoworld
    rotation, last_row = pose[:, :3, :3], pose[:, 3]
    finite = np.isfinite(pose).all(axis=(1, 2))
    _require(info, finite, "camtoworld holds NaN or infinity; remove the frame or repair its pose", pose)
    _require(
        info,
        np.equal(last_row, (0, 0, 0, 1)).all(axis=1),
        "the last row of camtoworld must be 0 0 0 1, got {}; is the matrix transposed?",
        last_row,
    )
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.abs(rotation.swapaxes(1, 2) @ rotation - np.eye(3)).max(axis=(1, 2))
        determinant = np.linalg.det(rotation)
    _require(
        info,
        error <= ROTATION_TOLERANCE,
        f"camtoworld is not rigid (R^T R is {{:.2g}} off the identity, {ROTATION_TOLERANCE:g} allowed); remove scale "
        "and shear from the rotation",
        error,
    )
    _require(
        info,
        determinant > 0,
        "camtoworld is reflected (determinant {:.3f}); the axes must be right-handed: +x right, +y down, +z forward",
        determinant,
    )
