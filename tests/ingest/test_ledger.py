"""The ledger: records and files agree, and one process writes."""

import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from fake_stages import fake_stages, manifest, written

from wnv.ingest.database import LEDGER_VERSION, RootError
from wnv.ingest.driver import children_of
from wnv.ingest.layout import LEDGER_FILE, REPORT_FILE, split_of
from wnv.ingest.ledger import Ledger
from wnv.ingest.missing_outputs import requeue_missing
from wnv.ingest.outputs import files_of
from wnv.ingest.records import Row
from wnv.ingest.selection import Selection
from wnv.ingest.tasks import STAGES, Outcome, StageName, Task, run_task

FRACTIONS = {"val_fraction": 0.2, "test_fraction": 0.1}


@pytest.fixture
def ledger(tmp_path: Path):
    with Ledger.open(tmp_path / "root", **FRACTIONS) as opened:
        yield opened


def perform(ledger: Ledger, stage: StageName, item: str, **settings: object) -> Task:
    """Process an item with a fake stage, as the driver does."""
    made_by = fake_stages(**settings)[stage]
    task = ledger.start(stage, item)
    outcome = run_task(made_by, task)
    children = children_of(task, outcome.result) if outcome.state == "done" else []
    ledger.finish(task, outcome, versions=made_by.versions(), children=children)
    return task


def perform_all(ledger: Ledger, **settings: object) -> None:
    for stage in ("fetch", "clip", "pose", "pack"):
        for item in ledger.pending(stage):
            perform(ledger, stage, item, **settings)


def only(ledger: Ledger, stage: StageName) -> Row:
    (row,) = ledger.rows(stage)
    return row


def test_videos_are_added_once_with_their_split(ledger: Ledger) -> None:
    lines = manifest(20)
    nameless = replace(lines[0], key=None, url=None)
    assert ledger.add_videos([*lines, nameless])["new"] == 20
    assert {name: number for name, number in ledger.add_videos(lines).items() if number} == {"known": 20}
    assert [video.position for video in ledger.videos()] == list(range(20))
    for video, line, row in zip(ledger.videos(), lines, ledger.rows("fetch"), strict=True):
        assert video.split == split_of(line.key, **FRACTIONS)
        assert video.line == line.to_json()
        assert row.payload == {**line.to_json(), "split": video.split}
    assert {video.split for video in ledger.videos()} == {"train", "val", "test"}


def test_a_changed_line_redoes_the_video_unless_only_its_description_changed(ledger: Ledger) -> None:
    line = replace(manifest(1)[0], kind="static")
    ledger.add_videos([line])
    assert ledger.add_videos([replace(line, kind="dynamic")])["static_kept"] == 1
    perform(ledger, "fetch", line.key)
    reworded = replace(line, title="new", codes=("repaired",), rows=({"row": 3},))
    assert ledger.add_videos([reworded])["known"] == 1
    assert only(ledger, "fetch").state == "done"
    assert only(ledger, "fetch").payload["title"] == "new"
    assert ledger.add_videos([replace(line, segments=((2.0, 9.0),))])["changed"] == 1
    row = only(ledger, "fetch")
    assert (row.state, row.reason, row.tries) == ("pending", "changed", 0)


def test_any_unicode_text_is_stored(ledger: Ledger) -> None:
    title = "【4K】重庆 🏙️ 夜景 \\ \" ' \n ‏שלום \udc80"
    ledger.add_videos([replace(manifest(1)[0], title=title)])
    task = ledger.start("fetch", "url:000")
    assert task.payload["title"] == title
    ledger.finish(task, Outcome(state="failed", reason="transient", message="坏了 \udc80"))
    with Ledger.read(ledger.root) as seen:
        assert next(seen.videos()).line["title"] == title
        assert only(seen, "fetch").message == "坏了 \\udc80"
    with pytest.raises(ValueError, match="udc80"):
        ledger.add_videos([replace(manifest(1)[0], key="file:\udc80.mp4")])


