"""Camera paths, and a browser."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from browser import CHROMIUM, Browser, start_browser


@pytest.fixture
def orbit() -> Callable[[int], np.ndarray]:
    """Makes cameras on a half circle that look at its centre; the ground is the plane of x and y."""

    def make(num_frames: int) -> np.ndarray:
        poses = np.tile(np.eye(4), (num_frames, 1, 1))
        for pose, angle in zip(poses, np.linspace(0, math.pi, num_frames), strict=True):
            forward = np.array([-math.cos(angle), -math.sin(angle), 0.0])
            down = np.array([0.0, 0.0, -1.0])
            pose[:3, :3] = np.stack([np.cross(down, forward), down, forward], axis=1)
            pose[:3, 3] = -3 * forward
        return poses

    return make


@pytest.fixture
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A headless Chromium; skips the test without one."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with start_browser(tmp_path_factory.mktemp("browser") / "profile") as browser:
        yield browser
