import math
from dataclasses import replace

import pytest
import torch

from wnv.evaluation.camera_path import follow_file, plan_path, resize_cameras
from wnv.evaluation.path_file import PathCamera, PathFile
from wnv.geometry.cameras import project
from wnv.geometry.poses import fit_world_frame, invert_se3, random_se3
from wnv.types import Views


@pytest.fixture
def context(dataset) -> Views:
    return dataset[0].context


@pytest.fixture
def dynamic(context) -> Views:
    return replace(context, times=torch.tensor([0.0, 0.5, 1.0]))


@pytest.mark.parametrize(
    ("time", "is_dynamic", "expected"),
    [
        (None, False, [0.0] * 5),
        (None, True, [0.0, 0.25, 0.5, 0.75, 1.0]),
        (0.5, True, [0.5] * 5),
        ([1, 0], True, [1.0, 0.75, 0.5, 0.25, 0.0]),
    ],
)
def test_time_runs_along_the_path(context, dynamic, time, is_dynamic, expected):
    path = plan_path(dynamic if is_dynamic else context, "interpolate", num_views=5, time=time)
    assert path.times.tolist() == expected


def test_through_time_only_time_moves(dynamic):
    path = plan_path(dynamic, "through_time", num_views=5, options={"anchor": 1})
    assert torch.equal(path.cameras.camtoworld, dynamic.cameras.camtoworld[1:2].expand(5, 4, 4))
    assert path.times.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_bullet_time_stands_still_while_the_camera_moves(dynamic):
    path = plan_path(dynamic, "bullet_time", num_views=10)
    poses, times = path.cameras.camtoworld, path.times
    assert times.diff().ge(0).all()
    assert (times[0], times[-1]) == (0.0, 1.0)
    moves = (poses.diff(dim=0).abs().amax(dim=(1, 2)) > 0).tolist()
    runs = (times.diff() > 0).tolist()
    assert moves == [False] * 3 + [True] * 3 + [False] * 3
    assert runs == [not moving for moving in moves]
    torch.testing.assert_close(poses[0], dynamic.cameras.camtoworld[0])
    torch.testing.assert_close(poses[-1], dynamic.cameras.camtoworld[-1])


def test_a_file_is_followed_in_the_world_of_the_context(context):
    """Written in the world of a scene file, with a camera at each context view."""
    world = fit_world_frame(random_se3((3,), generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    poses = world.undo(context.cameras.camtoworld.double())
    fov_y = 2 * math.atan(context.cameras.height / 2 / float(context.cameras.K[0, 1, 1]))
    cameras = [PathCamera(pose, fov_y=fov_y, time=0.5 + 0.1 * i) for i, pose in enumerate(poses)]
    file = PathFile(cameras, keyframes=[], aspect=context.cameras.width / context.cameras.height, fps=10)
    moving = replace(context, times=torch.tensor([0.0, 0.5, 1.0]))
    path = follow_file(file, moving, world=world, window=(0.5, 0.7))
    assert (path.cameras.height, path.cameras.width) == (context.cameras.height, context.cameras.width)
    torch.testing.assert_close(path.cameras.camtoworld, context.cameras.camtoworld, rtol=0, atol=1e-5)
    torch.testing.assert_close(path.cameras.K[0], context.cameras.K[0], rtol=0, atol=1e-3)
    assert path.times.tolist() == pytest.approx([0, 0.5, 1])
    assert follow_file(file, context, output_size=[8, 24]).cameras.width == 24


@pytest.mark.parametrize(("height", "width"), [(32, 48), (8, 24), (40, 24), (16, 24)])
def test_another_size_sees_the_middle_of_the_same_view(context, height, width):
    cameras = context.cameras
    resized = resize_cameras(cameras, height=height, width=width)
    path = plan_path(context, "still", num_views=1, output_size=[height, width])
    torch.testing.assert_close(path.cameras.K, resized.K[:1])
    assert (resized.height, resized.width) == (height, width)
    scale = max(height / cameras.height, width / cameras.width)
    points = cameras.camtoworld[:, None, :3, 3] + cameras.camtoworld[:, None, :3, 2] * 2 + torch.randn(3, 5, 3) * 0.1
    viewmats = invert_se3(cameras.camtoworld)
    before, _ = project(points, cameras.K, viewmats)
    after, _ = project(points, resized.K, viewmats)
    centre = torch.tensor([cameras.width / 2, cameras.height / 2])
    expected = (before - centre) * scale + torch.tensor([width / 2, height / 2])
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("trajectory", "settings", "error", "message"),
    [
        ("zigzag", {}, ValueError, "trajectory .*orbit.*zigzag"),
        ("still", {"time": [0, 1, 2]}, ValueError, r"time .*\[0, 1, 2\]"),
        ("orbit", {"options": {"speed": 1}}, TypeError, "speed"),
        ("bullet_time", {"options": {"anchor": 1}}, TypeError, "bullet_time.*anchor"),
        ("bullet_time", {"num_views": 2}, ValueError, "num_views.*3.*2"),
        ("still", {"output_size": [72]}, ValueError, r"output_size .*\[72\]"),
        ("still", {"output_size": [0, 8]}, ValueError, r"output_size .*\[0, 8\]"),
    ],
)
def test_faults_are_named(dynamic, trajectory, settings, error, message):
    with pytest.raises(error, match=message):
        plan_path(dynamic, trajectory, **({"num_views": 5} | settings))


@pytest.mark.parametrize("trajectory", ["through_time", "bullet_time"])
def test_paths_through_time_need_a_dynamic_scene(context, trajectory):
    with pytest.raises(ValueError, match=f"trajectory={trajectory}"):
        plan_path(context, trajectory, num_views=5)