def test_states_of_an_item(ledger: Ledger) -> None:
    ledger.add_videos(manifest(1))
    assert ledger.pending("fetch") == ["url:000"]
    task = ledger.start("fetch", "url:000")
    assert task.attempt == 0
    assert only(ledger, "fetch").state == "running"
    ledger.release(task)
    assert (only(ledger, "fetch").state, only(ledger, "fetch").tries) == ("pending", 0)
    ledger.finish(
        ledger.start("fetch", "url:000"), Outcome(state="failed", reason="transient", message="m", seconds=2.0)
    )
    assert (only(ledger, "fetch").state, only(ledger, "fetch").reason) == ("failed", "transient")
    ledger.requeue([("fetch", "url:000")], reason="retry")
    assert ledger.start("fetch", "url:000").attempt == 0
    task = ledger.start("fetch", "url:000")
    assert task.attempt == 1
    outcome = Outcome(state="done", result={"parts": []}, num_bytes=7)
    assert ledger.finish(task, outcome, versions={"a": "1"}, children=children_of(task, outcome.result))
    row = only(ledger, "fetch")
    assert (row.state, row.reason, row.num_bytes, row.versions) == ("done", "ok", 7, {"a": "1"})
    assert ledger.counts() == {"fetch": {"done": 1}, "clip": {"pending": 1}}


def test_payloads_of_the_stages(ledger: Ledger) -> None:
    ledger.add_videos(manifest(1))
    perform_all(ledger)
    assert ledger.counts() == {"fetch": {"done": 1}, "clip": {"done": 1}, "pose": {"done": 2}, "pack": {"done": 2}}
    fetch, clip, pose, pack = (next(ledger.rows(stage)) for stage in ("fetch", "clip", "pose", "pack"))
    about = {name: fetch.payload[name] for name in ("key", "kind", "split", "title", "url")}
    assert clip.payload == {**about, "fetch": fetch.result}
    assert pose.payload == {**clip.result["clips"][0], "title": about["title"], "url": about["url"]}
    assert pack.payload == {**pose.payload, "pose": pose.result}


def test_children_that_are_no_longer_produced_are_removed_with_their_files(ledger: Ledger) -> None:
    ledger.add_videos(manifest(2))
    perform_all(ledger, num_clips=3)
    ledger.requeue([("clip", "url:000")], reason="redo", redo=True)
    perform_all(ledger, num_clips=1)
    assert ledger.counts()["pack"] == {"done": 4}
    recorded = {file for row in ledger.rows() for file in files_of(row.result)}
    assert recorded == written(ledger.root)
    # Rejected: no clip at all.
    ledger.requeue([("clip", "url:000")], reason="redo", redo=True)
    perform_all(ledger, num_clips=0)
    assert {row.key for row in ledger.rows("pack")} == {"url:001"}
    recorded = {file for row in ledger.rows() for file in files_of(row.result)}
    assert recorded == written(ledger.root)


def test_a_scene_that_a_killed_run_did_not_record_is_removed_with_its_clip(ledger: Ledger) -> None:
    ledger.add_videos(manifest(1))
    perform(ledger, "fetch", "url:000")
    perform(ledger, "clip", "url:000")
    for item in ledger.pending("pose"):
        run_task(fake_stages()["pose"], ledger.start("pose", item))
    ledger.requeue([("clip", "url:000")], reason="redo", redo=True)
    perform(ledger, "clip", "url:000", num_clips=1)
    assert len([file for file in written(ledger.root) if file.endswith(".json")]) == 1


@pytest.mark.parametrize(("stage", "failure"), [("fetch", "gone"), ("clip", "transient")])
def test_a_rejected_fetch_and_a_failed_attempt_delete_nothing(ledger: Ledger, stage: StageName, failure: str) -> None:
    ledger.add_videos(manifest(1))
    perform_all(ledger)
    before = written(ledger.root)
    ledger.requeue([(stage, "url:000")], reason="redo", redo=True)
    perform(ledger, stage, "url:000", failures={"url:000": [failure]})
    assert written(ledger.root) == before
    assert ledger.counts()["pack"] == {"done": 2}
    assert ledger.has_outputs(stage, "url:000")
    # The request to redo is kept: after the next success the children are redone.
    ledger.requeue([(stage, "url:000")], reason="retry")
    perform(ledger, stage, "url:000")
    assert set(ledger.counts()["clip" if stage == "fetch" else "pose"]) == {"pending"}


def test_a_users_own_file_is_never_deleted(ledger: Ledger, tmp_path: Path) -> None:
    own, beside = tmp_path / "own.mp4", tmp_path / "beside.mp4"
    for path in (own, beside):
        path.write_text("mine")
    ledger.add_videos(manifest(1))
    parts = [{"file": str(own)}, {"file": "../beside.mp4"}, {"file": "videos/a/00.mp4"}]
    (ledger.root / "videos/a").mkdir(parents=True)
    (ledger.root / "videos/a/00.mp4").write_text("ours")
    ledger.finish(ledger.start("fetch", "url:000"), Outcome(state="done", result={"parts": parts}))
    ledger.requeue([("fetch", "url:000")], reason="redo", redo=True)
    ledger.finish(ledger.start("fetch", "url:000"), Outcome(state="done", result={"parts": []}))
    assert own.exists()
    assert beside.exists()
    assert not (ledger.root / "videos/a/00.mp4").exists()


