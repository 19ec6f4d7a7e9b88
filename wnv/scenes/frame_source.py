"""What every kind of posed footage offers to its readers, wherever the pixels come from."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from wnv.scenes.schema import SceneInfo
from wnv.types import Cameras, Views


class FrameSource(ABC):
    """Posed frames of one scene, read when they are asked for.

    It holds no open file: it may be pickled, forked and used by several threads.

    Args:
        path: Where it lies, as messages call it.
        info: Everything but the pixels.
    """

    def __init__(self, path: str, info: SceneInfo) -> None:
        self.path = path
        self.info = info
        self._K = torch.from_numpy(info.K)
        self._camtoworld = torch.from_numpy(info.camtoworld)
        self._times = torch.from_numpy(info.times_s)

    def __len__(self) -> int:
        return len(self.info.frames)

    def __enter__(self) -> "FrameSource":
        return self

    def __exit__(  # noqa: B027 - nothing is all there is to do
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to release: every read closes the file it opens."""

    def __repr__(self) -> str:
        info = self.info
        return f"{type(self).__name__}({self.path!r}, {info.kind}, {len(self)} frames of {info.width} x {info.height})"

    @abstractmethod
    def images_u8(
        self, indices: Sequence[int], *, box: tuple[int, int, int, int] | None = None
    ) -> list[UInt8[np.ndarray, "height width 3"]]:
        """The pixels of frames, RGB.

        Args:
            indices: Which frames, in any order.
            box: Left, top, right, bottom: the pixels wanted, right and bottom excluded; None gives all.

        Raises:
            IndexError: If there is no such frame; negative indices count as none.
            SceneError: If an image cannot be decoded.
        """

    def image_u8(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """The pixels of one frame, RGB; see `images_u8`."""
        return self.images_u8([index])[0]

    def cameras(self, indices: Sequence[int], *, dtype: torch.dtype = torch.float32) -> Cameras:
        """The cameras of frames, batch axis `view`.

        Args:
            indices: Which frames, in any order.
            dtype: float64 keeps every digit of the file: for worlds whose coordinates are large beside their extent.

        Raises:
            IndexError: If there is no such frame; negative indices count as none.
        """
        self._check_indices(indices)
        chosen = torch.tensor(indices, dtype=torch.long)
        return Cameras(
            K=self._K[chosen].to(dtype),
            camtoworld=self._camtoworld[chosen].to(dtype),
            width=self.info.width,
            height=self.info.height,
        )

    def views(self, indices: Sequence[int]) -> Views:
        """Images (float32, 0..1), cameras and times (float32, seconds on the clip's clock) of frames.

        A remote file is asked for all frames at once.

        Raises:
            IndexError: If there is no such frame; negative indices count as none.
            SceneError: If an image cannot be decoded.
        """
        return Views(
            images=_to_float(self.images_u8(indices)),
            cameras=self.cameras(indices),
            times=self._times[torch.tensor(indices, dtype=torch.long)].float(),
        )

    def _check_indices(self, indices: Sequence[int]) -> None:
        for index in indices:
            if not 0 <= index < len(self):
                raise IndexError(f"scene '{self.info.id}' has frames 0 to {len(self) - 1}, got {index}")


def _to_float(images: list[UInt8[np.ndarray, "height width 3"]]) -> Tensor:
    if not images:
        raise ValueError("views of no frames were asked for; name at least one")
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous().float().div_(255)
