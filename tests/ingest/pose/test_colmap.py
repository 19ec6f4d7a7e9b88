"""COLMAP on rendered videos: accuracy, reproducibility and failures."""

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from posed_video import PosedVideo, render_room, similarity_errors

from wnv.ingest.pose import colmap
from wnv.ingest.pose.colmap import ColmapEstimator
from wnv.ingest.pose.estimator import NoCameras, PoseEstimate
from wnv.ingest.pose.filters import PoseFilters
from wnv.ingest.pose.limits import run_limited
from wnv.ingest.pose.motion_masks import motion_masks
from wnv.ingest.pose.pose_stage import describe
from wnv.ingest.tasks import StageError
from wnv.scenes.video import open_video

needs_pycolmap = pytest.mark.skipif(
    importlib.util.find_spec("pycolmap") is None, reason="pycolmap has no wheel for this machine"
)


def _estimate(folder: Path, video: PosedVideo, *, masked: bool = False, **settings: Any) -> PoseEstimate | NoCameras:
    """Run COLMAP in a separate process, as the stage does, since decord may be loaded in this one."""
    for name in ("frames", "masks", "work"):
        (folder / name).mkdir(parents=True)
    with open_video(video.path) as reader:
        images = list(reader.read(range(reader.num_frames)))
    frames = [folder / "frames" / f"{index:06d}.png" for index in range(len(images))]
    for path, image in zip(frames, images, strict=True):
        cv2.imwrite(str(path), image[..., ::-1])
    masks = None
    if masked:
        masks = [folder / "masks" / path.name for path in frames]
        moving = motion_masks(images, [*images[1:], images[-2]], seed=0)
        for path, mask in zip(masks, moving, strict=True):
            cv2.imwrite(str(path), np.where(mask, np.uint8(0), np.uint8(255)))
    return run_limited(
        ColmapEstimator(**settings).estimate,
        folder=folder,
        time_limit_s=600,
        memory_limit_gb=4,
        frames=frames,
        masks=masks,
        seed=0,
        workspace=folder / "work",
    )


def _errors(estimate: PoseEstimate | NoCameras, video: PosedVideo) -> tuple[float, float, float]:
    """Return position error over path extent, rotation error in degrees, and relative focal error."""
    assert isinstance(estimate, PoseEstimate)
    found = np.stack([estimate.camtoworlds[position] for position in sorted(estimate.camtoworlds)])
    position, rotation_deg = similarity_errors(found, video.camtoworlds[sorted(estimate.camtoworlds)])
    return position, rotation_deg, abs(estimate.K[0, 0] / video.K[0, 0] - 1)


@pytest.mark.slow
@needs_pycolmap
def test_finds_the_cameras_of_a_small_video_reproducibly(tmp_path: Path, room_video: PosedVideo) -> None:
    settings = {"num_features": 600}
    estimate = _estimate(tmp_path / "one", room_video, **settings)
    position, rotation_deg, focal = _errors(estimate, room_video)
    assert position < 0.01
    assert rotation_deg < 0.5
    assert focal < 0.02
    assert isinstance(estimate, PoseEstimate)
    assert len(estimate.camtoworlds) == 12
    assert estimate.K[:2, 2].tolist() == [112.0, 63.0]
    assert estimate.distortion.k1 == pytest.approx(-0.06, abs=0.02)
    assert estimate.statistics.reprojection_px is not None
    assert estimate.statistics.reprojection_px < 0.5
    assert estimate.statistics.parallax_deg is not None
    assert 5 < estimate.statistics.parallax_deg < 40
    assert estimate.statistics.homography_ratio is not None
    assert estimate.statistics.homography_ratio < 0.5

    again = _estimate(tmp_path / "two", room_video, **settings)
    assert isinstance(again, PoseEstimate)
    assert again.statistics == estimate.statistics
    assert np.array_equal(again.K, estimate.K)
    assert again.distortion == estimate.distortion
    for number, camtoworld in estimate.camtoworlds.items():
        assert np.array_equal(again.camtoworlds[number], camtoworld)


