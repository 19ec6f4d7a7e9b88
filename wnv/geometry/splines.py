"""Smooth curves through knots at equal time steps."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from wnv.geometry.quaternions import quaternion_conjugate, quaternion_exp, quaternion_log, quaternion_multiply, slerp


def catmull_rom(
    values: Float[Tensor, "knot d"], segment: Int[Tensor, " view"], t: Float[Tensor, " view"]
) -> Float[Tensor, "view d"]:
    """Catmull-Rom spline: cubic through all knots with central slopes, one-sided at the ends.

    Args:
        values: At least two knots.
        segment: Index of the knot before each point of the curve, at most the number of knots minus 2.
        t: Position of the point between this knot and the next, 0..1.
    """
    steps = values.diff(dim=0)
    slopes = torch.cat([steps[:1], (steps[1:] + steps[:-1]) / 2, steps[-1:]])
    t = t[:, None]
    start, end = values[segment], values[segment + 1]
    blend = t * t * (3 - 2 * t)
    bend_start, bend_end = t * (1 - t) ** 2 * slopes[segment], t * t * (t - 1) * slopes[segment + 1]
    return start * (1 - blend) + end * blend + bend_start + bend_end


def squad(
    knots: Float[Tensor, "knot 4"], segment: Int[Tensor, " view"], t: Float[Tensor, " view"]
) -> Float[Tensor, "view 4"]:
    """Shoemake's spherical cubic through unit quaternions, smooth at each; arguments as in `catmull_rom`."""
    inner = knots[1:-1]
    inverse = quaternion_conjugate(inner)
    towards_neighbours = quaternion_log(quaternion_multiply(inverse, knots[2:])) + quaternion_log(
        quaternion_multiply(inverse, knots[:-2])
    )
    controls = torch.cat([knots[:1], quaternion_multiply(inner, quaternion_exp(-towards_neighbours / 4)), knots[-1:]])
    along = slerp(knots[segment], knots[segment + 1], t)
    return slerp(along, slerp(controls[segment], controls[segment + 1], t), 2 * t * (1 - t))
