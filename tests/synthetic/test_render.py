import dataclasses
from typing import NamedTuple

import pytest
import torch

from wnv.geometry.cameras import K_from_fov, project
from wnv.geometry.poses import invert_se3, is_rigid, look_at, make_se3
from wnv.geometry.rays import raymap
from wnv.synthetic.cameras import sample_cameras
from wnv.synthetic.places import sample_worlds
from wnv.synthetic.render import render_geometry, render_images
from wnv.synthetic.world import BOXES, CYLINDERS, OBJECTS, PANELS, ROOM, SPHERES, World, body_poses, move_points
from wnv.types import Cameras

HEIGHT, WIDTH = 40, 56


class Geometry(NamedTuple):
    depth: torch.Tensor
    object_ids: torch.Tensor
    points: torch.Tensor


def geometry(world: World, cameras: Cameras, times: torch.Tensor) -> Geometry:
    return Geometry(*render_geometry(world, cameras, times))


def sample_views(world: World, indices: list[int], **settings) -> tuple[Cameras, torch.Tensor]:
    settings = {"image_size": (HEIGHT, WIDTH), "num_context": 1, "num_target": 1, **settings}
    return sample_cameras(world, seed=0, indices=indices, epochs=[0] * len(indices), **settings)


def empty_world() -> World:
    """One large empty room, to which tests add objects."""
    world = sample_worlds(seed=0, indices=[0])
    centre, half = world.centre.clone(), world.half.clone()
    centre[:, PANELS.start :] = torch.tensor([0.0, 0.0, -200.0])
    half[:, ROOM] = torch.tensor([4.0, 5.0, 3.0])
    centre[:, ROOM] = torch.tensor([0.0, 0.0, 3.0])
    return dataclasses.replace(world, centre=centre, half=half)


def put(world: World, body: int, centre: list[float], half: list[float], rotation: torch.Tensor | None = None) -> World:
    centres, halves, rotations = world.centre.clone(), world.half.clone(), world.rotation.clone()
    centres[:, body], halves[:, body] = torch.tensor(centre), torch.tensor(half)
    rotations[:, body] = torch.eye(3) if rotation is None else rotation
    return dataclasses.replace(world, centre=centres, half=halves, rotation=rotations)


def camera(eye: list[float], target: list[float], *, width: int = WIDTH, height: int = HEIGHT) -> Cameras:
    K = K_from_fov(fov_y_deg=50.0, width=width, height=height)
    pose = look_at(torch.tensor(eye), torch.tensor(target), torch.tensor([0.0, 0.0, 1.0]))
    return Cameras(K=K[None, None], camtoworld=pose[None, None], width=width, height=height)


NOW = torch.zeros(1, 1)


def test_depth_of_a_sphere_is_the_analytic_one() -> None:
    body, centre, radius = SPHERES.start, [0.3, 0.4, 1.2], 0.7
    world = put(empty_world(), body, centre, [radius] * 3)
    view = camera([-2.5, -1.0, 1.7], [0.2, 0.3, 1.0])
    rendered = geometry(world, view, NOW)

    rays = raymap(view.K[0, 0].double(), view.camtoworld[0, 0].double(), height=HEIGHT, width=WIDTH)
    origin, direction = rays[..., :3], rays[..., 3:]
    arm = origin - torch.tensor(centre, dtype=torch.float64)
    b = (arm * direction).sum(-1)
    discriminant = b**2 - (arm**2).sum(-1) + radius**2
    # Silhouette rays aside, where a rounding decides.
    hit, miss = discriminant > 1e-4, discriminant < -1e-4
    assert hit.sum() > 100
    seen = rendered.object_ids[0, 0] == body
    assert seen[hit].all()
    assert not seen[miss].any()
    distance = -b - discriminant.clamp_min(0).sqrt()
    depth = distance * (direction @ view.camtoworld[0, 0, :3, 2].double())
    torch.testing.assert_close(rendered.depth[0, 0].double()[hit], depth[hit], rtol=1e-4, atol=1e-4)


