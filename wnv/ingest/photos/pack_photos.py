"""Pack photographs with their cameras as a scene file: undistorted, and of one size."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from wnv.ingest.photos.photo_poses import PhotoPoses, read_photo_poses
from wnv.ingest.photos.photo_set import Lens, PhotoEntry, read_entries, read_image
from wnv.scenes.resize import fit_size, shrink_image
from wnv.scenes.schema import Frame
from wnv.scenes.undistort import PixelMaps, pinhole_without_borders, undistort_image, undistortion_maps


@dataclass(frozen=True, eq=False)
class _Fit:
    """How photographs of one camera become images of the scene: undistorted, scaled, then cropped in the middle."""

    K: Float64[np.ndarray, "3 3"]
    maps: PixelMaps | None
    scaled: tuple[int, int]
    left: int
    top: int


class PosedPhotos:
    """The photographs of a set that have a pose, as images of one size.

    The size is the most frequent one. Other photographs are scaled to cover it and cropped in the middle.

    Args:
        path: The set; its poses are beside it.
        short_side: Maximum shorter side of the images; None for no limit.
        max_side: Maximum longer side of the images; None for no limit.

    Attributes:
        poses: The cameras.
        names: File names of the photographs.
        frames: Their cameras in the scene, one second apart.
        width, height: Size of the images.
        num_cropped: Number of photographs of another shape.
    """

    def __init__(self, path: Path, *, short_side: int | None, max_side: int | None) -> None:
        entries = read_entries(path)
        self.poses: PhotoPoses = read_photo_poses(path.with_suffix(".json"))
        self._path = path
        self._entries = {index: entries[index] for index in self.poses.camtoworlds}
        sizes = Counter((entry.width, entry.height) for entry in self._entries.values())
        (size, _), *_ = sizes.most_common()
        self.width, self.height = fit_size(*size, short_side=short_side, max_side=max_side)
        self._fits = {
            entry.camera: _fit(self.poses.lenses[entry.camera], entry, self.width, self.height)
            for entry in self._entries.values()
        }
        self.names = [entry.name for entry in self._entries.values()]
        self.num_cropped = sum(self._fits[entry.camera].scaled != self._size for entry in self._entries.values())
        self.frames = tuple(
            Frame(
                time_s=float(index),
                source_index=index,
                K=self._fits[entry.camera].K,
                camtoworld=self.poses.camtoworlds[index],
            )
            for index, entry in self._entries.items()
        )

    @property
    def _size(self) -> tuple[int, int]:
        return self.width, self.height

    def images(self) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """Iterate over the images of the frames."""
        for index, entry in self._entries.items():
            fit = self._fits[entry.camera]
            image = read_image(self._path, index, entry)
            if fit.maps is not None:
                image = undistort_image(image, fit.maps)
            if fit.scaled[0] > entry.width:
                image = cv2.resize(image, fit.scaled, interpolation=cv2.INTER_CUBIC)
            elif fit.scaled != (entry.width, entry.height):
                image = shrink_image(image, width=fit.scaled[0], height=fit.scaled[1])
            yield np.ascontiguousarray(image[fit.top : fit.top + self.height, fit.left : fit.left + self.width])


def _fit(lens: Lens, entry: PhotoEntry, width: int, height: int) -> _Fit:
    pinhole, maps = lens.K, None
    if lens.distortion:
        size = {"width": entry.width, "height": entry.height}
        pinhole = pinhole_without_borders(lens.K, lens.distortion, where=entry.name, **size)
        maps = undistortion_maps(lens.K, lens.distortion, pinhole, **size)
    scale = max(width / entry.width, height / entry.height)
    scaled = max(width, round(scale * entry.width)), max(height, round(scale * entry.height))
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    K = np.array([[scaled[0] / entry.width], [scaled[1] / entry.height], [1.0]]) * pinhole
    K[:2, 2] -= left, top
    return _Fit(K, maps, scaled, left, top)
