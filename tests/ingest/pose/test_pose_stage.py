"""The pose stage: sampling, the second estimator, and its outputs."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from omegaconf import DictConfig
from pose_fakes import FakeEstimator
from posed_video import PosedVideo, render_room

from wnv.ingest.pose.filters import PoseFilters
from wnv.ingest.pose.pose_stage import PoseStage, describe
from wnv.ingest.pose.sample import sample_indices
from wnv.ingest.tasks import Outcome, Task, run_task
from wnv.scenes.clip_poses import read_poses

_CLIP = "clips/static/train/room.mp4"

Run = Callable[..., Outcome]


@pytest.fixture
def root(tmp_path: Path, room_video: PosedVideo) -> Path:
    """An output root with one clip."""
    clip = tmp_path / "root" / _CLIP
    clip.parent.mkdir(parents=True)
    clip.write_bytes(room_video.path.read_bytes())
    return tmp_path / "root"


@pytest.fixture
def run(root: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Run:
    """Run the stage on the clip, and check that it leaves no temporary files; with `limited`, in a new process."""

    def run_stage(
        estimator: object, *, retry: object = None, kind: str = "static", limited: bool = False, **settings: Any
    ) -> Outcome:
        if not limited:
            request.getfixturevalue("in_this_process")
        workspace = tmp_path / "temporary"
        stage = PoseStage(estimator=estimator, retry=retry, filters=PoseFilters(), workspace=str(workspace), **settings)
        payload = {
            "id": "room",
            "file": _CLIP,
            "key": "bv:BV1xx411c7mD:p1",
            "kind": kind,
            "split": "train",
            "title": "房间 🏠",
            "url": "https://www.bilibili.com/video/BV1xx411c7mD?p=1",
            "start_s": 12.5,
            "end_s": 13.7,
        }
        outcome = run_task(stage, Task(stage="pose", item="room", root=root, payload=payload))
        assert list(workspace.iterdir()) == []
        assert sorted(path.name for path in (root / _CLIP).parent.iterdir() if path.suffix != ".json") == ["room.mp4"]
        return outcome

    return run_stage


def test_the_pose_file_records_how_it_was_made(run: Run, root: Path) -> None:
    outcome = run(FakeEstimator(num_registered=11), limited=True)
    sidecar = root / "clips/static/train/room.json"
    assert (outcome.state, outcome.reason) == ("done", "ok")
    assert outcome.result["sidecar"] == "clips/static/train/room.json"
    assert (outcome.result["num_frames"], outcome.result["num_registered"]) == (12, 11)
    assert outcome.num_bytes == sidecar.stat().st_size
    assert json.loads(json.dumps(outcome.result)) == outcome.result

    poses = read_poses(sidecar)
    assert (poses.id, poses.kind, poses.width, poses.height, poses.fps) == ("room", "static", 224, 126, 10)
    assert [frame.index for frame in poses.frames] == list(range(11))
    assert [frame.time_s for frame in poses.frames] == pytest.approx([index / 10 for index in range(11)])
    positions = np.stack([frame.camtoworld[:3, 3] for frame in poses.frames])
    assert np.linalg.norm(np.diff(positions, axis=0), axis=-1) == pytest.approx(np.ones(10))
    assert poses.scale is None
    source = poses.source
    assert source["manifest_key"] == "bv:BV1xx411c7mD:p1"
    assert source["title"] == "房间 🏠"
    assert source["segment"] == [12.5, 13.7]
    assert source["world"] == {
        "unit": "median step between sampled frames",
        "median_step": 1.0,
        "frame": "the first camera",
    }
    assert source["estimator"]["name"] == "pose_fakes.FakeEstimator"
    assert source["estimator"]["num_registered"] == 11
    assert source["tools"]["fake"] == "1"
    assert source["sfm"] == outcome.result["stats"]
    assert source["sfm"]["registered_ratio"] == pytest.approx(11 / 12)
    assert source["tries"] == [{"reason": "ok", "message": ""}]


def test_a_second_estimator_is_used_if_the_first_result_is_rejected(run: Run, root: Path, tmp_path: Path) -> None:
    notes = str(tmp_path / "notes")
    outcome = run(FakeEstimator(num_registered=5, notes=notes), retry=FakeEstimator(notes=notes), seed=7)
    assert outcome.state == "done"
    source = read_poses(root / outcome.result["sidecar"]).source
    assert [entry["reason"] for entry in source["tries"]] == ["few_registered", "ok"]
    assert source["seed"] == 8
    assert outcome.result["stats"]["num_tries"] == 2
    first, second = (json.loads(line) for line in Path(notes).read_text().splitlines())
    assert (first["seed"], second["seed"]) == (7, 8)
    assert first["frames"] == second["frames"] == [f"{index:06d}.png" for index in range(12)]
    assert first["workspace"] != second["workspace"]


def test_a_second_estimator_is_used_after_a_crash(run: Run) -> None:
    outcome = run(FakeEstimator(act="crash"), retry=FakeEstimator())
    assert outcome.state == "done"
    assert outcome.result["stats"]["num_tries"] == 2


def test_cameras_that_are_rejected_twice_leave_only_statistics(run: Run, root: Path) -> None:
    sidecar = root / "clips/static/train/room.json"
    sidecar.write_text("of an earlier run")
    outcome = run(FakeEstimator(act="nothing"), retry=FakeEstimator(num_registered=5))
    assert (outcome.state, outcome.reason) == ("refused", "few_registered")
    assert re.match("no_model: .*; then few_registered: 5 of 12", outcome.message)
    assert outcome.result["stats"]["num_registered"] == 5
    assert not sidecar.exists()


@pytest.mark.parametrize(
    ("act", "reason", "text"), [("crash", "crashed", "SIGABRT"), ("raise", "error", "width must be even, got 3")]
)
def test_an_estimator_that_fails_is_recorded(act: str, reason: str, text: str, run: Run, root: Path) -> None:
    retry = FakeEstimator(act="crash") if act == "crash" else FakeEstimator()
    outcome = run(FakeEstimator(act=act), retry=retry)
    assert (outcome.state, outcome.reason) == ("failed", reason)
    assert text in outcome.message
    assert not (root / "clips/static/train/room.json").exists()


def test_no_second_estimator_for_an_unsuitable_clip(run: Run) -> None:
    outcome = run(FakeEstimator(act="refuse"), retry=FakeEstimator())
    assert (outcome.state, outcome.reason, outcome.message) == ("refused", "low_parallax", "the camera only turns")


@pytest.mark.parametrize(
    ("num_frames", "max_frames", "frame_step", "indices"),
    [
        (5, 48, None, [0, 1, 2, 3, 4]),
        (101, 3, None, [0, 50, 100]),
        (101, None, 40, [0, 40, 80]),
        (1000, 5, 10, [0, 250, 500, 740, 990]),
    ],
)
def test_sample_indices(num_frames: int, max_frames: int | None, frame_step: int | None, indices: list[int]) -> None:
    assert sample_indices(num_frames, max_frames=max_frames, frame_step=frame_step) == indices


def test_a_clip_with_too_few_frames_is_not_tried(run: Run, root: Path) -> None:
    (root / "clips/static/train/room.json").write_text("of an earlier run")
    outcome = run(FakeEstimator(act="abort"), frame_step=4)
    assert not (root / "clips/static/train/room.json").exists()
    assert (outcome.state, outcome.reason) == ("refused", "few_registered")
    assert re.match(r"3 .*pose\.filters\.min_frames=5", outcome.message)


@pytest.mark.slow
def test_clips_are_masked_as_set(run: Run, root: Path, tmp_path: Path) -> None:
    render_room(root / _CLIP, num_frames=12, width=224, height=126, supersample=1, walker=True)
    seen = []
    cases = [("static", "auto", 0.01), ("static", "auto", 0.9), ("static", "dynamic", 0), ("dynamic", "dynamic", 0)]
    for kind, masks, min_moving in [*cases, ("dynamic", "never", 0), ("static", "always", 0)]:
        notes = tmp_path / f"notes_{kind}_{masks}_{min_moving}"
        outcome = run(FakeEstimator(notes=str(notes)), kind=kind, masks=masks, min_moving=min_moving)
        stats = outcome.result["stats"]
        seen.append((json.loads(notes.read_text())["num_masks"], stats["is_masked"], bool(stats["moving_share"])))
    masked, only_measured, unknown = (12, True, True), (None, False, True), (None, False, False)
    assert seen == [masked, only_measured, unknown, masked, unknown, masked]


def test_a_corrupt_clip_is_an_error_that_names_it(run: Run, root: Path) -> None:
    (root / _CLIP).write_bytes(b"no video at all")
    outcome = run(FakeEstimator())
    assert (outcome.state, outcome.reason) == ("failed", "error")
    assert "room.mp4" in outcome.message


def test_versions_contain_all_settings() -> None:
    stage = PoseStage(estimator=FakeEstimator(), retry=FakeEstimator(act="nothing"), filters=PoseFilters(), seed=3)
    versions = stage.versions()
    settings = json.loads(versions["settings"])
    assert versions["fake"] == "1"
    assert [estimator["act"] for estimator in settings["estimators"]] == ["pose", "nothing"]
    assert settings["filters"]["fov_deg"] == [15.0, 120.0]
    assert (settings["seed"], settings["max_frames"]) == (3, 48)


def packaged(*overrides: str) -> DictConfig:
    with initialize_config_module("wnv.conf.ingest", version_base="1.3"):
        return compose("pose", [*overrides])


def test_pose_custom_replaces_colmap_with_all_its_settings() -> None:
    cfg = packaged("pose=custom", "pose.estimator._target_=pose_fakes.FakeEstimator", "+pose.estimator.act=pose")
    stage = instantiate(cfg.pose)
    assert (stage.estimator.act, stage.retry) == ("pose", None)
    assert describe(stage.filters) == describe(PoseFilters())


def test_the_configuration_has_the_defaults_of_the_classes() -> None:
    pytest.importorskip("pycolmap", reason="pycolmap has no wheel for this machine")
    stage = instantiate(packaged().pose)
    assert isinstance(stage, PoseStage)
    by_default = PoseStage(estimator=type(stage.estimator)(), filters=PoseFilters())
    assert {**describe(stage), "retry": None} == describe(by_default)
    assert describe(stage.estimator) == describe(by_default.estimator)
    assert describe(stage.filters) == describe(by_default.filters)
    assert describe(stage.retry) != describe(stage.estimator)


@pytest.mark.parametrize("settings", [{"max_frames": 1}, {"frame_step": 0}, {"seed": -1}, {"time_limit_s": 0}])
def test_invalid_settings_are_errors(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        PoseStage(estimator=FakeEstimator(), filters=PoseFilters(), **settings)
