"""Colours and patterns of a place: pale walls, wooden, tiled or carpeted floors, and colourful objects."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from wnv.synthetic.random import UniformStream, hsv_to_rgb
from wnv.synthetic.textures import Textures, sample_textures
from wnv.synthetic.world import (
    BOX_SURFACES,
    CEILING,
    CYLINDER_SURFACES,
    FLOOR,
    NUM_BOXES,
    NUM_CYLINDERS,
    NUM_SURFACES,
    PANEL_SURFACES,
    ROOM_SURFACES,
    SURFACE_BODY,
)

# Probability of each pattern:  solid checker stripes gradient noise dots
_WALL_PATTERNS = (0.12, 0.08, 0.36, 0.24, 0.20, 0.0)
_FLOOR_PATTERNS = (0.05, 0.35, 0.35, 0.05, 0.15, 0.05)
_CEILING_PATTERNS = (0.6, 0.0, 0.0, 0.4, 0.0, 0.0)
_PANEL_PATTERNS = (0.0, 0.15, 0.15, 0.25, 0.3, 0.15)
_OBJECT_PATTERNS = (0.1, 0.22, 0.26, 0.15, 0.15, 0.12)


def paint(random: UniformStream, half: Float[Tensor, "scene body 3"], is_table: Bool[Tensor, " scene"]) -> Textures:
    """Textures of all surfaces of places whose bodies have the given half sizes."""
    flat_axis, shared_with = _flat_axis(), _shared_with()
    pattern_weights = torch.tensor([_OBJECT_PATTERNS]).repeat(NUM_SURFACES, 1)
    pattern_weights[:FLOOR] = torch.tensor(_WALL_PATTERNS)
    pattern_weights[FLOOR] = torch.tensor(_FLOOR_PATTERNS)
    pattern_weights[CEILING] = torch.tensor(_CEILING_PATTERNS)
    pattern_weights[PANEL_SURFACES] = torch.tensor(_PANEL_PATTERNS)
    patterns = random.choice(pattern_weights)[:, shared_with]

    # The size of a pattern follows its surface: one to three periods across an object.
    size = 2 * half.mean(-1)[:, SURFACE_BODY]
    size[:, ROOM_SURFACES] = 1.2
    wavelength = size * random.uniform(0.55, 1.1, NUM_SURFACES)[:, shared_with]
    floor = random.uniform(0.7, 1.4)
    wavelength[:, FLOOR] = torch.where(is_table, 1.2 * floor, floor)

    is_window = random.chance(0.45, PANEL_SURFACES.stop - PANEL_SURFACES.start)
    glow = torch.zeros(random.num_scenes, NUM_SURFACES)
    glow[:, PANEL_SURFACES] = torch.where(is_window, 0.9, 0.2)
    specular = torch.where(random.chance(0.5, NUM_SURFACES), random.uniform(0.1, 0.45, NUM_SURFACES), 0.0)[
        :, shared_with
    ]
    curved = flat_axis < 0
    specular = torch.where(curved, specular, 0.4 * specular)
    specular[:, : BOX_SURFACES.start] = 0.0
    return sample_textures(
        random,
        patterns=patterns,
        wavelength=wavelength,
        colours=_colours(random, is_window)[:, shared_with],
        flat_axis=flat_axis,
        shared_with=shared_with,
        in_plane=torch.arange(NUM_SURFACES) < BOX_SURFACES.start,
        specular=specular,
        glow=glow,
    )


def _flat_axis() -> Int[Tensor, " surface"]:
    """The axis of its body's frame that each surface is perpendicular to; -1 for curved ones."""
    axis = torch.full((NUM_SURFACES,), -1)
    axis[ROOM_SURFACES] = torch.tensor([0, 0, 1, 1, 2, 2])
    axis[PANEL_SURFACES] = 2
    axis[BOX_SURFACES] = torch.arange(3).repeat(NUM_BOXES)
    axis[CYLINDER_SURFACES] = torch.tensor([-1, 2]).repeat(NUM_CYLINDERS)
    return axis


