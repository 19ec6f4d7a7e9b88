"""Camera paths: the right way up and never mirrored, also for degenerate paths."""

import re
from collections.abc import Callable

import numpy as np
import pytest

from wnv.pages.camera_path import camera_path, path_length


def line_of(svg: str) -> np.ndarray:
    points = re.search(r'points="([^"]*)"', svg)[1]
    return np.array([[float(number) for number in pair.split(",")] for pair in points.split()])


def turn(points: np.ndarray) -> float:
    """Twice the signed area of a path, positive if it turns left as one reads the page (y goes down)."""
    x, y = points[:, 0], -points[:, 1]
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) + x[-1] * y[0] - x[0] * y[-1])


def rotation(seed: int) -> np.ndarray:
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


@pytest.mark.parametrize("seed", range(3))
def test_an_orbit_to_the_left_is_drawn_to_the_left_in_any_world_frame(orbit: Callable, seed: int) -> None:
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = rotation(seed), (30, -20, 10)
    svg = camera_path(world @ orbit(40), label="path")
    points = line_of(svg)
    assert turn(points) > 0
    assert turn(line_of(camera_path((world @ orbit(40))[::-1].copy(), label="path"))) < 0
    assert points.min() >= 0
    assert points.max() <= 200
    # A half circle: twice as wide as high, opening up the page, where the cameras look.
    width, height = np.ptp(points, axis=0)
    assert width == pytest.approx(2 * height, rel=0.02)
    assert points[20, 1] > points[0, 1]
    assert re.search(r'class="first" cx="([\d.]+)" cy="([\d.]+)"', svg).groups() == tuple(f"{x:.1f}" for x in points[0])


def test_wedges_open_where_the_cameras_look(orbit: Callable) -> None:
    svg = camera_path(orbit(9), label="path")
    centre = np.array([100.0, line_of(svg)[0, 1]])
    for text in re.findall(r'class="camera" d="M([^"]*)Z"', svg):
        apex, *corners = (np.array([float(number) for number in pair.split()]) for pair in text.split("L"))
        assert np.dot(np.mean(corners, axis=0) - apex, centre - apex) > 0


@pytest.mark.parametrize("num_frames", [1, 5])
def test_a_camera_that_stands_still_is_drawn_in_the_middle(num_frames: int) -> None:
    points = line_of(camera_path(np.tile(np.eye(4), (num_frames, 1, 1)), label="still"))
    np.testing.assert_allclose(points, 100)


def test_a_straight_path_is_straight() -> None:
    poses = np.tile(np.eye(4), (10, 1, 1))
    poses[:, 2, 3] = np.arange(10)
    points = line_of(camera_path(poses, label="straight"))
    assert np.ptp(points[:, 1]) < 0.2
    assert points[-1, 0] > points[0, 0]  # it walks where it looks, to the right
    assert path_length(poses) == pytest.approx(9)


def test_a_long_path_is_thinned_but_ends_where_it_ends(orbit: Callable) -> None:
    svg = camera_path(orbit(4000), label="long")
    assert len(svg) < 6000
    np.testing.assert_allclose(line_of(svg)[[0, -1]], line_of(camera_path(orbit(3), label="short"))[[0, -1]], atol=0.2)
