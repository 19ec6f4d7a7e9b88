"""Sampling of places: the layout, colours and motion of rooms and tables."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wnv.synthetic.paint import paint
from wnv.synthetic.random import UniformStream, axis_angle_rotation
from wnv.synthetic.world import (
    NUM_BODIES,
    NUM_BOXES,
    NUM_CYLINDERS,
    NUM_PANELS,
    NUM_SPHERES,
    OBJECTS,
    World,
)

KINDS = ("static", "dynamic", "mixed")

_NUM_OBJECTS = NUM_BOXES + NUM_SPHERES + NUM_CYLINDERS
_FIRST_SPHERE = NUM_BOXES
_FIRST_CYLINDER = NUM_BOXES + NUM_SPHERES
# Random numbers per place, more than any needs: a new detail does not change the length of the row.
_NUM_RANDOM = 4096
_NUM_SPOTS = 12
# Scale of objects on a table relative to objects on the floor of a room.
_TABLE_SCALE = 0.42
# Absent bodies lie this far below the floor, where the room hides them.
_BURIED = -200.0
# Height below the ceiling without objects, metres.
_HEADROOM = 0.65


def check_kind(kind: str) -> None:
    """Check the kind of scene.

    Raises:
        ValueError: If it is not one of `KINDS`.
    """
    if kind not in KINDS:
        raise ValueError(f"kind of the synthetic world must be static, dynamic or mixed, got {kind!r}")


def sample_worlds(*, seed: int, indices: list[int], kind: str = "static", device: torch.device | str = "cpu") -> World:
    """Sample places of the synthetic world.

    Args:
        seed: Seed of the world, at least 0; different seeds share no places.
        indices: Index of each place, at least 0. A place does not depend on the others of the batch.
        kind: `static`, `dynamic` or `mixed`, half of each. The static and the dynamic place of one index differ only in
            motion.
        device: Device of the result. Random numbers come from the CPU, so the places are the same on every device.

    Raises:
        ValueError: If the kind is unknown or the seed or an index is negative.
    """
    check_kind(kind)
    if any(index < 0 for index in indices):
        raise ValueError(f"indices of synthetic places must be at least 0, got {min(indices)}")
    random = UniformStream(seed=seed, stream="place", keys=[(index,) for index in indices], count=_NUM_RANDOM)
    num_scenes = len(indices)
    is_table, coin = random.chance(0.4), random.chance(0.5)
    is_dynamic = {"static": torch.zeros_like(coin), "dynamic": torch.ones_like(coin), "mixed": coin}[kind]

    room_half = torch.stack([random.uniform(2.2, 3.3), random.uniform(2.2, 3.3), random.uniform(1.25, 1.6)], dim=-1)
    panel_centre, panel_rotation, panel_half = _hang_panels(random, room_half)
    object_half, object_rotation = _shape_objects(random, is_table)
    motion = _sample_motion(random, is_table)
    base, support = _choose_support(room_half, object_half, is_table)
    object_centre, placed, motion["hop"] = _place_objects(
        random, object_half, object_rotation, motion, base=base, support=support, room_half=room_half, is_table=is_table
    )

    room_centre = room_half * torch.tensor([0.0, 0.0, 1.0])
    centre = torch.cat([room_centre[:, None], panel_centre, object_centre], dim=1)
    rotation = torch.cat([torch.eye(3).expand(num_scenes, 1, 3, 3), panel_rotation, object_rotation], dim=1)
    half = torch.cat([room_half[:, None], panel_half, object_half], dim=1)
    has_room = torch.ones(num_scenes, 1, dtype=torch.bool)
    present = torch.cat([has_room, random.chance(0.8, NUM_PANELS), placed], dim=1)
    centre = torch.where(present[..., None], centre, torch.tensor([0.0, 0.0, _BURIED]))

    moves = torch.zeros(num_scenes, NUM_BODIES, dtype=torch.bool)
    moves[:, OBJECTS] = motion["moves"] & placed & is_dynamic[:, None]

    def per_body(name: str) -> Float[Tensor, "scene body *rest"]:
        values = motion[name]
        padded = torch.cat([torch.zeros_like(values[:, :1]).expand(-1, OBJECTS.start, *values.shape[2:]), values], 1)
        return torch.where(moves.reshape(*moves.shape, *[1] * (values.ndim - 2)), padded, 0.0)

    azimuth, elevation = random.uniform(0, 2 * math.pi), random.uniform(0.65, 1.2)
    light = torch.stack([elevation.cos() * azimuth.cos(), elevation.cos() * azimuth.sin(), elevation.sin()], dim=-1)
    lamp = torch.stack([random.uniform(-0.6, 0.6), random.uniform(-0.6, 0.6), random.uniform(1.2, 1.8)], dim=-1)
    zero = torch.zeros(num_scenes)
    return World(
        centre=centre,
        rotation=rotation,
        half=half,
        present=present,
        sway=per_body("sway"),
        swing=per_body("swing"),
        pace=per_body("pace"),
        hop=per_body("hop"),
        hop_pace=per_body("hop_pace"),
        spin_axis=torch.cat([torch.eye(3)[2].expand(num_scenes, OBJECTS.start, 3), motion["spin_axis"]], dim=1),
        spin=per_body("spin"),
        textures=paint(random, half, is_table),
        light=light,
        key=random.uniform(0.42, 0.62),
        ambient=random.uniform(0.6, 0.76),
        lamp=room_half * lamp,
        focus=torch.stack([zero, zero, torch.where(is_table, base + 0.1, 0.55 * room_half[:, 2])], dim=-1),
        support=support,
        is_table=is_table,
        is_dynamic=is_dynamic,
    ).to(device)


def _hang_panels(
    random: UniformStream, room_half: Float[Tensor, "scene 3"]
) -> tuple[Float[Tensor, "scene panel 3"], Float[Tensor, "scene panel 3 3"], Float[Tensor, "scene panel 3"]]:
    """Pictures and windows: at most one per wall, upright, slightly in front of it."""
    wall = (random.choice(torch.ones(4))[:, None] + torch.arange(NUM_PANELS)) % 4
    x_wall, sign = wall % 2 == 0, torch.where(wall < 2, 1.0, -1.0)
    zero, one = torch.zeros_like(sign), torch.ones_like(sign)
    # Inward normal of each panel; with z up, its width runs along up x normal.
    normal = torch.stack([torch.where(x_wall, -sign, zero), torch.where(x_wall, zero, -sign), zero], dim=-1)
    up = torch.stack([zero, zero, one], dim=-1)
    rotation = torch.stack([torch.linalg.cross(up, normal), up, normal], dim=-1)
    wall_half = torch.where(x_wall, room_half[:, 1:2], room_half[:, 0:1])
    depth = torch.where(x_wall, room_half[:, 0:1], room_half[:, 1:2])
    half = torch.stack(
        [
            random.uniform(0.2, 0.5, NUM_PANELS) * wall_half,
            random.uniform(0.22, 0.42, NUM_PANELS) * room_half[:, 2:],
            zero,
        ],
        dim=-1,
    )
    along = random.uniform(-1, 1, NUM_PANELS) * (0.9 * wall_half - half[..., 0])
    height = room_half[:, 2:] * random.uniform(1.05, 1.3, NUM_PANELS)
    centre = rotation[..., 0] * along[..., None] + up * height[..., None] - normal * (depth - 0.015)[..., None]
    return centre, rotation, half


def _shape_objects(
    random: UniformStream, is_table: Bool[Tensor, " scene"]
) -> tuple[Float[Tensor, "scene object 3"], Float[Tensor, "scene object 3 3"]]:
    """Half sizes and rotations of the objects.

    The first box is the table top or a large piece of furniture; in table scenes the first cylinder is the table's leg.
    """
    boxes = random.uniform(0.18, 0.52, NUM_BOXES, 3)
    radii = random.uniform(0.2, 0.46, NUM_SPHERES)
    columns = torch.stack(
        [random.uniform(0.12, 0.34, NUM_CYLINDERS)] * 2 + [random.uniform(0.2, 0.6, NUM_CYLINDERS)], -1
    )
    half = torch.cat([boxes, radii[..., None].expand(-1, -1, 3), columns], dim=1)
    half = half * torch.where(is_table, _TABLE_SCALE, 1.0)[:, None, None]
    slab = torch.stack([random.uniform(0.75, 1.15), random.uniform(0.6, 0.95), random.uniform(0.03, 0.07)], dim=-1)
    sofa = torch.stack([random.uniform(0.5, 0.9), random.uniform(0.3, 0.5), random.uniform(0.2, 0.4)], dim=-1)
    half[:, 0] = torch.where(is_table[:, None], slab, sofa)
    leg = torch.stack([random.uniform(0.1, 0.3)] * 2 + [random.uniform(0.3, 0.36)], dim=-1)
    half[:, _FIRST_CYLINDER] = torch.where(is_table[:, None], leg, half[:, _FIRST_CYLINDER])

    yaw = axis_angle_rotation(
        torch.eye(3)[2].expand(random.num_scenes, _NUM_OBJECTS, 3), random.uniform(0, 2 * math.pi, _NUM_OBJECTS)
    )
    tumbled = axis_angle_rotation(random.direction(_NUM_OBJECTS), random.uniform(0, 2 * math.pi, _NUM_OBJECTS))
    is_tumbled = random.chance(0.3, _NUM_OBJECTS)
    is_tumbled[:, 0] = False
    is_tumbled[:, _FIRST_SPHERE:_FIRST_CYLINDER] = True
    is_tumbled[:, _FIRST_CYLINDER] &= ~is_table
    return half, torch.where(is_tumbled[..., None, None], tumbled, yaw)


def _sample_motion(random: UniformStream, is_table: Bool[Tensor, " scene"]) -> dict[str, Tensor]:
    """Motion of the objects: one entry per field of `World`, and which of them move and tumble."""
    moves = random.chance(0.55, _NUM_OBJECTS)
    moves[:, 1] = True
    moves[:, 0] = False
    moves[:, _FIRST_CYLINDER] &= ~is_table
    scale = torch.where(is_table, _TABLE_SCALE, 1.0)[:, None]
    heading = random.uniform(0, 2 * math.pi, _NUM_OBJECTS)
    # The arc reaches at most twice its amplitude from its start.
    amplitude = random.uniform(0.1, 0.45, _NUM_OBJECTS) * scale
    along = torch.stack([heading.cos(), heading.sin(), torch.zeros_like(heading)], dim=-1)
    across = torch.stack([-heading.sin(), heading.cos(), torch.zeros_like(heading)], dim=-1)
    tumbles = random.chance(0.35, _NUM_OBJECTS)
    hops = random.chance(0.4, _NUM_OBJECTS)
    up = torch.eye(3)[2]
    return {
        "moves": moves,
        "tumbles": tumbles,
        "sway": along * amplitude[..., None],
        "swing": across * (amplitude * random.uniform(-0.8, 0.8, _NUM_OBJECTS))[..., None],
        "pace": random.uniform(1.5, 4.0, _NUM_OBJECTS),
        "hop": torch.where(hops, random.uniform(0.15, 0.6, _NUM_OBJECTS) * scale, 0.0),
        "hop_pace": random.uniform(3.0, 7.0, _NUM_OBJECTS),
        "spin_axis": torch.where(tumbles[..., None], random.direction(_NUM_OBJECTS), up),
        "spin": random.uniform(-2.5, 2.5, _NUM_OBJECTS),
    }


def _choose_support(
    room_half: Float[Tensor, "scene 3"], half: Float[Tensor, "scene object 3"], is_table: Bool[Tensor, " scene"]
) -> tuple[Float[Tensor, " scene"], Float[Tensor, "scene 2"]]:
    """Height and half size of the surface that objects stand on: the table top, or the middle of the floor."""
    table_top = 2 * half[:, _FIRST_CYLINDER, 2] + 2 * half[:, 0, 2]
    base = torch.where(is_table, table_top, 0.0)
    return base, torch.where(is_table[:, None], half[:, 0, :2], 0.68 * room_half[:, :2])


def _place_objects(
    random: UniformStream,
    half: Float[Tensor, "scene object 3"],
    rotation: Float[Tensor, "scene object 3 3"],
    motion: dict[str, Tensor],
    *,
    base: Float[Tensor, " scene"],
    support: Float[Tensor, "scene 2"],
    room_half: Float[Tensor, "scene 3"],
    is_table: Bool[Tensor, " scene"],
) -> tuple[Float[Tensor, "scene object 3"], Bool[Tensor, "scene object"], Float[Tensor, "scene object"]]:
    """Centres of the objects, which of them found a free spot, and how high they may hop.

    Each object in turn takes the one of a few random spots that is farthest from the previous objects. An object that
    would still intersect another anywhere on its arc is left out.
    """
    num_scenes = half.shape[0]
    squared = rotation[..., 2, :] ** 2
    # Extent of a body above and beside its centre: exact for boxes and upright bodies, else an upper bound.
    reach_up = (rotation[..., 2, :].abs() * half).sum(-1)
    reach_up[:, _FIRST_SPHERE:_FIRST_CYLINDER] = half[:, _FIRST_SPHERE:_FIRST_CYLINDER, 0]
    tilt = rotation[:, _FIRST_CYLINDER:, 2, 2].abs()
    columns = half[:, _FIRST_CYLINDER:]
    reach_up[:, _FIRST_CYLINDER:] = columns[..., 2] * tilt + columns[..., 0] * (1 - tilt**2).clamp_min(0).sqrt()
    diagonal = torch.linalg.vector_norm(half, dim=-1)
    tumbles = motion["tumbles"] & motion["moves"]
    tumbles[:, _FIRST_SPHERE:_FIRST_CYLINDER] = False
    reach_up = torch.where(tumbles, diagonal, reach_up)
    reach_side = torch.where(tumbles, diagonal, (half**2 * (1 - squared)).sum(-1).sqrt())
    reach_side[:, _FIRST_SPHERE:_FIRST_CYLINDER] = half[:, _FIRST_SPHERE:_FIRST_CYLINDER, 0]
    arc = 2 * torch.linalg.vector_norm(motion["sway"], dim=-1) * motion["moves"]
    reserve = reach_side + 0.5 * arc

    spots = random.uniform(-1, 1, _NUM_OBJECTS, _NUM_SPOTS, 2)
    wanted = random.chance(0.85, _NUM_OBJECTS)
    lift = torch.where(random.chance(0.15, _NUM_OBJECTS), random.uniform(0.1, 0.6, _NUM_OBJECTS), 0.0)
    lift = lift * torch.where(is_table, _TABLE_SCALE, 1.0)[:, None]
    xy = torch.zeros(num_scenes, _NUM_OBJECTS, 2)
    placed = torch.zeros(num_scenes, _NUM_OBJECTS, dtype=torch.bool)
    for k in range(_NUM_OBJECTS):
        room_for = (support - 0.8 * reserve[:, k, None]).clamp_min(0.0)
        spot = spots[:, k] * room_for[:, None]
        apart = torch.linalg.vector_norm(spot[:, :, None] - xy[:, None, :k], dim=-1) - reserve[:, None, :k]
        # The table and its leg do not obstruct objects on the table.
        apart = torch.where(placed[:, None, :k], apart, math.inf)
        gap = torch.cat([apart, torch.full((num_scenes, _NUM_SPOTS, 1), 10.0)], dim=-1).amin(-1)
        best = gap.argmax(-1)
        xy[:, k] = spot[torch.arange(num_scenes), best]
        placed[:, k] = wanted[:, k] & (gap.amax(-1) > reserve[:, k])
        if k in (0, _FIRST_CYLINDER):
            placed[:, k] &= ~is_table
    # The uppermost part of the room stays free, so that a camera always finds a path.
    spare = (2 * room_half[:, 2:] - _HEADROOM - base[:, None] - 2 * reach_up).clamp_min(0)
    lift = torch.minimum(lift, spare)
    height = base[:, None] + reach_up + lift
    height[:, 0] = torch.where(is_table, base - half[:, 0, 2], half[:, 0, 2])
    height[:, _FIRST_CYLINDER] = torch.where(is_table, half[:, _FIRST_CYLINDER, 2], height[:, _FIRST_CYLINDER])
    for k in (0, _FIRST_CYLINDER):
        xy[:, k] = torch.where(is_table[:, None], 0.0, xy[:, k])
        placed[:, k] |= is_table
    return torch.cat([xy, height[..., None]], dim=-1), placed, torch.minimum(motion["hop"], spare - lift)
