import math

import numpy as np
import pytest
import torch

from wnv.geometry.poses import (
    WorldFrame,
    fit_world_frame,
    interpolate_poses,
    invert_se3,
    is_rigid,
    look_at,
    mean_pose,
    nearest_pose,
    pose_distance,
    pose_spread,
    random_se3,
    rotation_angle,
)

EXACT = {"rtol": 0, "atol": 1e-10}


@pytest.fixture
def poses(generator):
    """Two scenes of four views that look roughly the same way, far from the origin and in large units."""
    change = random_se3((2, 1), generator=generator, dtype=torch.float64)
    tilt = 0.3 * torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    forward = torch.tensor([0, 0, 1.0], dtype=torch.float64)
    up = torch.tensor([0, -1.0, 0], dtype=torch.float64)
    eye = 7 * torch.randn(2, 4, 3, generator=generator, dtype=torch.float64) + 20
    return change @ look_at(eye, eye + forward + tilt, up)


def lvsm_poses(camtoworld: np.ndarray) -> np.ndarray:
    """The normalisation of LVSM (arXiv:2410.17242), for one scene, written out."""
    center = sum(pose[:3, 3] for pose in camtoworld) / len(camtoworld)
    forward = sum(pose[:3, 2] for pose in camtoworld) / len(camtoworld)
    forward = forward / np.sqrt(forward @ forward)
    down = sum(pose[:3, 1] for pose in camtoworld) / len(camtoworld)
    right = np.cross(down, forward)
    right = right / np.sqrt(right @ right)
    down = np.cross(forward, right)
    mean = np.eye(4)
    mean[:3, 0], mean[:3, 1], mean[:3, 2], mean[:3, 3] = right, down / np.sqrt(down @ down), forward, center
    normalized = np.stack([np.linalg.inv(mean) @ pose for pose in camtoworld])
    normalized[:, :3, 3] /= 1.35 * np.abs(normalized[:, :3, 3]).max()
    return normalized


def test_invert_se3_is_the_inverse(generator):
    T = random_se3((3, 4), generator=generator, dtype=torch.float64)
    torch.testing.assert_close(invert_se3(T), torch.linalg.inv(T), **EXACT)


def test_is_rigid_tells_what_is_not(generator):
    T = random_se3((6,), generator=generator, dtype=torch.float64)
    T[1, :3, :3] *= 1.01
    T[2, :3, 0] *= -1
    T[3, 3, 1] = 0.1
    T[4, 0, 3] = float("nan")
    T[5, 1, 3] = float("inf")
    assert is_rigid(T).tolist() == [True, False, False, False, False, False]


def test_look_at_meets_the_target_and_stands_upright(generator):
    eye, target = torch.randn(2, 9, 3, generator=generator, dtype=torch.float64)
    up = torch.tensor([0.1, 2.0, 0.3], dtype=torch.float64)
    camtoworld = look_at(eye, target, up)
    assert is_rigid(camtoworld, 1e-12).all()
    viewmat = invert_se3(camtoworld)
    seen = (viewmat[:, :3, :3] @ target[:, :, None]).squeeze(-1) + viewmat[:, :3, 3]
    torch.testing.assert_close(seen[:, :2], torch.zeros(9, 2, dtype=torch.float64), **EXACT)
    torch.testing.assert_close(seen[:, 2], (target - eye).norm(dim=-1), **EXACT)
    up_in_camera = viewmat[:, :3, :3] @ up
    torch.testing.assert_close(up_in_camera[:, 0], torch.zeros(9, dtype=torch.float64), **EXACT)
    assert (up_in_camera[:, 1] < 0).all()


@pytest.mark.parametrize(("target", "up"), [((1.0, 2, 3), (0.0, 1, 0)), ((1.0, 5, 3), (0.0, 1, 0))])
def test_look_at_rejects_a_view_without_direction(target, up):
    with pytest.raises(ValueError, match=r"eye.*up"):
        look_at(torch.tensor([1.0, 2, 3]), torch.tensor(target), torch.tensor(up))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mean_frame_equals_the_written_out_lvsm_normalisation(poses, dtype):
    normalized = fit_world_frame(poses.to(dtype), method="mean").apply(poses.to(dtype))
    assert normalized.dtype == dtype
    expected = np.stack([lvsm_poses(scene.numpy()) for scene in poses])
    torch.testing.assert_close(
        normalized.double(), torch.from_numpy(expected), rtol=0, atol=1e-10 if dtype == torch.float64 else 1e-4
    )


def test_first_frame_makes_the_first_camera_the_identity_and_the_mean_baseline_one(poses):
    normalized = fit_world_frame(poses, method="first").apply(poses)
    torch.testing.assert_close(normalized[:, 0], torch.eye(4, dtype=torch.float64).expand(2, 4, 4), **EXACT)
    distances = normalized[:, 1:, :3, 3].norm(dim=-1).mean(dim=-1)
    torch.testing.assert_close(distances, torch.ones(2, dtype=torch.float64), **EXACT)


