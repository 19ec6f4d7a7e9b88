"""The protocol of camera pose estimators, such as COLMAP."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from wnv.ingest.photos.photo_set import Lens, PhotoEntry
from wnv.scenes.undistort import Distortion


@dataclass(frozen=True, kw_only=True)
class PoseStatistics:
    """Quality of estimated cameras. Values that an estimator does not provide are None, and are not filtered.

    Attributes:
        reprojection_px: Mean reprojection error, pixels.
        parallax_deg: Median over the points of the widest angle between two viewing rays, degrees.
        num_points: Number of reconstructed points.
        track_length: Mean number of frames per point.
        num_models: Number of disconnected models; the largest is returned.
        homography_ratio: Share of the matched frame pairs that a homography explains; 1 if the camera only turns, when
            a reconstruction is meaningless.
    """

    reprojection_px: float | None = None
    parallax_deg: float | None = None
    num_points: int | None = None
    track_length: float | None = None
    num_models: int | None = None
    homography_ratio: float | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class PoseEstimate:
    """The cameras of one clip, in any world frame and unit.

    Attributes:
        K: image<-camera of every frame, in pixels of the frames, no skew; the first pixel's centre is (0.5, 0.5).
        distortion: Lens distortion, OpenCV's model; none for pinhole images.
        camtoworlds: world<-camera, OpenCV axes, of each frame that has a pose, by its position in the list of frames.
        statistics: Quality of the cameras.
    """

    K: Float64[np.ndarray, "3 3"]
    distortion: Distortion
    camtoworlds: Mapping[int, Float64[np.ndarray, "4 4"]]
    statistics: PoseStatistics


@dataclass(frozen=True, eq=False, kw_only=True)
class PhotosEstimate:
    """The cameras of a set of photographs, in any world frame and unit.

    Attributes:
        lenses: The lens of each camera number that has a posed photograph.
        camtoworlds: world<-camera, OpenCV axes, of each photograph that has a pose, by its position in the list.
        statistics: Quality of the cameras.
    """

    lenses: Mapping[int, Lens]
    camtoworlds: Mapping[int, Float64[np.ndarray, "4 4"]]
    statistics: PoseStatistics


@dataclass(frozen=True)
class NoCameras:
    """Why a reconstruction failed: measured values and limits, one line."""

    message: str


@dataclass(frozen=True, kw_only=True)
class ClipContext:
    """Where the frames of a clip come from.

    Attributes:
        video: Address of the video; of a local one, its path below the folder of videos.
        times_s: Time of each frame in the video, seconds.
    """

    video: str
    times_s: tuple[float, ...]


@runtime_checkable
class ClipEstimator(Protocol):
    """Estimates the cameras of a clip with knowledge of its video. Optional: replaces `PoseEstimator.estimate`."""

    def estimate_clip(
        self, frames: Sequence[Path], *, clip: ClipContext, masks: Sequence[Path] | None, seed: int, workspace: Path
    ) -> PoseEstimate | NoCameras | None:
        """See `PoseEstimator.estimate`."""
        ...


@runtime_checkable
class PhotosEstimator(Protocol):
    """Estimates the cameras of photographs. Optional for a `PoseEstimator`; without it, photographs are rejected."""

    def estimate_photos(
        self,
        photos: Sequence[Path],
        *,
        entries: Sequence[PhotoEntry],
        exhaustive_up_to: int,
        seed: int,
        workspace: Path,
    ) -> PhotosEstimate | NoCameras | None:
        """Estimate one lens per camera number, and a pose for as many photographs as possible.

        Args:
            photos: JPEG images in a folder without other files, in no spatial order, of mixed sizes.
            entries: Size, camera number and focal length of each.
            exhaustive_up_to: With at most this many photographs, all pairs are matched.
            seed: Seed of all random numbers.
            workspace: An empty folder for temporary files.

        Returns:
            The cameras, or `NoCameras` with the reason (or None) if reconstruction failed.
        """
        ...


@runtime_checkable
class PoseEstimator(Protocol):
    """Estimates the cameras of the frames of one clip.

    To use your own estimator (ViPE, VGGT, DA3, ...), write an importable class with these two methods that takes its
    settings as keyword arguments, and name it:

        wnv-data pose root=mine pose=custom pose.estimator._target_=my_package.MyEstimator +pose.estimator.weights=small

    The object is pickled and called in a separate process with limited time and memory, so load weights inside
    `estimate`. It may print, and raise any exception. Results are filtered and scaled afterwards, so any world frame
    and unit will do. Models that predict viewmats (DA3, VGGT) must invert them.
    """

    def estimate(
        self, frames: Sequence[Path], *, masks: Sequence[Path] | None, seed: int, workspace: Path
    ) -> PoseEstimate | NoCameras | None:
        """Estimate one camera for the clip and a pose for as many frames as possible.

        Args:
            frames: PNG images of one size, ordered by time, in a folder without other files.
            masks: A gray PNG of the same size per frame, 0 on moving objects; None if nothing moves.
            seed: Seed of all random numbers: the same frames and seed must give the same cameras.
            workspace: An empty folder for temporary files.

        Returns:
            The cameras, or `NoCameras` with the reason (or None) if reconstruction failed.

        Raises:
            StageError: `refused` if the clip is unsuitable for any estimator.
        """
        ...

    def versions(self) -> dict[str, str]:
        """Return the versions of the tools in use. Must be cheap."""
        ...
