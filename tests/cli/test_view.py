import importlib.util
import signal
import subprocess
import sys
import urllib.request

import pytest
from raw_client import RawClient

from wnv.cli import view
from wnv.cli.composition import composed


@pytest.fixture
def room(tmp_path, save_scene, save_weights):
    """A folder with weights and a scene file."""
    save_weights(tmp_path / "weights")
    save_scene(tmp_path, "upright", width=24, height=40, num_frames=4)
    return tmp_path


def test_without_viser_it_says_what_to_install(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "viser" else find_spec(name))
    with composed("view") as cfg, pytest.raises(ImportError, match=r"pip install 'wnv\[viewer\]'"):
        view.run(cfg)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "errors"),
    [(signal.SIGINT, 130, "\nwnv-view: interrupted\n"), (signal.SIGTERM, 143, "")],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_it_serves_until_it_is_stopped_and_leaves_no_file_of_a_video(room, number, code, errors):
    command = [sys.executable, "-m", "wnv.cli.view", "device=cpu", "weights=weights", "scene=upright.zip", "port=0"]
    command += ["out=videos", "fps=500"]
    process = subprocess.Popen(command, cwd=room, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        first, second, third = (process.stdout.readline() for _ in range(3))
        assert first.startswith("upright, rendered by")
        url = second.split()[0]
        assert url.startswith("http://127.0.0.1:")
        port = url.rpartition(":")[2]
        assert f"ssh -L {port}:localhost:{port}" in third
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        assert b"<html" in opener.open(url, timeout=100).read().lower()
        client = RawClient(int(port))
        assert client.rested_picture().shape[0] >= 256
        client.set("Record", True)
        client.wait(lambda: "Recording" in client.text(), what="the recording")
        client.move(position=(0.1, 0.0, 0.0))
        client.rested_picture()
        client.set("Stop and save", True)
        client.wait(lambda: list(room.glob("videos/*.mp4*")), what="the file")
        process.send_signal(number)
        output, error_output = process.communicate(timeout=100)
        client.close()
    finally:
        process.kill()
    assert process.returncode == code
    assert (output, error_output) == ("", errors)
    assert sorted(path.name for path in room.iterdir()) == ["upright.zip", "videos", "weights"]
    assert not list((room / "videos").iterdir())
