"""Reads posed clips: frames straight from the video, as if from a scene file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from wnv.scenes.clip_images import ClipImages
from wnv.scenes.scene import Scene
from wnv.scenes.video import Decoder


class PosedClip(Scene):
    """An open clip with its poses: the frames that have one, undistorted to a pinhole of the clip's size.

    Args:
        path: The video or the poses beside it, on a local disk.
        decoder: `decord`, `pyav`, or `auto`: decord where it is installed, else PyAV.

    Raises:
        FileNotFoundError: If one of the two files is not there.
        SceneError: If the poses break a rule, or belong to another video.
    """

    def __init__(self, path: str | Path, *, decoder: Decoder = "auto") -> None:
        self._images = ClipImages(path, decoder=decoder)
        super().__init__(str(path), self._images.info)

    def images_u8(
        self, indices: Sequence[int], *, box: tuple[int, int, int, int] | None = None
    ) -> list[UInt8[np.ndarray, "height width 3"]]:
        """The pixels of frames, RGB, undistorted; see `Scene.images_u8`."""
        self._check_indices(indices)
        return self._images.read(indices, box=box)
