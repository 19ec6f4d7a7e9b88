"""The interface of an open scene: posed frames, wherever their pixels come from."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, UInt8
from torch import Tensor

from wnv.geometry.camera_checks import doubtful_cameras
from wnv.scenes.points import Points
from wnv.scenes.schema import SceneInfo, SceneKind
from wnv.types import Cameras, Views


class Scene(ABC):
    """Posed frames of one scene, read on request.

    No file is held open, so a scene may be pickled, forked and shared by threads.

    Attributes:
        path: Where the scene is stored.
        info: Everything but the pixels.
    """

    def __init__(self, path: str, info: SceneInfo) -> None:
        self.path = path
        self.info = info
        self._K = torch.from_numpy(info.K)
        self._camtoworld = torch.from_numpy(info.camtoworld)
        self._times = torch.from_numpy(info.times_s)

    @property
    def id(self) -> str:
        """Name of the scene, unique in its data set."""
        return self.info.id

    @property
    def kind(self) -> SceneKind:
        """`static` if only the camera moves, else `dynamic`."""
        return self.info.kind

    @property
    def times_s(self) -> Float64[np.ndarray, " frame"]:
        """Times of all frames in seconds, strictly increasing."""
        return self.info.times_s

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.info.frames)

    def __enter__(self) -> "Scene":
        return self

    def __exit__(self, *_: object) -> None:  # noqa: B027 - no file is held open
        """Do nothing: every read closes the file it opens."""

    def __repr__(self) -> str:
        info = self.info
        return f"{type(self).__name__}({self.path!r}, {info.kind}, {len(self)} frames of {info.width} x {info.height})"

    @abstractmethod
    def images_u8(
        self, indices: Sequence[int], *, box: tuple[int, int, int, int] | None = None
    ) -> list[UInt8[np.ndarray, "height width 3"]]:
        """Decode frames to RGB.

        Args:
            indices: Frame indices from 0, in any order.
            box: Crop (left, top, right, bottom), right and bottom exclusive; None returns whole images.

        Raises:
            IndexError: If an index is out of range; negative ones are.
            SceneError: If an image cannot be decoded.
        """

    def image_u8(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """Decode one frame to RGB; see `images_u8`."""
        return self.images_u8([index])[0]

    def cameras(self, indices: Sequence[int] | None = None, *, dtype: torch.dtype = torch.float32) -> Cameras:
        """Cameras of frames, with batch axis `view`.

        Args:
            indices: Frame indices from 0, in any order; None for all frames.
            dtype: float64 keeps every digit of the file, for coordinates that are large compared to the scene.

        Raises:
            IndexError: If an index is out of range; negative ones are.
        """
        chosen = torch.tensor(self._check_indices(indices), dtype=torch.long)
        return Cameras(
            K=self._K[chosen].to(dtype),
            camtoworld=self._camtoworld[chosen].to(dtype),
            width=self.info.width,
            height=self.info.height,
        )

    def views(self, indices: Sequence[int] | None = None) -> Views:
        """Images (float32, 0..1), cameras and times (float32, seconds) of frames; remote files are read in parallel.

        Args:
            indices: Frame indices from 0, in any order; None for all frames.

        Raises:
            IndexError: If an index is out of range; negative ones are.
            SceneError: If an image cannot be decoded.
        """
        chosen = self._check_indices(indices)
        return Views(
            images=_to_float(self.images_u8(chosen)),
            cameras=self.cameras(chosen),
            times=self._times[torch.tensor(chosen, dtype=torch.long)].float(),
        )

    def points(self) -> Points | None:
        """Return the points of the scene, None if it has none.

        Raises:
            SceneError: If they are damaged.
        """
        return None

    def doubts(self, *, check_axes: bool = True) -> list[str]:
        """Describe what is doubtful about the cameras although they are valid, without reading pixels.

        Args:
            check_axes: See `doubtful_cameras`.
        """
        cameras = self.cameras(dtype=torch.float64)
        found = doubtful_cameras(cameras, is_static=self.kind == "static", check_axes=check_axes)
        first_with_image: dict[Any, int] = {}
        repeated = []
        for index, key in enumerate(self._image_keys()):
            first = first_with_image.setdefault(key, index)
            poses = (self.info.frames[i].camtoworld for i in (first, index))
            if first != index and not np.allclose(*poses, atol=1e-6):
                repeated.append(f"{first} and {index}")
        if repeated:
            found.append(
                f"frames {', '.join(repeated[:3])}{', ...' if len(repeated) > 3 else ''} hold the same image with "
                "different poses; name each image file once"
            )
        return [f"scene '{self.id}': {doubt}" for doubt in found]

    def _image_keys(self) -> Sequence[Any]:
        """A value per frame that is equal for equal image files; empty if unknown without reading them."""
        return ()

    def _check_indices(self, indices: Sequence[int] | None) -> list[int]:
        chosen = list(range(len(self)) if indices is None else indices)
        for index in chosen:
            if not 0 <= index < len(self):
                raise IndexError(f"scene '{self.id}' has frames 0 to {len(self) - 1}, got {index}")
        return chosen


def _to_float(images: list[UInt8[np.ndarray, "height width 3"]]) -> Tensor:
    if not images:
        raise ValueError("indices must name at least one frame, got none")
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous().float().div_(255)
