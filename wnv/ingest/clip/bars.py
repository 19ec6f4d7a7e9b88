"""Black bars at the borders of a video (letterbox, pillarbox)."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

_BLACK = 16  # gray level of a bar at most
_BLACK_SHARE = 0.75  # of a row that is black in every image: bars may hold subtitles
_MIN_STEP = 12  # gray levels from a bar to the mean of the row beside it: a dark scene has no such edge
_MIN_SHARE = 0.02  # thinner bars are kept
_MAX_SHARE = 0.7
_MARGIN = 2  # rows beside a bar that encoding has mixed with it


@dataclass(frozen=True)
class Bars:
    """Width of the black bars in pixels."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def __bool__(self) -> bool:
        return any((self.top, self.bottom, self.left, self.right))

    def crop(self, image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "rows columns 3"]:
        """Return the image without the bars, with even sides."""
        height, width = image.shape[:2]
        rows = (height - self.top - self.bottom) // 2 * 2
        columns = (width - self.left - self.right) // 2 * 2
        return np.ascontiguousarray(image[self.top : self.top + rows, self.left : self.left + columns])


def find_bars(images: Sequence[UInt8[np.ndarray, "height width 3"]]) -> Bars:
    """Find rows and columns at the borders that are black in all images and end at a sharp edge.

    Args:
        images: RGB images of one size, from different times of a video.
    """
    gray = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images])
    top, bottom = _ends(gray)
    left, right = _ends(gray.transpose(0, 2, 1))
    return Bars(top=top, bottom=bottom, left=left, right=right)


def _ends(gray: UInt8[np.ndarray, "image row column"]) -> tuple[int, int]:
    """Number of black rows at the top and at the bottom."""
    num_rows = gray.shape[1]
    is_black = np.quantile(gray, _BLACK_SHARE, axis=2).max(axis=0) <= _BLACK
    brightness = gray.mean(axis=(0, 2))
    widths = []
    for black, bright in ((is_black, brightness), (is_black[::-1], brightness[::-1])):
        width = num_rows if black.all() else int(np.argmin(black))
        inside = bright[width : width + 2 * _MARGIN]
        is_bar = width >= _MIN_SHARE * num_rows and len(inside) and inside.max() - bright[:width].mean() >= _MIN_STEP
        widths.append(width + _MARGIN if is_bar else 0)
    return (0, 0) if sum(widths) > _MAX_SHARE * num_rows else (widths[0], widths[1])
