"""Validate image sizes in settings."""

from collections.abc import Sequence
from typing import Any


def checked_image_size(image_size: Any) -> tuple[int, int]:
    """Return height and width in pixels.

    Raises:
        ValueError: If it is not two positive integers.
    """
    is_pair = isinstance(image_size, Sequence) and not isinstance(image_size, str) and len(image_size) == 2
    if not (is_pair and all(isinstance(side, int) and side >= 1 for side in image_size)):
        shown = list(image_size) if isinstance(image_size, tuple) else image_size
        raise ValueError(f"image_size must be [height, width] in pixels, each at least 1, got {shown}")
    height, width = image_size
    return int(height), int(width)
