"""The loop over captures: skip, replace, reject, in parallel."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wnv.scenes.importers import import_scenes as loop
from wnv.scenes.importers.capture import Capture, Captures, ImportOptions, PosedImage, Rejection
from wnv.scenes.importers.import_scenes import Importer, ImportResult, import_scenes
from wnv.scenes.listing import open_scene


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch, capture: Any) -> list[str]:
    """A format whose source is a text file of ids, with `-` for an invalid capture; records the ids that are read."""
    names: list[str] = []

    def read(name: str) -> tuple[list[PosedImage], dict[str, Any]]:
        names.append(name)
        if name.startswith("-"):
            raise FileNotFoundError(f"{name}.jpg is missing")
        image = PosedImage(
            where=name,
            content=capture.jpegs[0],
            width=capture.width,
            height=capture.height,
            K=capture.K,
            camtoworld=np.eye(4),
            time_s=0.0,
        )
        return [image], {"name": name}

    def captures(source: Path, options: ImportOptions) -> Captures:
        for line, name in enumerate(source.read_text().split()):
            where = f"line {line}"
            if name == "broken":
                yield Rejection(where, ValueError("broken line"))
            else:
                yield Capture(id=name.strip("-"), where=where, read=partial(read, name))

    monkeypatch.setitem(loop.IMPORTERS, "list", Importer(captures))
    return names


def _run(tmp_path: Path, text: str, *, on_progress: Any = lambda result: None, **options: Any) -> ImportResult:
    source = tmp_path / "list.txt"
    source.write_text(text)
    settings = ImportOptions(**options)
    return import_scenes(source, tmp_path / "out", format="list", options=settings, on_progress=on_progress)


@pytest.mark.parametrize("num_workers", [1, 4])
def test_invalid_captures_do_not_stop_the_others(tmp_path: Path, reads: list[str], num_workers: int) -> None:
    result = _run(tmp_path, "a -b c broken a " + " ".join(f"s{i}" for i in range(20)), num_workers=num_workers)
    assert [path.stem for path in result.written] == ["a", "c", *(f"s{i}" for i in range(20))]
    assert all(len(open_scene(path)) == 1 for path in result.written)
    reasons = [str(rejection) for rejection in result.rejected]
    for reason, match in zip(reasons, (r"line 1: -b\.jpg", "line 3: broken", "line 4: .*'a'.*line 0"), strict=True):
        assert re.match(match, reason)
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".zip"] * 22


def test_a_repeated_import_makes_what_is_missing(tmp_path: Path, reads: list[str]) -> None:
    counts = []
    _run(tmp_path, "a -b", on_progress=lambda result: counts.append((len(result.written), len(result.rejected))))
    assert counts == [(1, 0), (1, 1)]
    reads.clear()
    result = _run(tmp_path, "a b")
    assert [path.stem for path in result.skipped] == ["a"]
    assert [path.stem for path in result.written] == reads == ["b"]
    assert [path.stem for path in _run(tmp_path, "a b", exists="replace").written] == ["a", "b"]
    (rejection,) = _run(tmp_path, "a", exists="error").rejected
    assert isinstance(rejection.error, FileExistsError)
    assert "exists=replace" in str(rejection)


def test_a_failing_disk_ends_the_import(tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loop, "assemble_scene", fail)
    with pytest.raises(OSError, match="No space"):
        _run(tmp_path, " ".join(f"s{i}" for i in range(100)), num_workers=2)
    assert len(reads) < 20


@pytest.mark.parametrize(
    ("name", "value"), [("fps", 0), ("fps", -1.5), ("max_side", 0), ("quality", 101), ("num_workers", 0)]
)
def test_options_are_checked(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}.*{value}"):
        ImportOptions(**{name: value})


@pytest.mark.parametrize("name", ["re10k", "pixelsplat"])
def test_missing_files_and_those_in_subfolders_are_named(run_import: Callable, tmp_path: Path, name: str) -> None:
    suffix = {"re10k": "txt", "pixelsplat": "torch"}[name]
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        run_import(name, tmp_path / f"x.{suffix}", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=rf"no \*\.{suffix} file"):
        run_import(name, tmp_path, tmp_path / "out")
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"a.{suffix}").touch()
    with pytest.raises(FileNotFoundError, match="first, second"):
        run_import(name, tmp_path, tmp_path / "out")
