import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wnv.geometry.cameras import (
    K_from_fov,
    crop_K,
    invert_K,
    normalize_K,
    project,
    scale_K,
    zoom_K,
)
from wnv.geometry.poses import invert_se3
from wnv.types import Cameras

EXACT = {"rtol": 0, "atol": 1e-10}


def test_K_from_fov_puts_the_image_border_at_half_the_angle():
    K = K_from_fov(fov_y_deg=torch.tensor([30.0, 90.0], dtype=torch.float64), width=40, height=20)
    assert K.dtype == torch.float64
    for angle, camera_K in zip((15, 45), K, strict=True):
        point = torch.tensor([[0, -math.tan(math.radians(angle)), 1.0]], dtype=torch.float64) * 3
        pixels, depth = project(point, camera_K, torch.eye(4, dtype=torch.float64))
        torch.testing.assert_close(pixels, torch.tensor([[20.0, 0.0]], dtype=torch.float64), **EXACT)
        assert depth.item() == 3
        assert camera_K[0, 0] == camera_K[1, 1]
    assert K_from_fov(fov_y_deg=50, width=4, height=3).dtype == torch.float32


@pytest.mark.parametrize("fov", [0, 180.0, -3, torch.tensor([40.0, float("nan")])])
def test_K_from_fov_rejects_impossible_angles(fov):
    with pytest.raises(ValueError, match="fov_y_deg must lie between 0 and 180 degrees"):
        K_from_fov(fov_y_deg=fov, width=4, height=3)


def test_invert_K_is_the_inverse(cameras):
    torch.testing.assert_close(invert_K(cameras.K), torch.linalg.inv(cameras.K), **EXACT)


def test_project_equals_the_written_out_formula(cameras):
    point = torch.tensor([0.3, -0.2, 4.0], dtype=torch.float64)
    for K, camtoworld in zip(cameras.K, cameras.camtoworld, strict=True):
        x, y, z = (torch.linalg.inv(camtoworld) @ torch.cat([point, point.new_ones(1)]))[:3]
        expected = torch.stack([K[0, 0] * x / z + K[0, 1] * y / z + K[0, 2], K[1, 1] * y / z + K[1, 2]])
        pixels, depth = project(point[None], K, invert_se3(camtoworld))
        torch.testing.assert_close(pixels[0], expected, **EXACT)
        torch.testing.assert_close(depth[0], z, **EXACT)


@settings(derandomize=True, deadline=None, max_examples=15)
@given(
    scale_x=st.floats(0.1, 8),
    scale_y=st.floats(0.1, 8),
    left=st.floats(-20, 20),
    top=st.floats(-20, 20),
    zoom=st.floats(0.5, 5),
    x=st.floats(0, 44),
    y=st.floats(0, 30),
)
def test_K_follows_pixels_through_scale_crop_and_zoom(scale_x, scale_y, left, top, zoom, x, y):
    K = torch.tensor([[40.0, 0.7, 21.0], [0, 35.0, 16.0], [0, 0, 1]], dtype=torch.float64)
    point = 2 * torch.linalg.inv(K) @ torch.tensor([x, y, 1], dtype=torch.float64)

    def pixel(new_K):
        return project(point[None], new_K, torch.eye(4, dtype=torch.float64))[0][0].tolist()

    assert pixel(scale_K(K, scale_x=scale_x, scale_y=scale_y)) == pytest.approx([x * scale_x, y * scale_y], abs=1e-9)
    assert pixel(crop_K(K, left=left, top=top)) == pytest.approx([x - left, y - top], abs=1e-9)
    zoomed = [22 + zoom * (x - 22), 15 + zoom * (y - 15)]
    assert pixel(zoom_K(K, zoom=zoom, width=44, height=30)) == pytest.approx(zoomed, abs=1e-9)
    assert pixel(normalize_K(K, width=44, height=30)) == pytest.approx([x / 44, y / 30], abs=1e-9)


def test_intrinsics_change_per_camera_and_in_place_of_nothing(cameras):
    before = cameras.K.clone()
    factors = torch.linspace(1, 3, 5, dtype=torch.float64)
    zoomed = zoom_K(cameras.K, zoom=factors, width=cameras.width, height=cameras.height)
    for index, factor in enumerate(factors.tolist()):
        one = zoom_K(cameras.K[index], zoom=factor, width=cameras.width, height=cameras.height)
        torch.testing.assert_close(zoomed[index], one, **EXACT)
    assert torch.equal(cameras.K, before)


def test_dtype_is_kept(cameras):
    single = cameras.to(torch.float32)
    for K in (
        scale_K(single.K, scale_x=2, scale_y=torch.ones(5, dtype=torch.float64)),
        crop_K(single.K, left=1, top=0.5),
        zoom_K(single.K, zoom=2, width=4, height=3),
        invert_K(single.K),
    ):
        assert K.dtype == torch.float32


def test_printed_cameras_show_shapes_not_values() -> None:
    cameras = Cameras(K=torch.eye(3).expand(50, 3, 3), camtoworld=torch.eye(4).expand(50, 4, 4), width=6, height=4)
    assert repr(cameras) == "Cameras(K=[50, 3, 3], camtoworld=[50, 4, 4], width=6, height=4)"
