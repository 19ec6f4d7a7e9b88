import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from wnv.viewer.camera import frame_window, window_camera


def camera(*, fov_y=0.9, aspect=1.5):
    return window_camera(wxyz=(1, 0, 0, 0), position=(0, 0, 0), fov_y=fov_y, aspect=aspect)


def test_quaternions_follow_visers_convention():
    rotation = Rotation.from_euler("xyz", [0.3, -0.7, 1.1])
    taken = window_camera(
        wxyz=tuple(rotation.as_quat(scalar_first=True)), position=(1, 2, 3), fov_y=np.float64(1), aspect=2
    )
    assert torch.allclose(taken.camtoworld[:3, :3], torch.from_numpy(rotation.as_matrix()), atol=1e-12)
    assert taken.camtoworld[:, 3].tolist() == [1, 2, 3, 1]


@pytest.mark.parametrize("wrong", [{"fov_y": 0.0}, {"fov_y": 3.2}, {"fov_y": math.nan}, {"aspect": 0.0}])
def test_invalid_cameras(wrong):
    with pytest.raises(ValueError, match="camera"):
        camera(**wrong)


@pytest.mark.parametrize("aspect", [0.4, 0.6, 1.0, 1.777, 3.1])
@pytest.mark.parametrize(("height", "width"), [(40, 24), (24, 40), (64, 64)])
def test_the_image_and_its_borders_fill_the_window(height, width, aspect):
    window = camera(aspect=aspect)
    framing = frame_window(window, height=height, width=width)
    inverse = framing.K.inverse()
    half = math.tan(window.fov_y / 2)
    left, right = framing.columns.start - framing.border, framing.columns.stop + framing.border
    left_top = inverse @ torch.tensor([left, framing.rows.start, 1.0], dtype=torch.float64)
    right_bottom = inverse @ torch.tensor([right, framing.rows.stop, 1.0], dtype=torch.float64)
    assert left_top[:2].tolist() == pytest.approx([-half * aspect, -half])
    assert right_bottom[:2].tolist() == pytest.approx([half * aspect, half])
    # Pixels are square up to rounding, and the image sees little more than the window's field of view.
    num_rows = framing.rows.stop - framing.rows.start
    assert framing.K[0, 0] / framing.K[1, 1] == pytest.approx(1, abs=1 / min(num_rows, right - left))
    assert framing.rows == slice(0, height) or framing.columns == slice(0, width)
    assert num_rows >= height / 1.3
    assert framing.border == 0 or framing.columns == slice(0, width)
