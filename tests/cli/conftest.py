"""Run commands in this process, and check the files that they leave."""

import logging
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from wnv.cli import data, export
from wnv.models.konet import KoNet
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import Frame, SceneInfo


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Hydra's log handlers write to a stream that is closed when a test ends, or to a file of the test's."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def run_in_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run the `main` of a command with arguments in `tmp_path`: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")

    def run(main: Callable[[], None], *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [main.__name__, *arguments])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def wnv_data(run_in_process: Callable[..., tuple[int, str, str]]) -> Callable[..., tuple[int, str, str]]:
    return partial(run_in_process, data.main)


@pytest.fixture
def wnv_export(run_in_process: Callable[..., tuple[int, str, str]]) -> Callable[..., tuple[int, str, str]]:
    return partial(run_in_process, export.main)


@pytest.fixture(scope="session")
def save_weights() -> Callable[..., Path]:
    """Save a small KoNet in a folder."""
    return lambda folder, **options: KoNet(
        **(dict(dim=32, num_layers=1, num_heads=2, mlp_dim=32) | options)
    ).save_pretrained(folder)


@pytest.fixture(scope="session")
def save_scene() -> Callable[..., Path]:
    """Write a scene of ever brighter frames from a camera that moves to the right."""

    def save(
        root: Path, name: str, *, width: int = 40, height: int = 24, num_frames: int = 8, kind: str = "static"
    ) -> Path:
        K = np.array([[30.0, 0, width / 2], [0, 30, height / 2], [0, 0, 1]])
        poses = np.tile(np.eye(4), (num_frames, 1, 1))
        poses[:, 0, 3] = 0.3 * np.arange(num_frames)
        frames = tuple(Frame(time_s=i, K=K, camtoworld=pose) for i, pose in enumerate(poses))
        info = SceneInfo(id=name, kind=kind, width=width, height=height, frames=frames)
        return write_scene(root, info, [np.full((height, width, 3), 20 * i, np.uint8) for i in range(num_frames)])

    return save
