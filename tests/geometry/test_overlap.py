import math

import pytest
import torch

from wnv.geometry.cameras import K_from_fov
from wnv.geometry.overlap import choose_neighbors, looks_elsewhere
from wnv.geometry.poses import look_at
from wnv.geometry.trajectories import make_trajectory
from wnv.types import Cameras


def arc_cameras(degrees: list[float], *, distances: list[float] | None = None) -> Cameras:
    """Cameras at these angles around the origin, which they look at; 60 degrees wide."""
    angles = torch.tensor(degrees, dtype=torch.float64) * math.pi / 180
    eyes = torch.stack([angles.sin(), torch.zeros_like(angles), -angles.cos()], dim=-1)
    eyes = eyes * torch.tensor(distances or [3.0] * len(degrees), dtype=torch.float64)[:, None]
    K = K_from_fov(fov_y_deg=torch.full((len(degrees),), 60.0, dtype=torch.float64), width=32, height=32)
    poses = look_at(eyes, torch.zeros(3, dtype=torch.float64), torch.tensor([0, -1.0, 0], dtype=torch.float64))
    return Cameras(K=K, camtoworld=poses, width=32, height=32)


def test_a_context_is_spread_over_the_neighbors_of_its_start():
    cameras = arc_cameras([8 * i for i in range(12)])
    assert choose_neighbors(cameras.camtoworld, start=5, count=3) == (3, 5, 7)
    assert choose_neighbors(cameras.camtoworld, start=5, count=2) in ((3, 5), (5, 7))
    assert choose_neighbors(cameras.camtoworld, start=0, count=99) == tuple(range(12))


def test_images_of_another_scale_are_no_neighbors():
    cameras = arc_cameras([0, 5, 10, 12, 90], distances=[3, 3, 3, 1.5, 3])
    assert choose_neighbors(cameras.camtoworld, start=0, count=2) == (0, 2)


def test_a_context_of_parallel_cameras_is_spread_over_all():
    poses = torch.eye(4, dtype=torch.float64).repeat(7, 1, 1)
    poses[:, 0, 3] = torch.arange(7)
    assert choose_neighbors(poses, start=0, count=3) == (0, 3, 6)


def test_a_walk_through_rooms_has_no_common_point():
    """Axes that pass each other at a distance: a context is spread over the cameras that look the same way."""
    angles = [0, 10, -10, 5, 100, 190, 280]
    poses = arc_cameras(angles).camtoworld
    poses[:, :3, 3] = torch.tensor([[2.0 * i, 0, 4.0 * i] for i in range(len(angles))], dtype=torch.float64)
    assert choose_neighbors(poses, start=0, count=3) == (0, 2, 3)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("orbit", {}, range(0)),
        ("interpolate", {}, range(0)),
        ("orbit", {"degrees": 360}, range(9, 28)),
        ("around", {"degrees": 360}, range(5, 32)),
    ],
)
def test_views_that_nobody_looked_at(name, options, expected):
    context = arc_cameras([-10, 10])
    path = make_trajectory(name, context, num_views=36, **options)
    elsewhere = looks_elsewhere(path, context).nonzero()[:, 0].tolist()
    assert set(expected) <= set(elsewhere)
    assert len(elsewhere) <= 1.5 * len(expected)
