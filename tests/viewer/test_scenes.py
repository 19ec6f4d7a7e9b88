import pytest
import torch

from wnv.evaluation.context import open_context
from wnv.viewer.scenes import ExampleScene, FileScene, file_scenes

SIZE = (40, 24)


@pytest.fixture
def scene(write_file_scene):
    return FileScene(str(write_file_scene("walk", kind="dynamic")), image_size=SIZE)


def test_a_context_equals_that_of_evaluation(scene, write_file_scene):
    expected = open_context(write_file_scene("again", kind="dynamic"), frames=[1, 2, 5], image_size=SIZE).context
    context = scene.context((1, 2, 5))
    assert torch.equal(context.cameras.camtoworld, expected.cameras.camtoworld)
    assert torch.equal(context.times, expected.times)
    assert context.images.shape == expected.images.shape


@pytest.mark.parametrize("frames", [(0, 6), (2, 3), (6, 0, 4), (5,)])
def test_cameras_are_transformed_to_the_world_of_a_context(scene, frames):
    found = scene.to_context_world(scene.camtoworld[list(frames)], frames)
    assert torch.allclose(found.float(), scene.context(frames).cameras.camtoworld, atol=1e-6)


@pytest.mark.parametrize("frames", [(0, 6), (2, 3, 5)])
def test_times_are_normalised_as_in_the_context(scene, frames):
    times = [scene.context_time(float(scene.times[frame]), frames) for frame in frames]
    assert times == pytest.approx(scene.context(frames).times.tolist())
    assert scene.context_time(3.0, (4,)) == 0  # one moment has no scale


def test_static_scenes_have_time_0(write_file_scene):
    scene = FileScene(str(write_file_scene("still")), image_size=SIZE)
    assert scene.context_time(3.0, (0, 6)) == 0


def test_images_are_those_of_the_frames(scene):
    assert torch.equal(scene.image(3), scene.context((1, 3)).images[1])
    assert scene.image(3) is scene.image(3)  # read once


@pytest.mark.parametrize(
    ("frames", "message"),
    [((), "at least one"), ((1, 1), "each once"), ((0, 7), r"frames 0 to 6, got \[7\]"), ((-1,), r"got \[-1\]")],
)
def test_invalid_context_frames(scene, frames, message):
    with pytest.raises(ValueError, match=message):
        scene.context(frames)


def test_example_scenes(synthetic_session):
    scenes = synthetic_session.scenes
    scene = scenes.open(1)
    assert isinstance(scene, ExampleScene)
    assert (scene.name, scene.num_frames, scene.default_context) == ("synthetic:1", 5, (0, 1))
    other = (1, 4, 2)
    found = scene.to_context_world(scene.camtoworld[list(other)], other)
    context = scene.context(other)
    assert torch.allclose(found.float(), context.cameras.camtoworld, atol=1e-6)
    assert not torch.allclose(context.cameras.camtoworld, scene.camtoworld[list(other)].float(), atol=1e-2)
    assert context.times.tolist() == pytest.approx([scene.context_time(float(scene.times[i]), other) for i in other])
    assert torch.equal(scene.image(4), context.images[1])


def test_scenes_of_a_folder(write_file_scene, tmp_path):
    for name in ("b", "a"):
        write_file_scene(name)
    scenes = file_scenes(tmp_path / "scenes", num_context=3, image_size=SIZE)
    assert [scenes.open(i).name for i in range(len(scenes))] == ["a", "b"]
    assert scenes.open(0).default_context == (0, 4, 6)


def test_invalid_scenes(tmp_path, write_posed_clip):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty"):
        file_scenes(tmp_path / "empty")
    write_posed_clip(tmp_path / "clips", "clip")
    with pytest.raises(ValueError, match="pack it first"):
        file_scenes(tmp_path / "clips")
    with pytest.raises(ValueError, match=r"num_context.*0"):
        FileScene("scene.zip", num_context=0)
