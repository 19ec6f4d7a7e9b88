"""Doubtful cameras: what wrong units, axes and repeated poses look like, and what is fine."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from wnv.geometry.camera_checks import doubtful_cameras, doubtful_context
from wnv.geometry.cameras import K_from_fov
from wnv.geometry.poses import look_at
from wnv.types import Cameras

FOCAL_TIMES_100 = torch.tensor([[100, 1, 1], [1, 100, 1], [1, 1, 1]])
OPENGL = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))


def _arc(degrees: float = 60.0, num_views: int = 8, *, fov: float = 50.0) -> Cameras:
    """Cameras on an arc that look at the origin, 5 units away."""
    angles = torch.deg2rad(torch.linspace(0, degrees, num_views, dtype=torch.float64))
    eyes = 5 * torch.stack([angles.cos(), angles.sin(), 0.1 * angles], dim=-1)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    K = K_from_fov(fov_y_deg=fov, width=40, height=30).double().expand(num_views, 3, 3)
    return Cameras(K=K, camtoworld=look_at(eyes, torch.zeros(3).double(), up), width=40, height=30)


def _at_one_place(cameras: Cameras) -> Cameras:
    poses = cameras.camtoworld.clone()
    poses[:, :3, 3] = 3.0
    return replace(cameras, camtoworld=poses)


def _parallel(cameras: Cameras) -> Cameras:
    poses = cameras.camtoworld.clone()
    poses[:, :3, :3] = poses[0, :3, :3]
    return replace(cameras, camtoworld=poses)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c, None),
        (_parallel, None),
        (lambda c: _parallel(replace(c, camtoworld=c.camtoworld @ OPENGL)), None),
        (lambda c: _arc(fov=3), ["5 to 150", "got 4 in view 0", "fx=572.8"]),
        (lambda c: replace(c, K=c.K * FOCAL_TIMES_100), ["5 to 150", "fx=3216.8", "40 x 30"]),
        (lambda c: replace(c, K=c.K * 2.5), ["40 x 30", "cx=50"]),
        (lambda c: _arc(fov=149), ["5 to 150", "157"]),
        (lambda c: replace(c, camtoworld=c.camtoworld @ OPENGL), ["all 8 cameras look away", "OpenGL"]),
        (lambda c: c[[0, 1, 2, 2, 3]], ["1 of 5 cameras", "5%", "dynamic"]),
        (_at_one_place, ["all 8 cameras are at one place"]),
        (lambda c: c[[0, 0]], ["all 2 cameras have one pose"]),
    ],
)
def test_wrong_cameras_are_described(change: Callable[[Cameras], Cameras], words: list[str] | None) -> None:
    doubts = doubtful_cameras(change(_arc()))
    assert len(doubts) == (words is not None)
    for word in words or []:
        assert word in doubts[0]


def test_cameras_may_rest_while_things_move() -> None:
    assert doubtful_cameras(_at_one_place(_arc()), is_static=False) == []
    assert doubtful_context(_arc()[[0, 0]], _arc(), is_static=False) == []


@pytest.mark.parametrize(
    ("chosen", "word"),
    [([0, 7], None), ([0, 1], "0.6 degrees apart (at least 1"), ([3], None), ([0, 0], "one pose"), ([0, 50], None)],
)
def test_context_views_should_differ(chosen: list[int], word: str | None) -> None:
    scene = _arc(60, 101)
    doubts = doubtful_context(scene[chosen], scene)
    assert len(doubts) == (word is not None)
    assert word is None or word in doubts[0]
