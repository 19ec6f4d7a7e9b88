"""Data sets of 200 scenes, two of them damaged, in every form: one import gives 198, a second one does nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wnv.scenes.importers.capture import ImportOptions
from wnv.scenes.importers.import_scenes import IMPORTERS, import_scenes
from wnv.scenes.listing import open_scene

NUM_SCENES = 200
DAMAGED = (17, 160)


def write_images(folder: Path, capture: Any, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for name, jpeg in zip(names, capture.jpegs, strict=False):
        (folder / name).write_bytes(jpeg)


def nerfstudio(root: Path, name: str, capture: Any, *, damaged: bool) -> None:
    write_images(root / name / "images", capture, ["0.jpg", "1.jpg"])
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    frames = [
        {"file_path": f"images/{index}.jpg", "transform_matrix": (capture.camtoworld[index] @ flip).tolist()}
        for index in (0, 1)
    ]
    camera = {"fl_x": capture.K[0, 0], "fl_y": capture.K[1, 1], "cx": capture.K[0, 2], "cy": capture.K[1, 2]}
    text = json.dumps({"w": capture.width, "h": capture.height, **camera, "frames": frames})
    (root / name / "transforms.json").write_text(text[:-20] if damaged else text)


def colmap(root: Path, name: str, capture: Any, *, damaged: bool) -> None:
    write_images(root / name / "images", capture, ["0.jpg", "1.jpg"])
    model = root / name / "sparse" / "0"
    model.mkdir(parents=True)
    K = capture.K
    parameters = f"{K[0, 0]} {K[1, 1]} {K[0, 2]} {K[1, 2]}"
    (model / "cameras.txt").write_text(f"1 PINHOLE {capture.width} {capture.height} {parameters}\n")
    lines = []
    for index in (0, 1):
        quaternion = _quaternion(capture.viewmats[index][:3, :3])
        words = [*quaternion, *capture.viewmats[index][:3, 3]]
        lines.append(f"{index + 1} {' '.join(map(repr, map(float, words)))} {7 if damaged else 1} {index}.jpg\n\n")
    (model / "images.txt").write_text("".join(lines))


def re10k(root: Path, name: str, capture: Any, *, damaged: bool) -> None:
    split = root / ("test" if name.endswith("9") else "train")
    split.mkdir(exist_ok=True, parents=True)
    write_images(split / name, capture, ["0.jpg", "1.jpg"])
    lines = []
    for index in (0, 1):
        row = _normalized(capture, index)[: 17 if damaged else 18]
        lines.append(" ".join([f"{1000 * index}", *map(repr, map(float, row))]))
    (split / f"{name}.txt").write_text("https://a.example/v\n" + "\n".join(lines) + "\n")


def lvsm(root: Path, name: str, capture: Any, *, damaged: bool) -> None:
    write_images(root / "images" / name, capture, ["0.jpg", "1.jpg"])
    fxfycxcy = capture.K[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
    frames = [
        {"image_path": f"images/{name}/{i}.jpg", "fxfycxcy": fxfycxcy, "w2c": capture.viewmats[i].tolist()}
        for i in (0, 1)
    ]
    if damaged:
        frames[0]["image_path"] = f"images/{name}/lost.jpg"
    (root / "metadata").mkdir(exist_ok=True)
    content = {"scene_name": name, "frames": frames}
    (root / "metadata" / f"{name}.json").write_text(json.dumps(content))


def opencv_cameras(root: Path, name: str, capture: Any, *, damaged: bool) -> None:
    write_images(root / name / "images", capture, ["0.jpg", "1.jpg"])
    K = capture.K
    camera = {"w": capture.width, "h": capture.height, "fx": K[0, 0], "fy": K[1, 1], "cx": K[0, 2], "cy": K[1, 2]}
    frames = []
    for index in (0, 1):
        viewmat = capture.viewmats[index] * (2.0 if damaged else 1.0)
        frames.append({"file_path": f"images/{index}.jpg", **camera, "w2c": viewmat.tolist()})
    (root / name / "opencv_cameras.json").write_text(json.dumps({"frames": frames}))


def pixelsplat(root: Path, name: str, capture: Any, *, damaged: bool) -> None:
    root.mkdir(exist_ok=True, parents=True)
    example = {
        "key": name,
        "url": "https://a.example/v",
        "cameras": torch.tensor(np.stack([_normalized(capture, i) for i in (0, 1)]), dtype=torch.float32),
        "timestamps": torch.tensor([0, 1000]),
        "images": [torch.tensor(list(jpeg), dtype=torch.uint8) for jpeg in capture.jpegs[: 1 if damaged else 2]],
    }
    torch.save([example], root / f"{name}.torch")


WRITERS = {w.__name__: w for w in (nerfstudio, colmap, re10k, lvsm, opencv_cameras, pixelsplat)}


def _normalized(capture: Any, index: int) -> np.ndarray:
    size = np.array([capture.width, capture.height])
    focals, center = capture.K[[0, 1], [0, 1]] / size, capture.K[:2, 2] / size
    return np.concatenate([focals, center, [0, 0], capture.viewmats[index][:3].reshape(-1)])


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return np.array([w, x, y, z])


def test_every_form_is_tested() -> None:
    assert set(WRITERS) == set(IMPORTERS)


@pytest.mark.slow
@pytest.mark.parametrize("form", sorted(WRITERS))
def test_two_damaged_scenes_of_200_are_named_and_the_others_imported_once(
    tmp_path: Path, capture: Any, form: str
) -> None:
    names = [f"scene_{index:03d}" for index in range(NUM_SCENES)]
    for index, name in enumerate(names):
        WRITERS[form](tmp_path / "set", name, capture, damaged=index in DAMAGED)
    result = import_scenes(tmp_path / "set", tmp_path / "out", format=form)
    assert len(result.written) == NUM_SCENES - len(DAMAGED)
    assert not result.skipped
    named = [str(rejection) for rejection in result.rejected]
    assert all(names[index] in text for index, text in zip(DAMAGED, sorted(named), strict=True))
    scene = open_scene(tmp_path / "out" / "scene_003.zip")
    np.testing.assert_allclose(scene.info.camtoworld, capture.camtoworld[:2], atol=1e-5)
    np.testing.assert_allclose(scene.info.K, np.tile(capture.K, (2, 1, 1)), atol=1e-4)

    times = {path: path.stat().st_mtime_ns for path in result.written}
    again = import_scenes(tmp_path / "set", tmp_path / "out", format=form, options=ImportOptions())
    assert not again.written
    assert len(again.skipped) == len(times)
    assert len(again.rejected) == len(DAMAGED)
    assert {path: path.stat().st_mtime_ns for path in times} == times
