import pytest
import torch

from wnv.geometry.cameras import K_from_fov, crop_K, project, scale_K, unproject, zoom_K
from wnv.geometry.poses import random_se3
from wnv.geometry.rays import pixel_centers, raymap
from wnv.geometry.resample import fit_images

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


@pytest.mark.parametrize("zoom", [1.0, torch.tensor([1.0, 1.7, 3.0])])
@pytest.mark.parametrize(("old_height", "old_width", "height", "width"), SIZES)
def test_a_fitted_image_is_the_image_of_the_fitted_camera(generator, old_height, old_width, height, width, zoom):
    camtoworld = random_se3((3,), generator=generator, dtype=torch.float64)
    K = off_centre_K(old_height, old_width)
    images = render(K, camtoworld, old_height, old_width)
    fitted, new_K = fit_images(images, K, height=height, width=width, zoom=zoom)
    assert fitted.shape == (3, 3, height, width)
    truth = render(new_K, camtoworld, height, width)
    assert (fitted - truth).abs().max() < 1e-2
    # The shift that explains the difference best, per view, by the slopes of the image: under a fiftieth of the larger
    # of an old and a new pixel. The border is left out: there the filter has pixels on one side only.
    inner = (..., slice(3, -3), slice(3, -3))
    slopes = torch.stack(torch.gradient(truth, dim=(-2, -1)))[inner].movedim(1, 0).flatten(2)
    difference = (fitted - truth)[inner].flatten(1)
    shift = torch.linalg.lstsq(slopes.mT, difference[..., None]).solution
    scale = torch.as_tensor(zoom).expand(3) * max(height / old_height, width / old_width)
    assert (shift.abs().amax(dim=(-1, -2)) < 0.02 * scale.clamp_min(1)).all()


@pytest.mark.parametrize("zoom", [1, 1.5])
@pytest.mark.parametrize(("old_height", "old_width", "height", "width"), SIZES)
def test_a_spot_is_found_where_its_point_projects(generator, old_height, old_width, height, width, zoom):
    """Draw a spot where a world point projects; after fitting, its centroid lies where the new K projects the point."""
    camtoworld = random_se3((3,), generator=generator, dtype=torch.float64)
    K = off_centre_K(old_height, old_width)
    spot = torch.tensor([[[old_width * 0.49, old_height * 0.52]]], dtype=torch.float64).expand(3, 1, 2)
    points = unproject(spot, torch.full((3, 1), 2.0, dtype=torch.float64), K, camtoworld)
    scale = zoom * max(height / old_height, width / old_width)
    radius = 1.5 * max(1, 1 / scale)
    squared = (pixel_centers(height=old_height, width=old_width, dtype=torch.float64) - spot[0]).square().sum(-1)
    images = torch.exp(-squared / (2 * radius**2)).expand(3, 3, -1, -1)
    fitted, new_K = fit_images(images, K, height=height, width=width, zoom=zoom)
    weights = fitted[:, 0, :, :, None] / fitted[:, 0].sum(dim=(-1, -2))[:, None, None, None]
    centroid = (weights * pixel_centers(height=height, width=width, dtype=torch.float64)).sum(dim=(1, 2))
    expected, _ = project(points, new_K, torch.linalg.inv(camtoworld))
    torch.testing.assert_close(centroid, expected[:, 0], rtol=0, atol=0.02)


@pytest.mark.parametrize(("old_height", "old_width", "height", "width"), SIZES[:3])
def test_K_is_scaled_cropped_and_zoomed_about_the_image_centre(old_height, old_width, height, width):
    K = off_centre_K(old_height, old_width)
    zoom = torch.tensor([1.0, 1.3, 2.9], dtype=torch.float64)
    _, new_K = fit_images(
        torch.zeros(3, 3, old_height, old_width, dtype=torch.float64), K, height=height, width=width, zoom=zoom
    )
    scale = max(height / old_height, width / old_width)
    scaled = scale_K(K, scale_x=scale, scale_y=scale)
    cropped = crop_K(scaled, left=(old_width * scale - width) / 2, top=(old_height * scale - height) / 2)
    expected = zoom_K(cropped, zoom=zoom, width=width, height=height)
    torch.testing.assert_close(new_K, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("height", "width"), [(16, 24), (128, 192)])
def test_plain_resizing_equals_torch(generator, height, width):
    images = torch.rand(2, 3, 64, 96, generator=generator)
    fitted, _ = fit_images(images, torch.eye(3).expand(2, 3, 3), height=height, width=width)
    expected = torch.nn.functional.interpolate(images, size=(height, width), mode="bilinear", antialias=True)
    torch.testing.assert_close(fitted, expected, rtol=0, atol=2e-6)


def test_a_crop_copies_pixels_also_where_the_margin_is_odd(generator):
    images, K = torch.rand(1, 3, 20, 31, generator=generator), torch.eye(3)[None]
    fitted, new_K = fit_images(images, K, height=20, width=20)
    assert torch.equal(fitted, images[..., 5:25])
    assert new_K[0].tolist() == [[1, 0, -5], [0, 1, 0], [0, 0, 1]]
    same, same_K = fit_images(images, K, height=20, width=31)
    assert torch.equal(same, images)
    assert torch.equal(same_K, K)


def test_values_stay_in_range_and_constant_images_constant(generator):
    images = torch.rand(2, 3, 33, 47, generator=generator).round()
    fitted, _ = fit_images(images, torch.eye(3).expand(2, 3, 3), height=16, width=40, zoom=1.37)
    assert fitted.min() >= 0
    assert fitted.max() <= 1 + 1e-6
    constant, _ = fit_images(torch.full((1, 3, 33, 47), 0.3), torch.eye(3)[None], height=16, width=40, zoom=1.37)
    torch.testing.assert_close(constant, torch.full((1, 3, 16, 40), 0.3))


def test_batches_of_any_depth_and_autocast_give_the_same(generator):
    images, K = torch.rand(2, 3, 3, 20, 31, generator=generator), torch.eye(3).expand(2, 3, 3, 3)
    zoom = 1 + torch.rand(2, 3, generator=generator)
    together, together_K = fit_images(images, K, height=8, width=16, zoom=zoom)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        alone, alone_K = fit_images(images[1, 2], K[1, 2], height=8, width=16, zoom=zoom[1, 2])
    torch.testing.assert_close(together[1, 2], alone)
    torch.testing.assert_close(together_K[1, 2], alone_K)


def test_fit_images_refuses_what_it_cannot_show():
    images, K = torch.zeros(1, 3, 8, 12), torch.eye(3)[None]
    for zoom in (0.5, float("nan"), torch.tensor([0.99])):
        with pytest.raises(ValueError, match="zoom must be at least 1"):
            fit_images(images, K, height=4, width=4, zoom=zoom)
    with pytest.raises(ValueError, match="image size must be positive, got height 4 and width 0"):
        fit_images(images, K, height=4, width=0)
