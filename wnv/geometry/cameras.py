"""Intrinsics `K` in pixels and the pinhole projection.

`K = [[fx, skew, cx], [0, fy, cy], [0, 0, 1]]` maps camera coordinates (OpenCV: +x right, +y down, +z forward) to
pixels, where the pixel in row i and column j covers [j, j + 1] x [i, i + 1] and has its centre at (j + 0.5, i + 0.5).
With this convention resizing an image multiplies K and cropping subtracts from it, without half-pixel corrections.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from wnv.geometry.products import transform


def K_from_fov(
    *, fov_y_deg: float | int | Float[Tensor, "*batch"], width: int, height: int
) -> Float[Tensor, "*batch 3 3"]:
    """Make the K of a camera with square pixels and a centred principal point.

    Args:
        fov_y_deg: Vertical field of view in degrees, between 0 and 180. A tensor gives one camera per element, in its
            dtype; a number gives a float32 K.
        width: Image width in pixels.
        height: Image height in pixels.

    Raises:
        ValueError: If a field of view is outside (0, 180).
    """
    fov_y = torch.as_tensor(fov_y_deg, dtype=None if isinstance(fov_y_deg, Tensor) else torch.float32)
    if not bool(((fov_y > 0) & (fov_y < 180)).all()):
        raise ValueError(f"fov_y_deg must lie between 0 and 180 degrees, got {fov_y_deg}")
    focal = height / (2 * torch.tan(fov_y * (math.pi / 360)))
    zero, one = torch.zeros_like(focal), torch.ones_like(focal)
    rows = [focal, zero, width / 2 * one, zero, focal, height / 2 * one, zero, zero, one]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def scale_K(
    K: Float[Tensor, "*#batch 3 3"],
    *,
    scale_x: float | int | Float[Tensor, "*#batch"],
    scale_y: float | int | Float[Tensor, "*#batch"],
) -> Float[Tensor, "*batch 3 3"]:
    """K after resizing the image by `scale_x` (new width / old width) and `scale_y`."""
    scale_x, scale_y = _like(scale_x, K), _like(scale_y, K)
    factors = torch.stack(torch.broadcast_tensors(scale_x, scale_y, torch.ones_like(scale_x)), dim=-1)
    return K * factors[..., None]


def crop_K(
    K: Float[Tensor, "*#batch 3 3"],
    *,
    left: float | int | Float[Tensor, "*#batch"],
    top: float | int | Float[Tensor, "*#batch"],
) -> Float[Tensor, "*batch 3 3"]:
    """K after cropping `left` columns and `top` rows; may be fractional, or negative for padding."""
    left, top = _like(left, K), _like(top, K)
    shift = torch.stack(torch.broadcast_tensors(left, top, torch.zeros_like(left)), dim=-1)
    return K - torch.nn.functional.pad(shift[..., None], (2, 0))  # of the last column


def zoom_K(
    K: Float[Tensor, "*#batch 3 3"], *, zoom: float | int | Float[Tensor, "*#batch"], width: int, height: int
) -> Float[Tensor, "*batch 3 3"]:
    """K after magnifying the image `zoom` times about its centre (width / 2, height / 2), at the same size."""
    zoom = _like(zoom, K)
    cropped = crop_K(K, left=width / 2 * (1 - 1 / zoom), top=height / 2 * (1 - 1 / zoom))
    return scale_K(cropped, scale_x=zoom, scale_y=zoom)


def normalize_K(K: Float[Tensor, "*batch 3 3"], *, width: int, height: int) -> Float[Tensor, "*batch 3 3"]:
    """K in units of the image size (K_norm), in which the image spans 0..1 on both axes."""
    return scale_K(K, scale_x=1 / width, scale_y=1 / height)


def invert_K(K: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Closed-form inverse of an upper-triangular K with last row (0, 0, 1)."""
    fx, skew, cx = K[..., 0, 0], K[..., 0, 1], K[..., 0, 2]
    fy, cy = K[..., 1, 1], K[..., 1, 2]
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    rows = [1 / fx, -skew / (fx * fy), (skew * cy / fy - cx) / fx, zero, 1 / fy, -cy / fy, zero, zero, one]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def project(
    points_world: Float[Tensor, "*#batch n 3"], K: Float[Tensor, "*#batch 3 3"], viewmat: Float[Tensor, "*#batch 4 4"]
) -> tuple[Float[Tensor, "*batch n 2"], Float[Tensor, "*batch n"]]:
    """Pixels (x, y) and depths of world points; batch axes broadcast.

    Depth is the camera's z coordinate, in scene units. Pixels are valid only for positive depths: points behind the
    camera are mirrored, points in its plane are at infinity.
    """
    points_camera = transform(viewmat[..., :3, :3], points_world) + viewmat[..., None, :3, 3]
    depth = points_camera[..., 2]
    homogeneous = transform(K, points_camera)
    return homogeneous[..., :2] / depth[..., None], depth


def _like(value: float | int | Tensor, reference: Tensor) -> Tensor:
    # `full` is a kernel; `as_tensor` copies a number from the host, for which a GPU waits.
    return value.to(reference) if isinstance(value, Tensor) else reference.new_full((), value)
