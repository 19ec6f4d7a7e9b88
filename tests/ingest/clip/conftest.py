"""Test videos: frames that encode their number, shots with and without parallax."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from video_files import HEIGHT, WIDTH, moving, texture, write_video

_BITS = 8


@pytest.fixture(name="write_video")
def _write_video() -> Callable[..., Path]:
    """See `video_files.write_video`."""
    return write_video


@pytest.fixture
def numbered() -> Callable[..., Iterator[np.ndarray]]:
    """Frames that encode their number, 0 to 255, as black and white bars."""

    def make(numbers: Iterable[int], *, height: int = HEIGHT, width: int = WIDTH) -> Iterator[np.ndarray]:
        for number in numbers:
            bits = [(number >> bit) & 1 for bit in range(_BITS)]
            row = np.repeat(np.array(bits, dtype=np.uint8) * 170 + 40, -(-width // _BITS))[:width]
            yield np.ascontiguousarray(np.broadcast_to(row[None, :, None], (height, width, 3)))

    return make


@pytest.fixture
def numbers_of() -> Callable[[Iterable[np.ndarray]], list[int]]:
    """Decode the numbers of frames."""

    def read(images: Iterable[np.ndarray]) -> list[int]:
        found = []
        for image in images:
            bars = np.array_split(image.mean(axis=(0, 2)), _BITS)
            found.append(
                sum(int(bar[len(bar) // 4 : -(len(bar) // 4)].mean() > 125) << b for b, bar in enumerate(bars))
            )
        return found

    return read


@pytest.fixture(name="texture", scope="session")
def _texture() -> Callable[..., np.ndarray]:
    """See `video_files.texture`."""
    return texture


@pytest.fixture(name="moving", scope="session")
def _moving() -> Callable[..., Iterator[np.ndarray]]:
    """See `video_files.moving`."""
    return moving
