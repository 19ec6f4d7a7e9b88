"""A camera that turns is told from one that moves in front of a plane."""

import cv2
import numpy as np
import pytest

from wnv.ingest.pose.turning import MAX_ERROR, turning_error


@pytest.mark.parametrize("focal", [0.6, 1.2, 3.0])
@pytest.mark.parametrize("moves", [False, True])
def test_turning_and_planes(focal: float, moves: bool) -> None:
    rng = np.random.default_rng(0)
    plane = np.concatenate([rng.uniform(-1, 1, (400, 2)), np.zeros((400, 1))], axis=-1)
    ahead = np.array([0.0, 0.0, 2 * focal])
    views = []
    for angle in np.linspace(-0.3, 0.3, 7):
        rotation, _ = cv2.Rodrigues(np.array([0.2 * angle, angle, 0.1 * angle]))
        # Round the middle of the plane, or on the spot.
        seen = plane @ rotation.T + ahead if moves else (plane + ahead) @ rotation.T
        points = focal * seen[:, :2] / seen[:, 2:]
        views.append(points + rng.normal(0, 0.0005, points.shape))
    error = turning_error([(views[a], views[b]) for a in range(7) for b in range(a)])
    assert error is not None
    assert (error > MAX_ERROR) == moves, error


def test_too_few_matches_tell_nothing() -> None:
    assert turning_error([(np.zeros((5, 2)), np.ones((5, 2)))]) is None
