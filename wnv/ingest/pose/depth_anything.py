"""Cameras of Depth Anything 3 (Lin et al., 2025), a network that estimates all views of a clip in one pass."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from wnv.ingest.pose.estimator import NoCameras, PoseEstimate, PoseStatistics
from wnv.scenes.undistort import Distortion

_PACKAGE = "depth-anything-3"

_VIEWMATS = "extrinsics"  # the network's name of camera<-world matrices


@dataclass(eq=False, kw_only=True)
class DepthAnythingEstimator:
    """Estimates cameras with the package `depth-anything-3`, which is not part of wnv or its extras.

    Written against the package's documented interface (`DepthAnything3.from_pretrained`, `inference`) and tested with a
    stand-in for it, not with the weights. It has no reprojection error: refine its cameras with `RefinedEstimator`.

    Args:
        model: Name on the Hugging Face hub, or folder. The weights have licences of their own.
        device: Device of torch; `auto` is `cuda` if there is one.
    """

    model: str = "depth-anything/DA3-SMALL"
    device: str = "auto"

    def versions(self) -> dict[str, str]:
        """Return the version of the package.

        Raises:
            ImportError: If it is not installed.
        """
        try:
            return {_PACKAGE: importlib.metadata.version(_PACKAGE)}
        except importlib.metadata.PackageNotFoundError:
            raise _missing() from None

    def estimate(
        self, frames: Sequence[Path], *, masks: Sequence[Path] | None, seed: int, workspace: Path
    ) -> PoseEstimate | NoCameras:
        """See `PoseEstimator.estimate`. Masks are not used."""
        try:
            from depth_anything_3.api import DepthAnything3  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise _missing() from error
        import torch

        torch.manual_seed(seed)
        device = ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device
        network = DepthAnything3.from_pretrained(self.model).to(device)
        network.eval()
        with torch.inference_mode():
            prediction = network.inference([str(frame) for frame in frames])
        if any(getattr(prediction, name, None) is None for name in (_VIEWMATS, "intrinsics")):
            return NoCameras(f"{self.model} estimates no cameras; choose a model that does")
        image = cv2.imread(str(frames[0]))
        assert image is not None
        return _to_estimate(prediction, width=image.shape[1], height=image.shape[0])


def _to_estimate(prediction: Any, *, width: int, height: int) -> PoseEstimate | NoCameras:
    """Convert viewmats, and intrinsics of the network's input size."""
    viewmats = np.asarray(getattr(prediction, _VIEWMATS), dtype=np.float64)
    intrinsics = np.asarray(prediction.intrinsics, dtype=np.float64)
    if not (np.isfinite(viewmats).all() and np.isfinite(intrinsics).all()):
        return NoCameras("the network's cameras are not finite")
    camtoworlds: dict[int, np.ndarray] = {}
    for position, viewmat in enumerate(viewmats):
        whole = np.eye(4)
        whole[:3] = viewmat[:3, :4]
        # Rotations of a half-precision network are not exact.
        left, _, right = np.linalg.svd(whole[:3, :3])
        whole[:3, :3] = left @ right
        camtoworlds[position] = np.linalg.inv(whole)
    input_height, input_width = np.asarray(prediction.depth).shape[-2:]
    K = np.diag([width / input_width, height / input_height, 1.0]) @ np.median(intrinsics, axis=0)
    K[0, 1] = 0.0
    return PoseEstimate(K=K, distortion=Distortion(), camtoworlds=camtoworlds, statistics=PoseStatistics())


def _missing() -> ImportError:
    return ImportError(
        "DepthAnythingEstimator needs a package: pip install depth-anything-3; its weights are loaded "
        "from the Hugging Face hub"
    )
