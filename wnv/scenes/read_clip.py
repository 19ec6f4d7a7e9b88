"""Reads posed clips: frames straight from the video, lens distortion taken out, as if from a scene file."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from wnv.scenes.frame_source import FrameSource
from wnv.scenes.posed_clip import POSES_SUFFIX, VIDEO_SUFFIX, read_poses
from wnv.scenes.schema import SceneError
from wnv.scenes.undistort import (
    Distortion,
    PixelMaps,
    pinhole_without_borders,
    undistort_image,
    undistortion_maps,
)
from wnv.scenes.video import Decoder, open_video


class PosedClip(FrameSource):
    """An open clip with its poses: the frames that have one, undistorted to a pinhole of the clip's size.

    Args:
        path: The video or the poses beside it.
        decoder: `decord`, `pyav`, or `auto`: decord where it is installed, else PyAV.

    Attributes:
        video: The video.
        poses: What the file of poses says; its camera is the lens, that of `info` the pinhole.

    Raises:
        FileNotFoundError: If one of the two files is not there.
        SceneError: If the poses break a rule, or belong to another video.
    """

    def __init__(self, path: str | Path, *, decoder: Decoder = "auto") -> None:
        path = Path(path)
        if path.suffix not in (POSES_SUFFIX, VIDEO_SUFFIX):
            raise ValueError(f"a clip is a {VIDEO_SUFFIX} file with a {POSES_SUFFIX} file beside it, got {path}")
        self.video = path.with_suffix(VIDEO_SUFFIX)
        self.poses = read_poses(path.with_suffix(POSES_SUFFIX))
        self._decoder: Decoder = decoder
        self._check_video()
        poses = self.poses
        self._pinhole = poses.K
        if poses.distortion:
            where = f"scene '{poses.id}'"
            self._pinhole = pinhole_without_borders(
                poses.K, poses.distortion, width=poses.width, height=poses.height, where=where
            )
        super().__init__(str(path), poses.scene_info(self._pinhole))

    def images_u8(
        self, indices: Sequence[int], *, box: tuple[int, int, int, int] | None = None
    ) -> list[UInt8[np.ndarray, "height width 3"]]:
        """The pixels of frames, RGB, undistorted; see `FrameSource.images_u8`."""
        self._check_indices(indices)
        with open_video(self.video, decoder=self._decoder) as video:
            images = video.read([self.poses.frames[index].index for index in indices])
        left, top, right, bottom = box or (0, 0, self.info.width, self.info.height)
        window = np.s_[top:bottom, left:right]
        if not self.poses.distortion:
            return [np.ascontiguousarray(image[window]) for image in images]
        map_x, map_y = _maps(
            self.poses.K.tobytes(),
            self.poses.distortion,
            self._pinhole.tobytes(),
            width=self.info.width,
            height=self.info.height,
        )
        return [undistort_image(image, (map_x[window], map_y[window])) for image in images]

    def _check_video(self) -> None:
        poses = self.poses
        with open_video(self.video, decoder=self._decoder) as video:
            found = (video.width, video.height, video.num_frames, video.fps)
        last = poses.frames[-1].index
        if found[:2] != (poses.width, poses.height) or found[3] != poses.fps or last >= found[2]:
            raise SceneError(
                f"scene '{poses.id}': the poses are for {poses.width} x {poses.height} pixels at {poses.fps} frames a "
                f"second up to frame {last}, {self.video} has {found[0]} x {found[1]}, {found[3]} and frames up to "
                f"{found[2] - 1}; pose the clip again"
            )


def open_clip(path: str | Path, *, decoder: Decoder = "auto") -> PosedClip:
    """Open a clip with the poses beside it, and check all but its pixels.

    Args:
        path: The video or its poses, on a local disk.
        decoder: `decord`, `pyav`, or `auto`: decord where it is installed, else PyAV.

    Raises:
        FileNotFoundError: If one of the two files is not there.
        SceneError: If the poses break a rule, or belong to another video.
    """
    return PosedClip(path, decoder=decoder)


# A few: each takes 8 bytes a pixel, and the frames of one scene are asked for one after the other.
@lru_cache(maxsize=4)
def _maps(K: bytes, distortion: Distortion, pinhole: bytes, *, width: int, height: int) -> PixelMaps:
    matrices = (np.frombuffer(matrix, dtype=np.float64).reshape(3, 3) for matrix in (K, pinhole))
    K_clip, K_pinhole = (matrix.copy() for matrix in matrices)
    return undistortion_maps(K_clip, distortion, K_pinhole, width=width, height=height)
