"""Camera paths made from a scene's context cameras, for videos and viewers.

Every path takes the context cameras (batch axis `view`) and returns `num_views` cameras of the same image size, in
order. K is that of the first context camera, or of `anchor`. `depth` is the distance in scene units of the point ahead
of the mean camera; its default comes from the optical axes of all frames (`scene_poses`) or of the context (see
`focus_point`).

The unit of lengths is the *spread*, the mean distance of the context cameras from their centroid (half the baseline of
two), so defaults fit scenes of any scale. If the contexts share one place, the unit is a tenth of `depth`, or of one
scene unit.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from wnv.geometry.focus import check_context, focus_point
from wnv.geometry.poses import look_at, make_se3, mean_pose, pose_spread
from wnv.geometry.products import transform
from wnv.geometry.quaternions import matrix_from_quaternion, quaternion_from_matrix
from wnv.geometry.splines import catmull_rom, squad
from wnv.types import Cameras

_COMMON_PARAMETERS = ("cameras", "num_views", "scene_poses")
_ONE_PLACE_DEG = 10.0  # default arc about context cameras in one place


def orbit(
    cameras: Cameras,
    *,
    num_views: int,
    scene_poses: Float[Tensor, "frame 4 4"] | None = None,
    degrees: float | int | None = None,
    radius: float | int = 1.0,
    lift: float | int = 0.0,
    depth: float | int | None = None,
) -> Cameras:
    """Circle around the point that the cameras look at, perpendicular to the context's mean up direction.

    It runs counterclockwise seen from above.

    Options:
        degrees: Angle of the path. By default the arc from one outermost context camera to the other, a whole turn if
            they stand all around, and 10 degrees if they share one place. Whole turns start in the direction of the
            mean context camera and close without repeating a camera; other angles are arcs centred on it. Negative
            angles run clockwise.
        radius: In units of the mean horizontal distance of the context cameras from the point.
        lift: Height above the mean context camera, in the same unit.
    """
    _check_path(cameras, num_views, depth)
    focus = focus_point(cameras, depth=depth, scene_poses=scene_poses)
    up = _up(cameras)
    offsets = cameras.camtoworld[:, :3, 3] - focus
    heights = (offsets * up).sum(dim=-1)
    level = offsets - heights[:, None] * up
    distance = torch.linalg.vector_norm(level, dim=-1).mean()
    start = level.mean(dim=0)
    is_all_around = bool(torch.linalg.vector_norm(start) < 0.1 * distance)  # without a mean direction
    start = _unit(level[0] if is_all_around else start)
    side = torch.linalg.cross(up, start)
    azimuth = torch.atan2(level @ side, level @ start)
    extent = float(azimuth.max() - azimuth.min())
    if degrees is not None:
        angles = _arc(cameras, num_views, degrees)
    elif float(pose_spread(cameras.camtoworld)) == 0:
        angles = _arc(cameras, num_views, _ONE_PLACE_DEG)
    elif is_all_around or extent > 1.5 * math.pi:
        angles = _arc(cameras, num_views, 360)
    else:
        middle = (azimuth.max() + azimuth.min()) / 2
        angles = middle + torch.linspace(-extent / 2, extent / 2, num_views, dtype=focus.dtype, device=focus.device)
    circle = angles.cos()[:, None] * start + angles.sin()[:, None] * side
    eyes = focus + distance * radius * circle + (heights.mean() + distance * lift) * up
    return _with_poses(cameras, look_at(eyes, focus, up))


def spiral(
    cameras: Cameras,
    *,
    num_views: int,
    scene_poses: Float[Tensor, "frame 4 4"] | None = None,
    turns: float | int = 2.0,
    radius: float | int = 1.0,
    depth: float | int | None = None,
) -> Cameras:
    """Elliptic spiral around the mean context camera that looks at one point, after LLFF (arXiv:1905.00889).

    Its half axes are the largest offsets of the context cameras along the mean camera's right, down and forward axes,
    but at least half a spread, and forward at most half the way to the point. Over the whole path the camera moves
    back and forth once; whole turns close.

    Options:
        turns: Number of turns.
        radius: Factor on the half axes.
    """
    _check_path(cameras, num_views, depth)
    focus = focus_point(cameras, depth=depth, scene_poses=scene_poses)
    mean = mean_pose(cameras.camtoworld)
    offsets = transform(mean[:3, :3].mT, cameras.camtoworld[:, :3, 3] - mean[:3, 3])
    half_axes = radius * offsets.abs().amax(dim=0).clamp_min(0.5 * _unit_length(cameras, depth))
    half_axes[2] = half_axes[2].clamp_max(0.5 * torch.linalg.vector_norm(focus - mean[:3, 3]))
    phase = 2 * math.pi * _phase(cameras, num_views)
    path = torch.stack([(turns * phase).cos(), -(turns * phase).sin(), -phase.sin()], dim=-1)
    eyes = mean[:3, 3] + transform(mean[:3, :3], path * half_axes)
    return _with_poses(cameras, look_at(eyes, focus, -mean[:3, 1]))


def interpolate(cameras: Cameras, *, num_views: int) -> Cameras:
    """Smooth path through all context cameras, in order.

    Positions follow a Catmull-Rom spline, rotations squad (its spherical counterpart), focal lengths a Catmull-Rom
    spline of their logarithms; two cameras are joined by a line and a slerp. All segments have the same
    duration; contexts are hit exactly if `num_views - 1` is a multiple of their number minus one. A single context
    camera is repeated.
    """
    _check_path(cameras, num_views, None)
    camtoworld, K = cameras.camtoworld, cameras.K
    num_context = camtoworld.shape[0]
    if num_context == 1:
        return _with_poses(cameras, camtoworld.expand(num_views, 4, 4).clone())
    knots = torch.linspace(0, num_context - 1, num_views, dtype=camtoworld.dtype, device=camtoworld.device)
    segment = knots.floor().clamp_max(num_context - 2).long()
    t = knots - segment
    position = catmull_rom(camtoworld[:, :3, 3], segment, t)
    rotation = matrix_from_quaternion(squad(quaternion_from_matrix(camtoworld[:, :3, :3]), segment, t))
    focal = catmull_rom(K.diagonal(dim1=-2, dim2=-1)[:, :2].log(), segment, t).exp()
    offset = catmull_rom(torch.stack([K[:, 0, 1], K[:, 0, 2], K[:, 1, 2]], dim=-1), segment, t)
    path_K = K[:1].repeat(num_views, 1, 1)
    path_K[:, 0, 0], path_K[:, 1, 1] = focal.unbind(dim=-1)
    path_K[:, 0, 1], path_K[:, 0, 2], path_K[:, 1, 2] = offset.unbind(dim=-1)
    return replace(cameras, K=path_K, camtoworld=make_se3(rotation, position))


def dolly(
    cameras: Cameras,
    *,
    num_views: int,
    scene_poses: Float[Tensor, "frame 4 4"] | None = None,
    distance: float | int = 1.0,
    dolly_zoom: bool = False,
    anchor: int | None = None,
    depth: float | int | None = None,
) -> Cameras:
    """Closed path along the optical axis: forward, back behind the start, and to the start.

    Options:
        distance: Largest distance from the start in spreads; negative starts backwards.
        dolly_zoom: Change the focal length so that objects at the focus point's depth keep their size (the Vertigo
            effect).
        anchor: Index of the context camera to move; default the mean camera.

    Raises:
        ValueError: If the camera would reach the focus point with `dolly_zoom`.
    """
    _check_path(cameras, num_views, depth)
    base, K = _anchor(cameras, anchor)
    reach = distance * _unit_length(cameras, depth)
    forward = reach * (2 * math.pi * _phase(cameras, num_views)).sin()
    camtoworld = make_se3(base[:3, :3], base[:3, 3] + forward[:, None] * base[:3, 2])
    path_K = K.repeat(num_views, 1, 1)
    if dolly_zoom:
        ahead = depth or float(((focus_point(cameras, scene_poses=scene_poses) - base[:3, 3]) * base[:3, 2]).sum())
        if ahead <= abs(reach):
            raise ValueError(
                f"with dolly_zoom, distance must end before the focus point at {ahead:.4g} scene units, got "
                f"{abs(reach):.4g}; pass a smaller distance or a larger depth"
            )
        # Zoom about the principal point, so that the focus point does not move.
        path_K[:, :2, :2] *= (1 - forward / ahead)[:, None, None]
    return replace(cameras, K=path_K, camtoworld=camtoworld)


def wobble(
    cameras: Cameras,
    *,
    num_views: int,
    radius: float | int = 0.5,
    turns: float | int = 1.0,
    anchor: int | None = None,
    depth: float | int | None = None,
) -> Cameras:
    """Small circle parallel to the image plane with a fixed orientation, to show parallax.

    It starts right of the centre and runs clockwise in the image; whole turns close.

    Options:
        radius: Of the circle, in spreads.
        turns: Number of turns.
        anchor: Index of the context camera to move; default the mean camera.
    """
    _check_path(cameras, num_views, depth)
    base, K = _anchor(cameras, anchor)
    angles = 2 * math.pi * turns * _phase(cameras, num_views)
    circle = torch.stack([angles.cos(), angles.sin(), torch.zeros_like(angles)], dim=-1)
    eyes = base[:3, 3] + radius * _unit_length(cameras, depth) * transform(base[:3, :3], circle)
    return replace(cameras, K=K.repeat(num_views, 1, 1), camtoworld=make_se3(base[:3, :3], eyes))


def still(cameras: Cameras, *, num_views: int, anchor: int | None = None) -> Cameras:
    """Static camera, for paths through time.

    Options:
        anchor: Index of the context camera; default the mean camera.
    """
    _check_path(cameras, num_views, None)
    base, K = _anchor(cameras, anchor)
    return replace(cameras, K=K.repeat(num_views, 1, 1), camtoworld=base.repeat(num_views, 1, 1))


def around(cameras: Cameras, *, num_views: int, degrees: float | int = 60.0, anchor: int | None = None) -> Cameras:
    """Turn on the spot about the contexts' mean up direction.

    Options:
        degrees: Angle, positive to the left. Whole turns close and start at the camera's direction; other angles are
            sweeps centred on it.
        anchor: Index of the context camera to turn; default the mean camera.
    """
    _check_path(cameras, num_views, None)
    base, K = _anchor(cameras, anchor)
    up = _up(cameras)
    half_angles = _arc(cameras, num_views, degrees) / 2
    quaternions = torch.cat([half_angles.cos()[:, None], half_angles.sin()[:, None] * up], dim=-1)
    rotation = matrix_from_quaternion(quaternions) @ base[:3, :3]
    path = make_se3(rotation, base[:3, 3].expand(num_views, 3))
    return replace(cameras, K=K.repeat(num_views, 1, 1), camtoworld=path)


TRAJECTORIES: dict[str, Callable[..., Cameras]] = {
    "orbit": orbit,
    "spiral": spiral,
    "interpolate": interpolate,
    "dolly": dolly,
    "wobble": wobble,
    "around": around,
    "still": still,
}


def make_trajectory(
    name: str,
    cameras: Cameras,
    *,
    num_views: int,
    scene_poses: Float[Tensor, "frame 4 4"] | None = None,
    **options: Any,
) -> Cameras:
    """Make the path `name` of `TRAJECTORIES` with its options.

    Args:
        name: The path.
        cameras: Context cameras, batch axes `view`.
        num_views: Number of cameras on the path.
        scene_poses: Poses of all frames, which together show what the scene is about.
        options: Options of the path.

    Raises:
        ValueError: If the path is unknown or an argument is invalid.
        TypeError: If the option is unknown or a value is not a number.
    """
    if name not in TRAJECTORIES:
        raise ValueError(f"trajectory must be one of {', '.join(TRAJECTORIES)}, got {name!r}")
    trajectory = TRAJECTORIES[name]
    parameters = inspect.signature(trajectory).parameters
    known = [parameter for parameter in parameters if parameter not in _COMMON_PARAMETERS]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise TypeError(
            f"trajectory {name} has no option {', '.join(unknown)}, only {', '.join(known) or 'no options'}"
        )
    for option, value in options.items():
        if not isinstance(value, (bool, int, float, type(None))):
            raise TypeError(f"option {option} of trajectory {name} must be a number, true or false, got {value!r}")
    if "scene_poses" in parameters:
        options["scene_poses"] = scene_poses
    return trajectory(cameras, num_views=num_views, **options)


def _check_path(cameras: Cameras, num_views: int, depth: float | int | None) -> None:
    check_context(cameras, depth)
    if num_views < 1:
        raise ValueError(f"num_views must be at least 1, got {num_views}")


def _phase(cameras: Cameras, num_views: int) -> Float[Tensor, " view"]:
    """Equal steps from 0 to 1, without 1, for closed paths."""
    matrix = cameras.camtoworld
    return torch.arange(num_views, dtype=matrix.dtype, device=matrix.device) / num_views


def _arc(cameras: Cameras, num_views: int, degrees: float | int) -> Float[Tensor, " view"]:
    """Angles in radians: whole turns start at 0 and close, other arcs are centred on 0 and have both ends."""
    if degrees % 360 == 0:
        return math.radians(degrees) * _phase(cameras, num_views)
    half = math.radians(degrees) / 2
    matrix = cameras.camtoworld
    return torch.linspace(-half, half, num_views, dtype=matrix.dtype, device=matrix.device)


def _up(cameras: Cameras) -> Float[Tensor, "3"]:
    up = -cameras.camtoworld[:, :3, 1].mean(dim=0)
    if torch.linalg.vector_norm(up) < 0.1:  # up directions that cancel out
        up = -cameras.camtoworld[0, :3, 1]
    return _unit(up)


def _unit(vector: Float[Tensor, "3"]) -> Float[Tensor, "3"]:
    return vector / torch.linalg.vector_norm(vector)


def _unit_length(cameras: Cameras, depth: float | int | None) -> float:
    return float(pose_spread(cameras.camtoworld)) or 0.1 * (depth or 1.0)


def _anchor(cameras: Cameras, anchor: int | None) -> tuple[Float[Tensor, "4 4"], Float[Tensor, "3 3"]]:
    """Start pose and K."""
    if anchor is None:
        return mean_pose(cameras.camtoworld), cameras.K[0]
    num_context = cameras.camtoworld.shape[0]
    if not 0 <= anchor < num_context:
        raise ValueError(f"anchor must be the index of a context camera, 0 to {num_context - 1}, got {anchor}")
    return cameras.camtoworld[anchor], cameras.K[anchor]


def _with_poses(cameras: Cameras, camtoworld: Float[Tensor, "view 4 4"]) -> Cameras:
    return replace(cameras, K=cameras.K[:1].repeat(camtoworld.shape[0], 1, 1), camtoworld=camtoworld)
