"""The camera in a browser's window, and the picture that the model draws for it."""

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
    """A camera that fills a window of any shape, in OpenCV axes; its principal point is the window's middle.

    Attributes:
        camtoworld: world<-camera, float64, in the world that the window shows.
        fov_y: Vertical field of view of the window, radians in (0, pi).
        aspect: Width of the window divided by its height.
    """

    camtoworld: Float[Tensor, "4 4"]
    fov_y: float
    aspect: float


def window_camera(
    *,
    wxyz: Sequence[float | int],
    position: Sequence[float | int],
    fov_y: float | int,
    aspect: float | int,
) -> WindowCamera:
    """The camera as viser tells it.

    Args:
        wxyz: Quaternion of the rotation world<-camera, real part first, OpenCV axes.
        position: Centre of the camera in the world.
        fov_y: Vertical field of view, radians.
        aspect: Width divided by height.

    Raises:
        ValueError: If a number is not finite, or the field of view or the aspect is out of its range.
    """
    numbers = [*map(float, wxyz), *map(float, position), float(fov_y), float(aspect)]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"a camera must be finite, got {numbers}")
    if not 0 < fov_y < math.pi or aspect <= 0:
        raise ValueError(
            f"a camera needs a field of view in (0, pi) and a positive aspect, got {float(fov_y)}, {float(aspect)}"
        )
    rotation = matrix_from_quaternion(torch.tensor(numbers[:4], dtype=torch.float64))
    return WindowCamera(
        camtoworld=make_se3(rotation, torch.tensor(numbers[4:7], dtype=torch.float64)),
        fov_y=float(fov_y),
        aspect=float(aspect),
    )


@dataclass(frozen=True)
class Framing:
    """How a picture of the size that a model draws covers a window of another shape.

    Attributes:
        K: Intrinsics of the whole picture, in its pixels; float64.
        rows: Rows that the window shows, from the middle of the picture.
        columns: Columns that the window shows.
    """

    K: Float[Tensor, "3 3"]
    rows: slice
    columns: slice


def frame_window(camera: WindowCamera, *, height: int, width: int) -> Framing:
    """The smallest field of view whose picture of `height` and `width` pixels covers the window.

    A model draws best at the picture size that it has learned, whatever the shape of the window. What sticks out of
    the window is cut off. The pixels that are left fill it exactly: they are off square by what rounding takes.
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
    """Field of view of cameras from the top to the bottom of their image, radians."""
    return 2 * torch.atan(cameras.height / (2 * cameras.K[..., 1, 1]))


def _centred(length: int, wanted: float) -> slice:
    """About `wanted` of `length` pixels, as many missing on both sides."""
    missing = min(round((length - wanted) / 2), (length - 1) // 2)
    return slice(missing, length - missing)