@needs_pycolmap
def test_frames_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    frames = [tmp_path / "frames" / f"{index}.png" for index in range(3)]
    frames[0].parent.mkdir()
    (tmp_path / "work").mkdir()
    for frame in frames:
        frame.write_bytes(b"no image")
    with pytest.raises(RuntimeError, match="0 of 3 frames"):
        run_limited(
            ColmapEstimator().estimate,
            folder=tmp_path,
            time_limit_s=60,
            memory_limit_gb=2,
            frames=frames,
            masks=None,
            seed=0,
            workspace=tmp_path / "work",
        )


@needs_pycolmap
@pytest.mark.slow
def test_a_camera_that_only_turns_gives_no_parallax(tmp_path: Path) -> None:
    video = render_room(tmp_path / "turn.mp4", num_frames=8, width=240, height=136, supersample=1, turn_only=True)
    with pytest.raises(StageError) as caught:
        _estimate(tmp_path / "run", video)
    assert (caught.value.outcome.state, caught.value.outcome.reason) == ("refused", "low_parallax")
    assert "100.0%" in caught.value.outcome.message
    # Without the homography check the filters accept it.
    estimate = _estimate(tmp_path / "on", video, max_homography_ratio=1.0)
    verdict = PoseFilters().check(estimate, width=240, height=136, num_frames=8)
    assert verdict.reason == "ok"
    assert isinstance(estimate, PoseEstimate)
    assert abs(estimate.K[0, 0] / video.K[0, 0] - 1) > 0.15


@needs_pycolmap
@pytest.mark.slow
def test_masks_remove_moving_objects(tmp_path: Path) -> None:
    video = render_room(tmp_path / "walker.mp4", num_frames=12, width=320, height=180, supersample=1, walker=True)
    masked = _errors(_estimate(tmp_path / "masked", video, masked=True), video)
    assert masked[0] < 0.01
    assert masked[1] < 0.5
    assert masked[2] < 0.02


@needs_pycolmap
def test_a_failed_reconstruction_names_matches_and_limits(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    rng = np.random.default_rng(0)
    frames = [tmp_path / "frames" / f"{index}.png" for index in range(3)]
    for frame in frames:
        cv2.imwrite(str(frame), cv2.resize(rng.integers(0, 255, (8, 12, 3), dtype=np.uint8), (96, 64)))
    (tmp_path / "work").mkdir()
    limits = {"time_limit_s": 60, "memory_limit_gb": 2}
    estimate = run_limited(
        ColmapEstimator().estimate,
        folder=tmp_path,
        frames=frames,
        masks=None,
        seed=0,
        workspace=tmp_path / "work",
        **limits,
    )
    assert isinstance(estimate, NoCameras)
    assert re.search(r"at most \d+ matches per pair, 100 are needed.*num_features=2048", estimate.message)


@pytest.mark.parametrize(
    "settings",
    [
        {"camera_model": "FISHEYE"},
        {"num_features": 0},
        {"num_threads": -1},
        {"focal_guess": 0},
        {"init_min_parallax_deg": 90},
    ],
)
def test_invalid_settings_are_errors(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        ColmapEstimator(**settings)


@pytest.mark.parametrize(("has_cuda", "has_gpu"), [(False, False), (False, True), (True, False), (True, True)])
def test_features_are_computed_on_a_gpu_where_that_is_possible(
    has_cuda: bool, has_gpu: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if has_gpu:
        (tmp_path / "0000:01:00.0").mkdir()
    monkeypatch.setattr(colmap, "_NVIDIA_DRIVER", tmp_path)
    pycolmap = SimpleNamespace(has_cuda=has_cuda)
    is_possible = has_cuda and has_gpu
    assert ColmapEstimator()._uses_gpu(pycolmap) == is_possible
    assert not ColmapEstimator(use_gpu=False)._uses_gpu(pycolmap)
    if is_possible:
        assert ColmapEstimator(use_gpu=True)._uses_gpu(pycolmap)
    else:
        with pytest.raises(ValueError, match="use_gpu=true.*" + ("no NVIDIA GPU" if has_cuda else "pycolmap-cuda12")):
            ColmapEstimator(use_gpu=True)._uses_gpu(pycolmap)
    # Finished poses stay valid on another machine.
    assert describe(ColmapEstimator(use_gpu=False)) == describe(ColmapEstimator())
