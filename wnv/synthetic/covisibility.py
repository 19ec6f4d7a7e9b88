"""Covisibility: which pixels of a view other views see too, from the geometry of the synthetic world."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import grid_sample

from wnv.geometry.cameras import project
from wnv.geometry.poses import invert_se3
from wnv.geometry.resample import Window
from wnv.synthetic.clips import SyntheticClip
from wnv.synthetic.render import render_geometry
from wnv.synthetic.world import move_points
from wnv.types import Cameras

# Tolerance, relative, when comparing a point's depth with the other view's interpolated depth map.
_DEPTH_TOLERANCE = 0.02


def count_views_that_see(
    clip: SyntheticClip, *, target: Sequence[int], context: Sequence[int], window: Window
) -> Float[Tensor, "target height width"]:
    """Count the context views that see the surface point of each target pixel, moved to their times.

    A point is seen if it projects into the image and nothing is in front of it. DyCheck (arXiv:2210.13445) estimates
    the same by optical flow.

    Args:
        clip: The place.
        target: Frames whose pixels are tested.
        context: Frames that may see them.
        window: Crop and size of the images.
    """
    chosen = [*target, *context]
    cameras = clip.cameras(chosen)
    cameras = Cameras(window.fit_K(cameras.K), cameras.camtoworld, window.width, window.height)
    times = clip.world_times[chosen]
    depth, object_ids, points = (part[0] for part in render_geometry(clip.world, cameras[None], times[None]))
    viewmat = invert_se3(cameras.camtoworld)
    counts = torch.zeros(len(target), window.height, window.width)
    for i in range(len(target)):
        for j in range(len(target), len(chosen)):
            moved = move_points(
                clip.world,
                points[i].reshape(1, -1, 3),
                object_ids[i].reshape(1, -1),
                times_from=times[i : i + 1],
                times_to=times[j : j + 1],
            )
            pixels, point_depth = project(moved[0], cameras.K[j], viewmat[j])
            seen = _is_in_front(pixels, point_depth, depth[j])
            counts[i] += seen.reshape(counts[i].shape)
    return counts


def _is_in_front(
    pixels: Float[Tensor, "n 2"], point_depth: Float[Tensor, " n"], depth: Float[Tensor, "height width"]
) -> Bool[Tensor, " n"]:
    """Whether points that project to `pixels` are inside the image and not behind the surface in its depth map."""
    size = torch.tensor([depth.shape[1], depth.shape[0]])
    inside = (point_depth > 0) & (pixels >= 0).all(-1) & (pixels < size).all(-1)
    grid = torch.where(inside[:, None], pixels, 0.0) / size * 2 - 1
    # The inverse depth of a plane is linear in the pixels; across an edge the nearest pixel is the better estimate.
    in_front = torch.zeros_like(inside)
    for mode in ("bilinear", "nearest"):
        inverse = grid_sample(
            depth.reciprocal()[None, None], grid[None, None], mode=mode, padding_mode="border", align_corners=False
        )
        in_front |= point_depth * inverse[0, 0, 0] < 1 + _DEPTH_TOLERANCE
    return inside & in_front
