"""Masks of moving objects: parts of a frame whose motion the camera motion does not explain."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

FLOW_LONG_SIDE = 320
"""Longer side of the images on which motion is measured, pixels."""

THRESHOLD_PX = 1.0
"""Distance between measured and predicted motion above which a pixel moves, pixels at that size."""

PLANE_SHARE = 0.8
"""A homography is used if it has at least this share of the inliers of the fundamental matrix."""

MAX_MASKED = 0.6
"""A mask that covers more than this share of a frame is discarded as unreliable."""


def motion_masks(
    frames: Sequence[UInt8[np.ndarray, "height width 3"]],
    neighbours: Sequence[UInt8[np.ndarray, "height width 3"]],
    *,
    seed: int,
) -> list[Bool[np.ndarray, "height width"]]:
    """Return a mask of moving objects per frame.

    A fundamental matrix, or a homography if it explains nearly as much, is fitted by RANSAC to the optical flow between
    a frame and its neighbor. Pixels far from it are masked, with a margin. Motion along epipolar lines is missed.

    Args:
        frames: RGB images.
        neighbours: For each frame, another one shortly before or after it.
        seed: Seed of RANSAC.
    """
    flow_of = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    return [_motion_mask(frame, neighbour, flow_of, seed) for frame, neighbour in zip(frames, neighbours, strict=True)]


def _motion_mask(
    frame: UInt8[np.ndarray, "height width 3"],
    neighbour: UInt8[np.ndarray, "height width 3"],
    flow_of: cv2.DISOpticalFlow,
    seed: int,
) -> Bool[np.ndarray, "height width"]:
    height, width = frame.shape[:2]
    scale = min(1.0, FLOW_LONG_SIDE / max(height, width))
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    first, second = (
        cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
        for image in (frame, neighbour)
    )
    flow = flow_of.calc(first, second, None)  # pyright: ignore[reportCallIssue, reportArgumentType] None allocates
    distances = _distances(flow, seed)
    moving = (distances > THRESHOLD_PX).astype(np.uint8)
    # Opening removes flow errors; dilation covers features that extend beyond their center.
    moving = cv2.morphologyEx(moving, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    moving = cv2.dilate(moving, np.ones((9, 9), np.uint8))
    if moving.mean() > MAX_MASKED:
        return np.zeros((height, width), dtype=bool)
    return cv2.resize(moving, (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)


def _distances(flow: Float32[np.ndarray, "height width 2"], seed: int) -> Float32[np.ndarray, "height width"]:
    """Return the distance of each pixel's motion from the dominant motion, pixels."""
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    start = np.stack([x, y], axis=-1)
    end = start + flow
    grid = (slice(2, None, 6), slice(2, None, 6))
    points = start[grid].reshape(-1, 2), end[grid].reshape(-1, 2)
    ransac = cv2.UsacParams()
    ransac.randomGeneratorState = seed % 2**31
    ransac.threshold = THRESHOLD_PX
    ransac.confidence = 0.999
    ransac.maxIterations = 2000
    fundamental, on_lines = cv2.findFundamentalMat(*points, ransac)
    homography, on_plane = cv2.findHomography(*points, ransac)
    if fundamental is None or fundamental.shape != (3, 3):
        return np.zeros((height, width), dtype=np.float32)
    ones = np.ones((height, width, 1), dtype=np.float32)
    a, b = np.concatenate([start, ones], axis=-1), np.concatenate([end, ones], axis=-1)
    # Under pure rotation the fundamental matrix is ambiguous and may fit the moving object instead.
    if homography is not None and on_plane.sum() >= PLANE_SHARE * on_lines.sum():
        mapped = a @ homography.astype(np.float32).T
        return np.linalg.norm(mapped[..., :2] / mapped[..., 2:] - end, axis=-1)
    matrix = fundamental.astype(np.float32)
    lines_b, lines_a = a @ matrix.T, b @ matrix
    slope = (lines_b[..., :2] ** 2).sum(axis=-1) + (lines_a[..., :2] ** 2).sum(axis=-1)
    return np.abs((b * lines_b).sum(axis=-1)) / np.sqrt(np.maximum(slope, 1e-12))
