import math

import pytest
import torch

from wnv.geometry.poses import random_se3, rotation_angle
from wnv.geometry.quaternions import (
    matrix_from_quaternion,
    quaternion_conjugate,
    quaternion_exp,
    quaternion_from_matrix,
    quaternion_log,
    quaternion_multiply,
    slerp,
)

EXACT = {"rtol": 0, "atol": 1e-10}


@pytest.fixture
def rotations(generator):
    """Random rotations, the identity, and half turns about each axis (where the trace formula divides by zero)."""
    random = random_se3((50,), generator=generator, dtype=torch.float64)[:, :3, :3]
    diagonals = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    return torch.cat([random, torch.diag_embed(diagonals)])


def test_matrix_and_quaternion_convert_both_ways(rotations):
    quaternions = quaternion_from_matrix(rotations)
    torch.testing.assert_close(matrix_from_quaternion(quaternions), rotations, **EXACT)
    torch.testing.assert_close(quaternions.norm(dim=-1), torch.ones(54, dtype=torch.float64), **EXACT)
    assert (quaternions[:, 0] >= 0).all()


def test_product_is_composition_and_conjugate_the_inverse(rotations):
    a, b = quaternion_from_matrix(rotations), quaternion_from_matrix(rotations.flip(0))
    torch.testing.assert_close(
        matrix_from_quaternion(quaternion_multiply(a, b)), rotations @ rotations.flip(0), **EXACT
    )
    torch.testing.assert_close(matrix_from_quaternion(quaternion_conjugate(a)), rotations.mT, **EXACT)


def test_exp_and_log_agree_with_the_matrix_exponential(generator):
    axis_angle = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    axis_angle[0] = 0
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(-1, 3, 3)
    quaternions = quaternion_exp(axis_angle / 2)
    torch.testing.assert_close(matrix_from_quaternion(quaternions), torch.linalg.matrix_exp(skew), **EXACT)
    small = axis_angle[axis_angle.norm(dim=-1) < math.pi]
    torch.testing.assert_close(quaternion_log(quaternion_exp(small / 2)), small / 2, **EXACT)
    torch.testing.assert_close(quaternion_log(-quaternion_exp(small / 2)), small / 2, **EXACT)


def test_slerp_moves_at_constant_speed_by_the_shorter_way(generator):
    a, b = quaternion_from_matrix(random_se3((2, 20), generator=generator, dtype=torch.float64)[..., :3, :3])
    whole = rotation_angle(matrix_from_quaternion(a), matrix_from_quaternion(b))
    for t in (0.0, 0.25, 0.5, 1.0):
        for end in (b, -b):
            part = matrix_from_quaternion(slerp(a, end, torch.tensor(t, dtype=torch.float64)))
            torch.testing.assert_close(rotation_angle(matrix_from_quaternion(a), part), t * whole, **EXACT)
            torch.testing.assert_close(rotation_angle(part, matrix_from_quaternion(b)), (1 - t) * whole, **EXACT)


@pytest.mark.parametrize("missing", [0.0, 1e-12, 1e-7, 1e-3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_slerp_over_nearly_half_a_turn_is_stable(missing, dtype):
    angle = math.pi - missing
    a = torch.tensor([1, 0, 0, 0], dtype=dtype)
    b = torch.tensor([math.cos(angle / 2), 0, math.sin(angle / 2), 0], dtype=dtype)
    for end in (b, -b):
        middle = slerp(a, end, torch.tensor(0.5, dtype=dtype))
        assert middle.norm().item() == pytest.approx(1, abs=1e-6)
        matrices = matrix_from_quaternion(torch.stack([a, middle, end]))
        assert rotation_angle(matrices[0], matrices[1]).item() == pytest.approx(angle / 2, abs=1e-6)
        assert rotation_angle(matrices[1], matrices[2]).item() == pytest.approx(angle / 2, abs=1e-6)


def test_slerp_between_equal_rotations_is_that_rotation_with_finite_gradient():
    a = torch.tensor([0.5, 0.5, -0.5, 0.5], dtype=torch.float64, requires_grad=True)
    middle = slerp(a, a, torch.tensor(0.3, dtype=torch.float64))
    torch.testing.assert_close(middle, a, **EXACT)
    middle.sum().backward()
    assert a.grad.isfinite().all()
