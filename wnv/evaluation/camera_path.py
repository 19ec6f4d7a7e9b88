"""Camera paths through a scene: the camera and time of each frame."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from wnv.evaluation.path_file import PathFile
from wnv.geometry.cameras import crop_K, scale_K
from wnv.geometry.poses import WorldFrame
from wnv.geometry.trajectories import TRAJECTORIES, make_trajectory
from wnv.types import Cameras, Views

RECORDED = "recorded"
THROUGH_TIME = "through_time"
BULLET_TIME = "bullet_time"
CAMERA_PATHS = (*TRAJECTORIES, THROUGH_TIME, BULLET_TIME, RECORDED)
"""All paths. `recorded` is made from the frames of a scene, the others from its context by `plan_path`."""

# Proportions of a path file that differ by less, as those of images of whole patches do, are the context's.
_SAME_ASPECT = 0.05


@dataclass(frozen=True)
class CameraPath:
    """A path through space and time.

    Attributes:
        cameras: One camera per frame, in the coordinates of the context.
        times: The time of each frame, on the context's scale from 0 (first) to 1 (last).
        truth: Ground truth of each frame, RGB in 0..1; None if unknown.
    """

    cameras: Cameras
    times: Float[Tensor, " frame"]
    truth: Float[Tensor, "frame 3 height width"] | None = None


def plan_path(
    context: Views,
    trajectory: str,
    *,
    num_views: int,
    options: Mapping[str, Any] | None = None,
    time: float | int | Sequence[float | int] | None = None,
    output_size: Sequence[int] | None = None,
    scene_poses: Float[Tensor, "frame 4 4"] | None = None,
) -> CameraPath:
    """Plan a path from a scene's context.

    Two paths are for dynamic scenes. `through_time`: the camera stands still while time runs. `bullet_time`: time runs
    to the middle, stops while the camera moves between the context views, and runs to the end; a third of the frames
    each.

    Args:
        context: The scene's context views, batch axes `view`, in the normalised world.
        trajectory: A name in `wnv.geometry.trajectories.TRAJECTORIES`, `through_time` or `bullet_time`.
        num_views: Number of frames.
        options: Options of the trajectory; `through_time` has those of `still`, `bullet_time` has none.
        time: Time in a dynamic scene, on the context's scale: a number, or `[first, last]`. None is `[0, 1]` if the
            context's times differ.
        output_size: Height and width of a frame in pixels; None is the context's. Other proportions crop the
            context's field of view about its center.
        scene_poses: Poses of all frames of the scene, in the world of the context. What they look at is the center of
            paths that turn around the scene.
    """
    if trajectory not in CAMERA_PATHS or trajectory == RECORDED:
        raise ValueError(f"trajectory must be one of {', '.join(CAMERA_PATHS)}, got {trajectory!r}")
    options = dict(options or {})
    is_dynamic = bool((context.times != context.times[0]).any())
    if trajectory in (THROUGH_TIME, BULLET_TIME) and not is_dynamic:
        raise ValueError(
            f"trajectory={trajectory} needs a dynamic scene with context views at different times, got one time for all"
        )
    first, last = _interval(context, time=time, is_dynamic=is_dynamic)
    if trajectory == BULLET_TIME:
        path = _bullet_time(context.cameras, num_views=num_views, first=first, last=last, options=options)
    else:
        name = "still" if trajectory == THROUGH_TIME else trajectory
        cameras = make_trajectory(name, context.cameras, num_views=num_views, scene_poses=scene_poses, **options)
        path = CameraPath(cameras, torch.linspace(first, last, num_views))
    return _resized(path, output_size)


def follow_file(
    file: PathFile,
    context: Views,
    *,
    world: WorldFrame | None = None,
    window: tuple[float, float] = (0.0, 1.0),
    time: float | int | Sequence[float | int] | None = None,
    output_size: Sequence[int] | None = None,
) -> CameraPath:
    """Follow the cameras of a path file, with the context's short side and the file's proportions.

    Args:
        file: The path.
        context: The scene's context views, batch axes `view`, in the normalized world.
        world: Change from the world of the file to that of the context; None if they are the same.
        window: First and last time of the context on the file's scale, from 0 to 1 over the whole scene.
        time: As in `plan_path`, if the file has no times.
        output_size: Height and width of a frame in pixels.

    Raises:
        ValueError: If a size is out of range.
    """
    poses = torch.stack([camera.camtoworld for camera in file.frames])
    poses = poses if world is None else world.apply(poses)
    height, width = context.cameras.height, context.cameras.width
    if abs(math.log(file.aspect * height / width)) > _SAME_ASPECT:
        side = min(height, width)
        height, width = round(side / min(1, file.aspect)), round(side * max(1, file.aspect))
    focal = height / 2 / torch.tensor([camera.fov_y for camera in file.frames], dtype=poses.dtype).div(2).tan()
    K = torch.eye(3, dtype=poses.dtype).repeat(len(poses), 1, 1)
    K[:, 0, 0] = K[:, 1, 1] = focal
    K[:, 0, 2], K[:, 1, 2] = width / 2, height / 2
    cameras = Cameras(K=K.float(), camtoworld=poses.float(), width=width, height=height)
    is_dynamic = bool((context.times != context.times[0]).any())
    given = [camera.time for camera in file.frames if camera.time is not None]
    if is_dynamic and len(given) == len(poses):
        first, last = window
        times = (torch.tensor(given) - first) / (last - first)
    else:
        times = torch.linspace(*_interval(context, time=time, is_dynamic=is_dynamic), len(poses))
    return _resized(CameraPath(cameras, times), output_size)


def _resized(path: CameraPath, output_size: Sequence[int] | None) -> CameraPath:
    if output_size is None:
        return path
    if len(output_size) != 2:
        raise ValueError(f"output_size must be [height, width] in pixels, got {list(output_size)}")
    return replace(path, cameras=resize_cameras(path.cameras, height=output_size[0], width=output_size[1]))


def resize_cameras(cameras: Cameras, *, height: int, width: int) -> Cameras:
    """Change the image size of cameras: scale until the size is covered, then crop about the center."""
    if min(height, width) < 1:
        raise ValueError(f"output_size must be [height, width] in pixels, each at least 1, got {[height, width]}")
    scale = max(height / cameras.height, width / cameras.width)
    K = scale_K(cameras.K, scale_x=scale, scale_y=scale)
    K = crop_K(K, left=(scale * cameras.width - width) / 2, top=(scale * cameras.height - height) / 2)
    return replace(cameras, K=K, height=height, width=width)


def _interval(
    context: Views, *, time: float | int | Sequence[float | int] | None, is_dynamic: bool
) -> tuple[float, float]:
    if time is None:
        first = float(context.times[0])
        return (0.0, 1.0) if is_dynamic else (first, first)
    if isinstance(time, (float, int)):
        return float(time), float(time)
    if len(time) != 2:
        raise ValueError(f"time must be a number or [first, last] on the context's scale 0..1, got {list(time)}")
    return float(time[0]), float(time[1])


def _bullet_time(
    cameras: Cameras, *, num_views: int, first: float, last: float, options: Mapping[str, Any]
) -> CameraPath:
    if options:
        raise TypeError(f"trajectory {BULLET_TIME} has no option {', '.join(options)}; it has no options")
    if num_views < 3:
        raise ValueError(f"num_views of {BULLET_TIME} must be at least 3, got {num_views}")
    run = num_views // 3
    swing = num_views - 2 * run
    moving = make_trajectory("interpolate", cameras, num_views=swing)
    frames = torch.cat([torch.zeros(run), torch.arange(swing), torch.full((run,), swing - 1)]).long()
    middle = (first + last) / 2
    before, after = torch.linspace(first, middle, run + 1)[:-1], torch.linspace(middle, last, run + 1)[1:]
    return CameraPath(moving[frames], torch.cat([before, torch.full((swing,), middle), after]))
