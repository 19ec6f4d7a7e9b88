"""Small data for protocols: walks through the synthetic world, and scene files with distinguishable frames."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from wnv.data.scene_datamodule import SceneDataModule
from wnv.data.synthetic_datamodule import SyntheticDataModule
from wnv.data.view_sampling import BoundedSampler
from wnv.evaluation.protocols.protocol import Protocol
from wnv.scenes.index import build_index
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import Frame, SceneInfo

HEIGHT, WIDTH = 16, 24


@pytest.fixture
def make_protocol() -> Callable[..., Protocol]:
    """A protocol as `wnv-eval protocol=NAME SETTINGS` makes it."""

    def make(name: str, *overrides: str) -> Protocol:
        with initialize_config_module("wnv.conf", version_base="1.3"):
            cfg = compose("eval", [f"protocol={name}", *overrides])
        return instantiate(cfg.protocol, _convert_="all")

    return make


@pytest.fixture
def make_world() -> Callable[..., SyntheticDataModule]:
    def make(kind: str = "static", *, num_val_scenes: int = 2, zoom_range: tuple = (1.0, 1.0)) -> SyntheticDataModule:
        return SyntheticDataModule(
            image_size=(HEIGHT, WIDTH),
            num_context=2,
            num_target=2,
            batch_size=2,
            kind=kind,
            zoom_range=zoom_range,
            num_val_scenes=num_val_scenes,
        )

    return make


@pytest.fixture
def make_scenes(tmp_path: Path) -> Callable[..., SceneDataModule]:
    """Scenes of 32 x 20 images; frame i has grey value 3 * i and camera position x = 0.1 * i, 1000 from the origin."""

    def make(lengths: dict[str, int], **settings: object) -> SceneDataModule:
        folder = tmp_path / "scenes"
        for name, count in lengths.items():
            K = np.array([[30.0, 0, 16], [0, 30, 10], [0, 0, 1]])
            poses = np.tile(np.eye(4), (count, 1, 1))
            poses[:, :3, 3] = [[1000 + 0.1 * i, 0.02 * i, 0] for i in range(count)]
            frames = tuple(Frame(time_s=i / 4, K=K, camtoworld=poses[i]) for i in range(count))
            info = SceneInfo(id=name, kind="dynamic", width=32, height=20, frames=frames)
            write_scene(
                folder,
                info,
                [np.full((20, 32, 3), 3 * i, np.uint8) for i in range(count)],
                image_format="png",
                overwrite=True,
            )
        build_index(folder)
        sampler = BoundedSampler(num_context=2, num_target=2, min_gap=8, max_gap=12)
        given = {"sampler": sampler, "val_sampler": sampler, "image_size": (HEIGHT, WIDTH), "batch_size": 2}
        return SceneDataModule(root=folder, **(given | settings))

    return make


@pytest.fixture
def write_index(tmp_path: Path) -> Callable[..., Path]:
    def write(choices: dict[str, tuple[list[int], list[int]] | None], name: str = "index.json") -> Path:
        path = tmp_path / name
        entries = {s: None if c is None else {"context": c[0], "target": c[1]} for s, c in choices.items()}
        path.write_text(json.dumps(entries))
        return path

    return write
