"""Camera paths made from a scene's context cameras, for videos and viewers.

Every path takes the context cameras (batch axes: `view`) and gives `num_views` cameras of the same image size, in
order. Lengths follow the contexts, so the defaults fit a scene of any scale: their unit is the *spread*, the mean
distance of the context cameras from their centroid (half the baseline of two). Contexts that share one place, or a
single one, have no spread: a tenth of `depth`, or of one scene unit, stands in for it.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from wnv.geometry.poses import look_at, make_se3, mean_pose, nearest_pose, pose_spread
from wnv.geometry.products import transform
from wnv.geometry.quaternions import matrix_from_quaternion, quaternion_from_matrix
from wnv.geometry.splines import catmull_rom, squad
from wnv.types import Cameras

_COMMON_PARAMETERS = ("cameras", "num_views")
# Optical axes within about half a degree of parallel meet nowhere in particular.
_MIN_AXES_DETERMINANT = 1e-4


def focus_point(cameras: Cameras, *, depth: float | int | None = None) -> Float[Tensor, "3"]:
    """The world point that the cameras look at.

    Args:
        cameras: Context cameras, batch axes `view`.
        depth: If given, the point is simply this far (scene units) ahead of the mean camera. If not, it is the point
            closest to all optical axes in the least-squares sense; and where these are parallel, or meet behind the
            cameras, the point ahead of the mean camera by four times the spread (one scene unit without a spread).

    Raises:
        ValueError: If `depth` is not positive.
    """
    _check_context(cameras, depth)
    centers, forward = cameras.camtoworld[:, :3, 3], cameras.camtoworld[:, :3, 2]
    spread = float(pose_spread(cameras.camtoworld))
    if depth is None and spread > 0:
        # Minimise sum |(I - d d^T)(p - o)|^2 about the centroid, which keeps float32 precise far from the world origin.
        centroid = centers.mean(dim=0)
        away = torch.eye(3, dtype=forward.dtype, device=forward.device) - forward[:, :, None] * forward[:, None, :]
        right_side = (away * (centers - centroid)[:, None, :]).sum(dim=-1).mean(dim=0)
        a, b, c = away.mean(dim=0).unbind(dim=0)
        adjugate = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], dim=-1)
        determinant = (a * adjugate[:, 0]).sum()
        if determinant > _MIN_AXES_DETERMINANT:
            point = centroid + (adjugate * right_side).sum(dim=-1) / determinant
            if ((point - centers) * forward).sum(dim=-1).mean() > 0.1 * spread:
                return point
    mean = mean_pose(cameras.camtoworld)
    return mean[:3, 3] + mean[:3, 2] * (depth or 4 * spread or 1.0)


def orbit(
    cameras: Cameras,
    *,
    num_views: int,
    degrees: float | int = 360.0,
    radius: float | int = 1.0,
    lift: float | int = 0.0,
    depth: float | int | None = None,
) -> Cameras:
    """A circle about the point the context cameras look at, level with respect to their mean image-up direction.

    It starts in the direction of the mean context camera and runs counterclockwise seen from above.

    Args:
        cameras: Context cameras; the first gives K.
        num_views: Number of cameras on the path.
        degrees: How far around. Whole turns close (no camera twice); anything else is an arc whose middle is the
            direction of the mean context camera. Negative runs clockwise.
        radius: In mean horizontal distances of the context cameras from the point.
        lift: How much higher than the mean context camera the circle lies, in the same unit.
        depth: Distance in scene units of the point ahead of the mean camera; found from the optical axes if not given
            (see `focus_point`).
    """
    _check_path(cameras, num_views, depth)
    focus = focus_point(cameras, depth=depth)
    up = _up(cameras)
    offsets = cameras.camtoworld[:, :3, 3] - focus
    heights = (offsets * up).sum(dim=-1)
    level = offsets - heights[:, None] * up
    distance = torch.linalg.vector_norm(level, dim=-1).mean()
    start = level.mean(dim=0)
    if torch.linalg.vector_norm(start) < 0.1 * distance:  # cameras all around have no mean direction
        start = level[0]
    start = _unit(start)
    if degrees % 360 == 0:
        angles = math.radians(degrees) * _phase(cameras, num_views)
    else:
        half = math.radians(degrees) / 2
        angles = torch.linspace(-half, half, num_views, dtype=focus.dtype, device=focus.device)
    circle = angles.cos()[:, None] * start + angles.sin()[:, None] * torch.linalg.cross(up, start)
    eyes = focus + distance * radius * circle + (heights.mean() + distance * lift) * up
    return _with_poses(cameras, look_at(eyes, focus, up))


def spiral(
    cameras: Cameras,
    *,
    num_views: int,
    turns: float | int = 2.0,
    radius: float | int = 1.0,
    depth: float | int | None = None,
) -> Cameras:
    """An elliptic spiral around the mean context camera that keeps looking at one point, after LLFF (arXiv:1905.00889).

    Its half axes are the largest offsets of the context cameras along the mean camera's right, down and forward axes,
    but at least half a spread, and forward at most half the way to the point. Over the whole path the camera moves
    back and forth once; whole turns close.

    Args:
        cameras: Context cameras; the first gives K.
        num_views: Number of cameras on the path.
        turns: Times around.
        radius: Factor on the half axes.
        depth: Distance in scene units of the point ahead of the mean camera; found from the optical axes if not given
            (see `focus_point`).
    """
    _check_path(cameras, num_views, depth)
    focus = focus_point(cameras, depth=depth)
    mean = mean_pose(cameras.camtoworld)
    offsets = transform(mean[:3, :3].mT, cameras.camtoworld[:, :3, 3] - mean[:3, 3])
    half_axes = radius * offsets.abs().amax(dim=0).clamp_min(0.5 * _unit_length(cameras, depth))
    half_axes[2] = half_axes[2].clamp_max(0.5 * torch.linalg.vector_norm(focus - mean[:3, 3]))
    phase = 2 * math.pi * _phase(cameras, num_views)
    path = torch.stack([(turns * phase).cos(), -(turns * phase).sin(), -phase.sin()], dim=-1)
    eyes = mean[:3, 3] + transform(mean[:3, :3], path * half_axes)
    return _with_poses(cameras, look_at(eyes, focus, -mean[:3, 1]))


def interpolate(cameras: Cameras, *, num_views: int) -> Cameras:
    """A smooth path through all context cameras in their order, from the first to the last.

    Positions follow a Catmull-Rom spline, rotations squad (its spherical counterpart), focal lengths a Catmull-Rom
    spline of their logarithms; two cameras are joined by a line and a slerp. Every stretch between two context cameras
    takes equally long; contexts are met exactly where `num_views - 1` is a multiple of their number less one. A
    single context camera stays where it is.

    Args:
        cameras: Context cameras.
        num_views: Number of cameras on the path.
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
    distance: float | int = 1.0,
    dolly_zoom: bool = False,
    anchor: int | None = None,
    depth: float | int | None = None,
) -> Cameras:
    """Forward along the optical axis, back behind the start, and home again; the path closes.

    Args:
        cameras: Context cameras; the first, or `anchor`, gives K.
        num_views: Number of cameras on the path.
        distance: How far forward and how far back, in spreads; negative goes back first.
        dolly_zoom: Change the focal length so that things at the depth of the point looked at keep their size while the
            rest of the scene swells and shrinks (the Vertigo effect).
        anchor: Index of the context camera to move; the mean camera if not given.
        depth: Distance in scene units of the point looked at, which `dolly_zoom` keeps in size; found from the optical
            axes if not given (see `focus_point`).

    Raises:
        ValueError: If `dolly_zoom` would carry the camera to the point looked at or beyond.
    """
    _check_path(cameras, num_views, depth)
    base, K = _anchor(cameras, anchor)
    reach = distance * _unit_length(cameras, depth)
    forward = reach * (2 * math.pi * _phase(cameras, num_views)).sin()
    camtoworld = make_se3(base[:3, :3], base[:3, 3] + forward[:, None] * base[:3, 2])
    path_K = K.repeat(num_views, 1, 1)
    if dolly_zoom:
        ahead = depth or float(((focus_point(cameras) - base[:3, 3]) * base[:3, 2]).sum())
        if ahead <= abs(reach):
            raise ValueError(
                f"dolly_zoom needs the point looked at farther ahead than the camera moves, got the point at "
                f"{ahead:.4g} and a move of {abs(reach):.4g} scene units; pass a smaller distance or a larger depth"
            )
        # About the principal point, where the optical axis meets the image, so that the point looked at stays put.
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
    """A small circle parallel to the image plane, without turning the camera: parallax and nothing else.

    It starts on the right of the circle's centre and runs clockwise in the image; whole turns close.

    Args:
        cameras: Context cameras; the first, or `anchor`, gives K.
        num_views: Number of cameras on the path.
        radius: Of the circle, in spreads.
        turns: Times around.
        anchor: Index of the context camera to move; the mean camera if not given.
        depth: Distance of the scene in scene units: sets the unit of `radius` where the contexts have no spread.
    """
    _check_path(cameras, num_views, depth)
    base, K = _anchor(cameras, anchor)
    angles = 2 * math.pi * turns * _phase(cameras, num_views)
    circle = torch.stack([angles.cos(), angles.sin(), torch.zeros_like(angles)], dim=-1)
    eyes = base[:3, 3] + radius * _unit_length(cameras, depth) * transform(base[:3, :3], circle)
    return replace(cameras, K=K.repeat(num_views, 1, 1), camtoworld=make_se3(base[:3, :3], eyes))


