import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wnv.scenes.listing import open_scene


@pytest.fixture
def content(capture: Any) -> dict[str, Any]:
    size = np.array([capture.width, capture.height])
    intrinsics = np.concatenate([capture.K[[0, 1], [0, 1]] / size, capture.K[:2, 2] / size, [0, 0]])
    rows = [np.concatenate([intrinsics, viewmat[:3].reshape(-1)]) for viewmat in capture.viewmats]
    return {
        "key": "5aca87f95a9412c6",
        "url": "https://www.youtube.com/watch?v=abc",
        "cameras": torch.tensor(np.stack(rows), dtype=torch.float32),
        "timestamps": torch.tensor([1_000_000, 1_040_000, 1_080_000, 1_120_000]),
        "images": [torch.tensor(list(jpeg), dtype=torch.uint8) for jpeg in capture.jpegs],
    }


def test_cameras_times_and_bytes(
    run_import: Callable, tmp_path: Path, out: Path, capture: Any, content: dict[str, Any]
) -> None:
    torch.save([content], tmp_path / "000000.torch")
    (path,) = run_import("pixelsplat", tmp_path / "000000.torch", out)
    assert path == out / "5aca87f95a9412c6.zip"
    scene = open_scene(path)
    np.testing.assert_allclose(scene.info.camtoworld, capture.camtoworld, atol=1e-5)
    np.testing.assert_allclose(scene.info.K, np.tile(capture.K, (4, 1, 1)), atol=1e-5)
    np.testing.assert_allclose(scene.info.times_s, [0.0, 0.04, 0.08, 0.12])
    assert [scene.image_bytes(index) for index in range(4)] == list(capture.jpegs)
    assert scene.info.source["url"] == content["url"]
    assert scene.info.source["first_timestamp_us"] == 1_000_000


def test_a_folder_of_chunks(run_import: Callable, tmp_path: Path, out: Path, content: dict[str, Any]) -> None:
    torch.save([{**content, "key": "b"}, {**content, "key": "../c"}], tmp_path / "000001.torch")
    del content["timestamps"]
    torch.save([{**content, "key": "a"}], tmp_path / "000000.torch")
    paths = run_import("pixelsplat", tmp_path, out)
    assert [path.parent for path in paths] == [out] * 3
    assert [path.name for path in paths[:2]] == ["a.zip", "b.zip"]
    assert open_scene(paths[0]).info.times_s.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert open_scene(paths[2]).info.source["key"] == "../c"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("cameras"), r"needs a dict with key, cameras and images"),
        (lambda c: c.update(cameras=c["cameras"][:3]), r"cameras must be a tensor \[4, 18\].*got \(3, 18\)"),
        (lambda c: c.update(cameras=None), r"cameras must be a tensor \[4, 18\].*got NoneType"),
        (lambda c: c["cameras"][2, 9].fill_(torch.nan), r"frame 2: camtoworld .*NaN"),
        (lambda c: c["cameras"][2, 6:10].neg_(), r"frame 2: the camera<-world matrix mirrors"),
        (lambda c: c["images"].__setitem__(2, c["images"][2][:40]), r"frame 2: not a readable JPEG, PNG"),
        (lambda c: c["images"].__setitem__(2, c["images"][2].float()), r"frame 2: .*uint8"),
        (lambda c: c.update(timestamps=c["timestamps"][:2]), r"timestamps must be a tensor of 4 whole numbers"),
    ],
)
def test_an_invalid_scene_is_rejected(
    run_import: Callable,
    tmp_path: Path,
    out: Path,
    content: dict[str, Any],
    change: Callable[[dict[str, Any]], Any],
    message: str,
) -> None:
    good = {**content, "key": "good", "cameras": content["cameras"].clone(), "images": list(content["images"])}
    good["timestamps"] = content["timestamps"].clone()
    change(content)
    torch.save([good, content], tmp_path / "000000.torch")
    with pytest.raises(ValueError, match=message):
        run_import("pixelsplat", tmp_path, out)
    assert [path.name for path in out.iterdir()] == ["good.zip"]


class _Command:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("exit 1",)


@pytest.mark.parametrize("content", [[{"key": "x", "images": _Command()}], {"key": "x"}], ids=["code", "no list"])
def test_other_files_are_rejected(run_import: Callable, tmp_path: Path, out: Path, content: Any) -> None:
    torch.save(content, tmp_path / "000000.torch")
    with pytest.raises(ValueError, match=r"000000\.torch: (not a chunk of tensors|a chunk is a list)"):
        run_import("pixelsplat", tmp_path, out)