@pytest.mark.parametrize("method", ["mean", "first"])
def test_world_frame_hides_the_world_it_came_from(poses, generator, method):
    """A rigid change of the world and, with a baseline, its unit leave no trace, in contexts and targets."""
    context, target = poses[:, :3], poses[:, 3:]
    change = random_se3((2, 1), generator=generator, dtype=torch.float64)
    moved = WorldFrame(newfromold=change[:, 0], scale=torch.tensor([3.0, 0.01], dtype=torch.float64)).apply(poses)
    before = fit_world_frame(context, method=method)
    after = fit_world_frame(moved[:, :3], method=method)
    torch.testing.assert_close(after.apply(moved[:, :3]), before.apply(context), **EXACT)
    torch.testing.assert_close(after.apply(moved[:, 3:]), before.apply(target), **EXACT)


@pytest.mark.parametrize("method", ["mean", "first"])
def test_world_frame_is_undone_and_keeps_poses_rigid(poses, method):
    frame = fit_world_frame(poses[:, :2], method=method)
    assert is_rigid(frame.newfromold, 1e-12).all()
    assert is_rigid(frame.apply(poses), 1e-12).all()
    torch.testing.assert_close(frame.undo(frame.apply(poses)), poses, **EXACT)


@pytest.mark.parametrize("method", ["mean", "first"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scale_is_one_without_a_baseline(poses, method, dtype):
    with pytest.raises(ValueError, match="at least one context view"):
        fit_world_frame(poses[:, :0], method=method)
    one_view = poses[:, :1].to(dtype)
    assert fit_world_frame(one_view, method=method).scale.tolist() == [1, 1]
    one_place = poses.to(dtype)[:, [0, 1, 2, 3, 0, 1, 2]]
    one_place[..., :3, 3] = one_place[:, :1, :3, 3]  # cameras that only turn; their mean position is rounded
    frame = fit_world_frame(one_place, method=method)
    assert frame.scale.tolist() == [1, 1]
    assert is_rigid(frame.apply(one_place)).all()


def test_a_tiny_scene_is_normalised_too(poses):
    context = poses.to(torch.float32).clone()
    context[..., :3, 3] *= 1e-6
    extent = fit_world_frame(context).apply(context)[..., :3, 3].abs().amax(dim=(-1, -2))
    torch.testing.assert_close(extent, torch.full((2,), 1 / 1.35))


def test_cameras_that_look_inwards_from_all_around_have_a_mean_pose():
    angles = torch.arange(4, dtype=torch.float64) * math.pi / 2
    eye = torch.stack([angles.cos(), angles.sin(), torch.zeros(4, dtype=torch.float64)], dim=-1)
    ring = look_at(eye, torch.zeros(3, dtype=torch.float64), torch.tensor([0, 0, 1.0], dtype=torch.float64))
    mean = mean_pose(ring)
    assert is_rigid(mean, 1e-12)
    torch.testing.assert_close(mean[:3, :3], ring[0, :3, :3], **EXACT)
    torch.testing.assert_close(mean[:3, 3], torch.zeros(3, dtype=torch.float64), **EXACT)


def test_interpolation_hits_both_ends_and_goes_straight(poses):
    a, b = poses[0, 0], poses[0, 1]
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    path = interpolate_poses(a, b, t)
    torch.testing.assert_close(path[0], a, **EXACT)
    torch.testing.assert_close(path[-1], b, **EXACT)
    torch.testing.assert_close(path[2, :3, 3], (a[:3, 3] + b[:3, 3]) / 2, **EXACT)
    whole = rotation_angle(a[:3, :3], b[:3, :3])
    torch.testing.assert_close(rotation_angle(a[:3, :3], path[:, :3, :3]), t * whole, **EXACT)
    assert is_rigid(path, 1e-12).all()


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1.0, math.pi - 1e-9, math.pi])
def test_rotation_angle_is_precise_everywhere(angle, generator):
    cos, sin = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], dtype=torch.float64)
    change = random_se3((2,), generator=generator, dtype=torch.float64)[:, :3, :3]
    measured = rotation_angle(change[0] @ change[1], change[0] @ turn @ change[1])
    assert measured.item() == pytest.approx(angle, abs=1e-14 if angle < 2 else 1e-7)


def test_pose_distance_is_spreads_moved_plus_radians_turned():
    still, aside, quarter = torch.eye(4), torch.eye(4), torch.eye(4)
    aside[0, 3] = 4.0  # spread 2
    quarter[:3, :3] = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    quarter[2, 3] = 3.0
    distance = pose_distance(torch.stack([still, quarter, aside]), torch.stack([still, aside]))
    expected = torch.tensor([[0, 2], [1.5 + math.pi / 2, 2.5 + math.pi / 2], [2, 0]])
    torch.testing.assert_close(distance, expected)
    assert nearest_pose(torch.stack([quarter, aside]), torch.stack([still, aside])).tolist() == [0, 1]
    assert [pose_spread(torch.stack(poses)).item() for poses in ([still, aside], [aside])] == [2, 0]


def test_nearest_pose_among_cameras_in_one_place_goes_by_rotation(generator):
    context = random_se3((5,), generator=generator)
    context[:, :3, 3] = torch.tensor([4.0, 5, 6])
    target = context.clone()
    target[:, 0, 3] += 0.5
    assert nearest_pose(target, context).tolist() == [0, 1, 2, 3, 4]