def test_every_visible_point_lies_on_the_surface_of_its_body() -> None:
    indices = list(range(12))
    world = sample_worlds(seed=3, indices=indices, kind="dynamic")
    cameras, times = sample_views(world, indices)
    rendered = geometry(world, cameras, times)
    rotation, centre = body_poses(world, times)
    ids = rendered.object_ids.flatten(2)
    points = rendered.points.flatten(2, 3)
    index = ids[..., None].expand(-1, -1, -1, 3)
    to_body = (
        rotation.transpose(-1, -2).flatten(-2).gather(2, ids[..., None].expand(-1, -1, -1, 9)).unflatten(-1, (3, 3))
    )
    local = (to_body @ (points - centre.gather(2, index))[..., None]).squeeze(-1)
    half = world.half[:, None].expand(-1, 2, -1, -1).gather(2, index)
    flat = (local.abs() - half).amax(-1)
    radius = torch.linalg.vector_norm(local, dim=-1) - half[..., 0]
    to_side = torch.linalg.vector_norm(local[..., :2], dim=-1) - half[..., 0]
    cylinder = torch.maximum(to_side, local[..., 2].abs() - half[..., 2])
    off = torch.where(
        (ids >= SPHERES.start) & (ids < SPHERES.stop), radius, torch.where(ids >= CYLINDERS.start, cylinder, flat)
    )
    assert off.abs().max() < 2e-3
    assert off.abs().mean() < 1e-5
    assert set(ids.unique().tolist()) == set(range(OBJECTS.stop)), "some kind of body is never visible"


