"""What a film shows, frame by frame: from where, at what time, and the truth where it is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from wnv.geometry.cameras import crop_K, scale_K
from wnv.geometry.trajectories import TRAJECTORIES, make_trajectory
from wnv.types import Cameras, Views

RECORDED = "recorded"
THROUGH_TIME = "through_time"
BULLET_TIME = "bullet_time"
# Of these, `recorded` needs the frames of a scene (`open_recorded`); `plan_path` makes the others of a context.
CAMERA_PATHS = (*TRAJECTORIES, THROUGH_TIME, BULLET_TIME, RECORDED)


@dataclass(frozen=True)
class CameraPath:
    """A path through space and time.

    Attributes:
        cameras: One camera a frame, in the frame of the context.
        times: The moment that each frame shows, on the context's scale: 0 is its first moment, 1 its last.
        truth: What was really to be seen, RGB in 0..1; None where nobody knows.
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
) -> CameraPath:
    """A path made from a scene's context.

    Besides the camera paths there are two for scenes in which things move. `through_time`: the camera stands still
    while time runs. `bullet_time`: time runs to the middle, stands still while the camera swings along the path between
    the context views, and runs on; a third of the frames each.

    Args:
        context: The scene's given views, batch axes `view`, in the normalised world.
        trajectory: A name in `wnv.geometry.trajectories.TRAJECTORIES`, `through_time` or `bullet_time`.
        num_views: Frames.
        options: Options of the camera path by keyword; of `through_time` those of `still`, of `bullet_time` none.
        time: Of a dynamic scene, on the context's scale: one moment for all frames, or `[first, last]` to move through.
            None moves from 0 to 1 where the context's times differ.
        output_size: Height and width of a frame in pixels; None for the context's. Other proportions show a
            part of the context's field of view, about its middle.

    Raises:
        ValueError: If there is no such path, or an argument is out of its range.
        TypeError: If the path has no such option.
    """
    if trajectory not in CAMERA_PATHS or trajectory == RECORDED:
        raise ValueError(f"trajectory must be one of {', '.join(CAMERA_PATHS)}, got {trajectory!r}")
    options = dict(options or {})
    is_dynamic = bool((context.times != context.times[0]).any())
    if trajectory in (THROUGH_TIME, BULLET_TIME) and not is_dynamic:
        raise ValueError(
            f"trajectory={trajectory} needs a scene in which things move, and context views of different moments; all "
            "of these are of one"
        )
    first, last = _interval(context, time=time, is_dynamic=is_dynamic)
    if trajectory == BULLET_TIME:
        shot = _bullet_time(context.cameras, num_views=num_views, first=first, last=last, options=options)
    else:
        name = "still" if trajectory == THROUGH_TIME else trajectory
        cameras = make_trajectory(name, context.cameras, num_views=num_views, **options)
        shot = CameraPath(cameras, torch.linspace(first, last, num_views))
    if output_size is None:
        return shot
    if len(output_size) != 2:
        raise ValueError(f"output_size must be [height, width] in pixels, got {list(output_size)}")
    return replace(shot, cameras=resize_cameras(shot.cameras, height=output_size[0], width=output_size[1]))


def resize_cameras(cameras: Cameras, *, height: int, width: int) -> Cameras:
    """The same cameras with images of another size: scaled until that size is covered, and cut about the middle.

    Raises:
        ValueError: If a side is not positive.
    """
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
        return (0.0, 1.0) if is_dynamic else (float(context.times[0]),) * 2
    if isinstance(time, (float, int)):
        return float(time), float(time)
    if len(time) != 2:
        raise ValueError(f"time must be one number or [first, last], on the context's scale 0..1, got {list(time)}")
    return float(time[0]), float(time[1])


def _bullet_time(
    cameras: Cameras, *, num_views: int, first: float, last: float, options: Mapping[str, Any]
) -> CameraPath:
    if options:
        raise TypeError(f"trajectory {BULLET_TIME} has no option {', '.join(options)}; it knows no options")
    if num_views < 3:
        raise ValueError(f"num_views of {BULLET_TIME} must be at least 3, got {num_views}")
    run = num_views // 3
    swing = num_views - 2 * run
    path = make_trajectory("interpolate", cameras, num_views=swing)
    chosen = torch.cat([torch.zeros(run), torch.arange(swing), torch.full((run,), swing - 1)]).long()
    middle = (first + last) / 2
    before, after = torch.linspace(first, middle, run + 1)[:-1], torch.linspace(middle, last, run + 1)[1:]
    return CameraPath(path[chosen], torch.cat([before, torch.full((swing,), middle), after]))
