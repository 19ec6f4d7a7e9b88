"""What finds out where a video's cameras stood: the protocol that COLMAP and any other estimator follow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from wnv.scenes.undistort import Distortion


@dataclass(frozen=True, kw_only=True)
class PoseStatistics:
    """How well the cameras are known; what an estimator cannot tell is None, and no filter asks for it.

    Attributes:
        reprojection_px: Mean distance in pixels between where points were seen and where the cameras put them.
        parallax_deg: Median over the points of the widest angle, in degrees, under which two cameras see the point.
        num_points: Points of the reconstruction.
        track_length: Mean number of frames that see a point.
        num_models: Pieces that the reconstruction fell into; the largest is the one that is given.
        homography_ratio: Share of the matched pairs of frames whose motion a homography explains: all of them where
            the camera only turns, and then what looks like a reconstruction is none.
    """

    reprojection_px: float | None = None
    parallax_deg: float | None = None
    num_points: int | None = None
    track_length: float | None = None
    num_models: int | None = None
    homography_ratio: float | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class PoseEstimate:
    """The cameras of one clip, in a world frame and unit of the estimator's own.

    Attributes:
        K: image<-camera of every frame, in pixels of the frames, no skew; the first pixel's centre is (0.5, 0.5).
        distortion: Of the lens, in OpenCV's sense; none where frames are pinhole images.
        camtoworlds: For each frame that has a pose, by its position in the list of frames: world<-camera, OpenCV axes.
        statistics: How well they are known.
    """

    K: Float64[np.ndarray, "3 3"]
    distortion: Distortion
    camtoworlds: Mapping[int, Float64[np.ndarray, "4 4"]]
    statistics: PoseStatistics


@runtime_checkable
class PoseEstimator(Protocol):
    """Finds the cameras of the frames of one clip.

    To plug in another one (ViPE, VGGT, DA3, ...), write a class with these two methods in a module that can be
    imported, take its settings as keyword arguments, and name it:

        wnv-data pose root=mine pose=custom pose.estimator._target_=my_package.MyEstimator +pose.estimator.weights=small

    The object is pickled and called in a process of its own, under a time and a memory limit: load weights inside
    `estimate`, print what you like, and let errors rise. Cameras are filtered and the world is scaled afterwards, so
    any frame and unit will do. Feed-forward models that give viewmats (DA3, VGGT) invert them here.
    """

    def estimate(
        self, frames: Sequence[Path], *, masks: Sequence[Path] | None, seed: int, workspace: Path
    ) -> PoseEstimate | None:
        """Estimate one camera for the clip and a pose for as many frames as possible.

        Args:
            frames: PNG images of one size, in the order of their times, in a folder with nothing else.
            masks: For each frame a grey PNG of its size, 0 where things move by themselves; None where nothing does.
            seed: All that is drawn at random follows from it: the same frames and seed give the same cameras.
            workspace: An empty folder for intermediate files, removed afterwards.

        Returns:
            The cameras, or None if there is no reconstruction.

        Raises:
            StageError: `refused` where the clip itself is to blame, so that nobody needs to be asked again.
        """
        ...

    def versions(self) -> dict[str, str]:
        """Versions of the tools at work, for the record; called outside `estimate`, so it has to be cheap."""
        ...
