"""Moving objects are masked, camera motion is not."""

import cv2
import numpy as np

from wnv.ingest.pose.motion_masks import motion_masks


def _pair(object_px: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return two frames and a mask: the backbackground moves by 4 px, a square by `object_px` the other way."""
    rng = np.random.default_rng(0)
    background, square = (
        cv2.resize(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8), (480, 360), interpolation=cv2.INTER_CUBIC)
        for _ in range(2)
    )
    frame, neighbour = background[20:290, 20:420].copy(), background[20:290, 16:416].copy()
    where = np.zeros(frame.shape[:2], dtype=bool)
    if object_px:
        frame[100:180, 150:250] = square[:80, :100]
        neighbour[100:180, 150 - object_px : 250 - object_px] = square[:80, :100]
        where[100:180, 150:250] = True
    return frame, neighbour, where


def test_a_moving_object_is_masked() -> None:
    frame, neighbour, where = _pair(6)
    (mask,) = motion_masks([frame], [neighbour], seed=0)
    assert mask.shape == frame.shape[:2]
    assert mask[where].mean() > 0.9
    assert mask[~where].mean() < 0.2
    (again,) = motion_masks([frame], [neighbour], seed=0)
    assert np.array_equal(mask, again)


def test_camera_motion_is_not_masked() -> None:
    frame, neighbour, _ = _pair(0)
    (mask,) = motion_masks([frame], [neighbour], seed=0)
    assert mask.mean() < 0.02


def test_uniform_images_get_no_mask() -> None:
    grey = np.full((90, 160, 3), 128, dtype=np.uint8)
    (mask,) = motion_masks([grey], [grey], seed=0)
    assert not mask.any()
