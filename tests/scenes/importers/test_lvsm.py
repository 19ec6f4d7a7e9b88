import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wnv.scenes.listing import open_scene


@pytest.fixture
def root(tmp_path: Path, capture: Any) -> Path:
    root = tmp_path / "data"
    (root / "metadata").mkdir(parents=True)
    for name in ("kitchen", "attic"):
        (root / "images" / name).mkdir(parents=True)
        frames = []
        for index, (jpeg, viewmat) in enumerate(zip(capture.jpegs, capture.viewmats, strict=True)):
            (root / "images" / name / f"{index:05d}.jpg").write_bytes(jpeg)
            fxfycxcy = capture.K[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
            path = f"images/{name}/{index:05d}.jpg"
            frames.append({"image_path": path, "fxfycxcy": fxfycxcy, "w2c": viewmat.tolist()})
        content = {"scene_name": name, "frames": frames}
        (root / "metadata" / f"{name}.json").write_text(json.dumps(content))
    (root / "full_list.txt").write_text("metadata/kitchen.json\n\nmetadata/attic.json\n")
    return root


def _change(root: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    path = root / "metadata" / "kitchen.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("", ["kitchen.zip", "attic.zip"]),
        ("full_list.txt", ["kitchen.zip", "attic.zip"]),
        ("metadata", ["attic.zip", "kitchen.zip"]),
        ("metadata/kitchen.json", ["kitchen.zip"]),
    ],
)
def test_files_lists_and_folders(run_import: Callable, root: Path, out: Path, source: str, names: list[str]) -> None:
    assert [path.name for path in run_import("lvsm", root / source, out)] == names


def test_absolute_paths_must_be_inside_the_root(run_import: Callable, root: Path, out: Path) -> None:
    path = _change(root, lambda c: [f.update(image_path=str(root / f["image_path"])) for f in c["frames"]])
    (scene,) = run_import("lvsm", path, out)
    assert len(open_scene(scene)) == 4
    with pytest.raises(ValueError, match="leaves the folder"):
        run_import("lvsm", path, out, root=root / "metadata", exists="replace")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["frames"][2].pop("w2c"), r"kitchen\.json, frame 2: lacks w2c"),
        (lambda c: c["frames"].__setitem__(2, None), r"kitchen\.json, frame 2: lacks fxfycxcy, image_path, w2c"),
        (lambda c: c["frames"][2].update(fxfycxcy=[1, 2, 3]), r"frame 2 .*fxfycxcy must be 4 numbers, got 3"),
        (lambda c: c["frames"][2].update(w2c=np.diag([1.0, 1, -1, 1]).tolist()), r"frame 2 .*w2c mirrors the world"),
        (lambda c: c.update(frames={}), r"a list 'frames'"),
        (lambda c: c.update(frames=[]), r"'kitchen': the source has no frames"),
    ],
)
def test_invalid_metadata_is_rejected(
    run_import: Callable, root: Path, out: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    path = _change(root, change)
    with pytest.raises(ValueError, match=message):
        run_import("lvsm", path, out)
    assert not out.exists()


def test_images_of_two_sizes_are_rejected(
    run_import: Callable, root: Path, out: Path, encode: Callable[..., bytes]
) -> None:
    (root / "images" / "kitchen" / "00002.jpg").write_bytes(encode(np.zeros((48, 32, 3), dtype=np.uint8)))
    with pytest.raises(ValueError, match=r"48 x 32 pixels .*frame 2 .*32 x 48"):
        run_import("lvsm", root / "metadata" / "kitchen.json", out)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("metadata/cellar.json\n", FileNotFoundError, r"full_list\.txt: .*cellar\.json"),
        ("\n", ValueError, "lists no metadata file"),
        ("../elsewhere.json\n", ValueError, r"full_list\.txt:1: .*leaves the folder"),
        (None, FileNotFoundError, "neither full_list"),
    ],
)
def test_missing_files_are_named(
    run_import: Callable, root: Path, out: Path, text: str | None, error: type[Exception], message: str
) -> None:
    if text is not None:
        (root / "full_list.txt").write_text(text)
    with pytest.raises(error, match=message):
        run_import("lvsm", root / "images" if text is None else root, out)
