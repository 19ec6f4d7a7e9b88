"""Removes lens distortion: the camera becomes a pinhole of the same image size."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8
from typing_extensions import override

MAX_FISHEYE_FOV_DEG = 110.0
"""Default width of the pinhole that a fisheye image becomes, degrees; pixels at its border are stretched threefold."""

MAX_ZOOM = 4.0
"""Largest zoom that removes black borders; coefficients that need more are wrong."""

PixelMaps = tuple[Float32[np.ndarray, "height width"], Float32[np.ndarray, "height width"]]
"""Source coordinates x and y per pixel of a new image, in OpenCV's convention (center of the first pixel at 0)."""


@dataclass(frozen=True)
class Distortion:
    """Radial and tangential (Brown) distortion, as in OpenCV and COLMAP's OPENCV model.

    With normalized image coordinates (x, y) and r^2 = x^2 + y^2, the distorted point is
    `x (1 + k1 r^2 + k2 r^4 + k3 r^6) + 2 p1 x y + p2 (r^2 + 2 x^2)`, and likewise for y.
    """

    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0
    k3: float = 0.0

    def __bool__(self) -> bool:
        """Whether any coefficient is not zero."""
        return any((self.k1, self.k2, self.p1, self.p2, self.k3))

    @property
    def coefficients(self) -> Float64[np.ndarray, "5"]:
        """Coefficients in OpenCV's order."""
        return np.array([self.k1, self.k2, self.p1, self.p2, self.k3], dtype=np.float64)

    @property
    def max_radius(self) -> float:
        """Radius in normalized coordinates up to which the distortion is invertible."""
        roots = np.roots([7 * self.k3, 5 * self.k2, 3 * self.k1, 1.0])
        turning = [root.real for root in roots if abs(root.imag) < 1e-12 and root.real > 0]
        return float(np.sqrt(min(turning))) if turning else float("inf")


@dataclass(frozen=True)
class RationalDistortion(Distortion):
    """Distortion whose radial factor is divided by `1 + k4 r^2 + k5 r^4 + k6 r^6`: OpenCV's, COLMAP's FULL_OPENCV."""

    k4: float = 0.0
    k5: float = 0.0
    k6: float = 0.0

    def __bool__(self) -> bool:
        return super().__bool__() or any((self.k4, self.k5, self.k6))

    @property
    @override
    def coefficients(self) -> Float64[np.ndarray, "8"]:
        return np.array([*super().coefficients, self.k4, self.k5, self.k6])

    @property
    @override
    def max_radius(self) -> float:
        radius = np.linspace(0, 10, 10_001)
        powers = radius[:, None] ** [2, 4, 6]
        below = 1 + powers @ [self.k4, self.k5, self.k6]
        distorted = radius * (1 + powers @ [self.k1, self.k2, self.k3]) / below
        return _first_fold(radius, distorted, below > 0)


@dataclass(frozen=True)
class FisheyeDistortion:
    """Equidistant fisheye lens (Kannala and Brandt 2006), as in OpenCV and COLMAP's OPENCV_FISHEYE.

    A ray at angle t from the axis is `t (1 + k1 t^2 + k2 t^4 + k3 t^6 + k4 t^8)` focal lengths from the center.
    """

    k1: float = 0.0
    k2: float = 0.0
    k3: float = 0.0
    k4: float = 0.0

    def __bool__(self) -> bool:
        """Always true: without coefficients it is no pinhole either."""
        return True

    @property
    def coefficients(self) -> Float64[np.ndarray, "4"]:
        """Coefficients in OpenCV's order."""
        return np.array([self.k1, self.k2, self.k3, self.k4], dtype=np.float64)

    @property
    def max_radius(self) -> float:
        """Radius in normalized coordinates up to which the lens is invertible and in front of the camera."""
        theta = np.linspace(0, math.radians(89.5), 9_001)
        distorted = theta * (1 + theta[:, None] ** [2, 4, 6, 8] @ self.coefficients)
        return _first_fold(np.tan(theta), distorted, np.ones_like(theta, dtype=bool))


AnyDistortion: TypeAlias = Distortion | FisheyeDistortion


def _first_fold(
    radius: Float64[np.ndarray, " n"], distorted: Float64[np.ndarray, " n"], is_valid: Bool[np.ndarray, " n"]
) -> float:
    """The radius up to which the distorted radius grows; infinite if it grows to the last one."""
    folds = np.flatnonzero(~is_valid[1:] | (np.diff(distorted) <= 0))
    return float(radius[folds[0]]) if len(folds) else float(radius[-1])


