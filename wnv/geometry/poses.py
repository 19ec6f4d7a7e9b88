"""Rigid camera poses: inverses, means, distances, interpolation and the normalised world frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from wnv.geometry.products import matmul, transform
from wnv.geometry.quaternions import matrix_from_quaternion, quaternion_from_matrix, slerp

# LVSM's factor (arXiv:2410.17242): after normalisation the largest coordinate of a context camera is 1 / 1.35.
_MEAN_FRAME_MARGIN = 1.35


def invert_se3(T: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """Closed-form inverse of a rigid transform, such as from camtoworld to viewmat."""
    R_inverse = T[..., :3, :3].transpose(-1, -2)
    translation = -transform(R_inverse, T[..., None, :3, 3]).squeeze(-2)
    return make_se3(R_inverse, translation)


def make_se3(
    rotation: Float[Tensor, "*#batch 3 3"], translation: Float[Tensor, "*#batch 3"]
) -> Float[Tensor, "*batch 4 4"]:
    """Compose a 4x4 transform from rotation and translation; batch axes broadcast."""
    batch = torch.broadcast_shapes(rotation.shape[:-2], translation.shape[:-1])
    top = torch.cat([rotation.expand(*batch, 3, 3), translation.expand(*batch, 3)[..., None]], dim=-1)
    bottom = torch.zeros_like(top[..., :1, :])
    bottom[..., 3] = 1
    return torch.cat([top, bottom], dim=-2)


def look_at(
    eye: Float[Tensor, "*#batch 3"], target: Float[Tensor, "*#batch 3"], up: Float[Tensor, "*#batch 3"]
) -> Float[Tensor, "*batch 4 4"]:
    """Camtoworld of a camera at `eye` that looks at `target`; image y points away from `up`.

    Args:
        eye: Camera centre, world.
        target: A point on the optical axis, world.
        up: World direction that is upright in the image; of any length, not necessarily perpendicular to the axis.

    Raises:
        ValueError: If `eye` is `target`, or `up` is parallel to the optical axis.
    """
    ahead, up = torch.broadcast_tensors(target - eye, up)
    right = torch.linalg.cross(ahead, up)
    ahead_norm, right_norm, up_norm = (torch.linalg.vector_norm(v, dim=-1, keepdim=True) for v in (ahead, right, up))
    if not bool((right_norm > 1e-6 * ahead_norm * up_norm).all()):
        raise ValueError(
            "eye and target must differ, and up must not be parallel to the line between them, "
            f"got eye {eye.tolist()}, target {target.tolist()}, up {up.tolist()}"
        )
    forward, right = ahead / ahead_norm, right / right_norm
    down = torch.linalg.cross(forward, right)
    return make_se3(torch.stack([right, down, forward], dim=-1), eye)


def mean_pose(camtoworld: Float[Tensor, "*batch view 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """Mean camera pose as in LVSM (arXiv:2410.17242).

    The position is the mean position; +z is the mean viewing direction; +y is the mean image-down direction,
    orthogonalised. If these means vanish or are parallel (cameras looking inwards from all sides), the rotation is the
    first camera's.
    """
    mean = camtoworld.mean(dim=-3)
    forward, down = mean[..., :3, 2], mean[..., :3, 1]
    right = torch.linalg.cross(down, forward)
    right_norm = torch.linalg.vector_norm(right, dim=-1, keepdim=True)
    forward_norm = torch.linalg.vector_norm(forward, dim=-1, keepdim=True)
    degenerate = right_norm <= 1e-5
    forward = forward / forward_norm.clamp_min(1e-5)
    right = right / right_norm.clamp_min(1e-5)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=-1)
    return make_se3(torch.where(degenerate[..., None], camtoworld[..., 0, :3, :3], rotation), mean[..., :3, 3])


@dataclass(frozen=True)
class WorldFrame:
    """A change of world frame: a rigid transform, then a scaling.

    Attributes:
        newfromold: New world axes from the old world, in old units.
        scale: New units per old unit.
    """

    newfromold: Float[Tensor, "*batch 4 4"]
    scale: Float[Tensor, "*batch"]

    def apply(self, camtoworld: Float[Tensor, "*batch view 4 4"]) -> Float[Tensor, "*batch view 4 4"]:
        """Transform poses to the new world."""
        moved = matmul(self.newfromold[..., None, :, :], camtoworld)
        return make_se3(moved[..., :3, :3], moved[..., :3, 3] * self.scale[..., None, None])

    def undo(self, camtoworld: Float[Tensor, "*batch view 4 4"]) -> Float[Tensor, "*batch view 4 4"]:
        """Transform poses back to the old world."""
        unscaled = make_se3(camtoworld[..., :3, :3], camtoworld[..., :3, 3] / self.scale[..., None, None])
        return matmul(invert_se3(self.newfromold)[..., None, :, :], unscaled)


def fit_world_frame(
    context_camtoworld: Float[Tensor, "*batch view 4 4"], *, method: Literal["mean", "first"] = "mean"
) -> WorldFrame:
    """Fit the normalised world frame of a scene to its context cameras.

    Targets have no influence, so an encoded scene serves any target. Training and evaluation share this function.

    Args:
        context_camtoworld: Poses of the context views of each scene.
        method: `mean`: the mean pose is the origin, and lengths are divided by 1.35 times the largest absolute
            coordinate of a camera centre (LVSM, arXiv:2410.17242). `first`: the first camera is the identity, and the
            mean distance of the others to it is 1.

    Returns:
        The frame. Its scale is 1 without a baseline (one view, or all views from one place).

    Raises:
        ValueError: If there is no context view or the method is unknown.
    """
    if context_camtoworld.shape[-3] == 0:
        raise ValueError(f"need at least one context view, got shape {tuple(context_camtoworld.shape)}")
    if method == "mean":
        newfromold = invert_se3(mean_pose(context_camtoworld))
    elif method == "first":
        newfromold = invert_se3(context_camtoworld[..., 0, :, :])
    else:
        raise ValueError(f"pose normalization method must be 'mean' or 'first', got {method!r}")
    centers = context_camtoworld[..., :3, 3]
    new_centers = transform(newfromold[..., :3, :3], centers) + newfromold[..., None, :3, 3]
    if method == "mean":
        extent = new_centers.abs().amax(dim=(-1, -2))
        unit = _MEAN_FRAME_MARGIN * extent
    else:
        distances = torch.linalg.vector_norm(new_centers[..., 1:, :], dim=-1)
        extent = unit = distances.sum(dim=-1) / max(distances.shape[-1], 1)
    scale = torch.where(extent > _rounding(centers), 1 / unit.clamp_min(torch.finfo(unit.dtype).tiny), 1.0)
    return WorldFrame(newfromold=newfromold, scale=scale)


def interpolate_poses(
    a: Float[Tensor, "*#batch 4 4"], b: Float[Tensor, "*#batch 4 4"], t: float | int | Float[Tensor, "*#batch"]
) -> Float[Tensor, "*batch 4 4"]:
    """Interpolate poses from `a` (t = 0) to `b` (t = 1): positions linearly, rotations by slerp."""
    t = t.to(a) if isinstance(t, Tensor) else a.new_full((), t)
    quaternion = slerp(quaternion_from_matrix(a[..., :3, :3]), quaternion_from_matrix(b[..., :3, :3]), t)
    position = torch.lerp(*torch.broadcast_tensors(a[..., :3, 3], b[..., :3, 3], t[..., None]))
    return make_se3(matrix_from_quaternion(quaternion), position)


def rotation_angle(Ra: Float[Tensor, "*#batch 3 3"], Rb: Float[Tensor, "*#batch 3 3"]) -> Float[Tensor, "*batch"]:
    """Angle in radians, 0..pi, between two rotations; precise at both ends."""
    difference = matmul(Ra.transpose(-1, -2), Rb)
    skew = difference - difference.transpose(-1, -2)
    sine = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1)
    return torch.atan2(torch.linalg.vector_norm(sine, dim=-1), difference.diagonal(dim1=-2, dim2=-1).sum(dim=-1) - 1)


def random_se3(
    shape: Sequence[int], *, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*batch 4 4"]:
    """Rigid transforms with uniformly distributed rotations and normally distributed translations (unit variance)."""
    numbers = torch.randn(*shape, 7, generator=generator, dtype=dtype, device=generator.device)
    return make_se3(matrix_from_quaternion(numbers[..., :4]), numbers[..., 4:])


def is_rigid(T: Float[Tensor, "*batch 4 4"], atol: float = 1e-5) -> Bool[Tensor, "*batch"]:
    """Whether each matrix is a finite rigid transform, up to `atol` per entry."""
    rotation = T[..., :3, :3]
    identity = torch.eye(4, dtype=T.dtype, device=T.device)
    orthonormal = ((matmul(rotation, rotation.transpose(-1, -2)) - identity[:3, :3]).abs() <= atol).all(-1).all(-1)
    x, y, z = rotation.unbind(-1)
    right_handed = (torch.linalg.cross(x, y) * z).sum(dim=-1) > 0
    last_row = ((T[..., 3, :] - identity[3]).abs() <= atol).all(-1)
    return orthonormal & right_handed & last_row & T.isfinite().all(-1).all(-1)


def pose_spread(camtoworld: Float[Tensor, "*batch view 4 4"]) -> Float[Tensor, "*batch"]:
    """Mean distance of the camera centres from their centroid, in scene units; 0 if they share one place."""
    centers = camtoworld[..., :3, 3]
    distances = torch.linalg.vector_norm(centers - centers.mean(dim=-2, keepdim=True), dim=-1)
    spread = distances.mean(dim=-1)
    return torch.where(spread > _rounding(centers), spread, 0.0)


def pose_distance(
    target_camtoworld: Float[Tensor, "*batch target 4 4"], context_camtoworld: Float[Tensor, "*batch context 4 4"]
) -> Float[Tensor, "*batch target context"]:
    """Distance of each target pose from each context pose, combining position and rotation.

    The distance of the positions in units of the contexts' spread (scene units without a spread), plus the angle
    between the rotations in radians.
    """
    spread = pose_spread(context_camtoworld)
    spread = torch.where(spread > 0, spread, 1.0)
    target, context = target_camtoworld[..., :, None, :, :], context_camtoworld[..., None, :, :, :]
    distance = torch.linalg.vector_norm(target[..., :3, 3] - context[..., :3, 3], dim=-1) / spread[..., None, None]
    return distance + rotation_angle(target[..., :3, :3], context[..., :3, :3])


def nearest_pose(
    target_camtoworld: Float[Tensor, "*batch target 4 4"], context_camtoworld: Float[Tensor, "*batch context 4 4"]
) -> Int[Tensor, "*batch target"]:
    """Index of the context pose nearest to each target pose by `pose_distance`; the first of ties."""
    return pose_distance(target_camtoworld, context_camtoworld).argmin(dim=-1)


def _rounding(centers: Float[Tensor, "*batch view 3"]) -> Float[Tensor, "*batch"]:
    """Distance below which camera centres count as one place, given the rounding of their coordinates."""
    return 32 * torch.finfo(centers.dtype).eps * centers.abs().amax(dim=(-1, -2))
