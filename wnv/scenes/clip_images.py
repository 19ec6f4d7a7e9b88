"""Undistorted frames of a posed clip."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from wnv.scenes.clip_poses import POSES_SUFFIX, VIDEO_SUFFIX, read_poses
from wnv.scenes.schema import SceneError
from wnv.scenes.undistort import (
    Distortion,
    PixelMaps,
    pinhole_without_borders,
    undistort_image,
    undistortion_maps,
)
from wnv.scenes.video import Decoder, open_video


class ClipImages:
    """Frames of a clip that have a pose, undistorted to a pinhole of the clip's size. No file is held open.

    Args:
        path: The video or the poses beside it, on a local disk.
        decoder: `decord`, `pyav`, or `auto` (decord if it is installed).

    Attributes:
        video: The video.
        poses: Poses and the distorted camera.
        info: The scene, with the pinhole camera.

    Raises:
        FileNotFoundError: If one of the two files is missing.
        SceneError: If the poses are invalid, or belong to another video.
    """

    def __init__(self, path: str | Path, *, decoder: Decoder = "auto") -> None:
        path = Path(path)
        if path.suffix not in (POSES_SUFFIX, VIDEO_SUFFIX):
            raise ValueError(f"a clip must be a {VIDEO_SUFFIX} file with a {POSES_SUFFIX} file beside it, got {path}")
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
        self.info = poses.scene_info(self._pinhole)

    def read(
        self, positions: Sequence[int], *, box: tuple[int, int, int, int] | None = None
    ) -> list[UInt8[np.ndarray, "height width 3"]]:
        """Decode frames to RGB.

        Args:
            positions: Indices into the frames with a pose, from 0.
            box: Crop (left, top, right, bottom), right and bottom exclusive; None returns whole images.

        Raises:
            SceneError: If a frame cannot be decoded.
        """
        poses = self.poses
        with open_video(self.video, decoder=self._decoder) as video:
            images = video.read([poses.frames[position].index for position in positions])
        left, top, right, bottom = box or (0, 0, poses.width, poses.height)
        part = np.s_[top:bottom, left:right]
        if not poses.distortion:
            return [np.ascontiguousarray(image[part]) for image in images]
        map_x, map_y = _maps(
            poses.K.tobytes(), poses.distortion, self._pinhole.tobytes(), width=poses.width, height=poses.height
        )
        return [undistort_image(image, (map_x[part], map_y[part])) for image in images]

    def _check_video(self) -> None:
        poses = self.poses
        with open_video(self.video, decoder=self._decoder) as video:
            found = (video.width, video.height, video.num_frames, video.fps)
        last = poses.frames[-1].index
        if found[:2] != (poses.width, poses.height) or found[3] != poses.fps or last >= found[2]:
            raise SceneError(
                f"scene '{poses.id}': the poses are for {poses.width} x {poses.height} pixels at {poses.fps} frames/s "
                f"up to frame {last}, but {self.video} has {found[0]} x {found[1]} at {found[3]} up to frame "
                f"{found[2] - 1}; pose the clip again"
            )


# Few, since each takes 8 bytes per pixel.
@lru_cache(maxsize=4)
def _maps(K: bytes, distortion: Distortion, pinhole: bytes, *, width: int, height: int) -> PixelMaps:
    lens, straight = (np.frombuffer(matrix, dtype=np.float64).reshape(3, 3).copy() for matrix in (K, pinhole))
    return undistortion_maps(lens, distortion, straight, width=width, height=height)
