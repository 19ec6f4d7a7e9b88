import re
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from wnv.cli import render
from wnv.cli.composition import composed
from wnv.evaluation.path_file import PathCamera, PathFile, format_path
from wnv.models.konet import KoNet

SMALL = ["device=cpu", "num_views=3", "min_side=1", "there_and_back=false", "out=path"]


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Runs the command in the folder of a test, with settings that make it small; gives its files."""
    monkeypatch.chdir(tmp_path)

    def run(*overrides: str) -> list[Path]:
        with composed("render", [*SMALL, *overrides]) as cfg:
            return render.run(cfg)

    return run


@pytest.fixture(scope="module")
def weights(tmp_path_factory, save_weights):
    return save_weights(tmp_path_factory.mktemp("room") / "weights", time_code=True)


@pytest.fixture(scope="module")
def scene_file(tmp_path_factory, save_scene):
    options = dict(width=24, height=40, num_frames=6, kind="dynamic")
    return save_scene(tmp_path_factory.mktemp("scenes"), "upright", **options)


def video_shape(path) -> tuple[int, int, int]:
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return len(frames), *frames[0].shape[:2]


def test_a_synthetic_scene_becomes_video_gif_and_sheet(run_in_process, tmp_path, weights):
    """Through the command's `main`, as from a shell."""
    settings = ["hydra/job_logging=none", "hydra/hydra_logging=none", "device=cpu", f"weights={weights}", "out=path"]
    settings += ["scene=synthetic:2", "image_size=[16,24]", "num_views=4", "min_side=32"]
    code, stdout, stderr = run_in_process(render.main, *settings)
    assert code == 0, stderr
    assert video_shape(tmp_path / "path" / "path.mp4") == (4 + 2, 32, 48)
    with Image.open(tmp_path / "path" / "path.gif") as gif:
        assert gif.size == (48, 32)
    assert all(f"path/{name}" in stdout for name in ("path.mp4", "path.gif", "path.png"))
    code, _, stderr = run_in_process(render.main, *settings)
    assert code == 2
    assert re.fullmatch(r"wnv-render: error: .*path.mp4 exists.*overwrite=true.*\n", stderr)


@pytest.mark.parametrize(
    ("settings", "shape", "has_truth"),
    [
        ("context=[0,3,5] trajectory=wobble trajectory_options={radius:0.2,anchor:1} time=[0,0.5]", (104, 64), False),
        ("context=[0,4] trajectory=recorded side_by_side=true", (104, 2 * 64), True),
        (
            "scene=synthetic:1 data=synthetic_dynamic trajectory=bullet_time image_size=[16,24] output_size=[24,16] "
            "side_by_side=true",
            (24, 2 * 16),
            True,
        ),
    ],
    ids=["options", "recorded", "synthetic truth"],
)
def test_paths_and_their_frames(call, capsys, weights, scene_file, settings, shape, has_truth):
    files = call(f"weights={weights}", f"scene={scene_file}", "write_frames=true", *settings.split())
    assert video_shape(files[0]) == (3, *shape)
    assert len(list(Path("path/frames").glob("*.png"))) == 3
    assert (" dB PSNR:" in capsys.readouterr().out) == has_truth


def test_time_without_a_time_code_is_reported(call, caplog, tmp_path, scene_file, save_weights):
    weights = save_weights(tmp_path / "timeless")
    shared = [f"weights={weights}", f"scene={scene_file}", "image_size=[16,16]"]
    call(*shared, "trajectory=still", "time=0.5")
    assert not caplog.messages
    call(*shared, "trajectory=through_time", "overwrite=true")
    assert "time_code=false" in caplog.text


def test_a_path_file_is_rendered_in_its_own_length(call, weights, scene_file, tmp_path):
    pose = torch.eye(4, dtype=torch.float64)
    cameras = [PathCamera(pose, fov_y=0.9, time=0.5 * i) for i in range(3)]
    (tmp_path / "path.json").write_text(format_path(PathFile(cameras, keyframes=[], aspect=2, fps=10)))
    settings = [f"weights={weights}", f"scene={scene_file}", "trajectory=path.json"]
    assert video_shape(call(*settings, "num_views=null")[0]) == (3, 64, 128)
    with pytest.raises(ValueError, match=r"num_views=3 .*path\.json.*3 frames"):
        call(*settings)


def test_frames_that_look_elsewhere_are_counted(call, caplog, weights):
    settings = [f"weights={weights}", "scene=synthetic:2", "image_size=[16,24]"]
    call(*settings, "trajectory=orbit", "out=arc")
    assert not caplog.messages
    call(*settings, "trajectory=around", "trajectory_options={degrees:360}", "out=turn")
    assert "2 of 3 frames look where no context view looked" in caplog.text


def test_a_scene_file_by_url_and_from_the_home_folder(call, weights, scene_file, monkeypatch):
    monkeypatch.setenv("HOME", str(scene_file.parent))
    gifs = [
        call(f"weights={weights}", f"scene={scene}", "overwrite=true")[1].read_bytes()
        for scene in (f"file://{scene_file}", "~/upright.zip")
    ]
    assert gifs[0] == gifs[1]


def test_the_world_is_placed_as_the_weights_were_trained(tmp_path, call, scene_file):
    model = KoNet(dim=32, num_layers=1, num_heads=2, mlp_dim=32, ray_code="raymap", pose_normalization="first")
    for parameter in model.parameters():
        parameter.data.mul_(8)  # so that a camera moves the picture
    weights = model.save_pretrained(tmp_path / "first")
    sheets = {}
    for name in ("null", "first", "mean"):
        files = call(f"weights={weights}", f"scene={scene_file}", f"pose_normalization={name}", f"out=as_{name}")
        sheets[name] = np.asarray(Image.open(files[2]))
    assert np.array_equal(sheets["null"], sheets["first"])
    assert not np.array_equal(sheets["null"], sheets["mean"])