def pinhole_without_borders(
    K: Float64[np.ndarray, "3 3"],
    distortion: AnyDistortion,
    *,
    width: int,
    height: int,
    where: str,
    max_fov_deg: float | int = MAX_FISHEYE_FOV_DEG,
) -> Float64[np.ndarray, "3 3"]:
    """Compute the widest pinhole camera whose undistorted image has no black borders.

    Size, principal point and pixel shape stay. The focal length is multiplied by the smallest zoom for which the border
    of the new image lies in the photograph (like OpenCV's `alpha=0`, which also stretches pixels).

    Args:
        K: Intrinsics of the photograph, in pixels; the center of the first pixel is (0.5, 0.5).
        distortion: The lens.
        width: Width in pixels.
        height: Height in pixels.
        where: File and frame, for the message.
        max_fov_deg: Largest field of view along the wider side that a fisheye image is given, degrees.

    Raises:
        ValueError: If no zoom up to `MAX_ZOOM` fits, so the coefficients cannot be right.
    """
    zoom = _zoom_without_borders(K.tobytes(), distortion, width, height)
    if zoom is None:
        raise ValueError(
            f"{where}: {distortion} cannot be removed from a {width} x {height} image with focal length {K[0, 0]:g}, "
            "since the lens would fold the image; check the coefficients and their order"
        )
    if isinstance(distortion, FisheyeDistortion):
        focal = K[0, 0] if width >= height else K[1, 1]
        zoom = max(zoom, max(width, height) / 2 / math.tan(math.radians(max_fov_deg) / 2) / focal)
    result = K.copy()
    result[[0, 1], [0, 1]] *= zoom
    return result


@lru_cache(maxsize=1024)  # most captures have one lens
def _zoom_without_borders(K_bytes: bytes, distortion: AnyDistortion, width: int, height: int) -> float | None:
    """Smallest such zoom, to one part in 10^9 by bisection; None if there is none up to `MAX_ZOOM`."""
    K = np.frombuffer(K_bytes, dtype=np.float64).reshape(3, 3)

    def fits(zoom: float) -> bool:
        x = np.arange(width) + 0.5
        y = np.arange(height) + 0.5
        border = np.concatenate(
            [
                np.stack([x, np.full(width, 0.5)], axis=-1),
                np.stack([x, np.full(width, height - 0.5)], axis=-1),
                np.stack([np.full(height, 0.5), y], axis=-1),
                np.stack([np.full(height, width - 0.5), y], axis=-1),
            ]
        )
        rays = (border - K[:2, 2]) / (zoom * np.array([K[0, 0], K[1, 1]]))
        if np.linalg.norm(rays, axis=-1).max() >= distortion.max_radius:
            return False
        source = distort(rays, K, distortion)
        return bool((source >= 0.5).all() and (source <= np.array([width - 0.5, height - 0.5])).all())

    inner = 1.0
    while not fits(inner):
        inner *= 1.25
        if inner > MAX_ZOOM:
            return None
    outer = inner / 1.25
    while fits(outer) and outer > 1 / MAX_ZOOM:
        inner, outer = outer, outer / 1.25
    while inner - outer > 1e-9:
        middle = (inner + outer) / 2
        inner, outer = (middle, outer) if fits(middle) else (inner, middle)
    return inner


def distort(
    rays: Float64[np.ndarray, "point 2"], K: Float64[np.ndarray, "3 3"], distortion: AnyDistortion
) -> Float64[np.ndarray, "point 2"]:
    """Project rays (x, y, 1) through the lens to pixels; the center of the first pixel is 0.5."""
    points = np.concatenate([rays, np.ones((len(rays), 1))], axis=-1)
    still = np.zeros(3)
    if isinstance(distortion, FisheyeDistortion):
        pixels, _ = cv2.fisheye.projectPoints(points[:, None], still, still, _opencv_K(K), distortion.coefficients)
        return pixels.reshape(-1, 2) + 0.5
    pixels, _ = cv2.projectPoints(points, still, still, _opencv_K(K), distortion.coefficients)
    return pixels.reshape(-1, 2) + 0.5


def undistortion_maps(
    K: Float64[np.ndarray, "3 3"],
    distortion: AnyDistortion,
    new_K: Float64[np.ndarray, "3 3"],
    *,
    width: int,
    height: int,
) -> PixelMaps:
    """Compute the source coordinates in the photograph per pixel of the undistorted image."""
    if isinstance(distortion, FisheyeDistortion):
        map_x, map_y = cv2.fisheye.initUndistortRectifyMap(
            _opencv_K(K), distortion.coefficients, np.eye(3), _opencv_K(new_K), (width, height), cv2.CV_32FC1
        )
        return map_x, map_y
    map_x, map_y = cv2.initUndistortRectifyMap(
        _opencv_K(K), distortion.coefficients, None, _opencv_K(new_K), (width, height), cv2.CV_32FC1
    )
    return map_x, map_y


def undistort_image(
    image: UInt8[np.ndarray, "old_height old_width 3"],
    maps: PixelMaps,
) -> UInt8[np.ndarray, "height width 3"]:
    """Undistort an image (bicubic); crops of both maps return a crop of it."""
    return cv2.remap(image, *maps, interpolation=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _opencv_K(K: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, "3 3"]:
    """Convert `K` to OpenCV's convention, where the center of the first pixel is (0, 0)."""
    result = K.copy()
    result[:2, 2] -= 0.5
    return result
