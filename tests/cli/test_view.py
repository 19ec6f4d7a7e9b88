import importlib.util
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
from raw_client import RawClient

from wnv.cli.view import main
from wnv.models.konet import KoNet
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import Frame, SceneInfo

QUIET = ["hydra/job_logging=none", "hydra/hydra_logging=none", "device=cpu"]


@pytest.fixture
def weights(tmp_path):
    return KoNet(dim=32, num_layers=1, num_heads=2, mlp_dim=32).save_pretrained(tmp_path / "weights")


@pytest.fixture
def scene_file(tmp_path):
    frames = []
    for i in range(4):
        pose = np.eye(4)
        pose[0, 3] = 0.3 * i
        frames.append(Frame(time_s=i, K=np.array([[30.0, 0, 12], [0, 30, 20], [0, 0, 1]]), camtoworld=pose))
    info = SceneInfo(id="upright", kind="static", width=24, height=40, frames=tuple(frames))
    return write_scene(tmp_path / "scenes", info, [np.full((40, 24, 3), 30 * i, dtype=np.uint8) for i in range(4)])


@pytest.fixture
def call(tmp_path, monkeypatch, capsys, weights, scene_file):
    """Runs the command with a mistake in it, where @ is a scene file; gives exit code and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        arguments = [argument.replace("=@", f"={scene_file}") for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["wnv-view", *QUIET, f"weights={weights}", "port=0", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["weights=nobodys"], "nobodys"),
        pytest.param(["scene=nowhere.zip"], "nowhere.zip", marks=pytest.mark.slow),
        pytest.param(["scene=synthetic:first"], "scene=synthetic:INDEX", marks=pytest.mark.slow),
        pytest.param(["context=[0,1]"], "context", marks=pytest.mark.slow),
        pytest.param(["scene=@", "image_size=[20,24]"], "height", marks=pytest.mark.slow),
        pytest.param(["scene=@", "port=high"], "high", marks=pytest.mark.slow),
        pytest.param(["scene=@", "host=nowhere.invalid"], "host=nowhere.invalid", marks=pytest.mark.slow),
        pytest.param(["scene=@", "fps=0"], "fps", marks=pytest.mark.slow),
        pytest.param(["scene=@", "moving_side=0"], "moving_side", marks=pytest.mark.slow),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(call, arguments, message):
    code, stderr = call(*arguments)
    assert code == 2
    assert stderr.startswith("wnv-view: error: ")
    assert stderr.count("\n") == 1
    assert message in stderr


def test_without_viser_it_says_what_to_install(call, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "viser" else find_spec(name))
    code, stderr = call("scene=@")
    assert code == 2
    assert "pip install 'wnv[viewer]'" in stderr


@pytest.mark.slow
def test_it_serves_until_ctrl_c(tmp_path, weights, scene_file):
    command = [
        sys.executable,
        "-m",
        "wnv.cli.view",
        "device=cpu",
        f"weights={weights}",
        f"scene={scene_file}",
        "port=0",
    ]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        first, second = process.stdout.readline(), process.stdout.readline()
        assert first.startswith("upright, rendered by")
        url = second.split()[0]
        assert url.startswith("http://127.0.0.1:")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        assert b"<html" in opener.open(url, timeout=100).read().lower()
        client = RawClient(int(url.rpartition(":")[2]))
        assert client.rested_picture().shape[0] >= 256
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=100)
        client.close()
    finally:
        process.kill()
    assert process.returncode == 130
    assert (output, errors) == ("", "\nwnv-view: interrupted\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scenes", "weights"]  # no other file
