"""Local videos: read in place, and only below the given folder."""

from pathlib import Path

import pytest
from loopback.videos import make_video

from wnv.ingest.fetch.fetch_stage import FetchStage
from wnv.ingest.tasks import Outcome, Task, run_task


@pytest.fixture
def folder(tmp_path: Path, pattern_video: Path) -> Path:
    videos = tmp_path / "videos"
    (videos / "夏 🏝").mkdir(parents=True)
    (videos / "夏 🏝" / "walk.mp4").write_bytes(pattern_video.read_bytes())
    (tmp_path / "outside.mp4").write_bytes(pattern_video.read_bytes())
    (videos / "link.mp4").symlink_to(tmp_path / "outside.mp4")
    (videos / "inner.mp4").symlink_to(videos / "夏 🏝" / "walk.mp4")
    (videos / "up").symlink_to(tmp_path)
    return videos


def use(
    name: str, folder: Path | None, root: Path, segments: list[list[float]] | None = None, **settings: bool
) -> Outcome:
    payload = {"key": f"file:{name}", "url": name, "title": "", "kind": "static", "segments": segments or []}
    task = Task(stage="fetch", item=f"file:{name}", root=root, payload=payload)
    return run_task(FetchStage(videos=folder, **settings), task)


def test_a_video_is_used_where_it_lies(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    before = (folder / "夏 🏝" / "walk.mp4").stat()
    outcome = use("夏 🏝/walk.mp4", folder, root, [[5, 7], [18, 21]])
    assert outcome.state == "done"
    assert outcome.num_bytes == 0
    part = {"file": str(folder / "夏 🏝" / "walk.mp4"), "start_s": 0.0, "end_s": pytest.approx(20.0)}
    assert outcome.result["parts"] == [part]
    assert outcome.result["segments"] == [[5.0, 7.0], [18.0, 20.0]]
    assert outcome.result["duration_s"] == pytest.approx(20.0)
    assert (outcome.result["width"], outcome.result["height"], outcome.result["fps"]) == (128, 72, 25.0)
    assert list(root.iterdir()) == []
    assert (folder / "夏 🏝" / "walk.mp4").stat() == before
    assert use("inner.mp4", folder, root).result["video_id"] == outcome.result["video_id"]  # by content


def test_nothing_outside_the_folder(folder: Path, tmp_path: Path) -> None:
    outside = ("../outside.mp4", "夏 🏝/../../outside.mp4", "/etc/passwd", "link.mp4", "up/outside.mp4", "a\0b.mp4")
    for name, reason in (*((name, "forbidden_address") for name in outside), ("", "unsupported"), ("~/x.mp4", "gone")):
        outcome = use(name, folder, tmp_path)
        assert (outcome.state, outcome.reason) == ("refused", reason), name


def test_links_are_followed_when_asked_for(folder: Path, tmp_path: Path) -> None:
    for name in ("link.mp4", "up/outside.mp4"):
        assert use(name, folder, tmp_path, follow_links=True).state == "done"
    assert use("../outside.mp4", folder, tmp_path, follow_links=True).reason == "forbidden_address"


def test_no_folder_no_file(folder: Path, tmp_path: Path) -> None:
    assert use("夏 🏝/walk.mp4", None, tmp_path).reason == "forbidden_address"
    assert use("nothing.mp4", folder, tmp_path).reason == "gone"
    assert use("夏 🏝", folder, tmp_path).reason == "gone"
    with pytest.raises(FileNotFoundError, match="videos"):
        FetchStage(videos=tmp_path / "nowhere")


def test_what_cannot_be_used_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "text.mp4").write_text("hello" * 100)
    outcomes = use("text.mp4", folder, tmp_path), use("夏 🏝/walk.mp4", folder, tmp_path, [[100, 110]])
    assert [(outcome.state, outcome.reason) for outcome in outcomes] == [
        ("refused", "corrupt"),
        ("refused", "wrong_length"),
    ]


def test_a_transport_streams_clock_starts_at_its_beginning(folder: Path, tmp_path: Path) -> None:
    make_video(folder / "cam.ts", num_frames=75, width=96, height=64)
    outcome = use("cam.ts", folder, tmp_path, [[1, 2]])
    assert outcome.state == "done"
    assert outcome.result["parts"][0]["end_s"] == pytest.approx(3.0, abs=0.1)
