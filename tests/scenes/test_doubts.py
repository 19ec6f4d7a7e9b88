"""Doubtful cameras are reported by every command that meets a scene: once, and named."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from wnv.scenes import listing
from wnv.scenes.listing import open_scene
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import Frame


@pytest.fixture
def far_too_long(tmp_path: Path, make_info: Callable, make_images: Callable) -> Path:
    """A scene whose focal lengths are a hundred times too long."""
    frames = tuple(
        Frame(time_s=frame.time_s, K=frame.K * [[100, 1, 1], [1, 100, 1], [1, 1, 1]], camtoworld=frame.camtoworld)
        for frame in make_info().frames
    )
    return write_scene(tmp_path, make_info(frames=frames), make_images())


def test_an_opened_scene_is_reported_once(
    far_too_long: Path, scene_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            open_scene(far_too_long)
            open_scene(scene_file)
    (record,) = caplog.records
    assert "scene 'room': a view angle should be 5 to 150 degrees" in record.getMessage()


def test_one_image_with_two_poses_is_doubtful(tmp_path: Path, make_info: Callable, make_images: Callable) -> None:
    images = make_images()
    scene = open_scene(write_scene(tmp_path / "one", make_info(), [images[0], images[1], images[0]]))
    (doubt,) = scene.doubts()
    assert "frames 0 and 2 hold the same image" in doubt
    # A camera at rest may well take the same picture twice.
    frames = [make_info().frames[i] for i in (0, 1, 0)]
    frames[2] = Frame(time_s=1.0, K=frames[0].K, camtoworld=np.copy(frames[0].camtoworld))
    resting = make_info(frames=tuple(frames), kind="dynamic")
    assert open_scene(write_scene(tmp_path / "two", resting, [images[0], images[1], images[0]])).doubts() == []


def test_one_of_the_loader_processes_reports_a_scene(
    far_too_long: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for worker in range(3):
        monkeypatch.setattr(listing, "_checked", set())
        monkeypatch.setattr(listing, "get_worker_info", lambda id=worker: SimpleNamespace(id=id, num_workers=3))
        open_scene(far_too_long)
    assert len(caplog.records) == 1
