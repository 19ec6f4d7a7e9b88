"""Reads scene files: a frame at a time, without reading the others."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from wnv.scenes.archive import Archive
from wnv.scenes.images import decode_image
from wnv.scenes.scene_json import info_from_json
from wnv.scenes.schema import FRAMES_FOLDER, SCENE_JSON, SceneError, SceneInfo, frame_label
from wnv.types import Cameras, Views


class Scene:
    """An open scene file.

    It holds what the file says about its frames and where they lie, and no open file: it may be pickled, forked and
    used by several threads, and an image is read when it is asked for.

    Args:
        path: A local path, or any URL that fsspec understands.

    Attributes:
        path: As given.
        info: Everything but the pixels.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._archive = Archive(path)
        members = self._archive.members
        if SCENE_JSON not in members:
            raise SceneError(f"{path}: a zip without {SCENE_JSON} is not a scene file; make one with `wnv-data import`")
        self.info: SceneInfo = info_from_json(self._archive.read(SCENE_JSON), name=self.path)
        self._check_frames_present()
        self._K = torch.from_numpy(self.info.K)
        self._camtoworld = torch.from_numpy(self.info.camtoworld)
        self._times = torch.from_numpy(self.info.times_s)

    def __len__(self) -> int:
        return len(self.info.frames)

    def __enter__(self) -> "Scene":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to release: every read closes the file it opens."""

    def __repr__(self) -> str:
        info = self.info
        return f"Scene({self.path!r}, {info.kind}, {len(self)} frames of {info.width} x {info.height})"

    def image_bytes(self, index: int) -> bytes:
        """The JPEG or PNG file of a frame, checksum verified.

        Raises:
            IndexError: If there is no such frame; negative indices count as none.
            SceneError: If the file is damaged.
        """
        return self._archive.read(self._files([index])[0])

    def image_u8(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """The pixels of a frame, RGB.

        Raises:
            IndexError: If there is no such frame; negative indices count as none.
            SceneError: If the image cannot be decoded.
        """
        return self._decode(index, self.image_bytes(index))

    def cameras(self, indices: Sequence[int], *, dtype: torch.dtype = torch.float32) -> Cameras:
        """The cameras of frames, batch axis `view`.

        Args:
            indices: Which frames, in any order.
            dtype: float64 keeps every digit of the file: for worlds whose coordinates are large beside their extent.

        Raises:
            IndexError: If there is no such frame; negative indices count as none.
        """
        self._files(indices)
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
        contents = self._archive.read_many(self._files(indices))
        images = [self._decode(index, data) for index, data in zip(indices, contents, strict=True)]
        return Views(
            images=_to_float(images),
            cameras=self.cameras(indices),
            times=self._times[torch.tensor(indices, dtype=torch.long)].float(),
        )

    def _files(self, indices: Sequence[int]) -> list[str]:
        for index in indices:
            if not 0 <= index < len(self):
                raise IndexError(f"scene '{self.info.id}' has frames 0 to {len(self) - 1}, got {index}")
        return [self.info.frames[index].file for index in indices]

    def _decode(self, index: int, data: bytes) -> UInt8[np.ndarray, "height width 3"]:
        return decode_image(
            data,
            width=self.info.width,
            height=self.info.height,
            where=frame_label(self.info.id, index, self.info.frames[index].file),
        )

    def _check_frames_present(self) -> None:
        names = {name for name in self._archive.members if name.startswith(f"{FRAMES_FOLDER}/")}
        for index, frame in enumerate(self.info.frames):
            if frame.file not in names:
                raise SceneError(
                    f"{frame_label(self.info.id, index, frame.file)}: the image is missing from {self.path}; "
                    "copy or write the scene again"
                )
        unlisted = sorted(names - {frame.file for frame in self.info.frames})
        if unlisted:
            raise SceneError(
                f"scene '{self.info.id}': {self.path} holds {len(unlisted)} images without a pose "
                f"({unlisted[0]} first); write the scene again"
            )


def open_scene(path: str | Path) -> Scene:
    """Open a scene file and check all but its pixels, which are checked as they are read.

    Args:
        path: A local path, or any URL that fsspec understands.

    Raises:
        FileNotFoundError: If there is no such file.
        SceneError: If it is no valid scene; the message says what, where, and what to do.
    """
    return Scene(path)


def _to_float(images: list[UInt8[np.ndarray, "height width 3"]]) -> Tensor:
    if not images:
        raise ValueError("views of no frames were asked for; name at least one")
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous().float().div_(255)