def still(cameras: Cameras, *, num_views: int, anchor: int | None = None) -> Cameras:
    """One camera that does not move: what a path through time alone is seen from.

    Args:
        cameras: Context cameras; the first, or `anchor`, gives K.
        num_views: Number of cameras on the path.
        anchor: Index of the context camera that stays; the mean camera if not given.
    """
    _check_path(cameras, num_views, None)
    base, K = _anchor(cameras, anchor)
    return replace(cameras, K=K.repeat(num_views, 1, 1), camtoworld=base.repeat(num_views, 1, 1))


def around(cameras: Cameras, *, num_views: int, degrees: float | int = 60.0, anchor: int | None = None) -> Cameras:
    """A look around: the camera stays in its place and turns about the contexts' mean image-up direction.

    Args:
        cameras: Context cameras; the first, or `anchor`, gives K.
        num_views: Number of cameras on the path.
        degrees: How far it turns, to the left where positive. Whole turns close and start with the camera's own
            direction; anything else is a sweep whose middle is that direction.
        anchor: Index of the context camera to turn; the mean camera if not given.
    """
    _check_path(cameras, num_views, None)
    base, K = _anchor(cameras, anchor)
    up = _up(cameras)
    if degrees % 360 == 0:
        angles = math.radians(degrees) * _phase(cameras, num_views)
    else:
        half = math.radians(degrees) / 2
        angles = torch.linspace(-half, half, num_views, dtype=base.dtype, device=base.device)
    half_angles = angles / 2
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


