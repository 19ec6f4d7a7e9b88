"""Rays through pixel centres, and the ray codes of cameras."""

import torch
from jaxtyping import Float
from torch import Tensor

from wnv.geometry.cameras import invert_K
from wnv.geometry.products import transform


def pixel_centers(
    *, height: int, width: int, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
) -> Float[Tensor, "height width 2"]:
    """Coordinates (x, y) = (j + 0.5, i + 0.5) of the pixel in row i and column j."""
    x = torch.arange(width, dtype=dtype, device=device) + 0.5
    y = torch.arange(height, dtype=dtype, device=device) + 0.5
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)


def camera_rays(K: Float[Tensor, "*batch 3 3"], *, height: int, width: int) -> Float[Tensor, "*batch height width 3"]:
    """`K^-1 (x, y, 1)` for each pixel centre: ray directions in camera coordinates, with z = 1.

    Args:
        K: In pixels of the (height, width) image.
        height: Image height in pixels.
        width: Image width in pixels.
    """
    pixels = pixel_centers(height=height, width=width, dtype=K.dtype, device=K.device)
    homogeneous = torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1).flatten(0, 1)
    return transform(invert_K(K), homogeneous).unflatten(-2, (height, width))


def raymap(
    K: Float[Tensor, "*batch 3 3"], camtoworld: Float[Tensor, "*batch 4 4"], *, height: int, width: int
) -> Float[Tensor, "*batch height width 6"]:
    """Origin (scene units) and unit direction of each pixel's ray in the world frame, in that order."""
    rays = camera_rays(K, height=height, width=width).flatten(-3, -2)
    directions = transform(camtoworld[..., :3, :3], rays).unflatten(-2, (height, width))
    directions = directions / torch.linalg.vector_norm(directions, dim=-1, keepdim=True)
    origins = camtoworld[..., None, None, :3, 3].expand_as(directions)
    return torch.cat([origins, directions], dim=-1)


def plucker(
    K: Float[Tensor, "*batch 3 3"], camtoworld: Float[Tensor, "*batch 4 4"], *, height: int, width: int
) -> Float[Tensor, "*batch height width 6"]:
    """Plücker coordinates of each pixel's ray in the world frame.

    First the moment `o x d` (scene units), then the unit direction `d`. They describe the line, independent of a point
    on it.
    """
    origins, directions = raymap(K, camtoworld, height=height, width=width).split(3, dim=-1)
    return torch.cat([torch.linalg.cross(origins, directions), directions], dim=-1)
