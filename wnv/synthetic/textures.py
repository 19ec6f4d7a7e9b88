"""Procedural textures: one formula for every pattern, and the sampling of its parameters.

A texture is evaluated at a point `p` of its body's own frame. Three phases, affine in `p`, give three cosines; the
pattern is a threshold of their product and of their weighted sum. A checker is the product with a sharp threshold,
dots the same with a bias, stripes one cosine, a gradient one slow cosine, noise a soft sum whose phases bend each
other. So the same few operations colour every pixel.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from wnv.synthetic.random import UniformStream, axis_angle_rotation

SOLID, CHECKER, STRIPES, GRADIENT, NOISE, DOTS = range(6)


@dataclass(frozen=True)
class Textures:
    """Parameters of the textures of all surfaces; lengths in world units, phases in radians.

    Attributes:
        phase_map: Phases per length, in the frame of the surface's body.
        phase: Phases at the body's centre.
        product: Weight of the product of the three cosines.
        weights: Weights of the three cosines.
        bias: Added to the pattern before the threshold.
        softness: Half the width of the threshold, in units of the pattern: small is crisp, 1 a smooth blend.
        frequency: The fastest change of any phase per length, for smoothing what is smaller than a pixel.
        warp: How far the phases bend each other, radians.
        colours: The two colours, RGB in 0..1.
        specular: Strength of the highlight.
        glow: 0 for a lit surface, 1 for one that emits its own light.
    """

    phase_map: Float[Tensor, "*batch surface 3 3"]
    phase: Float[Tensor, "*batch surface 3"]
    product: Float[Tensor, "*batch surface"]
    weights: Float[Tensor, "*batch surface 3"]
    bias: Float[Tensor, "*batch surface"]
    softness: Float[Tensor, "*batch surface"]
    frequency: Float[Tensor, "*batch surface"]
    warp: Float[Tensor, "*batch surface"]
    colours: Float[Tensor, "*batch surface 2 3"]
    specular: Float[Tensor, "*batch surface"]
    glow: Float[Tensor, "*batch surface"]


def sample_textures(
    random: UniformStream,
    *,
    patterns: Int[Tensor, "scene surface"],
    wavelength: Float[Tensor, "scene surface"],
    colours: Float[Tensor, "scene surface 2 3"],
    flat_axis: Int[Tensor, " surface"],
    shared_with: Int[Tensor, " surface"],
    in_plane: Bool[Tensor, " surface"],
    specular: Float[Tensor, "scene surface"],
    glow: Float[Tensor, "scene surface"],
) -> Textures:
    """Sample the texture parameters of the given patterns.

    Args:
        random: Source of the random numbers.
        patterns: Pattern of each surface (`SOLID` ... `DOTS`).
        wavelength: Length of one period; gradients take a multiple of it.
        colours: The two colours, RGB in 0..1.
        flat_axis: Axis of the body's frame that a flat surface is perpendicular to; -1 for curved ones.
        shared_with: The surface whose random numbers a surface shares, so that the faces of a box match.
        in_plane: Flat surfaces whose stripes lie within the surface; the others are cuts through a striped block.
        specular: Strength of the highlight.
        glow: How strongly the surface glows.
    """
    num_surfaces = patterns.shape[1]
    axes = torch.eye(3)
    normals = torch.cat([axes, torch.zeros(1, 3)])[flat_axis]

    turn = axis_angle_rotation(random.direction(num_surfaces), random.uniform(0, 2 * math.pi, num_surfaces))
    stretch = random.uniform(0.75, 1.25, num_surfaces, 3)
    phase = random.uniform(0, 2 * math.pi, num_surfaces, 3)
    along_axis = axes[random.choice(torch.tensor([1.0, 1.0, 2.0]).expand(num_surfaces, 3))]
    oblique = random.direction(num_surfaces)
    bias = random.uniform(-0.4, 0.4, num_surfaces)
    crisp = random.log_uniform(0.08, 0.3, num_surfaces)
    is_oblique = random.chance(0.35, num_surfaces)

    def kind(*which: int) -> Bool[Tensor, "scene surface"]:
        return torch.stack([patterns == k for k in which]).any(0)

    phase, turn, stretch, oblique, along_axis = (x[:, shared_with] for x in (phase, turn, stretch, oblique, along_axis))
    bias, crisp, is_oblique = (x[:, shared_with] for x in (bias, crisp, is_oblique))

    # Stripes and gradients run along one direction.
    direction = torch.where(is_oblique[..., None], oblique, along_axis)
    flattened = direction - normals * (direction * normals).sum(-1, keepdim=True)
    # A direction along the normal has no part in the plane: take the plane's own axis instead.
    spare = axes[(flat_axis + 1).clamp_min(0) % 3]
    length = torch.linalg.vector_norm(flattened, dim=-1, keepdim=True)
    flattened = torch.where(length > 0.2, flattened / length.clamp_min(0.2), spare)
    direction = torch.where(in_plane[:, None], flattened, direction)

    grid = axes * (1 - normals[:, None, :])  # a flat surface shows a 2D grid: no phase along its normal
    single = torch.zeros(*patterns.shape, 3, 3)
    single[..., 0, :] = direction
    unit_map = torch.where(
        kind(CHECKER, DOTS)[..., None, None],
        grid.expand_as(turn),
        torch.where(kind(NOISE)[..., None, None], turn * stretch[..., None], single),
    )
    phase = torch.where(kind(CHECKER, DOTS)[..., None], phase * (1 - normals), phase)
    period = wavelength * torch.where(kind(GRADIENT), 3.5, torch.where(kind(NOISE), 1.5, 1.0))
    speed = 2 * math.pi / period

    weights = torch.zeros_like(phase)
    weights[..., 0] = kind(STRIPES, GRADIENT).float()
    weights = weights + 0.5 * kind(NOISE)[..., None]
    zero, one = torch.zeros_like(bias), torch.ones_like(bias)
    softness = torch.where(kind(CHECKER, DOTS, STRIPES), crisp, one)
    return Textures(
        phase_map=unit_map * speed[..., None, None],
        phase=phase,
        product=kind(CHECKER, DOTS).float(),
        weights=weights,
        bias=torch.where(kind(STRIPES), bias, torch.where(kind(DOTS), -0.3 * one, zero)),
        softness=softness,
        frequency=speed * torch.where(kind(NOISE), 1.6, torch.where(kind(CHECKER, DOTS), 1.4, 1.0)),
        warp=kind(NOISE).float() * 0.9,
        colours=colours,
        specular=specular,
        glow=glow,
    )
