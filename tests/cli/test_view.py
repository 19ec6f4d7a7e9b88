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
