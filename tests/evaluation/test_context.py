import numpy as np
import pytest
import torch

from wnv.evaluation.context import default_context, fit_size, open_cameras, open_context, spread
from wnv.geometry.poses import fit_world_frame, look_at
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import Frame, SceneInfo


@pytest.fixture
def scene_file(tmp_path):
    """Seven frames of 40 x 24 pixels on a line, frame i grey of value 30 * i."""
    frames = []
    for i in range(7):
        pose = np.eye(4)
        pose[0, 3] = 2.0 * i
        K = np.array([[30.0, 0, 20], [0, 30, 12], [0, 0, 1]])
        frames.append(Frame(time_s=float(i), K=K, camtoworld=pose))
    info = SceneInfo(id="line", kind="dynamic", width=40, height=24, frames=tuple(frames))
    images = [np.full((24, 40, 3), 30 * i, dtype=np.uint8) for i in range(7)]
    return write_scene(tmp_path, info, images, image_format="png")


@pytest.fixture
def capture(tmp_path):
    """20 frames, 6 degrees apart, on an arc around an object at distance 3."""
    angles = np.radians(6 * np.arange(20.0))
    eyes = 3 * np.stack([np.sin(angles), np.zeros(20), -np.cos(angles)], axis=1)
    poses = look_at(torch.from_numpy(eyes), torch.zeros(3).double(), torch.tensor([0.0, -1, 0]).double()).numpy()
    K = np.array([[30.0, 0, 12], [0, 30, 8], [0, 0, 1]])
    frames = tuple(Frame(time_s=float(i), K=K, camtoworld=pose) for i, pose in enumerate(poses))
    info = SceneInfo(id="arc", kind="static", width=24, height=16, frames=frames)
    return write_scene(tmp_path, info, [np.zeros((16, 24, 3), dtype=np.uint8)] * 20)


def test_the_frames_asked_for_come_in_their_order_and_normalised(scene_file):
    example = open_context(scene_file, frames=[5, 1], image_size=[12, 20])
    assert example.scene == "line"
    grey = example.context.images[:, 0, 0, 0] * 255
    torch.testing.assert_close(grey, torch.tensor([150.0, 30.0]), rtol=0, atol=1e-3)
    assert example.context.times.tolist() == [1.0, 0.0]
    assert example.context.cameras.K[0, 0, 0] == pytest.approx(15)
    camtoworld = example.context.cameras.camtoworld
    torch.testing.assert_close(fit_world_frame(camtoworld).apply(camtoworld), camtoworld, rtol=0, atol=1e-5)


def test_by_default_the_context_is_spread_and_keeps_the_proportions(scene_file):
    info, cameras = open_cameras(scene_file)
    frames = default_context(info, cameras, count=3)
    example = open_context(scene_file, frames=frames, short_side=16)
    assert example.context.images.shape == (3, 3, 16, 24)  # 26.7 is nearest to 24, of the multiples of 8
    assert (example.context.images[:, 0, 0, 0] * 255).round().tolist() == [0, 90, 180]


def test_a_size_keeps_the_proportions_in_whole_patches():
    assert fit_size(1920, 1080, short_side=72) == (128, 72)
    assert fit_size(1080, 1920, short_side=72) == (72, 128)
    assert fit_size(480, 368, short_side=70, multiple=14) == (98, 70)  # 91.3 is nearer to 98 than to 84
    assert fit_size(10, 1000, short_side=2) == (8, 200)


def test_a_long_static_capture_is_shown_from_neighbors_of_its_first_view(capture):
    info, cameras = open_cameras(capture)
    assert default_context(info, cameras, count=2) == (0, 3)
    assert default_context(info, cameras) == (0, 1, 2, 3)
    assert default_context(info, cameras, count=99) == tuple(range(20))


def test_spread():
    assert spread(7, 3) == (0, 3, 6)
    assert spread(3, 8) == (0, 1, 2)
    assert spread(5, 1) == (0,)


def test_what_lies_between_the_context_views_is_the_target(scene_file):
    example = open_context(scene_file, frames=[5, 1], num_target=3, image_size=[12, 20])
    assert (example.context.images[:, 0, 0, 0] * 255).round().tolist() == [150, 30]
    assert (example.target.images[:, 0, 0, 0] * 255).round().tolist() == [30, 90, 150]
    assert example.target.times.tolist() == [0.0, 0.5, 1.0]
    assert len(open_context(scene_file, frames=[2, 4], num_target=99).target.times) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames": [0, 7]}, r"context .*\[7\].*'line'.*0 to 6"),
        ({"frames": [2, 2]}, r"context .*\[2, 2\]"),
        ({"frames": [3], "num_target": 5}, r"context=\[3\]"),
    ],
)
def test_frames_that_the_scene_lacks_are_named(scene_file, settings, message):
    with pytest.raises(ValueError, match=message):
        open_context(scene_file, **settings)


@pytest.mark.parametrize(("name", "message"), [("", "folder"), ("none.zip", r"none\.zip")])
def test_what_is_no_scene_file_is_named(tmp_path, name, message):
    with pytest.raises(FileNotFoundError, match=message):
        open_cameras(tmp_path / name)
