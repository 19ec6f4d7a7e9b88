"""Poses of a clip: written, read, and checked."""

from collections.abc import Callable
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from wnv.scenes.clip_poses import ClipPoses, PosedFrame, read_poses, write_poses
from wnv.scenes.schema import SceneError
from wnv.scenes.undistort import Distortion


@pytest.fixture
def poses() -> ClipPoses:
    frames = []
    for index in (0, 3, 7):
        camtoworld = np.eye(4)
        camtoworld[:3, 3] = [index / 7, 0.1, -1e-17]
        frames.append(PosedFrame(index=index, time_s=index * 1001 / 30000, camtoworld=camtoworld))
    return ClipPoses(
        id="bv_BV1xx_p1_000012000",
        kind="dynamic",
        width=64,
        height=36,
        fps=Fraction(30000, 1001),
        K=np.array([[50.1, 0, 31.5], [0, 50.3, 18.25], [0, 0, 1]]),
        distortion=Distortion(k1=-0.1, p2=1e-3),
        frames=tuple(frames),
        scale=None,
        source={"title": "走路 🚶", "statistics": {"reprojection_px": 0.4}},
    )


def test_poses_round_trip(tmp_path: Path, poses: ClipPoses) -> None:
    path = write_poses(tmp_path / "clip.json", poses)
    again = read_poses(path)
    np.testing.assert_equal(asdict(again), asdict(poses))
    write_poses(path, again)
    assert [entry.name for entry in tmp_path.iterdir()] == ["clip.json"]
    assert read_poses(write_poses(path, replace(poses, scale=2))).scale == 2


INVALID = {
    "id": ({"id": "../up"}, "id '../up'"),
    "fps": ({"fps": Fraction(0)}, "fps.*0"),
    "lens": ({"distortion": Distortion(k1=float("nan"))}, "distortion.*nan"),
    "focal": ({"K": np.diag([-50.0, 50, 1])}, "fx.*-50"),
    "none": ({"frames": ()}, "frames, got 0"),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_poses_cannot_be_constructed(poses: ClipPoses, case: str) -> None:
    change, message = INVALID[case]
    with pytest.raises(SceneError, match=message):
        replace(poses, **change)


INVALID_JSON = {
    "version": (("schema_version", 2), "schema_version.*2"),
    "no lens": (("distortion", ...), "'distortion'"),
    "no term": (("distortion", "k3", ...), "'k3'"),
    "term text": (("distortion", "k1", "0"), "'k1'.*str"),
    "fps number": (("fps", 29.97), "'fps'.*float"),
    "fps zero": (("fps", "30/0"), "fps.*30/0"),
    "fps huge": (("fps", "1e999999999"), "fps.*1e999999999"),
    "frame text": (("frames", 1, "x"), "frame 1: .*str"),
    "index fraction": (("frames", 1, "index", 3.0), "frame 1: .*'index'.*float"),
    "index again": (("frames", 1, "index", 0), "frame 1: .*0 after 0"),
    "index negative": (("frames", 0, "index", -1), "frame 0: source_index.*-1"),
    "time": (("frames", 2, "time_s", 7.0), "frame 2: time_s.*0.233567.*7"),
    "scale": (("scale", 10**400), "scale"),
}


@pytest.mark.parametrize("case", INVALID_JSON)
def test_invalid_files_are_rejected(tmp_path: Path, poses: ClipPoses, edit_json: Callable, case: str) -> None:
    (*keys, value), message = INVALID_JSON[case]
    path = write_poses(tmp_path / "clip.json", poses)
    path.write_text(edit_json(path.read_text(), *keys, value=value))
    with pytest.raises(SceneError, match=message):
        read_poses(path)


def test_names_and_sources_are_checked(tmp_path: Path, poses: ClipPoses) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        read_poses(tmp_path / "none.json")
    with pytest.raises(ValueError, match=r"\.json file beside the clip"):
        write_poses(tmp_path / "clip.mp4", poses)
    with pytest.raises(SceneError, match="source must be plain JSON"):
        write_poses(tmp_path / "clip.json", replace(poses, source={"x": float("nan")}))
    assert list(tmp_path.iterdir()) == []
