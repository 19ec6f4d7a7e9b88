"""Cameras of the synthetic world: short hand-held walks through a room or around a table."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from wnv.geometry.cameras import K_from_fov, zoom_K
from wnv.geometry.poses import look_at
from wnv.synthetic.random import UniformStream
from wnv.synthetic.world import World, clearance, top
from wnv.types import Cameras

_NUM_RANDOM = 512
_NUM_WALKS = 12
# Walks that come closer than this to anything are rejected, metres.
_WANTED_CLEARANCE = 0.45


def sample_cameras(
    world: World,
    *,
    seed: int,
    indices: list[int],
    epochs: list[int],
    image_size: tuple[int, int],
    num_context: int,
    num_target: int,
    zoom_range: tuple[float | int, float | int] = (1.0, 1.0),
    zoom_per_view: bool = False,
    extrapolate: float | int = 0.1,
    fov_deg: float | int = 60.0,
    free_time: bool = False,
) -> tuple[Cameras, Float[Tensor, "scene view"]]:
    """Sample cameras and times of each scene: contexts spread over a short walk, then targets anywhere on it.

    Both are ordered along the walk. Cameras are in the world's own frame, and none is inside an object. Times are 0..1
    and run along the walk; in static scenes they are 0.

    Args:
        world: The places, on the CPU.
        seed: Seed of the synthetic world.
        indices: Index of each place.
        epochs: Epoch of each place; each epoch visits it with different cameras.
        image_size: Height and width in pixels.
        num_context: Context views per scene, at least 1.
        num_target: Target views per scene.
        zoom_range: Smallest and largest magnification over `fov_deg`; log-uniform.
        zoom_per_view: Sample a zoom per view instead of one per scene.
        extrapolate: How far targets reach beyond the outer contexts, as a fraction of the distance between these.
        fov_deg: Field of view at zoom 1, degrees, across the square of the same area as the image.
        free_time: Sample the targets' times independently of their position on the walk.
    """
    height, width = image_size
    keys = list(zip(indices, epochs, strict=True))
    random = UniformStream(seed=seed, stream="cameras", keys=keys, count=_NUM_RANDOM + 3 * (num_context + num_target))
    low, high = zoom_range
    zoom_scene = random.log_uniform(low, high)
    walks = _sample_walks(random, world, zoom_scene)

    margin = extrapolate / (1 + 2 * extrapolate)
    context_along = _spread(random, num_context) * (1 - 2 * margin) + margin
    target_along = random.unit(num_target).sort(dim=1).values
    along = torch.cat([context_along, target_along], dim=1)
    zoom_view = random.log_uniform(low, high, num_context + num_target)
    zoom = zoom_view if zoom_per_view else zoom_scene[:, None].expand_as(zoom_view)
    free_times = random.unit(num_target).sort(dim=1).values
    clock = torch.cat([context_along, free_times], dim=1) if free_time else along
    times = torch.where(world.is_dynamic[:, None], clock, 0.0)

    eyes = _walk(walks, along)
    free = clearance(world, eyes, times).amin(dim=1)
    wanted = torch.where(world.is_table, 0.7, 1.0)[:, None] * _WANTED_CLEARANCE
    # The first walk with enough clearance; if there is none, the one with the most.
    chosen = (torch.minimum(free, wanted) - 1e-3 * torch.arange(_NUM_WALKS)).argmax(dim=1)
    scene = torch.arange(world.num_scenes)
    eye = eyes[scene, :, chosen]
    target = walks["look"][scene, chosen, None] + walks["look_drift"][scene, chosen, None] * (along[..., None] - 0.5)
    up = torch.tensor([0.0, 0.0, 1.0]) + walks["tilt"][scene, chosen, None]

    # The field of view is that of the square with the image's area, so that it is not extreme in long images.
    fov_y = 2 * math.degrees(math.atan(math.tan(math.radians(fov_deg) / 2) * math.sqrt(height / width)))
    K = zoom_K(K_from_fov(fov_y_deg=fov_y, width=width, height=height), zoom=zoom, width=width, height=height)
    return Cameras(K=K, camtoworld=look_at(eye, target, up), width=width, height=height), times


def _spread(random: UniformStream, num_views: int) -> Float[Tensor, "scene view"]:
    """Ascending numbers that cover 0..1 evenly: both ends, and one near each step between them."""
    jitter = random.uniform(-0.2, 0.2, num_views)
    if num_views == 1:
        return 0.5 + jitter
    steps = torch.arange(num_views) + jitter
    steps[:, 0], steps[:, -1] = 0, num_views - 1
    return steps / (num_views - 1)


def _sample_walks(random: UniformStream, world: World, zoom: Float[Tensor, " scene"]) -> dict[str, Tensor]:
    """Several walks per scene: arcs around the content with changing distance and height, and camera shake.

    The last one is above all objects, so that at least one is free.
    """
    n = _NUM_WALKS
    table = world.is_table[:, None]
    room = world.half[:, 0]
    angle = random.uniform(0, 2 * math.pi, n)
    sweep = random.uniform(1.0, 1.8, n) * torch.where(random.chance(0.5, n), 1.0, -1.0)
    inset = room[:, None, :2] - 0.4
    distance = random.unit(n)
    around_table = torch.minimum(1.25 + 0.75 * distance[..., None], inset)
    radius = torch.where(table[..., None], around_table, inset * (0.7 + 0.28 * distance[..., None]))
    floor_height = torch.where(world.is_table, world.focus[:, 2] + 0.3, 1.05)[:, None]
    high = 2 * room[:, 2:] - 0.3
    height = torch.minimum(floor_height + random.uniform(0, 0.9, n), high)
    height[:, -1] = torch.minimum(torch.maximum(height[:, -1], top(world) + 0.3), high[:, 0])
    climb = random.uniform(-0.2, 0.2, n)
    climb[:, -1] = 0
    look = (
        world.focus[:, None]
        + random.uniform(-1, 1, n, 3)
        * torch.cat([0.45 * world.support, torch.where(world.is_table, 0.08, 0.25)[:, None]], dim=-1)[:, None]
    )
    drift = random.uniform(-0.7, 0.7, n, 3) * torch.where(table, 0.5, 1.0)[..., None]
    return {
        "angle": angle,
        "sweep": sweep,
        "radius": radius,
        "approach": random.uniform(-0.25, 0.0, n),
        "height": height,
        "climb": climb,
        "shake": random.uniform(0.0, 0.03, n, 3),
        "shake_phase": random.uniform(0, 2 * math.pi, n, 3),
        "look": look,
        "look_drift": drift / zoom[:, None, None],
        "tilt": 0.04 * random.normal(n, 3),
    }


def _walk(walks: dict[str, Tensor], along: Float[Tensor, "scene view"]) -> Float[Tensor, "scene view walk 3"]:
    """Camera centres at the given fractions of every walk."""
    s = along[..., None]
    angle = walks["angle"][:, None] + walks["sweep"][:, None] * (s - 0.5)
    scale = 1 + walks["approach"][:, None] * s
    x = walks["radius"][:, None, :, 0] * scale * torch.cos(angle)
    y = walks["radius"][:, None, :, 1] * scale * torch.sin(angle)
    z = walks["height"][:, None] + walks["climb"][:, None] * (s - 0.5)
    shake = walks["shake"][:, None] * torch.sin(9 * s[..., None] + walks["shake_phase"][:, None])
    return torch.stack([x, y, z], dim=-1) + shake
