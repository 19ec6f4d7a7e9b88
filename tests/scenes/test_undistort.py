import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wnv.scenes.undistort import (
    AnyDistortion,
    Distortion,
    FisheyeDistortion,
    RationalDistortion,
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


LENSES = [
    FisheyeDistortion(k1=0.03, k2=-0.01, k3=0.004, k4=-0.001),
    FisheyeDistortion(),
    RationalDistortion(k1=0.3, k2=0.05, p1=0.001, p2=-0.002, k3=0.01, k4=0.5, k5=0.08, k6=0.01),
]


@pytest.mark.parametrize("lens", LENSES)
def test_points_lie_where_the_pinhole_puts_them(lens: AnyDistortion) -> None:
    K = np.array([[200.0, 0.0, 322.0], [0.0, 201.0, 238.0], [0.0, 0.0, 1.0]])
    pinhole = pinhole_without_borders(K, lens, width=640, height=480, where="here", max_fov_deg=100)
    maps = undistortion_maps(K, lens, pinhole, width=640, height=480)
    pixels = np.random.default_rng(0).integers((1, 1), (639, 479), size=(200, 2))
    rays = (pixels + 0.5 - pinhole[:2, 2]) / np.diag(pinhole)[:2]
    found = np.stack([axis[pixels[:, 1], pixels[:, 0]] for axis in maps], axis=-1) + 0.5
    np.testing.assert_allclose(found, distort(rays, K, lens), atol=0.01)


def test_a_fisheye_becomes_a_pinhole_of_the_wanted_width() -> None:
    K = np.array([[200.0, 0.0, 320.0], [0.0, 200.0, 240.0], [0.0, 0.0, 1.0]])  # 183 degrees wide
    for fov_deg in (60.0, 110.0, 140.0):
        pinhole = pinhole_without_borders(
            K, FisheyeDistortion(), width=640, height=480, where="here", max_fov_deg=fov_deg
        )
        assert 2 * np.degrees(np.arctan(320 / pinhole[0, 0])) == pytest.approx(fov_deg)


@pytest.mark.parametrize(
    ("model", "lens"), [("OPENCV_FISHEYE", LENSES[0]), ("FISHEYE", LENSES[1]), ("FULL_OPENCV", LENSES[2])]
)
def test_lenses_are_those_of_colmap(model: str, lens: AnyDistortion) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    K = np.array([[200.0, 0.0, 322.0], [0.0, 201.0, 238.0], [0.0, 0.0, 1.0]])
    params = [200.0, 201.0, 322.0, 238.0, *(lens.coefficients if model != "FISHEYE" else [])]
    camera = pycolmap.Camera(model=model, width=640, height=480, params=params)
    rays = np.random.default_rng(0).uniform(-1, 1, (100, 2))
    expected = np.asarray(camera.img_from_cam(np.concatenate([rays, np.ones((100, 1))], axis=-1)))
    np.testing.assert_allclose(distort(rays, K, lens), expected, atol=1e-6)
