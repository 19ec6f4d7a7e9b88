from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wnv.scenes.listing import open_scene

_TIMESTAMPS = ("050050000", "50083000", "50116500", "50150000")


def _text(capture: Any, *, url: bool = True) -> str:
    lines = ["https://www.youtube.com/watch?v=abc"] if url else []
    size = np.array([capture.width, capture.height])
    for timestamp, viewmat in zip(_TIMESTAMPS, capture.viewmats, strict=True):
        focal, centre = capture.K[[0, 1], [0, 1]] / size, capture.K[:2, 2] / size
        values = [*focal.tolist(), *centre.tolist(), 0.0, 0.0, *viewmat[:3].reshape(-1).tolist()]
        lines.append(f"{timestamp} " + " ".join(f"{value:.9f}" for value in values))
    return "\n".join(lines) + "\n"


def _write_scene(folder: Path, name: str, capture: Any, **options: Any) -> Path:
    (folder / name).mkdir(parents=True)
    for timestamp, jpeg in zip(_TIMESTAMPS, capture.jpegs, strict=True):
        (folder / name / f"{timestamp}.jpg").write_bytes(jpeg)
    (folder / f"{name}.txt").write_text(_text(capture, **options))
    return folder / f"{name}.txt"


@pytest.mark.parametrize("url", [True, False])
def test_cameras_times_and_bytes(run_import: Callable, tmp_path: Path, out: Path, capture: Any, url: bool) -> None:
    file = _write_scene(tmp_path / "train", "0c1f", capture, url=url)
    (path,) = run_import("re10k", file, out)
    scene = open_scene(path)
    np.testing.assert_allclose(scene.info.camtoworld, capture.camtoworld, atol=1e-7)
    np.testing.assert_allclose(scene.info.K, np.tile(capture.K, (4, 1, 1)), atol=1e-6)
    np.testing.assert_allclose(scene.info.times_s, [0.0, 0.033, 0.0665, 0.1], atol=1e-12)
    assert [scene.image_bytes(index) for index in range(4)] == list(capture.jpegs)
    assert scene.info.source["url"] == ("https://www.youtube.com/watch?v=abc" if url else None)
    assert scene.info.source["first_timestamp_us"] == 50_050_000


@pytest.mark.parametrize("first", [0, 1])
def test_frames_named_by_number(run_import: Callable, tmp_path: Path, out: Path, capture: Any, first: int) -> None:
    file = _write_scene(tmp_path, "0c1f", capture)
    for index, timestamp in enumerate(_TIMESTAMPS):
        (tmp_path / "0c1f" / f"{timestamp}.jpg").rename(tmp_path / "0c1f" / f"{first + index:05d}.jpg")
    (path,) = run_import("re10k", file, out)
    assert [open_scene(path).image_bytes(index) for index in range(4)] == list(capture.jpegs)
    (tmp_path / "0c1f" / f"{first + 1:05d}.jpg").unlink()  # a number is missing: which frame is it?
    with pytest.raises(FileNotFoundError, match=_TIMESTAMPS[0]):
        run_import("re10k", file, out, exists="replace")


def test_a_folder_of_scenes_with_frames_elsewhere(
    run_import: Callable, tmp_path: Path, out: Path, capture: Any
) -> None:
    for name in ("b", "a"):
        _write_scene(tmp_path / "train", name, capture)
    (tmp_path / "frames").mkdir()
    for name in ("a", "b"):
        (tmp_path / "train" / name).rename(tmp_path / "frames" / name)
    paths = run_import("re10k", tmp_path / "train", out, frames=tmp_path / "frames", max_side=24)
    assert [path.name for path in paths] == ["a.zip", "b.zip"]
    assert open_scene(paths[0]).info.width == 24
    # One text file: the folder of its frames may be named itself.
    (path,) = run_import("re10k", tmp_path / "train" / "a.txt", out / "one", frames=tmp_path / "frames" / "a")
    assert path.name == "a.zip"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[:-30] + "\n", r"0c1f\.txt:5: .*19 words.* got 1\d"),
        (lambda t: t.replace("50116500", "5e7"), r"0c1f\.txt:4: the timestamp must be whole microseconds, got '5e7'"),
        (lambda t: t.replace("50116500", "50000000"), r"0c1f\.txt:4: timestamps must increase"),
        (lambda t: t.replace("0.843750000", "nan"), r"0c1f\.txt:2 \(050050000\.jpg\): a camera must be finite"),
        (lambda t: "https://www.youtube.com/watch?v=abc\n", r"0c1f\.txt: holds no frame"),
    ],
)
def test_an_invalid_line_is_rejected(
    run_import: Callable, tmp_path: Path, out: Path, capture: Any, change: Callable[[str], str], message: str
) -> None:
    file = _write_scene(tmp_path, "0c1f", capture)
    file.write_text(change(file.read_text()))
    with pytest.raises(ValueError, match=message):
        run_import("re10k", file, out)
    assert not out.exists()


def test_missing_files_are_named(run_import: Callable, tmp_path: Path, out: Path, capture: Any) -> None:
    file = _write_scene(tmp_path, "0c1f", capture)
    (tmp_path / "0c1f" / "50116500.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"0c1f\.txt:4: image .*50116500"):
        run_import("re10k", file, out)
    with pytest.raises(FileNotFoundError, match="set frames="):
        run_import("re10k", file, out, frames=tmp_path / "nowhere")
