"""The point that cameras look at."""

import torch
from jaxtyping import Float
from torch import Tensor

from wnv.geometry.poses import mean_pose, pose_spread
from wnv.types import Cameras

# Optical axes parallel to within about half a degree have no reliable intersection.
_MIN_AXES_DETERMINANT = 1e-4
# Optical axes meet if they differ by some degrees (root of the smallest eigenvalue of their mean projector, radians)
# and pass their common point at a distance that is small compared with its own and with that difference.
_MIN_AXES_SPREAD = 0.03
_MAX_MISS, _MAX_MISS_OVER_SPREAD = 0.2, 0.67
# Context cameras look at a point if it lies on average within about 45 degrees of their axes.
_MIN_COSINE = 0.7


def focus_point(
    cameras: Cameras,
    *,
    depth: float | int | None = None,
    scene_poses: Float[Tensor, "frame 4 4"] | None = None,
) -> Float[Tensor, "3"]:
    """Estimate the world point that context cameras look at.

    Args:
        cameras: Context cameras, batch axes `view`.
        depth: Distance of the point ahead of the mean camera, in scene units. By default the least-squares intersection
            of the optical axes; if these are parallel or meet behind the cameras, the point four spreads ahead of the
            mean camera (one scene unit without a spread).
        scene_poses: Poses of all frames. Their axes are intersected if the context cameras look at the result, because
            the axes of a few context cameras side by side are nearly parallel.

    Raises:
        ValueError: If `depth` is not positive, or the cameras are not those of one scene.
    """
    check_context(cameras, depth)
    if depth is None and scene_poses is not None:
        point = common_point(scene_poses)
        if point is not None and _look_at(cameras.camtoworld, point):
            return point.to(cameras.camtoworld)
    if depth is None:
        point = meeting_point(cameras.camtoworld)
        if point is not None:
            return point
    mean = mean_pose(cameras.camtoworld)
    return mean[:3, 3] + mean[:3, 2] * (depth or 4 * float(pose_spread(cameras.camtoworld)) or 1.0)


def meeting_point(camtoworld: Float[Tensor, "camera 4 4"]) -> Float[Tensor, "3"] | None:
    """Find the point nearest to all optical axes; None if these are parallel or meet behind the cameras."""
    centers, forward = camtoworld[:, :3, 3], camtoworld[:, :3, 2]
    spread = float(pose_spread(camtoworld))
    if spread == 0:
        return None
    # Minimize sum |(I - d d^T)(p - o)|^2 about the centroid, which keeps float32 precise far from the world origin.
    centroid = centers.mean(dim=0)
    away = torch.eye(3, dtype=forward.dtype, device=forward.device) - forward[:, :, None] * forward[:, None, :]
    right_side = (away * (centers - centroid)[:, None, :]).sum(dim=-1).mean(dim=0)
    a, b, c = away.mean(dim=0).unbind(dim=0)
    adjugate = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], dim=-1)
    determinant = (a * adjugate[:, 0]).sum()
    if determinant <= _MIN_AXES_DETERMINANT:
        return None
    point = centroid + (adjugate * right_side).sum(dim=-1) / determinant
    return point if ((point - centers) * forward).sum(dim=-1).mean() > 0.1 * spread else None


def common_point(camtoworld: Float[Tensor, "view 4 4"]) -> Float[Tensor, "3"] | None:
    """The least-squares intersection of the optical axes; None if they are nearly parallel or do not meet."""
    centers, forward = camtoworld[:, :3, 3], camtoworld[:, :3, 2]
    across = torch.eye(3).to(forward) - forward[:, :, None] * forward[:, None, :]
    mean = across.mean(dim=0)
    spread = float(torch.linalg.eigvalsh(mean)[0].clamp_min(0).sqrt())
    if spread < _MIN_AXES_SPREAD:
        return None
    centroid = centers.mean(dim=0)
    point = centroid + torch.linalg.solve(mean, (across @ (centers - centroid)[..., None]).mean(dim=0)[:, 0])
    miss = torch.linalg.vector_norm((across @ (point - centers)[..., None])[..., 0], dim=-1).mean()
    distance = torch.linalg.vector_norm(point - centers, dim=-1).mean()
    return point if miss < min(_MAX_MISS, _MAX_MISS_OVER_SPREAD * spread) * distance else None


def check_context(cameras: Cameras, depth: float | int | None) -> None:
    """Check that cameras are the context of one scene, and that `depth` is positive."""
    shape = tuple(cameras.batch_shape)
    if len(shape) != 1 or shape[0] == 0:
        raise ValueError(f"cameras must be the context cameras of one scene (batch axis view), got batch axes {shape}")
    if depth is not None and not depth > 0:
        raise ValueError(f"depth must be positive (scene units), got {depth}")


def _look_at(camtoworld: Float[Tensor, "camera 4 4"], point: Float[Tensor, "3"]) -> bool:
    offsets = point.to(camtoworld) - camtoworld[:, :3, 3]
    cosine = torch.nn.functional.cosine_similarity(offsets, camtoworld[:, :3, 2], dim=-1)
    return bool(cosine.mean() > _MIN_COSINE)
