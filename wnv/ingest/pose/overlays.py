"""Masks of burnt-in overlays: text, logos, time stamps and whatever else stands still while the picture moves.

Features on an overlay match at zero displacement in all frames, which gives wrong cameras with small errors.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

LONG_SIDE = 640
"""Longer side of the images that are compared, pixels."""

MAX_IMAGES = 96
"""Number of images that are compared; of more, evenly spaced ones."""

_WINDOWS = (8, 12, 24)  # images in which an overlay must stand still; and all images
_MIN_GRADIENT = 4.0  # gray levels per pixel of an edge
_STANDS = 0.97  # |mean gradient| / mean |gradient| over a window: 1 where an edge stands still
_MOVES = 0.5, 0.6  # below it, an edge moves; in the picture, around an overlay
_MIN_MOVING = 0.6  # share of the picture's edges that must move for a window to say anything
_MAX_STANDING = 0.5  # share of the edges that may be overlays, over the whole clip
_MIN_MOVING_AROUND = 0.75
_MIN_EDGES_AROUND = 0.03  # share of pixels; with fewer, the whole picture must move as much as the surroundings
_MIN_PIXELS = 30  # standing pixels of an overlay
_MIN_ISOTROPY = 0.1  # ratio of the eigenvalues of the structure tensor: a line that moves along itself seems to stand
_REACH = 9, 7, 41  # pixels: joins letters; left out around an overlay; looked at around it
_FILL = 21  # pixels: holes in an overlay up to this size belong to it


def shrink(image: UInt8[np.ndarray, "height width 3"]) -> Float32[np.ndarray, "rows columns"]:
    """Return an RGB image as `overlay_mask` compares it: gray, small and slightly blurred."""
    height, width = image.shape[:2]
    scale = min(1.0, LONG_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    gray = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(gray, (0, 0), 0.8).astype(np.float32)


def overlay_mask(
    images: Sequence[Float32[np.ndarray, "rows columns"]], *, width: int, height: int
) -> Bool[np.ndarray, "height width"] | None:
    """Find what stands still in at least 8 successive images while the picture around it moves.

    An overlay is a group of edges of several directions whose gradient stays the same while most edges around it
    change. Of a picture that hardly moves, nothing is said.

    Args:
        images: Images of a clip in the order of time, as `shrink` returns them.
        width: Width of the mask in pixels.
        height: Height of the mask in pixels.

    Returns:
        One mask for all images, with a margin; None if there is no overlay.
    """
    if len(images) > MAX_IMAGES:
        images = [images[round(place)] for place in np.linspace(0, len(images) - 1, MAX_IMAGES)]
    if len(images) < min(_WINDOWS):
        return None
    # With 1/8, gray levels per pixel.
    gradients = [
        np.stack([cv2.Sobel(image, cv2.CV_32F, dx, dy, scale=1 / 8) for image in images]) for dx, dy in ((1, 0), (0, 1))
    ]
    found = np.zeros(images[0].shape, np.uint8)
    for window in _windows(len(images)):
        is_whole = window.stop - window.start == len(images)
        for overlay in _standing(gradients[0][window], gradients[1][window], is_whole=is_whole):
            found |= overlay
    if not found.any():
        return None
    return cv2.resize(found, (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)


def _windows(num_images: int) -> Iterator[slice]:
    lengths = [length for length in _WINDOWS if length < num_images]
    starts = chain.from_iterable(
        ((start, length) for start in range(0, num_images - length + 1, length // 2)) for length in lengths
    )
    yield from (slice(start, start + length) for start, length in starts)
    yield slice(0, num_images)


def _standing(
    gradient_x: Float32[np.ndarray, "image rows columns"],
    gradient_y: Float32[np.ndarray, "image rows columns"],
    *,
    is_whole: bool,
) -> Iterator[UInt8[np.ndarray, "rows columns"]]:
    """The overlays of one window."""
    magnitude = np.hypot(gradient_x, gradient_y).mean(axis=0)
    mean_x, mean_y = gradient_x.mean(axis=0), gradient_y.mean(axis=0)
    standing = np.hypot(mean_x, mean_y) / np.maximum(magnitude, 1e-3)
    edges = magnitude > _MIN_GRADIENT
    stands = edges & (standing > _STANDS)
    # Much text keeps the share of what moves low. Over a whole clip nothing else stands still by chance.
    moving = _share(standing < _MOVES[0], edges & ~stands if is_whole else edges)
    if moving < _MIN_MOVING or _share(stands, edges) > _MAX_STANDING:
        return
    corners = (stands & _has_directions(mean_x, mean_y)).astype(np.uint8)
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(_dilate(corners, _REACH[0]))
    for label, (left, top, width, height, _) in enumerate(boxes.tolist()):
        # A component and its surroundings.
        margin = _REACH[2]
        part = slice(max(0, top - margin), top + height + margin), slice(max(0, left - margin), left + width + margin)
        overlay = (labels[part] == label).astype(np.uint8)
        if label == 0 or (corners[part] & overlay).sum() < _MIN_PIXELS:
            continue
        around = (_dilate(overlay, _REACH[2]) > 0) & (_dilate(overlay, _REACH[1]) == 0)
        edges_around = edges[part] & around
        is_plain = edges_around.sum() < _MIN_EDGES_AROUND * around.sum()
        moving_around = moving if is_plain else _share(standing[part] < _MOVES[1], edges_around)
        if moving_around > _MIN_MOVING_AROUND:
            found = np.zeros(labels.shape, np.uint8)
            found[part] = cv2.morphologyEx(overlay, cv2.MORPH_CLOSE, np.ones((_FILL, _FILL), np.uint8))
            yield found


def _share(selected: np.ndarray, of: np.ndarray) -> float:
    return float((selected & of).sum() / max(of.sum(), 1))


def _has_directions(x: Float32[np.ndarray, "rows columns"], y: Float32[np.ndarray, "rows columns"]) -> np.ndarray:
    """Whether gradients around a pixel have more than one direction."""
    xx, yy, xy = (cv2.boxFilter(product, -1, (11, 11)) for product in (x * x, y * y, x * y))
    mean, root = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    return mean - root > _MIN_ISOTROPY * (mean + root)


def _dilate(mask: UInt8[np.ndarray, "rows columns"], side: int) -> UInt8[np.ndarray, "rows columns"]:
    return cv2.dilate(mask, np.ones((side, side), np.uint8))
