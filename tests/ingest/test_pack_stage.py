"""The pack stage: undistorted scene files of the set size, with their source."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wnv.ingest.layout import clip_file
from wnv.ingest.pack_stage import PackStage
from wnv.ingest.scene_index import index_scenes
from wnv.ingest.tasks import Task, run_task
from wnv.scenes.index import read_index
from wnv.scenes.listing import open_scene
from wnv.scenes.scene_file import validate_scene
from wnv.scenes.undistort import Distortion


@pytest.fixture
def make_task(tmp_path: Path, write_posed_clip: Callable) -> Callable[..., Task]:
    def make(name: str = "v_000012000", *, kind: str = "static", split: str = "train", **settings: object) -> Task:
        file = clip_file(name, kind=kind, split=split)
        settings = {"source": {"manifest_key": "bv:v:p1", "world": {"unit": "median step"}}} | settings
        path = write_posed_clip((tmp_path / file).parent, name, kind=kind, **settings)
        payload = {
            "id": name,
            "file": file,
            "key": "bv:v:p1",
            "kind": kind,
            "split": split,
            "start_s": 12.0,
            "end_s": 12.8,
            "title": "走路 🚶",
            "url": "https://example.org/v",
            "pose": {"sidecar": path.with_suffix(".json").relative_to(tmp_path).as_posix()},
        }
        return Task(stage="pack", item=name, root=tmp_path, payload=payload)

    return make


def test_a_clip_becomes_a_scene_file(tmp_path: Path, make_task: Callable) -> None:
    task = make_task(num_frames=40, kind="dynamic", split="val")
    outcome = run_task(PackStage(image_format="png"), task)
    assert (outcome.state, outcome.message) == ("done", "")
    file = "scenes/dynamic/val/v_000012000.zip"
    assert outcome.result == {"file": file, "num_frames": 20, "width": 64, "height": 32}
    assert outcome.num_bytes == (tmp_path / file).stat().st_size
    info = validate_scene(tmp_path / file)
    scene, clip = open_scene(tmp_path / file), open_scene(tmp_path / task.payload["file"])
    assert info.kind == "dynamic"
    assert [frame.source_index for frame in info.frames] == list(range(0, 40, 2))
    for name in ("K", "camtoworld", "times_s"):
        np.testing.assert_array_equal(getattr(info, name), getattr(clip.info, name))
    for index in (0, 7, 19):
        np.testing.assert_array_equal(scene.image_u8(index), clip.image_u8(index))
    source = info.source
    assert (source["manifest_key"], source["url"], source["title"]) == ("bv:v:p1", "https://example.org/v", "走路 🚶")
    assert source["segment"] == [12.0, 12.8]
    assert source["world"] == {"unit": "median step"}
    assert source["clip"] == {"file": task.payload["file"], "fps": "30000/1001", "size": [64, 32]}
    assert source["pack"]["image_format"] == "png"


@pytest.mark.parametrize(
    ("settings", "size"),
    [({"short_side": 16}, (32, 16)), ({"max_side": 40, "short_side": 30}, (40, 20)), ({"short_side": 99}, (64, 32))],
)
def test_images_are_shrunk_and_never_enlarged(
    tmp_path: Path, make_task: Callable, settings: dict, size: tuple[int, int]
) -> None:
    image = np.zeros((32, 64, 3), dtype=np.uint8)
    image[8:16, 32:48] = 200
    task = make_task(images=[image] * 4, distortion=Distortion(k1=-0.05))
    result = run_task(PackStage(image_format="png", **settings), task).result
    assert (result["width"], result["height"]) == size
    scene, clip = open_scene(tmp_path / result["file"]), open_scene(tmp_path / task.payload["file"])
    assert scene.info.source["undistorted"]
    scale = size[0] / 64
    np.testing.assert_allclose(scene.info.K[0][:2], scale * clip.info.K[0][:2])

    def centre(image: np.ndarray) -> np.ndarray:
        weights = image.mean(axis=-1) * (image.mean(axis=-1) > 20)
        grid = np.stack(np.meshgrid(np.arange(image.shape[1]) + 0.5, np.arange(image.shape[0]) + 0.5), axis=-1)
        return (weights[..., None] * grid).sum(axis=(0, 1)) / weights.sum()

    # The bright patch is at the same ray in the clip and in the scene.
    np.testing.assert_allclose(centre(scene.image_u8(1)), scale * centre(clip.image_u8(1)), atol=0.1)


def test_the_same_clip_gives_the_same_bytes_and_replaces_earlier_files(tmp_path: Path, make_task: Callable) -> None:
    task = make_task(distortion=Distortion(k1=0.02))
    path = tmp_path / run_task(PackStage(), task).result["file"]
    first = path.read_bytes()
    path.write_bytes(b"half of an earlier try")
    assert run_task(PackStage(), task).state == "done"
    assert path.read_bytes() == first
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_corrupt_or_missing_clip_is_a_failure(tmp_path: Path, make_task: Callable) -> None:
    task = make_task()
    video = tmp_path / task.payload["file"]
    whole = video.read_bytes()
    video.write_bytes(b"\0" * 2000)
    outcome = run_task(PackStage(), task)
    assert (outcome.state, outcome.reason) == ("failed", "corrupt")
    assert "v_000012000.mp4" in outcome.message
    video.write_bytes(whole)
    assert run_task(PackStage(), task).state == "done"
    video.unlink()
    outcome = run_task(PackStage(), task)
    assert (outcome.state, outcome.reason) == ("failed", "missing")
    scenes = [entry.name for entry in (tmp_path / "scenes").rglob("*") if entry.is_file()]
    assert scenes == ["v_000012000.zip"], "the previous scene is kept"


def test_invalid_settings_are_errors() -> None:
    for settings in ({"short_side": 0}, {"max_side": -1}, {"quality": 0}):
        with pytest.raises(ValueError, match=f"(?i){next(iter(settings))}"):
            PackStage(**settings)
    assert PackStage(max_side=480).versions()["max_side"] == "480"


def test_every_folder_of_scenes_is_indexed(tmp_path: Path, make_task: Callable) -> None:
    assert index_scenes(tmp_path) == {}
    for name, kind, split in (("a", "static", "train"), ("b", "static", "train"), ("c", "dynamic", "val")):
        run_task(PackStage(), make_task(name, kind=kind, split=split))
    assert index_scenes(tmp_path) == {"scenes/static/train": 2, "scenes/dynamic/val": 1}
    assert [record.id for record in read_index(tmp_path / "scenes/static/train")] == ["a", "b"]
    (tmp_path / "scenes/dynamic/val/c.zip").unlink()
    (tmp_path / "scenes/static/train/junk.zip").write_bytes(b"no zip")
    assert index_scenes(tmp_path) == {"scenes/static/train": 2}  # an invalid scene is left out
    with pytest.raises(FileNotFoundError, match=r"index\.jsonl"):
        read_index(tmp_path / "scenes/dynamic/val")
