import torch

from wnv.geometry.cameras import project
from wnv.geometry.poses import invert_se3
from wnv.geometry.rays import camera_rays, pixel_centers, plucker, raymap

EXACT = {"rtol": 0, "atol": 1e-10}


def test_pixel_centers_are_x_y_at_half():
    centers = pixel_centers(height=2, width=3)
    assert centers.shape == (2, 3, 2)
    assert centers[0, 0].tolist() == [0.5, 0.5]
    assert centers[1, 2].tolist() == [2.5, 1.5]


def test_camera_rays_lead_through_their_pixels(cameras):
    rays = camera_rays(cameras.K, height=cameras.height, width=cameras.width)
    assert rays.shape == (5, 30, 44, 3)
    torch.testing.assert_close(rays[..., 2], torch.ones_like(rays[..., 2]), **EXACT)
    pixels, _ = project(rays.flatten(1, 2) * 3, cameras.K, torch.eye(4, dtype=torch.float64))
    centers = pixel_centers(height=30, width=44, dtype=torch.float64).flatten(0, 1)
    torch.testing.assert_close(pixels, centers.expand(5, -1, 2), **EXACT)


def test_points_along_the_raymap_project_to_pixel_centres(cameras):
    origin, direction = raymap(cameras.K, cameras.camtoworld, height=30, width=44).flatten(1, 2).split(3, dim=-1)
    torch.testing.assert_close(direction.norm(dim=-1), torch.ones(5, 30 * 44, dtype=torch.float64), **EXACT)
    centers = pixel_centers(height=30, width=44, dtype=torch.float64).flatten(0, 1).expand(5, -1, 2)
    for distance in (0.5, 40.0):
        pixels, depth = project(origin + distance * direction, cameras.K, invert_se3(cameras.camtoworld))
        torch.testing.assert_close(pixels, centers, rtol=0, atol=1e-9)
        assert (depth > 0).all()


def test_plucker_moment_is_that_of_any_point_on_the_ray(cameras):
    moment, direction = plucker(cameras.K, cameras.camtoworld, height=30, width=44).split(3, dim=-1)
    origin, same_direction = raymap(cameras.K, cameras.camtoworld, height=30, width=44).split(3, dim=-1)
    assert torch.equal(direction, same_direction)
    for distance in (0.0, 2.5, -7.0):
        point = origin + distance * direction
        torch.testing.assert_close(torch.linalg.cross(point, direction), moment, **EXACT)
    torch.testing.assert_close((moment * direction).sum(-1), torch.zeros(5, 30, 44, dtype=torch.float64), **EXACT)


def test_rays_take_batches_and_keep_precision_under_autocast(cameras):
    single = cameras.to(torch.float32)
    batched = plucker(single.K.expand(2, 5, 3, 3), single.camtoworld.expand(2, 5, 4, 4), height=6, width=8)
    assert batched.shape == (2, 5, 6, 8, 6)
    assert batched.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = plucker(single.K, single.camtoworld, height=6, width=8)
    assert torch.equal(inside, batched[1])
