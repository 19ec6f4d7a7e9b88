"""Generated scenes: small, not square, one camera per frame."""

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from wnv.scenes.importers.capture import ImportOptions
from wnv.scenes.importers.import_scenes import import_scenes
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import Frame, SceneInfo

WIDTH, HEIGHT = 24, 16


@pytest.fixture
def make_info() -> Callable[..., SceneInfo]:
    def make(num_frames: int = 3, *, shared_K: bool = False, **changes: Any) -> SceneInfo:
        rng = np.random.default_rng(7)
        frames = []
        for index in range(num_frames):
            zoom = 1.0 if shared_K else 1 + 0.1 * index
            pose = np.eye(4)
            pose[:3, :3] = Rotation.random(rng=rng).as_matrix()
            pose[:3, 3] = rng.uniform(-5, 5, 3)
            K = np.array([[20.3 * zoom, 0, 11.7], [0, 19.1 * zoom, 8.4], [0, 0, 1]])
            frames.append(Frame(time_s=index / 30, source_index=10 * index, K=K, camtoworld=pose))
        info = SceneInfo(
            id="room",
            kind="static",
            width=WIDTH,
            height=HEIGHT,
            frames=tuple(frames),
            scale=0.5,
            source={"manifest": "bv:1", "sfm": {"error_px": 0.3}, "名": "场景"},
        )
        return replace(info, **changes)

    return make


@pytest.fixture
def make_images() -> Callable[..., list[np.ndarray]]:
    def make(num_frames: int = 3, *, height: int = HEIGHT, width: int = WIDTH) -> list[np.ndarray]:
        y, x = np.mgrid[:height, :width]
        return [
            np.stack([(x * 9 + 20 * i) % 256, (y * 13) % 256, np.full_like(x, 40 * i)], axis=-1).astype(np.uint8)
            for i in range(num_frames)
        ]

    return make


@pytest.fixture
def scene_file(tmp_path: Path, make_info: Callable, make_images: Callable) -> Path:
    """A valid scene of three frames; frame 1 is PNG."""
    images = make_images()
    buffer = io.BytesIO()
    Image.fromarray(images[1]).save(buffer, "PNG")
    return write_scene(tmp_path / "scenes", make_info(), [images[0], buffer.getvalue(), images[2]])


@pytest.fixture
def repack() -> Callable[..., Path]:
    """Rewrite a scene file with changed members, without the writer's checks."""

    def change(
        path: Path,
        *,
        members: dict[str, bytes | None] | None = None,
        compression: int = zipfile.ZIP_STORED,
    ) -> Path:
        with zipfile.ZipFile(path) as archive:
            contents: dict[str, bytes | None] = {name: archive.read(name) for name in archive.namelist()}
        contents |= members or {}
        out = path.with_name("changed.zip")
        with zipfile.ZipFile(out, "w", compression) as archive:
            for name, content in contents.items():
                if content is not None:
                    archive.writestr(name, content)
        return out

    return change


@pytest.fixture(scope="session")
def edit_json() -> Callable[..., str]:
    """Set the value at a path of keys in JSON text, or delete it if the value is `...`."""

    def edit(text: str, *keys: Any, value: Any) -> str:
        data = content = json.loads(text)
        for key in keys[:-1]:
            data = data[key]
        if value is ...:
            del data[keys[-1]]
        else:
            data[keys[-1]] = value
        return json.dumps(content)

    return edit


@pytest.fixture(scope="session")
def run_import() -> Callable[..., list[Path]]:
    """Import a source and return the scene files; a rejection is raised."""

    def run(name: str, source: Path, out: Path, **options: Any) -> list[Path]:
        result = import_scenes(source, out, format=name, options=ImportOptions(**options))
        for rejection in result.rejected:
            raise rejection.error
        return [*result.written, *result.skipped]

    return run
