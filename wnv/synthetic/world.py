"""Places of the synthetic world: their bodies, poses over time, and motion of surface points.

Axes: right-handed, +z up, the floor at z = 0, lengths in metres (roughly: a room is 4 to 7 m wide). Every scene has the
same bodies in the same order (one room seen from inside, pictures or windows on its walls, boxes, spheres, cylinders);
absent bodies are buried far below the floor, so that other code need not distinguish them.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from wnv.geometry.products import matmul, transform
from wnv.synthetic.random import axis_angle_rotation
from wnv.synthetic.textures import Textures

NUM_PANELS, NUM_BOXES, NUM_SPHERES, NUM_CYLINDERS = 3, 6, 3, 3
# Bodies, also the object ids of a rendering: the room, panels, boxes, spheres, cylinders.
ROOM = 0
PANELS = slice(1, 1 + NUM_PANELS)
BOXES = slice(PANELS.stop, PANELS.stop + NUM_BOXES)
SPHERES = slice(BOXES.stop, BOXES.stop + NUM_SPHERES)
CYLINDERS = slice(SPHERES.stop, SPHERES.stop + NUM_CYLINDERS)
OBJECTS = slice(BOXES.start, CYLINDERS.stop)
NUM_BODIES = CYLINDERS.stop

# Surfaces: the room's six walls (-x, +x, -y, +y, floor, ceiling); one per panel; three per box, for the faces across
# each axis; one per sphere; two per cylinder (side, caps).
ROOM_SURFACES = slice(0, 6)
FLOOR, CEILING = 4, 5
PANEL_SURFACES = slice(6, 6 + NUM_PANELS)
BOX_SURFACES = slice(PANEL_SURFACES.stop, PANEL_SURFACES.stop + 3 * NUM_BOXES)
SPHERE_SURFACES = slice(BOX_SURFACES.stop, BOX_SURFACES.stop + NUM_SPHERES)
CYLINDER_SURFACES = slice(SPHERE_SURFACES.stop, SPHERE_SURFACES.stop + 2 * NUM_CYLINDERS)
NUM_SURFACES = CYLINDER_SURFACES.stop

SURFACE_BODY = torch.cat(
    [
        torch.full((6,), ROOM),
        torch.arange(NUM_BODIES)[PANELS],
        torch.arange(NUM_BODIES)[BOXES].repeat_interleave(3),
        torch.arange(NUM_BODIES)[SPHERES],
        torch.arange(NUM_BODIES)[CYLINDERS].repeat_interleave(2),
    ]
)


@dataclass(frozen=True)
class World:
    """Places of the synthetic world. Batch axes: one entry per scene.

    Attributes:
        centre: Centre of each body at rest.
        rotation: World<-body rotation of each body at phase 0 of its spin.
        half: Half the size of each body along its own axes: boxes and the room (x, y, z), spheres (r, r, r), cylinders
            (r, r, half height), panels (half width, half height, 0); a panel faces along its +z.
        present: Bodies that the scene has.
        sway: Each body's centre moves by `sway sin(a) + swing (1 - cos(a))`, a = `pace` t: an elliptic arc.
        swing: See `sway`.
        pace: Radians per unit of time of the arc.
        hop: Height of the bounces, added to z as hop |sin(hop_pace t)|.
        hop_pace: Radians per unit of time of the bounces.
        spin_axis: Unit axis of the spin, world.
        spin: Radians per unit of time of the spin.
        textures: Appearance of the surfaces.
        light: Unit vector towards the key light.
        key: Strength of the key light.
        ambient: Strength of the ambient light.
        lamp: Where the room is brightest.
        focus: Point that cameras look at.
        support: Half the size (x, y) of the surface that objects stand on: the table, or the middle of the floor.
        is_table: Whether the scene is a table with objects (else a room).
        is_dynamic: Whether anything moves.
    """

    centre: Float[Tensor, "*batch body 3"]
    rotation: Float[Tensor, "*batch body 3 3"]
    half: Float[Tensor, "*batch body 3"]
    present: Bool[Tensor, "*batch body"]
    sway: Float[Tensor, "*batch body 3"]
    swing: Float[Tensor, "*batch body 3"]
    pace: Float[Tensor, "*batch body"]
    hop: Float[Tensor, "*batch body"]
    hop_pace: Float[Tensor, "*batch body"]
    spin_axis: Float[Tensor, "*batch body 3"]
    spin: Float[Tensor, "*batch body"]
    textures: Textures
    light: Float[Tensor, "*batch 3"]
    key: Float[Tensor, "*batch"]
    ambient: Float[Tensor, "*batch"]
    lamp: Float[Tensor, "*batch 3"]
    focus: Float[Tensor, "*batch 3"]
    support: Float[Tensor, "*batch 2"]
    is_table: Bool[Tensor, "*batch"]
    is_dynamic: Bool[Tensor, "*batch"]

    @property
    def num_scenes(self) -> int:
        """Number of scenes in the batch."""
        return self.is_table.shape[0]

    def __getitem__(self, index: Any) -> "World":
        """Index or slice the batch axes."""
        return _map_tensors(self, lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> "World":
        """Copy to another device."""
        return _map_tensors(self, lambda tensor: tensor.to(device))


def _map_tensors(value: Any, function: Any) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    fields = {f.name: _map_tensors(getattr(value, f.name), function) for f in dataclasses.fields(value)}
    return dataclasses.replace(value, **fields)


def body_poses(
    world: World, times: Float[Tensor, "scene time"]
) -> tuple[Float[Tensor, "scene time body 3 3"], Float[Tensor, "scene time body 3"]]:
    """World<-body rotation and centre of every body at each time; static scenes are the same at all times."""
    t = times[..., None]
    arc = world.pace[:, None] * t
    centre = world.centre[:, None] + world.sway[:, None] * torch.sin(arc)[..., None]
    centre = centre + world.swing[:, None] * (1 - torch.cos(arc))[..., None]
    bounce = world.hop[:, None] * torch.sin(world.hop_pace[:, None] * t).abs()
    centre = centre + bounce[..., None] * torch.tensor([0.0, 0.0, 1.0], device=t.device)
    spin_axis = world.spin_axis[:, None].expand_as(centre)
    rotation = matmul(axis_angle_rotation(spin_axis, world.spin[:, None] * t), world.rotation[:, None])
    return rotation, centre


def move_points(
    world: World,
    points: Float[Tensor, "scene point 3"],
    object_ids: Int[Tensor, "scene point"],
    *,
    times_from: Float[Tensor, " scene"],
    times_to: Float[Tensor, " scene"],
) -> Float[Tensor, "scene point 3"]:
    """Move points on given bodies from one time to another: exact scene flow, world coordinates.

    Args:
        world: The scenes.
        points: Points on the bodies at `times_from`, as from `render_geometry`.
        object_ids: The body each point belongs to, as from `render_geometry`.
        times_from: Time of the points.
        times_to: Time to move them to.
    """
    rotations, centres = body_poses(world, torch.stack([times_from, times_to], dim=1))
    motion = matmul(rotations[:, 1], rotations[:, 0].transpose(-1, -2))
    rotation = motion.flatten(-2).gather(1, object_ids[..., None].expand(-1, -1, 9)).unflatten(-1, (3, 3))
    index = object_ids[..., None].expand(-1, -1, 3)
    arm = points - centres[:, 0].gather(1, index)
    return transform(rotation, arm[..., None, :])[..., 0, :] + centres[:, 1].gather(1, index)


def clearance(
    world: World, points: Float[Tensor, "scene time point 3"], times: Float[Tensor, "scene time"]
) -> Float[Tensor, "scene time point"]:
    """Distance from each point to the nearest surface at its time: negative inside an object or outside the room.

    Exact outside objects; inside them only the sign is exact.
    """
    rotation, centre = body_poses(world, times)
    half = world.half[:, None, None]
    # Body frame: row vectors times a world<-body rotation.
    local = ((points[:, :, :, None] - centre[:, :, None])[..., :, None] * rotation[:, :, None]).sum(-2)
    excess = local.abs() - half
    to_room = -excess[..., ROOM, :].amax(-1)

    box = excess[..., BOXES, :]
    to_box = torch.linalg.vector_norm(box.clamp_min(0), dim=-1) + box.amax(-1).clamp_max(0)
    to_sphere = torch.linalg.vector_norm(local[..., SPHERES, :], dim=-1) - half[..., SPHERES, 0]
    radial = torch.linalg.vector_norm(local[..., CYLINDERS, :2], dim=-1) - half[..., CYLINDERS, 0]
    cylinder = torch.stack([radial, excess[..., CYLINDERS, 2]], dim=-1)
    to_cylinder = torch.linalg.vector_norm(cylinder.clamp_min(0), dim=-1) + cylinder.amax(-1).clamp_max(0)
    return torch.cat([to_room[..., None], to_box, to_sphere, to_cylinder], dim=-1).amin(-1)


def top(world: World) -> Float[Tensor, " scene"]:
    """Height above the highest point that any object ever reaches."""
    half = world.half[:, OBJECTS]
    reach = torch.where(world.spin[:, OBJECTS] == 0, (world.rotation[:, OBJECTS, 2].abs() * half).sum(-1), math.inf)
    reach = torch.minimum(reach, torch.linalg.vector_norm(half, dim=-1))
    sway = torch.hypot(world.sway[..., 2], world.swing[..., 2]) + world.swing[..., 2].abs()
    height = world.centre[..., 2] + sway + world.hop
    return torch.where(world.present[:, OBJECTS], height[:, OBJECTS] + reach, 0.0).amax(-1)
