"""Reads scene files, one frame at a time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from typing_extensions import override

from wnv.scenes.archive import Archive
from wnv.scenes.image_codec import decode_image
from wnv.scenes.points import Points, points_from_ply
from wnv.scenes.scene import Scene
from wnv.scenes.scene_json import info_from_json
from wnv.scenes.schema import FRAMES_FOLDER, POINTS_FILE, SCENE_JSON, SceneError, SceneInfo, frame_label


class SceneFile(Scene):
    """An open scene file; opening checks everything but the pixels.

    Args:
        path: A local path, or any URL that fsspec understands.

    Raises:
        FileNotFoundError: If there is no such file.
        SceneError: If the scene is invalid.
    """

    def __init__(self, path: str | Path) -> None:
        self._archive = Archive(path)
        members = self._archive.members
        if SCENE_JSON not in members:
            raise SceneError(f"{path}: a zip without {SCENE_JSON} is not a scene file; make one with `wnv-data import`")
        super().__init__(str(path), info_from_json(self._archive.read(SCENE_JSON), name=str(path)))
        self._check_frames_present()

    def image_bytes(self, index: int) -> bytes:
        """Return the JPEG or PNG file of a frame, checksum verified.

        Raises:
            IndexError: If the index is out of range; negative ones are.
            SceneError: If the file is damaged.
        """
        return self._read([index])[0]

    def images_u8(
        self, indices: Sequence[int], *, box: tuple[int, int, int, int] | None = None
    ) -> list[UInt8[np.ndarray, "height width 3"]]:
        """Decode frames to RGB; remote ones are read in parallel. See `Scene.images_u8`."""
        return [self._decode(index, data, box) for index, data in zip(indices, self._read(indices), strict=True)]

    @override
    def points(self) -> Points | None:
        if POINTS_FILE not in self._archive.members:
            return None
        return points_from_ply(self._archive.read(POINTS_FILE), where=f"scene '{self.id}', {POINTS_FILE}")

    def _read(self, indices: Sequence[int]) -> list[bytes]:
        self._check_indices(indices)
        return self._archive.read_many([self.info.frames[index].file for index in indices])

    def _decode(
        self, index: int, data: bytes, box: tuple[int, int, int, int] | None
    ) -> UInt8[np.ndarray, "height width 3"]:
        return decode_image(
            data,
            width=self.info.width,
            height=self.info.height,
            where=frame_label(self.info.id, index, self.info.frames[index].file),
            box=box,
        )

    def _image_keys(self) -> list[tuple[int, int]]:
        members = [self._archive.members[frame.file] for frame in self.info.frames]
        return [(member.crc, member.size) for member in members]

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
                f"(first: {unlisted[0]}); write the scene again"
            )


def validate_scene(path: str | Path) -> SceneInfo:
    """Check a scene file, every pixel and point included, and return its description.

    Args:
        path: A local path, or any URL that fsspec understands.

    Raises:
        FileNotFoundError: If there is no such file.
        SceneError: At the first broken rule, with scene, frame and value.
    """
    scene = SceneFile(path)
    for index in range(len(scene)):
        scene.image_u8(index)
    scene.points()
    return scene.info
