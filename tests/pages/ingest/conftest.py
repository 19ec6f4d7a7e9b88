"""Output roots with every kind of problem, filled through the ledger."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wnv.ingest.layout import clip_file, clip_id, scene_folder
from wnv.ingest.ledger import Ledger
from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.tasks import Outcome
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import Frame, SceneInfo

WIDTH, HEIGHT = 48, 32


class Root:
    """Fills the ledger of a root."""

    def __init__(self, path: Path, ledger: Ledger, orbit: Callable[[int], np.ndarray]) -> None:
        self.path = path
        self.ledger = ledger
        self._orbit = orbit

    def add(self, key: str, *, title: str = "", url: str | None = None, **fields: Any) -> None:
        line = ManifestLine(key=key, url=url or f"https://example.org/{key}", title=title, kind="static", **fields)
        self.ledger.add_videos([line])

    def finish(self, stage: str, item: str, state: str = "done", reason: str = "ok", **outcome: Any) -> None:
        task = self.ledger.start(stage, item)
        self.ledger.finish(
            task, Outcome(state=state, reason=reason, **outcome), versions={"wnv": "1.2.3", "side": "360"}
        )

    def scene(
        self, key: str, *, title: str = "", url: str | None = None, start_s: float = 0.0, file: bool = True
    ) -> str:
        """Take a video through all stages; returns the scene id."""
        self.add(key, title=title, url=url)
        self.finish("fetch", key, result={"duration_s": 600.0}, seconds=9.0, num_bytes=2_000_000)
        name = clip_id(key, start_s)
        clip = {"id": name, "file": clip_file(name, kind="static", split="train"), "key": key, "kind": "static"}
        clip |= {"split": "train", "start_s": start_s, "end_s": start_s + 10, "fps": "30000/1001", "num_frames": 300}
        payload = {"key": key, "title": title, "url": url or f"https://example.org/{key}"}
        self.ledger.enqueue("clip", key, key, payload)
        pieces = [{"start_s": 20.0, "end_s": 21.0, "reason": "too_short"}]
        self.finish("clip", key, result={"clips": [clip], "dropped": pieces}, num_bytes=500_000)
        self.ledger.enqueue("pose", name, key, {**clip, **payload})
        statistics = {"reprojection_px": 0.61, "parallax_deg": 4.25, "num_points": 900, "track_length": None}
        pose = {"sidecar": "x.json", "num_frames": 300, "num_registered": 294, "stats": statistics}
        self.finish("pose", name, result=pose, seconds=75.0)
        self.ledger.enqueue("pack", name, key, {**clip, **payload, "pose": pose})
        folder = scene_folder(kind="static", split="train")
        if file:
            write_scene(self.path / folder, self._info(name), self._images(5))
        self.finish("pack", name, result={"file": f"{folder}/{name}.zip", "num_frames": 294}, num_bytes=100_000)
        return name

    def _info(self, name: str) -> SceneInfo:
        K = np.array([[50.0, 0, 24], [0, 50, 16], [0, 0, 1]])
        frames = tuple(Frame(time_s=t / 30, K=K, camtoworld=pose) for t, pose in enumerate(self._orbit(5)))
        return SceneInfo(id=name, kind="static", width=WIDTH, height=HEIGHT, frames=frames, scale=2.0)

    @staticmethod
    def _images(count: int) -> list[np.ndarray]:
        return [np.full((HEIGHT, WIDTH, 3), 40 * number, dtype=np.uint8) for number in range(count)]


@pytest.fixture
def root(tmp_path: Path, orbit: Callable[[int], np.ndarray]) -> Any:
    """An empty root with an open ledger, as during a run."""
    path = tmp_path / "kokoni"
    with Ledger.open(path, val_fraction=0.0, test_fraction=0.0) as ledger:
        yield Root(path, ledger, orbit)
