"""Signs that cameras are wrong although they are valid: what a mistake in units, axes or names leaves behind."""

import torch
from jaxtyping import Float
from torch import Tensor

from wnv.geometry.focus import common_point
from wnv.geometry.poses import pose_spread
from wnv.types import Cameras

MIN_VIEW_ANGLE, MAX_VIEW_ANGLE = 5.0, 150.0
"""Plausible view angles across the longer side, degrees."""
MIN_CONTEXT_ANGLE = 1.0
"""Least angle between context cameras, seen from what they look at, that shows depth, degrees."""

# Repeated poses are normal where a hand-held camera rests for a moment.
_MAX_REPEATED_SHARE = 0.05


def doubtful_cameras(cameras: Cameras, *, is_static: bool = True, check_axes: bool = True) -> list[str]:
    """Describe what is doubtful about the cameras of one scene, with value, limit and way out; empty if nothing.

    Args:
        cameras: The cameras, batch axes `view`.
        is_static: Whether only the camera moves. Otherwise cameras may rest.
        check_axes: Report cameras that all look away from where their axes meet, as in OpenGL axes. A camera that pans
            in place looks the same.
    """
    cameras = cameras.to(torch.float64)
    num = len(cameras.K)
    doubts = []
    focal = torch.stack([cameras.K[:, 0, 0], cameras.K[:, 1, 1]], dim=-1)
    sides = focal.new_tensor([cameras.width, cameras.height])
    angle = torch.rad2deg(2 * torch.atan(sides / (2 * focal))).amax(dim=-1)
    for view in ((angle < MIN_VIEW_ANGLE) | (angle > MAX_VIEW_ANGLE)).nonzero().flatten().tolist()[:1]:
        doubts.append(
            f"a view angle should be {MIN_VIEW_ANGLE:g} to {MAX_VIEW_ANGLE:g} degrees, got {angle[view]:.3g} in view "
            f"{view} (fx={focal[view, 0]:.5g}, fy={focal[view, 1]:.5g} for {cameras.width} x {cameras.height} pixels); "
            "give K in pixels of these images"
        )
    center = cameras.K[:, :2, 2]
    for view in ((center < 0) | (center > sides)).any(dim=-1).nonzero().flatten().tolist()[:1]:
        doubts.append(
            f"the principal point should be in the image of {cameras.width} x {cameras.height} pixels, got cx="
            f"{center[view, 0]:.5g}, cy={center[view, 1]:.5g} in view {view}; scale and crop K with the image"
        )
    doubts += _coinciding(cameras) if is_static else []
    point = common_point(cameras.camtoworld) if check_axes and num > 2 else None
    if point is not None and bool((_depth(cameras.camtoworld, point) < 0).all()):
        doubts.append(
            f"all {num} cameras look away from the point where their optical axes meet; if the poses have OpenGL axes "
            "(y up, looking along -z), negate the second and third column of each rotation"
        )
    return doubts


def doubtful_context(context: Cameras, others: Cameras, *, is_static: bool = True) -> list[str]:
    """Describe context cameras that coincide, or nearly do as seen from what they look at; empty if they do not.

    Args:
        context: The context cameras, batch axes `view`.
        others: More cameras of the scene, which help to find that point.
        is_static: Whether only the camera moves. Otherwise cameras may coincide.
    """
    context = context.to(torch.float64)
    coinciding = _coinciding(context)
    if len(context.K) < 2 or not is_static or coinciding:
        return coinciding if is_static else []
    point = common_point(torch.cat([context.camtoworld, others.camtoworld.to(context.camtoworld)]))
    if point is None:
        return []
    directions = torch.nn.functional.normalize(point - context.camtoworld[:, :3, 3], dim=-1)
    angle = torch.rad2deg(torch.acos((directions @ directions.T).clamp(-1, 1))).max()
    if angle >= MIN_CONTEXT_ANGLE:
        return []
    return [
        f"the context views nearly coincide: seen from what they look at, they are {angle:.2g} degrees apart (at least "
        f"{MIN_CONTEXT_ANGLE:g} shows depth); choose views farther apart"
    ]


def _coinciding(cameras: Cameras) -> list[str]:
    num = len(cameras.K)
    if num < 2:
        return []
    if float(pose_spread(cameras.camtoworld)) == 0:
        rotations = len(cameras.camtoworld[:, :3, :3].flatten(1).round(decimals=6).unique(dim=0))
        same = "have one pose" if rotations == 1 else "are at one place"
        return [f"all {num} cameras {same}, which shows no depth; check the positions in camtoworld"]
    centers = cameras.camtoworld[:, :3, 3]
    scaled = (centers - centers.mean(dim=0)) / pose_spread(cameras.camtoworld)
    poses = torch.cat([scaled, cameras.camtoworld[:, :3, :3].flatten(1)], dim=1)
    repeated = num - len(poses.round(decimals=6).unique(dim=0))
    if repeated <= _MAX_REPEATED_SHARE * num:
        return []
    return [
        f"{repeated} of {num} cameras repeat the pose of another one (at most {_MAX_REPEATED_SHARE:.0%} is normal); "
        "remove repeated frames, or mark a scene in which things move as dynamic"
    ]


def _depth(camtoworld: Float[Tensor, "view 4 4"], point: Float[Tensor, "3"]) -> Float[Tensor, " view"]:
    return ((point - camtoworld[:, :3, 3]) * camtoworld[:, :3, 2]).sum(dim=-1)
