"""Tell a camera that only turns from one that moves in front of a plane; a homography explains both."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

MAX_ERROR = 0.03
"""Errors of `turning_error` up to this mean that the camera only turns."""

_FOCALS = np.geomspace(0.3, 6.0, 30)  # over the longer side
_MIN_MATCHES = 30

Points = Float64[np.ndarray, "match 2"]


def turning_error(pairs: Sequence[tuple[Points, Points]]) -> float | None:
    """Return how badly rotations alone explain the matches of frame pairs, as a share of the matches' motion.

    All pairs share one focal length, which is the best of a range. Only pairs that move the image far are used: small
    motion of any kind looks like a rotation.

    Args:
        pairs: Matching points of two frames, relative to the center of the image, over its longer side.

    Returns:
        The median over the pairs, or None if no pair has enough matches.
    """
    pairs = [(first, second) for first, second in pairs if len(first) >= _MIN_MATCHES]
    if not pairs:
        return None
    motions = np.array([np.median(np.linalg.norm(second - first, axis=-1)) for first, second in pairs])
    wide = np.flatnonzero(motions >= min(0.1, float(np.median(motions))))
    errors = [[_rotation_error(*pairs[index], focal) / motions[index] for index in wide] for focal in _FOCALS]
    return float(np.median(errors, axis=-1).min())


def _rotation_error(first: Points, second: Points, focal: float) -> float:
    """Return the median distance of points from where the best rotation maps their matches."""
    from_rays, to_rays = _rays(first, focal), _rays(second, focal)
    left, _, right = np.linalg.svd(to_rays.T @ from_rays)
    rotation = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
    turned = from_rays @ rotation.T
    depth = np.maximum(turned[:, 2:], 1e-6)  # points behind the camera are far off
    return float(np.median(np.linalg.norm(focal * turned[:, :2] / depth - second, axis=-1)))


def _rays(points: Points, focal: float) -> Float64[np.ndarray, "match 3"]:
    rays = np.concatenate([points / focal, np.ones((len(points), 1))], axis=-1)
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)
