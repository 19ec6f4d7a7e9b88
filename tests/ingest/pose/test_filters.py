"""Implausible cameras are rejected, with the value that failed."""

from typing import Any

import numpy as np
import pytest
from pose_fakes import walk, walked

from wnv.ingest.pose.estimator import NoCameras, PoseEstimate
from wnv.ingest.pose.filters import PoseFilters, Verdict, longest_run, path_steps, place_world
from wnv.scenes.undistort import Distortion


def _check(estimate: PoseEstimate | NoCameras | None, num_frames: int = 12, **settings: Any) -> Verdict:
    return PoseFilters(**settings).check(estimate, width=224, height=126, num_frames=num_frames)


def _jumping(num_frames: int, at: int, by: float) -> dict[int, np.ndarray]:
    camtoworlds = walk(num_frames)
    for position in range(at, num_frames):
        camtoworlds[position][1, 3] += by
    return camtoworlds


def test_good_cameras_are_kept_and_normalized() -> None:
    verdict = _check(walked())
    assert verdict.reason == "ok"
    assert verdict.estimate is not None
    kept = verdict.estimate.camtoworlds
    assert np.array_equal(kept[0], np.eye(4))
    assert path_steps(kept)[0] == pytest.approx(1.0)
    assert verdict.stats["registered_ratio"] == 1.0
    assert verdict.stats["fov_deg"] == pytest.approx(2 * np.degrees(np.arctan(112 / 200)))
    assert verdict.stats["focal_over_long_side"] == pytest.approx(200 / 224)


@pytest.mark.parametrize(
    ("estimate", "reason", "text"),
    [
        (None, "no_model", "reconstruction failed"),
        (NoCameras("9 matches"), "no_model", "9 matches"),
        (walked(8), "few_registered", "8 of 12 frames have a pose, at least 9"),
        (walked(parallax_deg=1.25), "low_parallax", "1.25 degrees, pose.filters.min_parallax_deg=2.5"),
        (walked(camtoworlds={i: np.eye(4) for i in range(12)}), "low_parallax", "no motion"),
        (walked(focal=20.0), "focal", "field of view 159.8 degrees"),
        (walked(focal=2000.0), "focal", "field of view 6.4 degrees"),
        (walked(distortion=Distortion(k1=-60.0)), "focal", "k1=-60"),
        (walked(reprojection_px=1.75), "reprojection", "1.75 px, pose.filters.max_reprojection_px=1.5"),
        (walked(camtoworlds=_jumping(12, 6, 50.0)), "jump", "leave 6 frames in one piece, at least 9"),
    ],
)
def test_each_check_has_a_reason_and_a_value(estimate: PoseEstimate | NoCameras | None, reason: str, text: str) -> None:
    verdict = _check(estimate)
    assert (verdict.reason, verdict.estimate) == (reason, None)
    assert text in verdict.message
    assert not isinstance(estimate, PoseEstimate) or verdict.stats["num_registered"] == len(estimate.camtoworlds)


def test_missing_statistics_are_not_checked() -> None:
    verdict = _check(walked(parallax_deg=None, reprojection_px=None))
    assert verdict.reason == "ok"
    assert "parallax_deg" not in verdict.stats


def test_the_longest_piece_without_a_jump_is_kept() -> None:
    verdict = _check(walked(camtoworlds=_jumping(12, 2, 50.0)))
    assert verdict.estimate is not None
    assert sorted(verdict.estimate.camtoworlds) == list(range(2, 12))
    assert np.array_equal(verdict.estimate.camtoworlds[2], np.eye(4))
    assert verdict.stats["num_kept"] == 10
    assert verdict.stats["max_jump"] > 100


def test_the_path_is_cut_at_wide_rotations() -> None:
    camtoworlds = walk(12)
    turned = np.diag([-1.0, 1.0, -1.0, 1.0])
    for position in range(9, 12):
        camtoworlds[position] = camtoworlds[position] @ turned
    assert longest_run(camtoworlds, max_jump=12, max_turn_deg=60) == list(range(9))


def test_steps_across_frames_without_a_pose_are_divided() -> None:
    camtoworlds = walk(12)
    for position in (3, 4, 5):
        del camtoworlds[position]
    median, jump, turn_deg = path_steps(camtoworlds)
    assert median == pytest.approx(0.25)
    assert jump == pytest.approx(1.0)
    assert turn_deg == pytest.approx(np.degrees(0.02))


def test_the_world_does_not_depend_on_the_estimators_frame_and_unit() -> None:
    camtoworlds = walk(6)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    other = np.eye(4)
    other[:3, :3] = turn * np.sign(np.linalg.det(turn))
    other[:3, 3] = 3.0, -4.0, 5.0
    moved = {position: other @ camtoworld for position, camtoworld in camtoworlds.items()}
    for camtoworld in moved.values():
        camtoworld[:3, 3] *= 7.0
    for one, two in zip(place_world(camtoworlds).values(), place_world(moved).values(), strict=True):
        assert np.abs(one - two).max() < 1e-12


@pytest.mark.parametrize(
    "settings",
    [
        {"min_registered": 0.0},
        {"min_frames": 1},
        {"max_reprojection_px": 0.0},
        {"min_parallax_deg": -1.0},
        {"fov_deg": [90.0, 30.0]},
        {"max_jump": 1.0},
    ],
)
def test_invalid_settings_are_errors(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
        PoseFilters(**settings)
