import pytest
import torch

from wnv.geometry.cameras import K_from_fov, crop_K, scale_K, zoom_K
from wnv.geometry.poses import random_se3
from wnv.geometry.rays import raymap
from wnv.geometry.resample import Window, cover_window

# (old height, old width, new height, new width): down, up, portrait to landscape and back, nothing to do.
SIZES = [(97, 131, 24, 36), (131, 97, 24, 36), (40, 31, 64, 96), (96, 120, 96, 64), (50, 40, 33, 40), (30, 44, 30, 44)]


def light(directions: torch.Tensor) -> torch.Tensor:
    """A smooth RGB function (0..1) of the world ray direction, channels first."""
    frequencies = torch.tensor([[2.1, -1.3, 0.7], [0.4, 2.6, 1.1], [-1.7, 0.9, 2.2]], dtype=directions.dtype)
    return (0.5 + 0.4 * torch.sin(directions @ frequencies.T + 0.3)).movedim(-1, -3)


def render(K: torch.Tensor, camtoworld: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return light(raymap(K, camtoworld, height=height, width=width)[..., 3:])


def off_centre_K(height: int, width: int) -> torch.Tensor:
    K = K_from_fov(fov_y_deg=torch.tensor([50.0, 60.0, 70.0], dtype=torch.float64), width=width, height=height)
    return crop_K(scale_K(K, scale_x=1.1, scale_y=1.0), left=width / 20, top=-height / 15)


def resample(images: torch.Tensor, window: Window) -> torch.Tensor:
    """Float images (0..1) through bytes and back."""
    rows, columns = slice(window.top, window.bottom), slice(window.left, window.right)
    parts = [(255 * image[:, rows, columns]).round().byte().permute(1, 2, 0).contiguous() for image in images]
    return torch.stack([window.resample(part) for part in parts]).double() / 255


@pytest.mark.parametrize("zoom", [1.0, 1.7, 3.0])
@pytest.mark.parametrize(("old_height", "old_width", "height", "width"), SIZES)
def test_a_fitted_image_is_the_image_of_the_fitted_camera(generator, old_height, old_width, height, width, zoom):
    camtoworld = random_se3((3,), generator=generator, dtype=torch.float64)
    K = off_centre_K(old_height, old_width)
    window = cover_window(old_height, old_width, height=height, width=width, zoom=zoom)
    fitted = resample(render(K, camtoworld, old_height, old_width), window)
    assert fitted.shape == (3, 3, height, width)
    truth = render(window.fit_K(K), camtoworld, height, width)
    assert (fitted - truth).abs().max() < 3e-2
    # The shift that explains the difference best, per view, by the slopes of the image: under a sixteenth of the larger
    # of an old and a new pixel. The border is left out: there the filter has pixels on one side only.
    # (Most of the shift is the rounding to bytes, where a zoomed image has hardly any slope.)
    inner = (..., slice(3, -3), slice(3, -3))
    assert (fitted - truth)[inner].abs().max() < 1e-2
    slopes = torch.stack(torch.gradient(truth, dim=(-2, -1)))[inner].movedim(1, 0).flatten(2)
    difference = (fitted - truth)[inner].flatten(1)
    shift = torch.linalg.lstsq(slopes.mT, difference[..., None]).solution
    assert (shift.abs().amax(dim=(-1, -2)) < 0.06 * max(1, window.scale)).all()


@pytest.mark.parametrize("zoom", [1.0, 1.3, 2.9])
@pytest.mark.parametrize(("old_height", "old_width", "height", "width"), SIZES)
def test_K_is_scaled_cropped_and_zoomed_about_the_image_centre(old_height, old_width, height, width, zoom):
    K = off_centre_K(old_height, old_width)
    window = cover_window(old_height, old_width, height=height, width=width, zoom=zoom)
    new_K = window.fit_K(K)
    scale = max(height / old_height, width / old_width)
    scaled = scale_K(K, scale_x=scale, scale_y=scale)
    cropped = crop_K(scaled, left=(old_width * scale - width) / 2, top=(old_height * scale - height) / 2)
    expected = zoom_K(cropped, zoom=torch.full((3,), zoom, dtype=torch.float64), width=width, height=height)
    torch.testing.assert_close(new_K[:, :2, :2], expected[:, :2, :2], rtol=1e-12, atol=0)
    # At most half an old pixel off the centre.
    assert ((new_K - expected)[:, :2, 2].abs() <= 0.5 * window.scale + 1e-6).all()


def test_a_window_lies_within_the_image_and_is_as_large_as_asked(generator):
    for old in range(5, 60, 3):
        for size in range(1, 90, 7):
            for zoom in (1, 1.01, 1.37, 2, 5):
                window = cover_window(old, 2 * old + 1, height=size, width=size + 3, zoom=zoom)
                assert 0 <= window.left < window.right <= 2 * old + 1
                assert 0 <= window.top < window.bottom <= old
                part = torch.zeros(window.bottom - window.top, window.right - window.left, 3, dtype=torch.uint8)
                assert window.resample(part).shape == (3, size, size + 3)


def test_a_crop_copies_pixels_also_where_the_margin_is_odd(generator):
    images, K = torch.randint(0, 256, (1, 3, 20, 31), generator=generator) / 255, torch.eye(3)
    window = cover_window(20, 31, height=20, width=20)
    assert window.box == (5, 0, 25, 20)
    torch.testing.assert_close(resample(images, window).float(), images[..., 5:25])
    assert window.fit_K(K).tolist() == [[1, 0, -5], [0, 1, 0], [0, 0, 1]]
    same = cover_window(20, 31, height=20, width=31)
    assert same.box == (0, 0, 31, 20)
    torch.testing.assert_close(resample(images, same).float(), images)
    assert torch.equal(same.fit_K(K), K)


def test_what_cannot_be_shown_is_rejected():
    for zoom in (0.5, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="zoom must be at least 1"):
            cover_window(8, 12, height=4, width=4, zoom=zoom)
    with pytest.raises(ValueError, match="image size must be positive, got height 4 and width 0"):
        cover_window(8, 12, height=4, width=0)
