"""Conditions of every test: seeded, offline, repeatable; slow tests get more time; device tests need their device."""

import gc
import importlib.util
import os

# Two tests run at a time, on two cores; threads of both would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

from wnv.ingest.clip.write_clip import write_clip
from wnv.scenes.clip_poses import ClipPoses, PosedFrame, write_poses
from wnv.scenes.undistort import Distortion

SLOW_TIMEOUT_S = 900
# Rendezvous address and rank of a run's processes, as set before the tests.
_PLACE = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "RANK", "WORLD_SIZE", "PL_GLOBAL_SEED")
LAUNCHER = {name: os.environ.get(name) for name in _PLACE}

# No test may reach the network: a logger or a hub that tries gives an error instead of a wait.
os.environ["WANDB_MODE"] = "offline"
os.environ["HF_HUB_OFFLINE"] = "1"

# The same examples each time, and no deadline: a shared machine may pause at any time.
hypothesis.settings.register_profile("wnv", derandomize=True, deadline=None)
hypothesis.settings.load_profile("wnv")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = {
        "gpu": pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
        "npu": pytest.mark.skipif(importlib.util.find_spec("torch_npu") is None, reason="needs an Ascend NPU"),
    }
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_S))
        for name, skip in missing.items():
            if item.get_closest_marker(name):
                item.add_marker(skip)


def pytest_collection_finish() -> None:
    # Modules and tests live to the end: not searching them for garbage saves a tenth of the suite's time.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seed() -> int:
    """Start each test from the same global random state; return the seed for tests that create generators."""
    torch.manual_seed(0)
    return 0


@pytest.fixture(autouse=True)
def no_launcher() -> Iterator[None]:
    """Reset the environment that a trainer sets for its processes: those of a later test would use the same address."""
    _restore_launcher()
    yield
    _restore_launcher()


def _restore_launcher() -> None:
    for name, value in LAUNCHER.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def write_posed_clip() -> Callable[..., Path]:
    """Writes `<name>.mp4` and `<name>.json`: frame i is grey of value 5 * i unless images are given."""

    def write(
        folder: Path,
        name: str,
        *,
        num_frames: int = 24,
        posed: Sequence[int] | None = None,
        kind: str = "static",
        images: Sequence[np.ndarray] | None = None,
        focal: float = 40.0,
        distortion: Distortion | None = None,
        source: dict | None = None,
    ) -> Path:
        fps = Fraction(30000, 1001)
        images = images or [np.full((32, 64, 3), 5 * index, dtype=np.uint8) for index in range(num_frames)]
        height, width = images[0].shape[:2]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.mp4"
        write_clip(path, images, fps=fps, gop=12, crf=4, preset="ultrafast", threads=1)
        frames = []
        for index in range(0, len(images), 2) if posed is None else posed:
            angle, camtoworld = 0.05 * index, np.eye(4)
            camtoworld[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
            camtoworld[:3, 3] = [0.1 * index, 0.01 * index, 0]
            frames.append(PosedFrame(index=index, time_s=float(index / fps), camtoworld=camtoworld))
        poses = ClipPoses(
            id=name,
            kind=kind,
            width=width,
            height=height,
            fps=fps,
            K=np.array([[focal, 0, width / 2 + 1], [0, focal + 1, height / 2 - 1], [0, 0, 1]]),
            distortion=distortion or Distortion(),
            frames=tuple(frames),
            source=source or {},
        )
        write_poses(path.with_suffix(".json"), poses)
        return path

    return write