def test_points_project_to_their_pixel_centres() -> None:
    indices = [0, 1, 2]
    world = sample_worlds(seed=0, indices=indices)
    cameras, times = sample_views(world, indices, zoom_range=(1.0, 3.0))
    rendered = geometry(world, cameras, times)
    pixels, depth = project(rendered.points.flatten(2, 3), cameras.K, invert_se3(cameras.camtoworld))
    rows, columns = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    expected = torch.stack([columns, rows], dim=-1).flatten(0, 1).expand_as(pixels)
    torch.testing.assert_close(pixels, expected, rtol=0, atol=2e-3)
    torch.testing.assert_close(depth, rendered.depth.flatten(2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_a_point_looks_the_same_from_another_view(kind: str) -> None:
    """Reprojection with depth (and, where things move, their motion) finds the same depth and colour."""
    indices = list(range(4))
    world = sample_worlds(seed=1, indices=indices, kind=kind)
    textures = dataclasses.replace(world.textures, specular=torch.zeros_like(world.textures.specular))
    world = dataclasses.replace(world, textures=textures)
    # Moving things turn in a fixed light: their colour changes, so only static scenes are compared in colour.
    cameras, times = sample_views(world, indices, image_size=(96, 128))
    first, second = (geometry(world, cameras[:, [i]], times[:, [i]]) for i in range(2))

    moved = move_points(
        world,
        first.points.flatten(1, 3),
        first.object_ids.flatten(1),
        times_from=times[:, 0],
        times_to=times[:, 1],
    )
    pixels, depth = project(moved, cameras.K[:, 1], invert_se3(cameras.camtoworld[:, 1]))
    column, row = pixels.floor().long().unbind(-1)
    inside = (depth > 0) & (column >= 0) & (column < 128) & (row >= 0) & (row < 96)
    index = row.clamp(0, 95) * 128 + column.clamp(0, 127)
    seen_id = second.object_ids.flatten(1).gather(1, index)
    seen_depth = second.depth.flatten(1).gather(1, index)
    same = inside & (seen_id == first.object_ids.flatten(1))
    error = (seen_depth - depth).abs() / depth
    assert same.float().mean() > 0.3
    # Within a pixel depth varies, most where a surface is seen at a grazing angle.
    assert error[same].median() < 0.01
    assert (error[same] < 0.05).float().mean() > 0.9
    if kind == "static":
        before, after = render_images(world, cameras, times).flatten(3).unbind(1)
        difference = (after.gather(2, index[:, None].expand(-1, 3, -1)) - before).abs().mean(1)
        assert difference[same & (error < 0.02)].median() < 0.01


def test_near_objects_hide_far_ones() -> None:
    view = camera([-3.0, 0.0, 1.0], [0.0, 0.0, 1.0])
    near, far = BOXES.start, CYLINDERS.start
    world = put(empty_world(), far, [1.0, 0.0, 1.0], [0.6, 0.6, 0.6])
    middle = (0, 0, HEIGHT // 2, WIDTH // 2)
    assert geometry(world, view, NOW).object_ids[middle] == far
    world = put(world, near, [-0.5, 0.0, 1.0], [0.2, 0.3, 0.3])
    rendered = geometry(world, view, NOW)
    assert rendered.object_ids[middle] == near
    assert rendered.depth[middle].item() == pytest.approx(2.3, abs=1e-4)
    world = put(world, near, [2.0, 0.0, 1.0], [0.2, 0.3, 0.3])
    rendered = geometry(world, view, NOW)
    assert rendered.object_ids[middle] == far
    world = put(world, near, [-4.5, 0.0, 1.0], [0.2, 0.3, 0.3])
    assert geometry(world, view, NOW).object_ids[middle] == far, "what lies behind the camera is not seen"


def test_rays_along_an_axis_give_no_nan() -> None:
    """An odd image has rays exactly along the camera's axes, parallel to walls and faces."""
    world = put(empty_world(), BOXES.start, [1.0, 0.0, 1.0], [0.5, 0.5, 0.5])
    world = put(world, CYLINDERS.start, [2.5, 0.0, 1.0], [0.4, 0.4, 0.9])
    view = camera([-2.0, 0.0, 1.0], [1.0, 0.0, 1.0], width=31, height=17)
    assert render_images(world, view, NOW).isfinite().all()
    depth = render_geometry(world, view, NOW)[0]
    assert depth.isfinite().all()
    assert depth[0, 0, 8, 15].item() == pytest.approx(2.5, abs=1e-4)


def test_supersampling_averages_images() -> None:
    world = sample_worlds(seed=0, indices=[2])
    cameras, times = sample_views(world, [2])
    plain = render_images(world, cameras, times)
    fine = render_images(world, cameras, times, supersample=3)
    assert plain.shape == fine.shape
    assert 0 < (plain - fine).abs().mean() < 0.05


def test_moving_bodies_turn_rigidly_and_the_room_stays() -> None:
    world = sample_worlds(seed=0, indices=list(range(6)), kind="dynamic")
    rotation, centre = body_poses(world, torch.tensor([[0.0, 0.37, 1.0]]).expand(6, 3))
    torch.testing.assert_close(centre[:, 0], world.centre)
    torch.testing.assert_close(rotation[:, 0], world.rotation)
    assert is_rigid(make_se3(rotation, centre)).all()
    assert (centre[:, 1] - centre[:, 0]).norm(dim=-1).amax(-1).min() > 0.01, "something moves in every dynamic scene"
    torch.testing.assert_close(centre[:, 1, : OBJECTS.start], centre[:, 0, : OBJECTS.start])


def test_a_static_scene_does_not_depend_on_time() -> None:
    world = sample_worlds(seed=0, indices=[0, 1])
    cameras, _ = sample_views(world, [0, 1])
    early = render_images(world, cameras, torch.zeros(2, 2))
    late = render_images(world, cameras, torch.ones(2, 2))
    assert torch.equal(early, late)
    moving = sample_worlds(seed=0, indices=[0, 1], kind="dynamic")
    assert torch.equal(render_images(moving, cameras, torch.zeros(2, 2)), early), "at rest they are the same place"
    assert not torch.equal(render_images(moving, cameras, torch.ones(2, 2)), early)


def test_invalid_input_is_an_error() -> None:
    world = sample_worlds(seed=0, indices=[0])
    view = camera([0.0, 0.0, 1.5], [1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match="supersample must be at least 1"):
        render_images(world, view, NOW, supersample=0)
    with pytest.raises(ValueError, match="must share their scenes and views"):
        render_images(world, view, torch.zeros(1, 2))
    skewed = view.K.clone()
    skewed[..., 0, 1] = 1
    with pytest.raises(ValueError, match="no skew"):
        render_images(world, dataclasses.replace(view, K=skewed), NOW)
