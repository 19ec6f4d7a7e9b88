from functools import partial

import av
import numpy as np
import pytest
from PIL import Image

from wnv.cli.render import main
from wnv.models.konet import KoNet
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import Frame, SceneInfo

QUIET = ["hydra/job_logging=none", "hydra/hydra_logging=none", "device=cpu"]


@pytest.fixture
def weights(tmp_path):
    return KoNet(dim=32, num_layers=1, num_heads=2, mlp_dim=32, time_code=True).save_pretrained(tmp_path / "weights")


@pytest.fixture
def scene_file(tmp_path):
    frames = []
    for i in range(6):
        pose = np.eye(4)
        pose[0, 3] = 0.3 * i
        frames.append(Frame(time_s=i, K=np.array([[30.0, 0, 12], [0, 30, 20], [0, 0, 1]]), camtoworld=pose))
    info = SceneInfo(id="upright", kind="dynamic", width=24, height=40, frames=tuple(frames))
    images = [np.full((40, 24, 3), 30 * i, dtype=np.uint8) for i in range(6)]
    return write_scene(tmp_path / "scenes", info, images)


@pytest.fixture
def call(run_in_process):
    return partial(run_in_process, main, *QUIET)


def video_shape(path) -> tuple[int, int, int]:
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return len(frames), *frames[0].shape[:2]


def test_a_synthetic_scene_becomes_video_gif_and_sheet(tmp_path, call, weights):
    code, stdout, stderr = call(
        f"weights={weights}", "scene=synthetic:2", "image_size=[16,24]", "num_views=4", "min_side=32", "out=path"
    )
    assert code == 0, stderr
    assert video_shape(tmp_path / "path" / "path.mp4") == (4 + 2, 32, 48)
    with Image.open(tmp_path / "path" / "path.gif") as gif:
        assert gif.size == (48, 32)
    assert all(f"path/{name}" in stdout for name in ("path.mp4", "path.gif", "path.png"))


def test_a_dynamic_scene_file_along_a_path_with_options(tmp_path, call, weights, scene_file):
    code, _, stderr = call(
        f"weights={weights}",
        f"scene={scene_file}",
        "context=[0,3,5]",
        "trajectory=wobble",
        "trajectory_options={radius: 0.2, anchor: 1}",
        "time=[0,0.5]",
        "num_views=3",
        "min_side=1",
        "there_and_back=false",
        "write_frames=true",
        "out=path",
    )
    assert code == 0, stderr
    assert video_shape(tmp_path / "path" / "path.mp4") == (3, 104, 64)
    assert len(list((tmp_path / "path" / "frames").glob("*.png"))) == 3


def test_the_scenes_own_frames_beside_what_is_drawn(tmp_path, call, weights, scene_file):
    code, stdout, stderr = call(
        f"weights={weights}",
        f"scene={scene_file}",
        "context=[0,4]",
        "trajectory=recorded",
        "side_by_side=true",
        "there_and_back=false",
        "min_side=1",
        "out=path",
    )
    assert code == 0, stderr
    assert video_shape(tmp_path / "path" / "path.mp4") == (5, 104, 2 * 64)
    assert "5 views of upright along 'recorded', " in stdout
    assert " dB PSNR:" in stdout


def test_a_synthetic_scene_knows_its_truth_along_any_path_and_at_any_size(tmp_path, call, weights):
    code, stdout, stderr = call(
        f"weights={weights}",
        "scene=synthetic:1",
        "data=synthetic_dynamic",
        "trajectory=bullet_time",
        "image_size=[16,24]",
        "output_size=[24,16]",
        "side_by_side=true",
        "there_and_back=false",
        "num_views=3",
        "min_side=1",
        "out=path",
    )
    assert code == 0, stderr
    assert video_shape(tmp_path / "path" / "path.mp4") == (3, 24, 32)
    assert " dB PSNR:" in stdout


