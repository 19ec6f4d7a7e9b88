import json
import math

import pytest
import torch

from wnv.evaluation.path_file import PathCamera, PathFile, format_path, parse_path
from wnv.geometry.poses import random_se3


@pytest.fixture
def path() -> PathFile:
    generator = torch.Generator().manual_seed(0)
    poses = random_se3((5,), generator=generator, dtype=torch.float64)
    frames = [PathCamera(pose, fov_y=0.5 + 0.1 * i, time=0.25 * i) for i, pose in enumerate(poses)]
    return PathFile(frames, keyframes=frames[::2], aspect=1.5, fps=12)


def test_a_path_survives_its_file(path):
    read = parse_path(format_path(path), where="path.json")
    assert (read.aspect, read.fps) == (1.5, 12)
    for group in ("frames", "keyframes"):
        for found, expected in zip(getattr(read, group), getattr(path, group), strict=True):
            torch.testing.assert_close(found.camtoworld, expected.camtoworld)
            assert (found.fov_y, found.time) == (pytest.approx(expected.fov_y), expected.time)


def test_files_are_those_of_nerfstudio(path):
    """Row by row, OpenGL axes, degrees; as `get_path_from_json` of nerfstudio 1.1 reads them."""
    content = json.loads(format_path(path))
    assert (content["render_height"], content["render_width"]) == (720, 1080)
    entry, camera = content["camera_path"][2], path.frames[2]
    rows = torch.tensor(entry["camera_to_world"], dtype=torch.float64).view(4, 4)
    torch.testing.assert_close(rows[:, 3], camera.camtoworld[:, 3])
    torch.testing.assert_close(rows[:3, :3], camera.camtoworld[:3, :3] * torch.tensor([1.0, -1, -1]).double())
    assert entry["fov"] == pytest.approx(math.degrees(camera.fov_y))
    assert entry["render_time"] == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"camera_path": []}, "frame"),
        ({"camera_path": None}, "NoneType"),
        ({"camera_type": "fisheye"}, "camera_type.*fisheye"),
        ({"render_height": 0}, "camera path"),
        ({"fps": -1}, "fps.*-1"),
        ({"camera_path": [{"camera_to_world": [0] * 16, "fov": 50}]}, "rigid"),
        ({"camera_path": [{"camera_to_world": [0] * 12, "fov": 50}]}, "camera path"),
        ({"camera_path": [{"fov": 50}]}, "camera_to_world"),
        ({"camera_path": [{"camera_to_world": torch.eye(4).flatten().tolist(), "fov": 200}]}, "fov.*200"),
    ],
)
def test_other_files_are_refused(path, change, message):
    with pytest.raises(ValueError, match=rf"path\.json.*{message}"):
        parse_path(json.dumps({**json.loads(format_path(path)), **change}), where="path.json")


def test_text_is_refused():
    with pytest.raises(ValueError, match=r"path\.json is not a camera path"):
        parse_path(b"ply\n", where="path.json")
