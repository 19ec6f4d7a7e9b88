"""What a scene is, apart from its pixels: frames and cameras as checked dataclasses, and the rules scenes obey."""

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

# Limits that no honest scene meets; they bound what a hostile file can make a reader allocate.
MAX_FRAMES = 100_000
MAX_IMAGE_PIXELS = 2**26
MAX_SCENE_JSON_BYTES = 2**26
MAX_IMAGE_BYTES = 2**28

# Room for the rounding of float32 and no more: what is stored must survive a quaternion and back.
ROTATION_TOLERANCE = 1e-5
MIN_FOCAL_OVER_SIDE = 0.02
MAX_FOCAL_OVER_SIDE = 1000.0

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


class SceneError(ValueError):
    """A scene that breaks a rule; the message names the scene, the frame, the rule, what was found and the way out."""


def frame_label(scene: str, index: int, file: str = "") -> str:
    """The words by which error messages name a frame."""
    return f"scene '{scene}', frame {index}" + (f" ({file})" if file else "")


def frame_file(index: int, suffix: str) -> str:
    """The archive name of the frame at a position: `frames/000000.jpg`; suffix is `.jpg` or `.png`."""
    return f"{FRAMES_FOLDER}/{index:06d}{suffix}"


def safe_id(name: str) -> str:
    """A scene id made from any text: letters, digits, `._-`.

    A name that has to be changed gets the start of its SHA-256, so that two names never become one id.
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
        time_s: When it was taken, seconds on the clip's clock; photographs without a clock count 0, 1, 2, ...
        K: image<-camera, in pixels of the stored image, no skew; the first pixel's centre is (0.5, 0.5).
        camtoworld: world<-camera, rigid, OpenCV axes (+x right, +y down, +z forward), translation in scene units.
        source_index: Index of the frame in the source video or list, if there is one.
        file: Name inside the archive. The writer gives it; leave it empty when making a scene.
    """

    time_s: float | int
    K: Float64[np.ndarray, "3 3"]
    camtoworld: Float64[np.ndarray, "4 4"]
    source_index: int | None = None
    file: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class SceneInfo:
    """Everything about a scene but its pixels. Making one checks every rule that needs no pixels.

    Attributes:
        id: Name of the scene and stem of its file: letters, digits, `._-`.
        kind: `static` if nothing but the camera moves, else `dynamic`.
        width: Width of every image in pixels.
        height: Height of every image in pixels.
        frames: At least one, in the order of their times.
        scale: Metres in one scene unit; None where it is unknown, as structure from motion leaves it.
        source: Where the scene came from: any JSON object.
        schema_version: Version of the layout of `scene.json`.

    Raises:
        SceneError: If a rule is broken.
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
        """All intrinsics, stacked."""
        return np.stack([frame.K for frame in self.frames])

    @property
    def camtoworld(self) -> Float64[np.ndarray, "frame 4 4"]:
        """All poses, stacked."""
        return np.stack([frame.camtoworld for frame in self.frames])

    @property
    def times_s(self) -> Float64[np.ndarray, " frame"]:
        """All times in seconds, strictly increasing."""
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
        raise SceneError(
            f"{where}: a scene has 1 to {MAX_FRAMES} frames, got {len(info.frames)}; leave it out or split it"
        )
    if info.scale is not None and not (math.isfinite(info.scale) and info.scale > 0):
        raise SceneError(f"{where}: scale (metres a unit) must be positive or null, got {info.scale}")
    for index, frame in enumerate(info.frames):
        if frame.source_index is not None and frame.source_index < 0:
            raise SceneError(
                f"{frame_label(info.id, index)}: source_index must be 0 or more or null, got {frame.source_index}"
            )


def check_id(name: str) -> None:
    """Refuse a scene id that could not be the stem of a file on every system, or would garble a message.

    Raises:
        SceneError: If it is not 1 to 200 letters, digits or `._-`, the first no `.` or `-`.
    """
    if not _ID.fullmatch(name):
        raise SceneError(
            f"scene id {name[:250]!r} must be 1 to 200 letters, digits or ._- and start with a letter, digit or _; "
            f"use {safe_id(name)!r}"
        )


def check_kind(kind: str, where: str) -> None:
    """Refuse a kind of scene that is none; `where` is the subject of the message.

    Raises:
        SceneError: If it is not one of `SceneKind`.
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
                f"{frame_label(info.id, index)}: file must lie in {FRAMES_FOLDER}/ and end in .jpg, .jpeg or .png, "
                f"got {frame.file!r}; write the scene again"
            )
        if frame.file in seen:
            raise SceneError(
                f"{frame_label(info.id, index, frame.file)}: frame {seen[frame.file]} has the same file; "
                "every frame needs an image of its own"
            )
        seen[frame.file] = index


