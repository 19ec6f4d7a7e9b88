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


@dataclass(frozen=True)
class Framing:
    """How an image of the model's size covers a window of a different shape.

    Attributes:
        K: Intrinsics of the whole image in pixels, float64.
        rows: Rows that the window shows, centred.
        columns: Columns that the window shows, centred.
    """

    K: Float[Tensor, "3 3"]
    rows: slice
    columns: slice


def frame_window(camera: WindowCamera, *, height: int, width: int) -> Framing:
    """Find the smallest field of view whose image of `height` x `width` pixels covers the window.

    A model renders best at the image size that it was trained with, regardless of the window's shape; what exceeds the
    window is cropped. The crop fills the window exactly, so its pixels are only square up to rounding.
    """
    if camera.aspect >= width / height:
        rows, columns = _centred(height, width / camera.aspect), slice(0, width)
    else:
        rows, columns = slice(0, height), _centred(width, height * camera.aspect)
    half = math.tan(camera.fov_y / 2)
    focal_y = (rows.stop - rows.start) / (2 * half)
    focal_x = (columns.stop - columns.start) / (2 * half * camera.aspect)
    K = torch.tensor([[focal_x, 0, width / 2], [0, focal_y, height / 2], [0, 0, 1]], dtype=torch.float64)
    return Framing(K=K, rows=rows, columns=columns)


def vertical_fov(cameras: Cameras) -> Float[Tensor, "*batch"]:
    """Compute the vertical field of view in radians."""
    return 2 * torch.atan(cameras.height / (2 * cameras.K[..., 1, 1]))


def _centred(length: int, wanted: float) -> slice:
    """About `wanted` of `length` pixels, centred."""
    margin = min(round((length - wanted) / 2), (length - 1) // 2)
    return slice(margin, length - margin)
