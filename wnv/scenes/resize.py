"""Scales images down to a maximum size."""

import cv2
import numpy as np
from jaxtyping import UInt8


def fit_size(width: int, height: int, *, max_side: int | None = None, short_side: int | None = None) -> tuple[int, int]:
    """Scale a size down until its longer side is at most `max_side` and its shorter one at most `short_side`.

    Raises:
        ValueError: If a limit is not positive.
    """
    scale = 1.0
    for name, limit, side in (
        ("max_side", max_side, max(width, height)),
        ("short_side", short_side, min(width, height)),
    ):
        if limit is None:
            continue
        if limit < 1:
            raise ValueError(f"{name} must be at least 1 pixel, got {limit}")
        scale = min(scale, limit / side)
    return max(1, round(width * scale)), max(1, round(height * scale))


def shrink_image(
    image: UInt8[np.ndarray, "height width 3"], *, width: int, height: int
) -> UInt8[np.ndarray, "new_height new_width 3"]:
    """Scale an image down; every new pixel is the mean of the area it covers."""
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
