"""Small scenes, models and sessions."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from paint_model import PaintModel, open_synthetic

from wnv.models.konet import KoNet
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import Frame, SceneInfo
from wnv.viewer.scenes import file_scenes
from wnv.viewer.session import SceneSession

HEIGHT, WIDTH = 40, 24


@pytest.fixture
def model() -> KoNet:
    """Untrained weights whose image depends on every number of a camera."""
    model = KoNet(dim=32, num_layers=2, num_heads=2, mlp_dim=32, time_code=True)
    with torch.no_grad():
        for parameter in model.parameters():  # otherwise all images are grey
            parameter.mul_(4 if parameter.dim() > 1 else 1)
    return model.eval()


@pytest.fixture
def write_file_scene(tmp_path: Path) -> Callable[..., Path]:
    """Writes an upright scene of noise with a moving camera far from the world's origin."""

    def write(name: str, *, num_frames: int = 7, kind: str = "static", folder: str = "scenes") -> Path:
        frames, images = [], []
        random = np.random.default_rng(sum(map(ord, name)))
        for i in range(num_frames):
            angle, pose = 0.06 * i - 0.15, np.eye(4)
            pose[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
            pose[:3, 3] = [10 + 0.4 * i, -3 + 0.05 * i, 2 - 0.1 * i * i]
            K = np.array([[30.0, 0, WIDTH / 2], [0, 30, HEIGHT / 2], [0, 0, 1]])
            frames.append(Frame(time_s=2 + 0.5 * i, K=K, camtoworld=pose))
            colour = random.integers(0, 192, 3)
            images.append((colour + random.integers(0, 64, (HEIGHT, WIDTH, 3))).astype(np.uint8))
        info = SceneInfo(id=name, kind=kind, width=WIDTH, height=HEIGHT, frames=tuple(frames))
        return write_scene(tmp_path / folder, info, images)

    return write


@pytest.fixture
def open_session(model: KoNet) -> Iterator[Callable[..., SceneSession]]:
    """Opens sessions of scene files at their own size; closed after the test."""
    sessions = []

    def open_files(root: Path, **settings) -> SceneSession:
        scenes = file_scenes(root, image_size=(HEIGHT, WIDTH), num_context=2)
        settings = {"model": model, "device": torch.device("cpu"), "patch_size": 8, **settings}
        sessions.append(SceneSession(scenes=scenes, **settings))
        return sessions[-1]

    yield open_files
    for session in sessions:
        session.close()


@pytest.fixture
def paint_model() -> PaintModel:
    """A model with known images."""
    return PaintModel()


@pytest.fixture
def synthetic_session(paint_model: PaintModel) -> Iterator[SceneSession]:
    """A session of three wide dynamic synthetic scenes."""
    session = open_synthetic(paint_model)
    yield session
    session.close()


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    """Threads of windows and sessions end with the test."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("wnv-")]
    for thread in left:
        thread.join(30)
    assert not [thread.name for thread in left if thread.is_alive()]