def check_member_name(name: str, what: str) -> None:
    """Refuse an archive name that could leave the folder it is unpacked to.

    Args:
        name: Name inside the archive.
        what: Subject of the error message.

    Raises:
        SceneError: If the name is absolute, holds `..`, a backslash, a drive or a NUL.
    """
    parts = name.split("/")
    if not name or "\\" in name or "\0" in name or ":" in name or any(part in ("", ".", "..") for part in parts):
        raise SceneError(
            f"{what} {name!r} leaves the archive or is not a plain relative path with forward slashes; "
            "do not unpack this file, get it anew from a source you trust"
        )


def _check_times(info: SceneInfo) -> None:
    times = info.times_s
    for index in np.flatnonzero(~np.isfinite(times)):
        raise SceneError(f"{_where(info, index)}: time_s must be finite, got {times[index]}")
    for index in np.flatnonzero(np.diff(times) <= 0) + 1:
        raise SceneError(
            f"{_where(info, index)}: times must increase strictly, got {times[index]} s after {times[index - 1]} s; "
            "sort the frames by time and drop repeated ones"
        )


def _check_intrinsics(info: SceneInfo) -> None:
    K = info.K
    for index in np.flatnonzero(~np.isfinite(K).all(axis=(1, 2))):
        raise SceneError(f"{_where(info, index)}: K holds NaN or infinity; drop this frame or repair its camera")
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
                f"{_where(info, index)}: focal length f{name} is {focal[index]:g} px in an image of {side} px, which "
                "no pinhole camera has; K is in pixels, so multiply normalised intrinsics by the width and height"
            )
        for index in np.flatnonzero((centre < -0.5 * side) | (centre > 1.5 * side)):
            raise SceneError(
                f"{_where(info, index)}: principal point c{name} is {centre[index]:g} px, more than half an image "
                f"outside 0..{side}; K must belong to the stored size, so scale and crop it with the image"
            )


def _check_poses(info: SceneInfo) -> None:
    pose = info.camtoworld
    for index in np.flatnonzero(~np.isfinite(pose).all(axis=(1, 2))):
        raise SceneError(f"{_where(info, index)}: camtoworld holds NaN or infinity; drop this frame or pose it again")
    for index in np.flatnonzero((pose[:, 3] != (0, 0, 0, 1)).any(axis=1)):
        raise SceneError(
            f"{_where(info, index)}: the last row of camtoworld must be 0 0 0 1, got {pose[index, 3].tolist()}; "
            "is the matrix transposed?"
        )
    rotation = pose[:, :3, :3]
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.abs(rotation.swapaxes(1, 2) @ rotation - np.eye(3)).max(axis=(1, 2))
        determinant = np.linalg.det(rotation)
    # Written as "not within", so that an overflow to NaN is refused too.
    for index in np.flatnonzero(~(error <= ROTATION_TOLERANCE)):
        raise SceneError(
            f"{_where(info, index)}: camtoworld is not rigid (R^T R is {error[index]:.2g} off the identity, "
            f"{ROTATION_TOLERANCE:g} allowed); take scale and shear out of the rotation"
        )
    for index in np.flatnonzero(determinant < 0):
        raise SceneError(
            f"{_where(info, index)}: camtoworld is reflected (determinant {determinant[index]:.3f}); the axes must be "
            "right-handed: +x right, +y down, +z forward"
        )


def _where(info: SceneInfo, index: int | np.integer) -> str:
    return frame_label(info.id, int(index), info.frames[int(index)].file)


def version_message(scene: str, version: object) -> str:
    """Why a schema version is refused, and whether a newer wnv would read it."""
    if isinstance(version, int) and not isinstance(version, bool) and version > SCHEMA_VERSION:
        return (
            f"scene '{scene}': schema version {version} is newer than {SCHEMA_VERSION}, the newest "
            "that this wnv reads; upgrade wnv"
        )
    return f"scene '{scene}': schema_version must be {SCHEMA_VERSION}, got {version!r}; write the scene again"
