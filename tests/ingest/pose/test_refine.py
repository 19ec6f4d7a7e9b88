"""Cameras of other sources are refined: those of a file, and those of a network."""

import importlib.util
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from posed_video import PosedVideo, similarity_errors

from wnv.ingest.pose.colmap import ColmapEstimator
from wnv.ingest.pose.depth_anything import DepthAnythingEstimator
from wnv.ingest.pose.estimator import NoCameras, PoseEstimate, PoseStatistics
from wnv.ingest.pose.limits import run_limited
from wnv.ingest.pose.refine import RefinedEstimator
from wnv.ingest.tasks import StageError
from wnv.scenes.undistort import Distortion
from wnv.scenes.video import open_video

needs_pycolmap = pytest.mark.skipif(
    importlib.util.find_spec("pycolmap") is None, reason="pycolmap has no wheel for this machine"
)


@dataclass(kw_only=True)
class Inexact:
    """Returns cameras that are known, up to noise."""

    cameras: np.ndarray
    K: np.ndarray
    noise_deg: float = 0.7
    noise_m: float = 0.02

    def versions(self) -> dict[str, str]:
        return {"inexact": "1"}

    def estimate(self, frames: Sequence[Path], *, seed: int, **_: Any) -> PoseEstimate:
        rng = np.random.default_rng(seed)
        found = {}
        for position, camera in enumerate(self.cameras):
            found[position] = camera.copy()
            turn, _ = cv2.Rodrigues(np.radians(self.noise_deg) * rng.normal(size=3))
            found[position][:3, :3] = turn @ camera[:3, :3]
            found[position][:3, 3] += self.noise_m * rng.normal(size=3)
        return PoseEstimate(K=self.K, distortion=Distortion(), camtoworlds=found, statistics=PoseStatistics())


def run_refined(estimator: Any, video: PosedVideo, folder: Path) -> PoseEstimate | NoCameras:
    (folder / "frames").mkdir()
    (folder / "work").mkdir()
    with open_video(video.path) as reader:
        images = list(reader.read(range(reader.num_frames)))
    frames = [folder / "frames" / f"{index:06d}.png" for index in range(len(images))]
    for path, image in zip(frames, images, strict=True):
        cv2.imwrite(str(path), image[..., ::-1])
    refined = RefinedEstimator(estimator=estimator, colmap=ColmapEstimator(num_features=600))
    assert {"inexact", "pycolmap"} == set(refined.versions())
    settings = {"folder": folder, "time_limit_s": 120, "memory_limit_gb": 4}
    return run_limited(refined.estimate, **settings, frames=frames, masks=None, seed=0, workspace=folder / "work")


@needs_pycolmap
@pytest.mark.slow
def test_inexact_cameras_become_exact(room_video: PosedVideo, tmp_path: Path) -> None:
    K = np.diag([1.03, 1.03, 1.0]) @ room_video.K
    K[:2, 2] = room_video.K[:2, 2]
    inexact = Inexact(cameras=room_video.camtoworlds, K=K)
    before = np.stack(list(inexact.estimate([], seed=0).camtoworlds.values()))
    assert similarity_errors(before, room_video.camtoworlds)[0] > 0.02
    estimate = run_refined(inexact, room_video, tmp_path)
    assert isinstance(estimate, PoseEstimate)
    position, rotation_deg = similarity_errors(np.stack(list(estimate.camtoworlds.values())), room_video.camtoworlds)
    assert position < 0.005
    assert rotation_deg < 0.5
    assert abs(estimate.K[0, 0] / room_video.K[0, 0] - 1) < 0.02
    assert estimate.distortion.k1 == pytest.approx(-0.06, abs=0.02)
    # Now known, so the filters apply.
    assert estimate.statistics.reprojection_px is not None
    assert estimate.statistics.reprojection_px < 0.5
    assert estimate.statistics.parallax_deg is not None


@needs_pycolmap
@pytest.mark.slow
def test_cameras_that_do_not_fit_the_images_are_refused(room_video: PosedVideo, tmp_path: Path) -> None:
    wrong = Inexact(cameras=room_video.camtoworlds, K=room_video.K, noise_deg=90.0)
    estimate = run_refined(wrong, room_video, tmp_path)
    assert isinstance(estimate, NoCameras)
    assert re.search(r"2\.\d+ frames on average, 2\.3 are needed; check their axes and times", estimate.message)


def test_a_lens_that_cannot_be_refined_is_refused(tmp_path: Path) -> None:
    class Bent(Inexact):
        def estimate(self, frames: Sequence[Path], **_: Any) -> PoseEstimate:
            statistics = PoseStatistics()
            return PoseEstimate(K=self.K, distortion=Distortion(k3=0.1), camtoworlds={}, statistics=statistics)

    refined = RefinedEstimator(estimator=Bent(cameras=np.empty(0), K=np.eye(3)), colmap=ColmapEstimator())
    with pytest.raises(StageError, match=r"k3=0\.1"):
        refined.estimate([], masks=None, seed=0, workspace=tmp_path)


def test_cameras_of_a_network(room_video: PosedVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with the documented interface: viewmats, and intrinsics of the network's input."""
    frames = [tmp_path / f"{index}.png" for index in range(12)]
    cv2.imwrite(str(frames[0]), np.zeros((126, 224, 3), dtype=np.uint8))

    class DepthAnything3:
        @classmethod
        def from_pretrained(cls, name: str) -> "DepthAnything3":
            assert name == "depth-anything/DA3-SMALL"
            return cls()

        def to(self, device: str) -> "DepthAnything3":
            assert device == "cpu"
            return self

        def eval(self) -> None:
            pass

        def inference(self, image: list[str]) -> SimpleNamespace:
            assert image == [str(frame) for frame in frames]
            K = np.diag([504 / 224, 280 / 126, 1.0]) @ room_video.K
            return SimpleNamespace(
                depth=np.ones((12, 280, 504), dtype=np.float32),
                extrinsics=np.linalg.inv(room_video.camtoworlds)[:, :3].astype(np.float32),
                intrinsics=np.stack([K] * 12).astype(np.float32),
            )

    api = ModuleType("depth_anything_3.api")
    api.DepthAnything3 = DepthAnything3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "depth_anything_3", ModuleType("depth_anything_3"))
    monkeypatch.setitem(sys.modules, "depth_anything_3.api", api)
    estimator = DepthAnythingEstimator(device="cpu")
    estimate = estimator.estimate(frames, masks=None, seed=0, workspace=tmp_path)
    assert isinstance(estimate, PoseEstimate)
    assert np.allclose(estimate.K, room_video.K, rtol=1e-4)
    for index, camera in estimate.camtoworlds.items():
        assert np.allclose(camera, room_video.camtoworlds[index], atol=1e-5)


def test_without_the_package_the_error_names_it() -> None:
    if importlib.util.find_spec("depth_anything_3") is not None:
        pytest.skip("it is installed")
    with pytest.raises(ImportError, match="pip install depth-anything-3"):
        DepthAnythingEstimator().versions()
