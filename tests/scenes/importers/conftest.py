"""A small capture of four posed images that every format can hold."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation


@dataclass(frozen=True)
class Capture:
    width: int
    height: int
    K: np.ndarray
    camtoworld: np.ndarray
    jpegs: tuple[bytes, ...]

    @property
    def viewmats(self) -> np.ndarray:
        return np.linalg.inv(self.camtoworld)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "scenes"


@pytest.fixture
def encode() -> Callable[..., bytes]:
    def encode_picture(pixels: np.ndarray, image_format: str = "JPEG") -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, image_format, **({"quality": 90} if image_format == "JPEG" else {}))
        return buffer.getvalue()

    return encode_picture


@pytest.fixture
def capture(encode: Callable[..., bytes]) -> Capture:
    width, height, count = 48, 32, 4
    random = np.random.default_rng(7)
    camtoworld = np.tile(np.eye(4), (count, 1, 1))
    camtoworld[:, :3, :3] = Rotation.random(count, rng=random).as_matrix()
    camtoworld[:, :3, 3] = random.normal(size=(count, 3))
    x, y = np.meshgrid(np.arange(width) / width, np.arange(height) / height)
    jpegs = tuple(
        encode((255 * np.stack([x, y, np.full_like(x, index / count)], axis=-1)).astype(np.uint8))
        for index in range(count)
    )
    K = np.array([[40.5, 0.0, 23.25], [0.0, 41.5, 16.75], [0.0, 0.0, 1.0]])
    return Capture(width, height, K, camtoworld, jpegs)
