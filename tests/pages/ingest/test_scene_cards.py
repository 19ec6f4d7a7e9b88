"""Selection and thumbnails of scenes."""

import base64
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from wnv.pages.ingest.facts import SceneEntry
from wnv.pages.ingest.scene_cards import choose, read_card
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import Frame, SceneInfo


def entry(name: str, *, key: str = "", kind: str = "static", split: str = "train", file: str = "") -> SceneEntry:
    return SceneEntry(
        id=name, file=file, key=key or name, kind=kind, split=split, title="", url=None, num_frames=9, statistics={}
    )


def test_kinds_and_splits_take_turns() -> None:
    scenes = [entry(f"s{number}") for number in range(500)]
    scenes += [entry(f"d{number}", kind="dynamic") for number in range(40)]
    scenes += [entry(f"v{number}", split="val") for number in range(2)]
    chosen = choose(scenes, most=12, seed=0)
    assert Counter((scene.kind, scene.split) for scene in chosen) == {
        ("dynamic", "train"): 5,
        ("static", "train"): 5,
        ("static", "val"): 2,
    }
    assert chosen == sorted(chosen, key=lambda scene: (scene.kind, scene.split))


def test_the_sample_depends_on_the_seed_alone() -> None:
    scenes = [entry(f"s{number}") for number in range(50)]
    chosen = [scene.id for scene in choose(scenes, most=5, seed=1)]
    assert [scene.id for scene in choose(scenes[::-1], most=5, seed=1)] == chosen
    assert [scene.id for scene in choose(scenes, most=5, seed=2)] != chosen
    assert len(choose(scenes, most=100, seed=1)) == 50
    scenes = [entry(f"a{number}", key="long film") for number in range(100)] + [entry("b"), entry("c")]
    assert {"b", "c"} < {scene.id for scene in choose(scenes, most=3, seed=3)}, "each video gives one first"


def test_thumbnails_are_small_and_in_order_of_time(tmp_path: Path, orbit: Callable) -> None:
    K = np.array([[500.0, 0, 320], [0, 500, 180], [0, 0, 1]])
    frames = tuple(Frame(time_s=t, K=K, camtoworld=pose) for t, pose in enumerate(orbit(20)))
    info = SceneInfo(id="grey", kind="static", width=640, height=360, frames=frames)
    images = (np.full((360, 640, 3), 12 * number, dtype=np.uint8) for number in range(20))
    write_scene(tmp_path, info, images, image_format="png")
    shown = read_card(tmp_path, entry("grey", file="grey.zip"))
    assert shown.problem == ""
    assert (shown.width, shown.height) == (640, 360)
    np.testing.assert_array_equal(shown.camtoworld, info.camtoworld)
    greys = []
    for source in shown.thumbnails:
        image = Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))))
        assert image.size == (256, 144)
        greys.append(round(np.asarray(image).mean() / 12))
    assert greys == [2, 7, 12, 17]


def test_noise_does_not_make_the_page_large(tmp_path: Path, orbit: Callable) -> None:
    rng = np.random.default_rng(0)
    K = np.array([[500.0, 0, 200], [0, 500, 200], [0, 0, 1]])
    frames = tuple(Frame(time_s=t, K=K, camtoworld=pose) for t, pose in enumerate(orbit(4)))
    info = SceneInfo(id="noise", kind="static", width=256, height=256, frames=frames)
    write_scene(tmp_path, info, (rng.integers(0, 256, (256, 256, 3), dtype=np.uint8) for _ in frames), quality=90)
    shown = read_card(tmp_path, entry("noise", file="noise.zip"))
    assert sum(len(source) for source in shown.thumbnails) <= 4 * 43_000