def test_weights_that_know_of_no_time_are_told_where_time_runs(tmp_path, call, caplog, scene_file):
    weights = KoNet(dim=32, num_layers=1, num_heads=2, mlp_dim=32).save_pretrained(tmp_path / "timeless")
    shared = [f"weights={weights}", f"scene={scene_file}", "image_size=[16,16]", "num_views=2", "min_side=1"]
    assert call(*shared, "trajectory=still", "time=0.5", "out=one")[0] == 0
    assert not caplog.messages
    assert call(*shared, "trajectory=through_time", "out=two")[0] == 0
    assert "time_code=false" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scene=nowhere.zip"], "nowhere.zip"),
        (["scene=synthetic:first"], "synthetic:first"),
        (["scene=synthetic:0", "context=[0,1]"], "context"),
        (["scene=synthetic:0", "pose_normalization=first"], "data.pose_normalization=first"),
        (["scene=@", "context=3"], "context"),
        (["scene=@", "image_size=64"], "image_size"),
        (["scene=@", "image_size=[64]"], "image_size"),
        (["scene=@", "image_size=[20,24]"], "patch_size=8"),
        (["scene=@", "num_views=many"], "num_views"),
        (["scene=@", "time=[0,end]"], "time"),
        (["scene=@", "overwrite=no"], "overwrite"),
        (["scene=@", "trajectory=zigzag"], "trajectory"),
        (["scene=@", "trajectory_options={speed: 2}"], "speed"),
        (["scene=@", "side_by_side=true"], "side_by_side=true"),
        (["scene=@", "trajectory=recorded", "context=[2]"], "context=[2]"),
        (["scene=@", "trajectory=recorded", "time=0.5"], "time"),
        (["scene=synthetic:0", "trajectory=recorded"], "trajectory=recorded"),
        (["scene=synthetic:0", "trajectory=bullet_time"], "trajectory=bullet_time"),
        (["scene=@", "render_size=[20,24]"], "render_size"),
        (["scene=@", "output_size=[0,24]"], "output_size"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, call, weights, scene_file, arguments, message):
    arguments = [item.replace("=@", f"={scene_file}") for item in arguments]
    code, _, stderr = call(f"weights={weights}", "num_views=2", "out=path", *arguments)
    assert code == 2
    assert stderr.startswith("wnv-render: error: ")
    assert stderr.count("\n") == 1
    assert message in stderr
    assert list((tmp_path / "path").glob("*")) == []


def test_a_scene_file_by_url_and_from_the_home_folder(tmp_path, call, weights, scene_file, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    small = ['weights="~/weights"', "num_views=2", "min_side=1"]
    assert call(*small, f"scene=file://{scene_file}", "out=url")[0] == 0
    assert call(*small, 'scene="~/scenes/upright.zip"', "out=home")[0] == 0
    assert (tmp_path / "url" / "path.gif").read_bytes() == (tmp_path / "home" / "path.gif").read_bytes()


@pytest.mark.slow
def test_files_are_not_replaced_unasked(call, weights):
    arguments = [f"weights={weights}", "image_size=[16,24]", "num_views=2", "min_side=1", "out=path"]
    assert call(*arguments)[0] == 0
    code, _, stderr = call(*arguments)
    assert code == 2
    assert "path.mp4 exists; choose another out= or pass overwrite=true" in stderr
    assert call(*arguments, "overwrite=true")[0] == 0


@pytest.mark.slow
def test_the_world_is_placed_as_the_weights_were_trained(tmp_path, call, scene_file):
    model = KoNet(dim=32, num_layers=1, num_heads=2, mlp_dim=32, ray_code="raymap", pose_normalization="first")
    for parameter in model.parameters():
        parameter.data.mul_(8)  # so that a camera moves the picture
    weights = model.save_pretrained(tmp_path / "first")
    sheets = {}
    for name in ("null", "first", "mean"):
        code, _, stderr = call(
            f"weights={weights}", f"scene={scene_file}", "num_views=2", f"pose_normalization={name}", f"out=as_{name}"
        )
        assert code == 0, stderr
        sheets[name] = np.asarray(Image.open(tmp_path / f"as_{name}" / "path.png"))
    assert np.array_equal(sheets["null"], sheets["first"])
    assert not np.array_equal(sheets["null"], sheets["mean"])
