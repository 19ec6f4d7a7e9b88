"""Camera paths as files: the camera-path JSON of nerfstudio, in the world of a scene file."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from wnv.geometry.poses import is_rigid

# Cameras of these files look along -z with y up (OpenGL); ours look along +z with y down.
_OPENGL_FROM_OPENCV = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))


@dataclass(frozen=True)
class PathCamera:
    """A camera of a path.

    Attributes:
        camtoworld: World<-camera, float64, OpenCV axes.
        fov_y: Vertical field of view in radians.
        time: Time in a dynamic scene, from 0 (its first frame) to 1 (its last); None if unknown.
    """

    camtoworld: Float[Tensor, "4 4"]
    fov_y: float | int
    time: float | int | None = None


@dataclass(frozen=True)
class PathFile:
    """The content of a path file.

    Attributes:
        frames: The camera of each frame.
        keyframes: The cameras that the path was made from; none if the file has none.
        aspect: Width divided by height.
        fps: Frames per second.
    """

    frames: Sequence[PathCamera]
    keyframes: Sequence[PathCamera]
    aspect: float | int
    fps: float | int


def format_path(path: PathFile, *, height: int = 720) -> str:
    """Write a path as nerfstudio does, for images of `height` pixels."""

    def entry(camera: PathCamera, name: str) -> dict[str, Any]:
        values = (camera.camtoworld @ _OPENGL_FROM_OPENCV).flatten().tolist()
        found = {name: values, "fov": math.degrees(camera.fov_y), "aspect": path.aspect}
        return found if camera.time is None else {**found, "render_time": camera.time}

    content = {
        "camera_type": "perspective",
        "render_height": height,
        "render_width": round(height * path.aspect),
        "fps": path.fps,
        "seconds": len(path.frames) / path.fps,
        "is_cycle": False,
        "smoothness_value": 0.0,
        "default_fov": math.degrees(path.frames[0].fov_y),
        "default_transition_sec": len(path.frames) / path.fps / max(1, len(path.keyframes) - 1),
        "keyframes": [entry(camera, "matrix") for camera in path.keyframes],
        "camera_path": [entry(camera, "camera_to_world") for camera in path.frames],
    }
    return json.dumps(content, indent=1)


def read_path_file(path: str | Path) -> PathFile:
    """Read a path file.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is not a camera path.
    """
    return parse_path(Path(path).read_bytes(), where=str(path))


def parse_path(text: str | bytes, *, where: str) -> PathFile:
    """Parse the content of a path file; `where` names it in errors.

    Keyframes that nerfstudio's first viewer wrote, as text, are left out.

    Raises:
        ValueError: If it is not a camera path.
    """
    try:
        content = json.loads(text)
        kind = content.get("camera_type", "perspective")
        if kind != "perspective":
            raise ValueError(f"camera_type must be perspective, got {kind!r}")
        frames = [_camera(entry, "camera_to_world") for entry in content["camera_path"]]
        matrices = [entry for entry in content.get("keyframes", ()) if isinstance(entry["matrix"], list)]
        keyframes = [_camera(entry, "matrix") for entry in matrices]
        aspect = float(content["render_width"]) / float(content["render_height"])
        fps = float(content["fps"])
    except (KeyError, TypeError, AttributeError, ZeroDivisionError, ValueError, RuntimeError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{where} is not a camera path as nerfstudio and wnv-view write it: {reason}") from error
    if not frames or not (math.isfinite(fps * aspect) and fps > 0 and aspect > 0):
        raise ValueError(f"{where} needs a frame, fps and size above 0, got {len(frames)} frames, {fps} fps, {aspect=}")
    return PathFile(frames, keyframes, aspect=aspect, fps=fps)


def _camera(entry: dict[str, Any], name: str) -> PathCamera:
    camtoworld = torch.tensor(entry[name], dtype=torch.float64).view(4, 4) @ _OPENGL_FROM_OPENCV
    if not is_rigid(camtoworld, atol=1e-3):
        raise ValueError(f"{name} must be a rigid transform, got {entry[name]}")
    fov = float(entry["fov"])
    if not 0 < fov < 180:
        raise ValueError(f"fov must be in 0..180 degrees, got {fov}")
    time = entry.get("render_time")
    return PathCamera(camtoworld, fov_y=math.radians(fov), time=None if time is None else float(time))
