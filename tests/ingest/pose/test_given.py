"""Cameras that exist already, in a file beside the video."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from posed_video import PosedVideo, similarity_errors

from wnv.ingest.pose.filters import PoseFilters
from wnv.ingest.pose.given import GivenPoses
from wnv.ingest.pose.pose_stage import PoseStage
from wnv.ingest.tasks import Outcome, Task, run_task
from wnv.scenes.clip_poses import read_poses

pytestmark = pytest.mark.usefixtures("in_this_process")

START_S = 2.0  # of the clip in its video


def transforms(video: PosedVideo) -> dict[str, Any]:
    """Return the cameras of a video of twice the size, which starts two seconds before the clip."""
    frames = [
        {"time": START_S + index / float(video.fps), "transform_matrix": (camera @ np.diag([1, -1, -1, 1])).tolist()}
        for index, camera in enumerate(video.camtoworlds)
    ]
    fx, cx, cy = (2 * float(video.K[place]) for place in ((0, 0), (0, 2), (1, 2)))
    lens = {"w": 2 * video.width, "h": 2 * video.height, "fl_x": fx, "fl_y": fx, "cx": cx, "cy": cy, "k1": -0.06}
    return {**lens, "frames": frames}


@pytest.fixture
def pose(tmp_path: Path, room_video: PosedVideo) -> Any:
    """Run the stage with this file beside the video."""

    def run(content: Any, name: str = "walks/room.json") -> Outcome:
        file = tmp_path / "videos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
        (tmp_path / "room.mp4").write_bytes(room_video.path.read_bytes())
        payload = {"id": "room", "file": "room.mp4", "key": "file:walks/room.mp4", "url": "walks/room.mp4"}
        payload |= {"kind": "static", "start_s": START_S, "end_s": START_S + 1.2}
        estimator = GivenPoses(folder=str(tmp_path / "videos"))
        stage = PoseStage(estimator=estimator, filters=PoseFilters())
        return run_task(stage, Task(stage="pose", item="room", root=tmp_path, payload=payload))

    return run


@pytest.mark.parametrize("name", ["walks/room.json", "walks/room.transforms.json", "walks/room/transforms.json"])
def test_given_cameras_are_those_of_the_clip(name: str, pose: Any, room_video: PosedVideo, tmp_path: Path) -> None:
    outcome = pose(transforms(room_video), name)
    assert outcome.state == "done", outcome
    poses = read_poses(tmp_path / "room.json")
    assert len(poses.frames) == 12
    assert np.allclose(poses.K, room_video.K)
    assert poses.distortion.k1 == -0.06
    found = np.stack([frame.camtoworld for frame in poses.frames])
    assert max(similarity_errors(found, room_video.camtoworlds)) < 1e-4
    assert poses.source["estimator"]["name"].endswith("GivenPoses")


def test_frames_count_by_fps_and_those_without_a_camera_have_no_pose(pose: Any, room_video: PosedVideo) -> None:
    content = transforms(room_video)
    content["frames"] = content["frames"][:1] * 20 + content["frames"][:10]  # 20 images before the clip
    for frame in content["frames"]:
        frame.pop("time", None)
    outcome = pose({**content, "fps": 10})
    assert outcome.state == "done", outcome
    assert outcome.result["num_registered"] == 10


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"w": 100}, "100 x 252.*224 x 126"),
        ({"frames": []}, "frames is empty"),
        ({"frames": [{"transform_matrix": np.eye(4).tolist()}]}, "no time.*fps"),
        ({"frames": [{"time": 2, "transform_matrix": (2 * np.eye(4)).tolist()}]}, r"frames\[0\].*without scale"),
        ({"camera_model": "OPENCV_FISHEYE"}, "camera_model must be.*OPENCV_FISHEYE"),
        ({"h": None}, "room.json"),
    ],
)
def test_invalid_files_are_refused(change: dict, text: str, pose: Any, room_video: PosedVideo) -> None:
    outcome = pose({**transforms(room_video), **change})
    assert (outcome.state, outcome.reason) == ("refused", "given_poses")
    assert re.search(text, outcome.message)


def test_a_missing_file_names_where_it_was_looked_for(pose: Any, room_video: PosedVideo) -> None:
    outcome = pose(transforms(room_video), "walks/other.json")
    assert (outcome.state, outcome.reason) == ("refused", "given_poses")
    assert "room.json, room.transforms.json, room/transforms.json" in outcome.message


def test_cameras_of_another_clock_are_refused_with_both_ranges(pose: Any, room_video: PosedVideo) -> None:
    content = transforms(room_video)
    for frame in content["frames"]:
        frame["time"] += 1000
    outcome = pose(content)
    assert (outcome.state, outcome.reason) == ("refused", "no_model")
    assert re.search(r"max_gap_s=0.02.*2\.00 to 3\.10 s.*1002\.00 to 1003\.10 s", outcome.message)
