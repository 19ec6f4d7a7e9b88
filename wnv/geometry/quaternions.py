"""Unit quaternions (w, x, y, z), for the interpolation of rotations.

`q` and `-q` are the same rotation; interpolation uses the nearer one.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def quaternion_from_matrix(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternion of a rotation matrix, with w >= 0."""
    diagonal = rotation.diagonal(dim1=-2, dim2=-1)
    xx, yy, zz = diagonal.unbind(-1)
    # Row i is 4 q_i * (w, x, y, z); the largest component gives the best-conditioned row.
    (_, r01, r02), (r10, _, r12), (r20, r21, _) = (row.unbind(-1) for row in rotation.unbind(-2))
    rows = [
        [1 + xx + yy + zz, r21 - r12, r02 - r20, r10 - r01],
        [r21 - r12, 1 + xx - yy - zz, r01 + r10, r02 + r20],
        [r02 - r20, r01 + r10, 1 - xx + yy - zz, r12 + r21],
        [r10 - r01, r02 + r20, r12 + r21, 1 - xx - yy + zz],
    ]
    products = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    largest = products.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)
    row = torch.take_along_dim(products, largest[..., None, None], dim=-2).squeeze(-2)
    quaternion = row / torch.linalg.vector_norm(row, dim=-1, keepdim=True)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def matrix_from_quaternion(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrix of a non-zero quaternion."""
    w, x, y, z = (quaternion / torch.linalg.vector_norm(quaternion, dim=-1, keepdim=True)).unbind(-1)
    entries = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(entries, dim=-1).unflatten(-1, (3, 3))


def quaternion_multiply(a: Float[Tensor, "*#batch 4"], b: Float[Tensor, "*#batch 4"]) -> Float[Tensor, "*batch 4"]:
    """Hamilton product: the rotation `b` followed by the rotation `a`."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    parts = [
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    ]
    return torch.stack(parts, dim=-1)


def quaternion_conjugate(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """Inverse of a unit quaternion."""
    return torch.cat([quaternion[..., :1], -quaternion[..., 1:]], dim=-1)


def quaternion_log(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3"]:
    """Half the rotation vector (axis times angle in radians, at most pi) of a unit quaternion."""
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    vector = quaternion[..., 1:]
    sine = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    half_angle = torch.atan2(sine, quaternion[..., :1])
    # Both branches are finite at the identity, and so is the gradient.
    turns = sine > 0
    return vector * torch.where(turns, half_angle / torch.where(turns, sine, 1.0), 1.0)


def quaternion_exp(half_rotation: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternion of half a rotation vector; the inverse of `quaternion_log`."""
    half_angle = torch.linalg.vector_norm(half_rotation, dim=-1, keepdim=True)
    # torch.sinc(x) = sin(pi x) / (pi x) is smooth through zero.
    return torch.cat([half_angle.cos(), half_rotation * torch.sinc(half_angle / torch.pi)], dim=-1)


def slerp(
    a: Float[Tensor, "*#batch 4"], b: Float[Tensor, "*#batch 4"], t: Float[Tensor, "*#batch"]
) -> Float[Tensor, "*batch 4"]:
    """Spherical linear interpolation from `a` (t = 0) to `b` (t = 1) along the shorter arc."""
    step = quaternion_log(quaternion_multiply(quaternion_conjugate(a), b))
    return quaternion_multiply(a, quaternion_exp(step * t[..., None]))
