"""The importer on real photographs: ten of a fox, upright, from a phone with slight distortion."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from wnv.scenes.scene_file import SceneFile

_FOX = Path(__file__).parents[3].parent / "shared" / "data" / "fox"

pytestmark = pytest.mark.skipif(
    not (_FOX / "transforms.json").is_file(), reason="the photographs ../shared/data/fox are not on this machine"
)

# Frames that see enough of the same wallpaper, with the camera moved between them.
_PAIRS = ((0, 5), (10, 14), (15, 18), (20, 23), (24, 26))


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """The capture, with the photographs of the pairs alone."""
    content = json.loads((_FOX / "transforms.json").read_text())
    frames = sorted(content["frames"], key=lambda frame: frame["file_path"])
    return content | {"frames": [frames[index] for pair in _PAIRS for index in pair]}


@pytest.fixture(scope="module")
def scene(run_import: Callable, tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]) -> SceneFile:
    folder = tmp_path_factory.mktemp("fox")
    (folder / "images").symlink_to(_FOX / "images")
    (folder / "transforms.json").write_text(json.dumps(content))
    (path,) = run_import("nerfstudio", folder, folder / "scenes", scene_id="fox")
    return SceneFile(path)


def _distances(
    images: tuple[np.ndarray, np.ndarray], K: np.ndarray, poses: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Sampson distances in pixels of SIFT matches."""
    sift = cv2.SIFT_create(1500)
    (points_a, words_a), (points_b, words_b) = (
        sift.detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None) for image in images
    )
    pairs = cv2.BFMatcher().knnMatch(words_a, words_b, k=2)
    good = [best for best, second in pairs if best.distance < 0.7 * second.distance]
    # OpenCV counts from the centre of the first pixel.
    a = np.array([[*points_a[match.queryIdx].pt, 0.5] for match in good]) + 0.5
    b = np.array([[*points_b[match.trainIdx].pt, 0.5] for match in good]) + 0.5
    relative = np.linalg.inv(poses[1]) @ poses[0]
    x, y, z = relative[:3, 3]
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ relative[:3, :3]
    fundamental = np.linalg.inv(K).T @ essential @ np.linalg.inv(K)
    lines_b, lines_a = a @ fundamental.T, b @ fundamental
    slope = (lines_b[:, :2] ** 2).sum(axis=1) + (lines_a[:, :2] ** 2).sum(axis=1)
    return np.abs((b * lines_b).sum(axis=1)) / np.sqrt(slope)


def test_the_scene_is_upright_and_whole(scene: SceneFile) -> None:
    assert (len(scene), scene.info.width, scene.info.height) == (10, 540, 960)
    assert scene.image_u8(9).shape == (960, 540, 3)
    K = scene.info.K[0]
    assert K[:2, 2].tolist() == [277.279, 482.634]
    assert 1.0 < K[0, 0] / 687.76 < 1.02
    # All of them look at the fox: the axes of sight nearly meet.
    origins, axes = scene.info.camtoworld[:, :3, 3], scene.info.camtoworld[:, :3, 2]
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    fox = np.linalg.solve(across.sum(axis=0), (across @ origins[..., None]).sum(axis=0))[:, 0]
    assert ((fox - origins) * axes).sum(axis=1).min() > 0


@pytest.mark.slow
def test_undistorted_photographs_fit_the_cameras_and_distorted_ones_fit_worse(
    scene: SceneFile, content: dict[str, Any]
) -> None:
    K = np.array([[content["fl_x"], 0, content["cx"]], [0, content["fl_y"], content["cy"]], [0, 0, 1]])
    files = [frame["file_path"] for frame in content["frames"]]
    imported, ignored = [], []
    for pair in zip(range(0, 10, 2), range(1, 10, 2), strict=True):
        poses = tuple(scene.info.camtoworld[index] for index in pair)
        images = tuple(scene.image_u8(index) for index in pair)
        imported.append(_distances(images, scene.info.K[0], poses))
        photographs = tuple(np.ascontiguousarray(cv2.imread(str(_FOX / files[index]))[..., ::-1]) for index in pair)
        ignored.append(_distances(photographs, K, poses))
    for distances in imported:
        assert np.median(distances) < 0.5
    # Wrong matches are far off for any cameras.
    means = [np.mean([d[d < 5].mean() for d in group]) for group in (imported, ignored)]
    assert means[0] < 0.7 * means[1]


def test_flipped_axes_would_show(scene: SceneFile) -> None:
    first, second = scene.info.camtoworld[:2]
    images = (scene.image_u8(0), scene.image_u8(1))
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    assert np.median(_distances(images, scene.info.K[0], (first @ flip, second @ flip))) > 3
