"""Fixtures of the ingest tests: a web site on 127.0.0.1 and videos."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wnv.ingest.pose import pose_stage

# On the path, so that worker processes can import test helpers.
sys.path.insert(0, str(Path(__file__).parent))

from loopback.bilibili import BilibiliPages
from loopback.site import LoopbackSite
from loopback.videos import make_video
from posed_video import PosedVideo, render_room

SHARED_DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture
def site() -> Iterator[LoopbackSite]:
    """A web site on 127.0.0.1, empty."""
    with LoopbackSite() as started:
        yield started


@pytest.fixture
def bilibili(site: LoopbackSite) -> BilibiliPages:
    """Bilibili's pages on the site; `loopback.bilibili.loopback_ydl(site)` is the `ydl=` for it."""
    return BilibiliPages(site)


@pytest.fixture(scope="session")
def pattern_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 s of a moving pattern, 25 frames per second, a keyframe per second, B-frames; one session, one file."""
    return make_video(tmp_path_factory.mktemp("pattern") / "pattern.mp4")


@pytest.fixture(scope="session")
def short_videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`teddy` and `bear`: the real ones where they are shared, else a few seconds of the pattern."""
    found = {name: SHARED_DATA / f"{name}.mp4" for name in ("teddy", "bear")}
    if all(path.is_file() for path in found.values()):
        return found
    folder = tmp_path_factory.mktemp("short")
    return {name: make_video(folder / f"{name}.mp4", num_frames=75, gop=75) for name in found}


@pytest.fixture(scope="session")
def room_video(tmp_path_factory: pytest.TempPathFactory) -> PosedVideo:
    """A rendered room, 12 frames of 224x126, with known cameras. COLMAP takes two seconds."""
    path = tmp_path_factory.mktemp("room") / "room.mp4"
    return render_room(path, num_frames=12, width=224, height=126, supersample=1)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs pose estimators without a limited process."""

    def call(function: Callable, *, folder: Path, time_limit_s: float, memory_limit_gb: float, **arguments: Any) -> Any:
        return function(**arguments)

    monkeypatch.setattr(pose_stage, "run_limited", call)
