import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wnv.scenes.undistort import (
    Distortion,
    distort,
    pinhole_without_borders,
    undistort_image,
    undistortion_maps,
)

_WIDTH, _HEIGHT = 96, 64


def _coefficient(limit: float) -> st.SearchStrategy[float]:
    return st.floats(-limit, limit, allow_nan=False)


@settings(max_examples=12)
@given(
    focal=st.floats(60.0, 200.0),
    aspect=st.floats(0.9, 1.1),
    centre=st.tuples(st.floats(-6.0, 6.0), st.floats(-6.0, 6.0)),
    k1=_coefficient(0.25),
    k2=_coefficient(0.05),
    p1=_coefficient(0.005),
    p2=_coefficient(0.005),
)
def test_every_pixel_comes_from_the_photograph_and_the_view_is_widest(
    focal: float, aspect: float, centre: tuple[float, float], k1: float, k2: float, p1: float, p2: float
) -> None:
    lens = Distortion(k1=k1, k2=k2, p1=p1, p2=p2)
    K = np.array([[focal, 0.0, 48 + centre[0]], [0.0, focal * aspect, 32 + centre[1]], [0.0, 0.0, 1.0]])
    new_K = pinhole_without_borders(K, lens, width=_WIDTH, height=_HEIGHT, where="here")
    np.testing.assert_array_equal(new_K[:2, 2], K[:2, 2])
    assert new_K[1, 1] / new_K[0, 0] == pytest.approx(aspect)
    map_x, map_y = undistortion_maps(K, lens, new_K, width=_WIDTH, height=_HEIGHT)
    margins = [map_x.min(), _WIDTH - 1 - map_x.max(), map_y.min(), _HEIGHT - 1 - map_y.max()]
    assert min(margins) >= -1e-4
    # The view is the widest, unless a wider one would reach where the lens folds the image.
    pixels = np.array([[x, y] for x in (0.5, _WIDTH - 0.5) for y in (0.5, _HEIGHT - 0.5)])
    corners = (pixels - K[:2, 2]) / new_K[[0, 1], [0, 1]]
    if np.linalg.norm(corners, axis=-1).max() < lens.max_radius * (1 - 1e-6):
        assert min(margins) < 1e-4


def test_the_maps_are_the_lens() -> None:
    lens = Distortion(k1=-0.2, k2=0.03, p1=0.002, p2=-0.001, k3=0.01)
    K = np.array([[90.0, 0.0, 50.0], [0.0, 88.0, 30.0], [0.0, 0.0, 1.0]])
    new_K = pinhole_without_borders(K, lens, width=_WIDTH, height=_HEIGHT, where="here")
    map_x, map_y = undistortion_maps(K, lens, new_K, width=_WIDTH, height=_HEIGHT)
    pixel = np.array([[70.5, 11.5]])
    found = distort((pixel - new_K[:2, 2]) / new_K[[0, 1], [0, 1]], K, lens)[0]
    np.testing.assert_allclose([map_x[11, 70] + 0.5, map_y[11, 70] + 0.5], found, atol=1e-4)


def test_a_lens_without_distortion_keeps_the_image() -> None:
    assert not Distortion()
    assert Distortion(p2=1e-9)
    K = np.array([[90.0, 0.0, 50.0], [0.0, 88.0, 30.0], [0.0, 0.0, 1.0]])
    new_K = pinhole_without_borders(K, Distortion(), width=_WIDTH, height=_HEIGHT, where="here")
    np.testing.assert_allclose(new_K, K, rtol=1e-8)
    image = np.random.default_rng(0).integers(0, 255, (_HEIGHT, _WIDTH, 3), dtype=np.uint8)
    maps = undistortion_maps(K, Distortion(), new_K, width=_WIDTH, height=_HEIGHT)
    assert np.abs(undistort_image(image, maps).astype(int) - image).max() <= 1


def test_the_radius_at_which_the_lens_folds() -> None:
    assert Distortion(k1=0.1).max_radius == float("inf")
    assert Distortion(k1=-1 / 3).max_radius == pytest.approx(1.0)
    radius = Distortion(k1=-0.3, k2=0.01, k3=-0.002).max_radius
    r = np.linspace(0, radius, 1000)
    assert (np.diff(r - 0.3 * r**3 + 0.01 * r**5 - 0.002 * r**7) > 0).all()


def test_coefficients_that_fold_the_image_are_rejected() -> None:
    K = np.array([[90.0, 0.0, 48.0], [0.0, 90.0, 32.0], [0.0, 0.0, 1.0]])
    with pytest.raises(ValueError, match=r"room, frame 3: .*k1=-90"):
        pinhole_without_borders(K, Distortion(k1=-90.0), width=_WIDTH, height=_HEIGHT, where="room, frame 3")
