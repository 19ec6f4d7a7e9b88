import torch

from wnv.geometry.poses import random_se3, rotation_angle
from wnv.geometry.quaternions import matrix_from_quaternion, quaternion_from_matrix
from wnv.geometry.splines import catmull_rom, squad

EXACT = {"rtol": 0, "atol": 1e-10}
SEGMENT = torch.tensor([0, 1, 1, 2, 3, 3])
T = torch.tensor([0.0, 0.0, 0.4, 0.9, 0.5, 1.0], dtype=torch.float64)


def test_catmull_rom_follows_a_line_everywhere_and_a_parabola_inside():
    knots = torch.arange(5, dtype=torch.float64)[:, None]
    at = (SEGMENT + T)[:, None]
    torch.testing.assert_close(catmull_rom(3 - 2 * knots, SEGMENT, T), 3 - 2 * at, **EXACT)
    inside = (SEGMENT > 0) & (SEGMENT < 3)
    torch.testing.assert_close(catmull_rom(knots**2, SEGMENT, T)[inside], at[inside] ** 2, **EXACT)


def test_squad_meets_its_knots_whatever_their_sign(generator):
    knots = quaternion_from_matrix(random_se3((5,), generator=generator, dtype=torch.float64)[:, :3, :3])
    signs = torch.tensor([1, -1, -1, 1, -1], dtype=torch.float64)[:, None]
    curve, flipped = (matrix_from_quaternion(squad(q, SEGMENT, T)) for q in (knots, signs * knots))
    torch.testing.assert_close(curve, flipped, **EXACT)
    torch.testing.assert_close(curve[[0, 1, 5]], matrix_from_quaternion(knots[[0, 1, 4]]), **EXACT)


def test_squad_turns_evenly_through_evenly_turned_knots(generator):
    angles = torch.arange(5, dtype=torch.float64) * 0.8
    zero = torch.zeros_like(angles)
    knots = torch.stack([(angles / 2).cos(), zero, (angles / 2).sin(), zero], dim=-1)
    curve = matrix_from_quaternion(squad(knots, SEGMENT, T))[1:4]  # the end stretches bend towards their free ends
    expected = rotation_angle(torch.eye(3, dtype=torch.float64), curve)
    torch.testing.assert_close(expected, 0.8 * (SEGMENT + T)[1:4], **EXACT)