def test_outputs_that_a_stage_deletes_are_redone(ledger: Ledger) -> None:
    ledger.add_videos(manifest(1))
    perform_all(ledger)
    clip = next(ledger.rows("clip")).result["clips"][0]["file"]
    (ledger.root / clip).unlink()
    requeue_missing(ledger)
    (ledger.root / clip).with_suffix(".json").unlink()  # as the clip stage does
    perform(ledger, "clip", "url:000")
    assert ledger.counts()["pose"] == {"pending": 1, "done": 1}


@pytest.mark.parametrize("how", ["redo", "setting", "missing"])
def test_children_are_redone_with_their_item(ledger: Ledger, how: str) -> None:
    ledger.add_videos(manifest(1))
    perform_all(ledger)
    if how == "missing":
        clip = next(ledger.rows("clip")).result["clips"][0]
        (ledger.root / clip["file"]).unlink()
        assert requeue_missing(ledger) == {}, "the scene is packed"
        (ledger.root / next(row.result["file"] for row in ledger.rows("pack") if row.item == clip["id"])).unlink()
        assert requeue_missing(ledger) == {"clip": 1, "pack": 1}
    else:
        ledger.requeue([("clip", "url:000")], reason="redo", redo=how == "redo")
    perform(ledger, "clip", "url:000", setting="2" if how == "setting" else "1")
    # A lost clip is cut again identically, so its poses remain valid.
    assert ledger.counts()["pose"] == ({"done": 2} if how == "missing" else {"pending": 2})


def test_items_with_missing_files_are_redone(ledger: Ledger) -> None:
    ledger.add_videos(manifest(4))
    perform_all(ledger)
    assert requeue_missing(ledger) == {}
    results = {row.stage: row.result for row in ledger.rows() if row.key == "url:002"}
    (ledger.root / results["pose"]["sidecar"]).unlink()
    (ledger.root / results["pack"]["file"]).write_bytes(b"")
    assert requeue_missing(ledger) == {"pose": 1, "pack": 1}
    assert [(row.stage, row.reason) for row in ledger.rows(state="pending")] == [
        ("pack", "missing"),
        ("pose", "missing"),
    ]


def test_items_of_a_killed_run_are_pending_again(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, **FRACTIONS) as ledger:
        ledger.add_videos(manifest(2))
        ledger.start("fetch", "url:001")
    with Ledger.read(tmp_path) as seen:
        assert seen.counts() == {"fetch": {"pending": 1, "running": 1}}
    with Ledger.open(tmp_path, **FRACTIONS) as ledger:
        assert [(row.state, row.reason) for row in ledger.rows("fetch")] == [
            ("pending", ""),
            ("pending", "interrupted"),
        ]
        (journal,), (synchronous,) = (
            ledger._connection.execute(f"PRAGMA {name}").fetchone() for name in ("journal_mode", "synchronous")
        )
        assert (journal, synchronous) == ("wal", 1)  # 1: fsync at checkpoints only


