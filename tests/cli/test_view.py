import importlib.util
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
from raw_client import RawClient

from wnv.cli import view
from wnv.cli.composition import composed
from wnv.models.konet import KoNet
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import Frame, SceneInfo


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A folder with weights and a scene file."""
    folder = tmp_path_factory.mktemp("room")
    KoNet(dim=32, num_layers=1, num_heads=2, mlp_dim=32).save_pretrained(folder / "weights")
    frames = []
    for i in range(4):
        pose = np.eye(4)
        pose[0, 3] = 0.3 * i
        frames.append(Frame(time_s=i, K=np.array([[30.0, 0, 12], [0, 30, 20], [0, 0, 1]]), camtoworld=pose))
    info = SceneInfo(id="upright", kind="static", width=24, height=40, frames=tuple(frames))
    write_scene(folder, info, [np.full((40, 24, 3), 30 * i, dtype=np.uint8) for i in range(4)])
    return folder


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("weights=nobodys", "nobodys"),
        ("scene=nowhere.zip", "nowhere.zip"),
        ("scene=synthetic:first", "scene=synthetic:INDEX"),
        ("scene=synthetic:0 context=[0,1]", "context"),
        ("context=[0,9]", r"0 to 3.*9"),
        ("image_size=[20,24]", "height"),
        ("port=high", "high"),
        ("host=nowhere.invalid", "host=nowhere.invalid"),
        ("fps=0", "fps"),
        ("moving_side=0", "moving_side"),
    ],
)
def test_faults_are_named(room, monkeypatch, overrides, message):
    monkeypatch.chdir(room)
    settings = ["device=cpu", "weights=weights", "scene=upright.zip", "port=0", *overrides.split()]
    with composed("view", settings) as cfg, pytest.raises((ValueError, FileNotFoundError), match=message):
        view.run(cfg)


def test_without_viser_it_says_what_to_install(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "viser" else find_spec(name))
    with composed("view") as cfg, pytest.raises(ImportError, match=r"pip install 'wnv\[viewer\]'"):
        view.run(cfg)


@pytest.mark.slow
def test_it_serves_until_ctrl_c(room):
    command = [sys.executable, "-m", "wnv.cli.view", "device=cpu", "weights=weights", "scene=upright.zip", "port=0"]
    process = subprocess.Popen(command, cwd=room, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
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
    assert sorted(path.name for path in room.iterdir()) == ["upright.zip", "weights"]  # no other file