def make_trajectory(name: str, cameras: Cameras, *, num_views: int, **options: Any) -> Cameras:
    """The path called `name` in `TRAJECTORIES`, with its options by keyword.

    Raises:
        ValueError: If there is no such path, or the path refuses its arguments.
        TypeError: If the path has no such option, or a value is no number.
    """
    if name not in TRAJECTORIES:
        raise ValueError(f"trajectory must be one of {', '.join(TRAJECTORIES)}, got {name!r}")
    trajectory = TRAJECTORIES[name]
    known = [parameter for parameter in inspect.signature(trajectory).parameters if parameter not in _COMMON_PARAMETERS]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise TypeError(
            f"trajectory {name} has no option {', '.join(unknown)}; it knows {', '.join(known) or 'no options'}"
        )
    for option, value in options.items():
        if not isinstance(value, (bool, int, float, type(None))):
            raise TypeError(f"option {option} of trajectory {name} must be a number, true or false, got {value!r}")
    return trajectory(cameras, num_views=num_views, **options)


def nearest_camera(target: Cameras, context: Cameras) -> Int[Tensor, " target"]:
    """Index of the context camera nearest to each target camera, as `nearest_pose` measures it; K is not looked at."""
    return nearest_pose(target.camtoworld, context.camtoworld)


def _check_context(cameras: Cameras, depth: float | int | None) -> None:
    shape = tuple(cameras.batch_shape)
    if len(shape) != 1 or shape[0] == 0:
        raise ValueError(f"a trajectory needs the context cameras of one scene (batch axes: view), got {shape}")
    if depth is not None and not depth > 0:
        raise ValueError(f"depth of the point looked at must be positive (scene units), got {depth}; leave it out")


def _check_path(cameras: Cameras, num_views: int, depth: float | int | None) -> None:
    _check_context(cameras, depth)
    if num_views < 1:
        raise ValueError(f"num_views of a trajectory must be at least 1, got {num_views}")


def _phase(cameras: Cameras, num_views: int) -> Float[Tensor, " view"]:
    """0 to 1 in equal steps, 1 left out: the first camera of a closed path follows the last."""
    matrix = cameras.camtoworld
    return torch.arange(num_views, dtype=matrix.dtype, device=matrix.device) / num_views


def _up(cameras: Cameras) -> Float[Tensor, "3"]:
    up = -cameras.camtoworld[:, :3, 1].mean(dim=0)
    if torch.linalg.vector_norm(up) < 0.1:  # cameras upside down to each other agree on no up
        up = -cameras.camtoworld[0, :3, 1]
    return _unit(up)


def _unit(vector: Float[Tensor, "3"]) -> Float[Tensor, "3"]:
    return vector / torch.linalg.vector_norm(vector)


def _unit_length(cameras: Cameras, depth: float | int | None) -> float:
    return float(pose_spread(cameras.camtoworld)) or 0.1 * (depth or 1.0)


def _anchor(cameras: Cameras, anchor: int | None) -> tuple[Float[Tensor, "4 4"], Float[Tensor, "3 3"]]:
    """Pose to move and the K that goes with it."""
    if anchor is None:
        return mean_pose(cameras.camtoworld), cameras.K[0]
    num_context = cameras.camtoworld.shape[0]
    if not 0 <= anchor < num_context:
        raise ValueError(f"anchor must be the index of a context camera, 0 to {num_context - 1}, got {anchor}")
    return cameras.camtoworld[anchor], cameras.K[anchor]


def _with_poses(cameras: Cameras, camtoworld: Float[Tensor, "view 4 4"]) -> Cameras:
    return replace(cameras, K=cameras.K[:1].repeat(camtoworld.shape[0], 1, 1), camtoworld=camtoworld)
