"""Reads posed clips like scene files, with frames decoded from the video."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from wnv.scenes.clip_images import ClipImages
from wnv.scenes.scene import Scene
from wnv.scenes.video import Decoder


class PosedClip(Scene):
    """An open clip: the frames that have a pose, undistorted to a pinhole of the clip's size; see `ClipImages`."""

    def __init__(self, path: str | Path, *, decoder: Decoder = "auto") -> None:
        self._images = ClipImages(path, decoder=decoder)
        super().__init__(str(path), self._images.info)

    def images_u8(
        self, indices: Sequence[int], *, box: tuple[int, int, int, int] | None = None
    ) -> list[UInt8[np.ndarray, "height width 3"]]:
        """Decode frames to undistorted RGB; see `Scene.images_u8`."""
        self._check_indices(indices)
        return self._images.read(indices, box=box)
