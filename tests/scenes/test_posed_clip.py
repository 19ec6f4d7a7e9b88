"""Posed clips read like scene files: the right frames, undistorted, from either decoder."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from wnv.scenes.clip_poses import read_poses, write_poses
from wnv.scenes.listing import open_scene
from wnv.scenes.schema import SceneError
from wnv.scenes.undistort import Distortion

LENS = Distortion(k1=-0.3, k2=0.05, p1=0.002, p2=-0.001)


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_frames_are_those_of_their_indices(tmp_path: Path, write_posed_clip: Callable, decoder: str) -> None:
    path = write_posed_clip(tmp_path, "walk", num_frames=40, posed=[1, 4, 5, 17, 39], kind="dynamic")
    clip = open_scene(path, decoder=decoder)
    assert len(clip) == 5
    assert clip.info.kind == "dynamic"
    assert [frame.source_index for frame in clip.info.frames] == [1, 4, 5, 17, 39]
    views = clip.views([3, 0, 4])
    assert views.images.shape == (3, 3, 32, 64)
    np.testing.assert_allclose(255 * views.images.mean(dim=(1, 2, 3)), [85, 5, 195], atol=1.5)
    torch.testing.assert_close(views.times, torch.tensor([17, 1, 39]) * 1001 / 30000)
    torch.testing.assert_close(views.cameras.camtoworld[0, :3, 3], torch.tensor([1.7, 0.17, 0]))
    assert clip.image_u8(1).mean() == pytest.approx(20, abs=1.5)
    assert clip.image_u8(1).flags.writeable
    again = pickle.loads(pickle.dumps(clip))
    assert torch.equal(again.views([2]).images, clip.views([2]).images)
    for index in (-1, 5):
        with pytest.raises(IndexError, match=f"'walk'.*{index}"):
            clip.image_u8(index)


def light(rays: np.ndarray) -> np.ndarray:
    """A smooth colour per ray direction (x, y, 1)."""
    frequencies = np.array([[3.0, -2.0], [1.0, 4.0], [-3.0, 2.5]])
    return np.round(127 + 90 * np.sin(rays @ frequencies.T)).astype(np.uint8)


def test_a_clip_is_undistorted_to_its_pinhole(tmp_path: Path, write_posed_clip: Callable) -> None:
    height, width, focal = 96, 128, 110.0
    grid = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)
    K = np.array([[focal, 0, width / 2 + 1], [0, focal + 1, height / 2 - 1], [0, 0, 1]])
    rays = cv2.undistortPoints(grid.reshape(-1, 1, 2), K, LENS.coefficients).reshape(height, width, 2)
    path = write_posed_clip(tmp_path, "lens", images=[light(rays)] * 3, focal=focal, distortion=LENS)
    clip = open_scene(path.with_suffix(".json"))
    pinhole = clip.info.K[0]
    assert abs(pinhole[0, 0] - focal) > 0.02 * focal
    expected = light((grid - pinhole[:2, 2]) / pinhole[[0, 1], [0, 1]]).astype(float)
    error = np.abs(clip.image_u8(0) - expected)
    assert error.mean() < 2
    assert np.abs(light(rays) - expected).max() > 5 * error.max()  # the lens matters here
    np.testing.assert_array_equal(clip.images_u8([1], box=(10, 20, 70, 90))[0], clip.image_u8(1)[20:90, 10:70])


def test_poses_of_another_video_are_rejected(tmp_path: Path, write_posed_clip: Callable) -> None:
    path = write_posed_clip(tmp_path, "one", num_frames=10)
    poses = read_poses(path.with_suffix(".json"))
    longer = write_posed_clip(tmp_path, "two", num_frames=30)
    write_poses(path.with_suffix(".json"), read_poses(longer.with_suffix(".json")))
    with pytest.raises(SceneError, match=r"frame 28.*one\.mp4.*frame 9"):
        open_scene(path)
    times = tuple(replace(frame, time_s=frame.index / 25) for frame in poses.frames)
    for change in ({"width": 40}, {"fps": Fraction(25), "frames": times}):
        write_poses(path.with_suffix(".json"), replace(poses, **change))
        with pytest.raises(SceneError, match="pose the clip again"):
            open_scene(path)


def test_missing_files_are_named(tmp_path: Path, write_posed_clip: Callable) -> None:
    path = write_posed_clip(tmp_path, "one", num_frames=3)
    with pytest.raises(FileNotFoundError, match=r"one\.mkv"):
        open_scene(path.with_suffix(".mkv"))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"one\.mp4"):
        open_scene(path)
    path.with_suffix(".json").unlink()
    with pytest.raises(FileNotFoundError, match=r"one\.json"):
        open_scene(path)