def _shared_with() -> Int[Tensor, " surface"]:
    """The surface whose colours and pattern each surface takes: one pattern per body, and one for all four walls."""
    surfaces = torch.arange(NUM_SURFACES)
    shared = surfaces.clone()
    shared[:FLOOR] = 0
    shared[BOX_SURFACES] = surfaces[BOX_SURFACES].reshape(-1, 3)[:, :1].expand(-1, 3).flatten()
    shared[CYLINDER_SURFACES] = surfaces[CYLINDER_SURFACES].reshape(-1, 2)[:, :1].expand(-1, 2).flatten()
    return shared


def _colours(random: UniformStream, is_window: Bool[Tensor, "scene panel"]) -> Float[Tensor, "scene surface 2 3"]:
    """Two colours per surface. A place has one base hue; its objects step around the colour circle from there."""
    place_hue = random.unit()[:, None]
    # Multiples of the golden ratio stay apart on the circle.
    hue = place_hue + 0.618 * torch.arange(NUM_SURFACES) + random.uniform(-0.04, 0.04, NUM_SURFACES)
    saturation = random.uniform(0.35, 0.8, NUM_SURFACES)
    value = random.uniform(0.5, 0.98, NUM_SURFACES)
    # Pure greens look brighter than anything else in a room: desaturate them.
    saturation = saturation * (1 - 0.35 * (1 - 4 * (hue % 1 - 0.33).abs()).clamp_min(0))
    # The second colour: lighter or darker, a neighbour or the opposite hue, or nearly white.
    hue_step = torch.where(random.chance(0.3, NUM_SURFACES), 0.5, 0.0) + random.uniform(-0.12, 0.12, NUM_SURFACES)
    second_saturation = saturation * torch.where(random.chance(0.35, NUM_SURFACES), 0.15, 0.9)
    darker = value > 0.72
    second_value = torch.where(
        darker,
        value * random.uniform(0.25, 0.55, NUM_SURFACES),
        1 - (1 - value) * random.uniform(0.0, 0.4, NUM_SURFACES),
    )
    first = torch.stack([hue, saturation, value], dim=-1)
    second = torch.stack([hue + hue_step, second_saturation, second_value], dim=-1)

    wall_hue, wall_saturation, wall_value = random.unit(), random.uniform(0.08, 0.4), random.uniform(0.65, 0.98)
    wall = torch.stack([wall_hue, wall_saturation, wall_value], dim=-1)
    wall_second = torch.stack(
        [
            wall_hue + random.uniform(-0.15, 0.15),
            wall_saturation * random.uniform(0.6, 1.8),
            wall_value * random.uniform(0.35, 0.65),
        ],
        dim=-1,
    )
    is_wood = random.chance(0.5)
    floor_hue = torch.where(is_wood, random.uniform(0.05, 0.11), random.unit())
    floor_saturation = torch.where(is_wood, random.uniform(0.35, 0.65), random.uniform(0.05, 0.45))
    floor = torch.stack([floor_hue, floor_saturation, random.uniform(0.5, 0.85)], dim=-1)
    floor_second = floor * torch.stack(
        [torch.ones_like(floor_hue), random.uniform(0.6, 1.2), random.uniform(0.3, 0.6)], dim=-1
    )
    white = torch.stack([wall_hue, 0.3 * wall_saturation, random.uniform(0.85, 1.0)], dim=-1)
    first[:, :FLOOR], second[:, :FLOOR] = wall[:, None], wall_second[:, None]
    first[:, FLOOR], second[:, FLOOR] = floor, floor_second
    first[:, CEILING], second[:, CEILING] = white, white * torch.tensor([1.0, 1.5, 0.85])

    # Windows show a sky.
    sky = torch.tensor([[0.57, 0.5, 0.95], [0.55, 0.08, 1.0]])
    panels = torch.stack([first[:, PANEL_SURFACES], second[:, PANEL_SURFACES]], dim=-2)
    panels = torch.where(is_window[..., None, None], sky, panels)
    colours = torch.stack([first, second], dim=-2)
    colours[:, PANEL_SURFACES] = panels
    return hsv_to_rgb(colours[..., 0], colours[..., 1].clamp(0, 1), colours[..., 2].clamp(0, 1))
