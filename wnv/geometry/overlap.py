"""Which cameras look at the same things: choose neighboring context views, and find views that nobody looked at."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wnv.geometry.cameras import invert_K, project
from wnv.geometry.focus import common_point, focus_point
from wnv.geometry.poses import invert_se3, pose_distance
from wnv.geometry.products import transform
from wnv.types import Cameras

# Of contexts on instant-ngp's fox within 10 to 90 degrees, those within 15 to 20 render best.
_NEIGHBOR_DEG = 20.0
_MAX_TURN_DEG = 30.0  # between optical axes
_MAX_DISTANCE_RATIO = 1.25  # of distances to what is looked at, beyond which images differ in scale
# A surface seen at a larger angle to how a context camera saw it counts as not seen.
_SAME_SIDE_DEG = 60.0
_GRID = 5  # points per side of an image


def choose_neighbors(camtoworld: Float[Tensor, "frame 4 4"], *, start: int, count: int) -> tuple[int, ...]:
    """Choose `count` frames for a context: spread over the cameras that look at what a start frame looks at.

    As seen from the point that all look at, those stand within 20 degrees of the start and about as far away. There are
    at least `count`, the nearest ones. They are ordered from one side to the other, so a path through them
    does not turn back.

    Args:
        camtoworld: Poses of all frames of a scene.
        start: A frame that is chosen.
        count: Number of frames; all of a shorter scene.
    """
    count = min(count, len(camtoworld))
    distance = pose_distance(camtoworld, camtoworld)
    angle = _angle_deg(camtoworld[:, :3, 2], camtoworld[start, :3, 2])
    is_near = angle <= _MAX_TURN_DEG
    point = common_point(camtoworld)
    offsets = camtoworld[:, :3, 3] - (0 if point is None else point)
    if point is not None and bool((offsets * camtoworld[:, :3, 2]).sum() < 0):  # ahead, not behind
        is_near &= _angle_deg(offsets, offsets[start]) <= _NEIGHBOR_DEG
        reach = torch.linalg.vector_norm(offsets, dim=-1)
        is_near &= (reach / reach[start]).log().abs() <= math.log(_MAX_DISTANCE_RATIO)
    is_near[distance[start].argsort()[:count]] = True
    chosen = [start]
    while len(chosen) < count:  # the candidate farthest from those chosen
        chosen.append(int(torch.where(is_near, distance[chosen].amin(dim=0), -1.0).argmax()))
    centers = camtoworld[chosen, :3, 3]
    centers = centers - centers.mean(dim=0)
    along = centers @ torch.linalg.eigh(centers.T @ centers).eigenvectors[:, -1]
    order = [chosen[i] for i in along.argsort().tolist()]
    return tuple(order if order[0] < order[-1] else order[::-1])


def looks_elsewhere(
    cameras: Cameras, context: Cameras, *, focus: Float[Tensor, "3"] | None = None
) -> Bool[Tensor, " view"]:
    """Whether each camera mostly looks where no context camera looked, or at it from another side.

    Without geometry, the scene is assumed to be as far away as the point that the context looks at: of points on a
    grid over the image at that distance, less than half lie in a context image whose camera saw them from within 60
    degrees.

    Args:
        cameras: Cameras of a path, batch axes `view`.
        context: Context cameras, batch axes `view`.
        focus: The point that the context looks at; default `focus_point`.
    """
    focus = focus_point(context) if focus is None else focus
    centers, axes = cameras.camtoworld[:, :3, 3], cameras.camtoworld[:, :3, 2]
    usual = torch.linalg.vector_norm(context.camtoworld[:, :3, 3] - focus, dim=-1).mean()
    ahead = ((focus - centers) * axes).sum(dim=-1)
    depth = torch.where(ahead > 0.2 * usual, ahead, usual)
    share = (torch.arange(_GRID, dtype=depth.dtype, device=depth.device) + 0.5) / _GRID
    x, y = torch.meshgrid(share * cameras.width, share * cameras.height, indexing="xy")
    pixels = torch.stack([x.flatten(), y.flatten(), torch.ones(_GRID**2, dtype=x.dtype, device=x.device)], dim=-1)
    rays = transform(cameras.camtoworld[:, :3, :3], transform(invert_K(cameras.K), pixels))
    points = (centers[:, None] + depth[:, None, None] * rays).flatten(0, 1)

    seen, ahead = project(points, context.K, invert_se3(context.camtoworld))
    size = torch.tensor([context.width, context.height], dtype=seen.dtype, device=seen.device)
    is_inside = ((seen >= 0) & (seen <= size)).all(dim=-1) & (ahead > 0)
    context_rays = points - context.camtoworld[:, None, :3, 3]
    is_same_side = _angle_deg(context_rays, rays.flatten(0, 1)) <= _SAME_SIDE_DEG
    is_seen = (is_inside & is_same_side).any(dim=0).view(len(centers), -1)
    return is_seen.to(depth.dtype).mean(dim=-1) < 0.5


def _angle_deg(a: Float[Tensor, "*batch 3"], b: Float[Tensor, "*#batch 3"]) -> Float[Tensor, "*batch"]:
    return torch.nn.functional.cosine_similarity(a, b, dim=-1).clamp(-1, 1).acos() * (180 / math.pi)
