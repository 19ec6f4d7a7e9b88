"""Parallax is distinguished from turning, zooming and standing still."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
from posed_video import render_room
from video_files import moving, texture

from wnv.ingest.clip.motion import MotionMeter, Stretch
from wnv.scenes.video import open_video


def _stretches(images: Iterable[np.ndarray]) -> list[Stretch]:
    meter = MotionMeter(max_shift=0.06, max_frames=90)
    for index, image in enumerate(images):
        meter.add(index * 3, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    return meter.finish()


def test_layers_at_several_depths() -> None:
    stretches = _stretches(moving(24, speeds=(1.0, 2.0, 4.0)))
    assert len(stretches) >= 3
    assert all(stretch.parallax > 0.2 for stretch in stretches)
    assert all(0.05 < stretch.shift < 0.15 for stretch in stretches[:-1])
    assert [stretch.end for stretch in stretches[:-1]] == [stretch.start for stretch in stretches[1:]]
    assert (stretches[0].start, stretches[-1].end) == (0, 23 * 3)


def _warped(image: np.ndarray, number: int, kind: str) -> np.ndarray:
    turn = np.deg2rad(number - 15)
    if kind == "zoom":
        scale = 1.0 + 0.02 * number
        matrix = np.array([[scale, 0, 96 - 400 * scale], [0, scale, 54 - 200 * scale], [0, 0, 1]])
    else:
        camera = np.array([[160.0, 0, 96], [0, 160, 54], [0, 0, 1]])
        photo = np.array([[400.0, 0, 400], [0, 400, 200], [0, 0, 1]])
        rotation, _ = cv2.Rodrigues(np.array([0.1 * np.sin(turn * 5), turn, 0.1 * turn]))
        matrix = camera @ rotation @ np.linalg.inv(photo)
    return cv2.warpPerspective(image, matrix, (192, 108), flags=cv2.INTER_AREA)


@pytest.mark.parametrize("kind", ["zoom", "turn"])
def test_a_photograph_has_no_parallax(kind: str) -> None:
    photograph = texture(3)
    stretches = _stretches(_warped(photograph, number, kind) for number in range(15))
    assert max(stretch.shift for stretch in stretches) > 0.05
    assert all(stretch.parallax < 0.08 for stretch in stretches)


@pytest.mark.slow
@pytest.mark.parametrize("turn_only", [False, True])
def test_a_room_filmed_walking_and_turning(tmp_path: Path, turn_only: bool) -> None:
    video = render_room(
        tmp_path / "room.mp4", num_frames=30, width=192, height=108, supersample=1, turn_only=turn_only, k1=-0.1
    )
    with open_video(video.path) as reader:
        stretches = _stretches(reader.read(range(30)))
    total = sum(stretch.end - stretch.start for stretch in stretches)
    deep = sum(stretch.end - stretch.start for stretch in stretches if stretch.parallax > 0.15)
    assert deep == 0 if turn_only else deep > total / 2


def test_a_tripod_does_not_move() -> None:
    rng = np.random.default_rng(0)
    still = texture(3, height=108, width=192).astype(int)
    noisy = (np.clip(still + rng.normal(0, 6, still.shape), 0, 255).astype(np.uint8) for _ in range(20))
    assert max(stretch.shift for stretch in _stretches(noisy)) < 0.005


def test_noise_and_uniform_images_are_not_tracked() -> None:
    rng = np.random.default_rng(0)
    stretches = _stretches(rng.integers(0, 255, (108, 192, 3), dtype=np.uint8) for _ in range(10))
    assert all(stretch.parallax == 0 for stretch in stretches)
    uniform = _stretches(np.full((108, 192, 3), 90, dtype=np.uint8) for _ in range(10))
    assert all((stretch.shift, stretch.parallax) == (0, 0) for stretch in uniform)