def test_half_written_files_of_dead_nodes_are_removed(tmp_path: Path) -> None:
    names = ("videos/.a.node7-4242-0a1b2c3d.tmp", "clips/static/train/.a.mp4.node7-4242-0a1b2c3d.tmp")
    for name in (*names, "scenes/static/val/.a.zip.node7-4242-0a1b2c3d.tmp", "scenes/static/val/a.zip"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with Ledger.open(tmp_path, val_fraction=0.2, test_fraction=0.1):
        assert written(tmp_path) == {"scenes/static/val/a.zip"}


def test_a_second_writer_is_an_error_that_names_the_first(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match=rf"root=.*process {os.getpid()} on .+ since 20"):
        Ledger.open(ledger.root, **FRACTIONS)
    with Ledger.read(ledger.root) as seen:
        assert seen.counts() == {}
    ledger.close()
    Ledger.open(ledger.root, **FRACTIONS).close()


def test_a_root_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    root = tmp_path / "root"
    Ledger.open(root, **FRACTIONS).close()
    with pytest.raises(ValueError, match=r"test_fraction=0\.1, got 0\.2 and 0\.0"):
        Ledger.open(root, val_fraction=0.2, test_fraction=0.0)
    Ledger.open(root, **FRACTIONS).close()  # the error has released the lock
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", "/proc/wnv"):
        with pytest.raises(RootError, match="root="):
            Ledger.open(place, **FRACTIONS)


@pytest.mark.parametrize("damage", ["text", "page", "cut", "empty", "newer", "absent"])
def test_a_file_that_is_not_a_ledger_is_an_error_that_names_it(tmp_path: Path, damage: str) -> None:
    with Ledger.open(tmp_path, **FRACTIONS) as ledger:
        ledger.add_videos(manifest(300))
    path = tmp_path / LEDGER_FILE
    content = path.read_bytes()
    if damage == "newer":
        connection = sqlite3.connect(path)
        connection.execute(f"PRAGMA user_version = {LEDGER_VERSION + 1}")
        connection.close()
    elif damage == "absent":
        path.unlink()
    else:
        page = content[:20_000] + os.urandom(40_000) + content[60_000:]
        text = "这不是账本 ".encode() * 1000
        path.write_bytes({"text": text, "page": page, "cut": content[: len(content) // 2], "empty": b""}[damage])
    is_new = damage in ("absent", "empty")
    if damage != "page":  # which reading may not touch
        with pytest.raises(FileNotFoundError if is_new else ValueError, match=r"ledger\.sqlite"):
            list(Ledger.read(tmp_path).rows())
    if is_new:
        Ledger.open(tmp_path, **FRACTIONS).close()
    else:
        with pytest.raises(ValueError, match=r"ledger\.sqlite"):
            Ledger.open(tmp_path, **FRACTIONS)


def test_recorded_tools_do_not_make_an_item_outdated(ledger: Ledger) -> None:
    ledger.add_videos(manifest(1))
    task = ledger.start("fetch", "url:000")
    ledger.finish(task, Outcome(state="done", result={"parts": []}), versions={"tool yt-dlp": "1", "format": "a"})
    assert ledger.num_other_versions("fetch", {"tool yt-dlp": "2", "format": "a"}) == 0
    assert ledger.num_other_versions("fetch", {"tool yt-dlp": "1", "format": "b"}) == 1


def test_forget_deletes_a_video_for_good(ledger: Ledger, tmp_path: Path) -> None:
    own = tmp_path / "own.mp4"
    own.write_bytes(b"video")
    lines = [replace(line, title="private title") if line.key == "url:001" else line for line in manifest(3)]
    ledger.add_videos(lines)
    perform_all(ledger)
    (ledger.root / REPORT_FILE).write_text("thumbnails")
    task = ledger.start("fetch", "url:001")
    ledger.finish(task, Outcome(state="done", result={"parts": [{"file": str(own)}]}))
    kept = {file for file in written(ledger.root) if "url_000" in file or "url_002" in file}
    with pytest.raises(ValueError, match="keys: nobody"):
        ledger.forget(["url:001", "nobody"])
    deleted = ledger.forget(["url:001"])
    assert Path(REPORT_FILE) in deleted
    assert not (ledger.root / REPORT_FILE).exists()
    assert written(ledger.root) == kept
    assert own.exists()
    (row,) = ledger.rows(key="url:001")
    assert (row.stage, row.state, row.reason) == ("fetch", "refused", "taken_out")
    for file in ledger.root.glob(f"{LEDGER_FILE}*"):
        assert b"private title" not in file.read_bytes()
    assert ledger.add_videos(lines)["taken_out"] == 1
    Selection(retry="all").apply(ledger, STAGES)
    assert ledger.pending("fetch") == []
    Selection(retry=["taken_out"]).apply(ledger, STAGES)
    perform_all(ledger)
    assert ledger.counts()["pack"] == {"done": 6}


@pytest.mark.parametrize("stage", STAGES)
def test_forget_deletes_what_a_killed_run_did_not_record(ledger: Ledger, stage: StageName) -> None:
    ledger.add_videos(manifest(2))
    for name in STAGES[: STAGES.index(stage) + 1]:
        for item in ledger.pending(name):
            if name == stage and item.startswith(("url:000", "url_000")):  # killed between the file and its record
                task = ledger.start(stage, item)
                (file, *_) = sorted(files_of(run_task(fake_stages()[stage], task).result))
                path = ledger.root / file
                path.with_name(f".{path.name}.host-1-0a1b2c3d.tmp").write_bytes(b"half")
            else:
                perform(ledger, name, item)
    ledger.forget(["url:000"])
    recorded = {file for row in ledger.rows() for file in files_of(row.result)}
    assert written(ledger.root) == recorded
    assert {row.key for row in ledger.rows() if row.stage != "fetch"} <= {"url:001"}
