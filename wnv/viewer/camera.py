"""The camera of a browser window, and how a rendered image covers the window."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from wnv.geometry.poses import make_se3
from wnv.geometry.quaternions import matrix_from_quaternion
from wnv.types import Cameras


@dataclass(frozen=True)
class WindowCamera:
    """A camera that fills a window, in OpenCV axes, with its principal point in the middle.

    Attributes:
        camtoworld: world<-camera, float64, in the world that the viewer shows.
        fov_y: Vertical field of view, radians in (0, pi).
        aspect: Width divided by height.
    """

    camtoworld: Float[Tensor, "4 4"]
    fov_y: float
    aspect: float

    def pinhole(self, *, height: int = 100) -> Cameras:
        """The camera with a batch axis `view`, for images of `height` pixels."""
        width = max(1, round(height * self.aspect))
        focal = height / 2 / math.tan(self.fov_y / 2)
        K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float64)
        return Cameras(K=K[None], camtoworld=self.camtoworld[None], width=width, height=height)


def window_camera(
    *, wxyz: Sequence[float | int], position: Sequence[float | int], fov_y: float | int, aspect: float | int
) -> WindowCamera:
    """Make a camera from viser's description.

    Args:
        wxyz: Quaternion of the rotation world<-camera, real part first, OpenCV axes.
        position: Camera centre in the world.
        fov_y: Vertical field of view, radians.
        aspect: Width divided by height.

    Raises:
        ValueError: If a number is not finite, or the field of view or the aspect is out of range.
    """
    numbers = [*map(float, wxyz), *map(float, position), float(fov_y), float(aspect)]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"a camera must be finite, got {numbers}")
    if not 0 < fov_y < math.pi or aspect <= 0:
        raise ValueError(f"a camera needs fov_y in (0, pi) and aspect > 0, got {float(fov_y)}, {float(aspect)}")
    rotation = matrix_from_quaternion(torch.tensor(numbers[:4], dtype=torch.float64))
    camtoworld = make_se3(rotation, torch.tensor(numbers[4:7], dtype=torch.float64))
    return WindowCamera(camtoworld=camtoworld, fov_y=float(fov_y), aspect=float(aspect))


MAX_WIDENING = 1.25
"""Largest factor by which an image sees more than the window's field of view asks for, see `frame_window`."""


@dataclass(frozen=True)
class Framing:
    """How an image of the model's size covers a window of a different shape.

    Attributes:
        K: Intrinsics of the whole image in pixels, float64.
        rows: Rows that the window shows, centered.
        columns: Columns that the window shows, centered.
        border: Columns of the window on either side of the image, in image pixels.
    """

    K: Float[Tensor, "3 3"]
    rows: slice
    columns: slice
    border: int = 0


def frame_window(camera: WindowCamera, *, height: int, width: int) -> Framing:
    """Find the camera whose image of `height` x `width` pixels covers the window.

    A model renders best at the image size and field of view that it was trained with, regardless of the window's shape.
    What exceeds the window is cropped. A window that is wider than the image would need a wider field of view, which
    renders as fog: it is at most `MAX_WIDENING` times that of the photographs, and the rest of the window stays empty.
    The crop fills the window exactly, so its pixels are only square up to rounding.
    """
    border = 0
    if camera.aspect >= width / height:
        shown_height = max(width / camera.aspect, height / MAX_WIDENING)
        rows, columns = _centred(height, shown_height), slice(0, width)
        border = max(0, round(((rows.stop - rows.start) * camera.aspect - width) / 2))
    else:
        rows, columns = slice(0, height), _centred(width, height * camera.aspect)
    half = math.tan(camera.fov_y / 2)
    focal_y = (rows.stop - rows.start) / (2 * half)
    focal_x = (columns.stop - columns.start + 2 * border) / (2 * half * camera.aspect)
    K = torch.tensor([[focal_x, 0, width / 2], [0, focal_y, height / 2], [0, 0, 1]], dtype=torch.float64)
    return Framing(K=K, rows=rows, columns=columns, border=border)


def vertical_fov(cameras: Cameras) -> Float[Tensor, "*batch"]:
    """Compute the vertical field of view in radians."""
    return 2 * torch.atan(cameras.height / (2 * cameras.K[..., 1, 1]))


def _centred(length: int, wanted: float) -> slice:
    """About `wanted` of `length` pixels, centered."""
    margin = min(round((length - wanted) / 2), (length - 1) // 2)
    return slice(margin, length - margin)
