"""The ledger: what is recorded is there, what is there is recorded, and nobody writes beside its writer."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fake_stages import fake_stages, manifest, written

from wnv.ingest.database import LEDGER_VERSION, RootError
from wnv.ingest.driver import children_of
from wnv.ingest.layout import LEDGER_FILE, LOCK_FILE, split_of
from wnv.ingest.ledger import Ledger
from wnv.ingest.records import Row
from wnv.ingest.selection import Selection
from wnv.ingest.tasks import STAGES, Outcome, StageName, Task, run_task

FRACTIONS = {"val_fraction": 0.2, "test_fraction": 0.1}


@pytest.fixture
def ledger(tmp_path: Path):
    with Ledger.open(tmp_path / "root", **FRACTIONS) as opened:
        yield opened


def perform(ledger: Ledger, stage: StageName, item: str, **settings: object) -> Task:
    """Do an item with a fake stage, as the driver would."""
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


def test_videos_are_taken_in_once_with_their_side_of_the_split(ledger: Ledger) -> None:
    lines = manifest(20)
    nameless = replace(lines[0], key=None, url=None)
    assert ledger.add_videos([*lines, nameless])["new"] == 20
    assert ledger.add_videos(lines) == {
        "new": 0,
        "changed": 0,
        "known": 20,
        "static_kept": 0,
        "taken_out": 0,
        "no_key": 0,
    }
    assert [video.position for video in ledger.videos()] == list(range(20))
    for video, line, row in zip(ledger.videos(), lines, ledger.rows("fetch"), strict=True):
        assert video.split == split_of(line.key, **FRACTIONS)
        assert video.line == line.to_json()
        assert row.payload == {**line.to_json(), "split": video.split}
    assert {video.split for video in ledger.videos()} == {"train", "val", "test"}


def test_a_changed_line_is_done_again_but_not_for_its_provenance(ledger: Ledger) -> None:
    (line,) = manifest(1)
    ledger.add_videos([line])
    perform(ledger, "fetch", line.key)
    reworded = replace(line, title="new", codes=("repaired",), rows=({"row": 3},))
    assert ledger.add_videos([reworded])["known"] == 1
    assert only(ledger, "fetch").state == "done"
    assert only(ledger, "fetch").payload["title"] == "new"
    assert ledger.add_videos([replace(line, segments=((2.0, 9.0),))])["changed"] == 1
    row = only(ledger, "fetch")
    assert (row.state, row.reason, row.tries) == ("pending", "changed", 0)


def test_a_static_video_stays_static(ledger: Ledger) -> None:
    line = replace(manifest(1)[0], kind="static")
    ledger.add_videos([line])
    assert ledger.add_videos([replace(line, kind="dynamic")])["static_kept"] == 1
    assert next(ledger.videos()).line["kind"] == "static"


def test_text_of_any_script_survives(ledger: Ledger) -> None:
    title = "【4K】重庆 🏙️ 夜景 \\ \" ' \n ‏שלום \udc80"
    ledger.add_videos([replace(manifest(1)[0], title=title)])
    task = ledger.start("fetch", "url:000")
    assert task.payload["title"] == title
    ledger.finish(task, Outcome(state="failed", reason="transient", message="坏了 \udc80"))
    with Ledger.read(ledger.root) as seen:
        assert next(seen.videos()).line["title"] == title
        assert only(seen, "fetch").message == "坏了 \\udc80"


def test_a_key_that_cannot_be_stored_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="half of a character"):
        ledger.add_videos([replace(manifest(1)[0], key="file:\udc80.mp4")])
    assert ledger.counts() == {}


def test_an_item_goes_through_its_states(ledger: Ledger) -> None:
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


def test_stages_follow_each_other_with_the_payloads_agreed_on(ledger: Ledger) -> None:
    ledger.add_videos(manifest(1))
    perform_all(ledger)
    assert ledger.counts() == {"fetch": {"done": 1}, "clip": {"done": 1}, "pose": {"done": 2}, "pack": {"done": 2}}
    fetch, clip, pose, pack = (next(ledger.rows(stage)) for stage in ("fetch", "clip", "pose", "pack"))
    about = {name: fetch.payload[name] for name in ("key", "kind", "split", "title", "url")}
    assert clip.payload == {**about, "fetch": fetch.result}
    assert pose.payload == {**clip.result["clips"][0], "title": about["title"], "url": about["url"]}
    assert pack.payload == {**pose.payload, "pose": pose.result}


def test_children_that_are_no_longer_produced_vanish_with_their_files(ledger: Ledger) -> None:
    ledger.add_videos(manifest(2))
    perform_all(ledger, num_clips=3)
    ledger.requeue([("clip", "url:000")], reason="redo", anew=True)
    perform_all(ledger, num_clips=1)
    assert ledger.counts()["pack"] == {"done": 4}
    recorded = {f for row in ledger.rows() for f in _files(row)}
    assert recorded == written(ledger.root)
    # Refused is an answer too: no clip at all.
    ledger.requeue([("clip", "url:000")], reason="redo", anew=True)
    perform_all(ledger, num_clips=0)
    assert {row.key for row in ledger.rows("pack")} == {"url:001"}
    recorded = {f for row in ledger.rows() for f in _files(row)}
    assert recorded == written(ledger.root)


def _files(row: Row) -> list[str]:
    files = [part["file"] for name in ("parts", "clips") for part in row.result.get(name, ())]
    return files + [row.result[name] for name in ("sidecar", "file") if name in row.result]


def test_a_scene_that_a_killed_run_wrote_but_did_not_record_vanishes_with_its_clip(ledger: Ledger) -> None:
    ledger.add_videos(manifest(1))
    perform(ledger, "fetch", "url:000")
    perform(ledger, "clip", "url:000")
    for item in ledger.pending("pose"):
        run_task(fake_stages()["pose"], ledger.start("pose", item))
    ledger.requeue([("clip", "url:000")], reason="redo", anew=True)
    perform(ledger, "clip", "url:000", num_clips=1)
    assert len([file for file in written(ledger.root) if file.endswith(".json")]) == 1


def test_a_video_that_has_gone_takes_no_scene_along(ledger: Ledger) -> None:
    ledger.add_videos(manifest(1))
    perform_all(ledger)
    before = written(ledger.root)
    ledger.requeue([("fetch", "url:000")], reason="redo", anew=True)
    perform(ledger, "fetch", "url:000", trouble={"url:000": ["gone"]})
    assert written(ledger.root) == before
    assert ledger.counts()["pack"] == {"done": 2}
    assert ledger.has_outputs("fetch", "url:000")


def test_a_failed_try_takes_nothing_away(ledger: Ledger) -> None:
    ledger.add_videos(manifest(1))
    perform_all(ledger)
    before = written(ledger.root)
    ledger.requeue([("clip", "url:000")], reason="redo", anew=True)
    perform(ledger, "clip", "url:000", trouble={"url:000": ["transient"]})
    assert written(ledger.root) == before
    # Nor does it make the order forgotten: once it goes well, what comes of it is made anew.
    ledger.requeue([("clip", "url:000")], reason="retry")
    perform(ledger, "clip", "url:000")
    assert ledger.counts()["pose"] == {"pending": 2}


def test_a_file_of_ones_own_is_never_deleted(ledger: Ledger, tmp_path: Path) -> None:
    own, beside = tmp_path / "own.mp4", tmp_path / "beside.mp4"
    for path in (own, beside):
        path.write_text("mine")
    ledger.add_videos(manifest(1))
    parts = [{"file": str(own)}, {"file": "../beside.mp4"}, {"file": "videos/a/00.mp4"}]
    (ledger.root / "videos/a").mkdir(parents=True)
    (ledger.root / "videos/a/00.mp4").write_text("ours")
    ledger.finish(ledger.start("fetch", "url:000"), Outcome(state="done", result={"parts": parts}))
    ledger.requeue([("fetch", "url:000")], reason="redo", anew=True)
    ledger.finish(ledger.start("fetch", "url:000"), Outcome(state="done", result={"parts": []}))
    assert own.exists()
    assert beside.exists()
    assert not (ledger.root / "videos/a/00.mp4").exists()


def test_what_a_stage_clears_away_as_it_makes_its_files_again_is_made_again_too(ledger: Ledger) -> None:
    ledger.add_videos(manifest(1))
    perform_all(ledger)
    clip = next(ledger.rows("clip")).result["clips"][0]["file"]
    (ledger.root / clip).unlink()
    ledger.requeue_missing()
    (ledger.root / clip).with_suffix(".json").unlink()  # as the clip stage does with poses of an earlier clip
    perform(ledger, "clip", "url:000")
    assert ledger.counts()["pose"] == {"pending": 1, "done": 1}


@pytest.mark.parametrize("how", ["redo", "setting", "missing"])
def test_what_comes_of_an_item_is_made_anew_when_the_item_is(ledger: Ledger, how: str) -> None:
    ledger.add_videos(manifest(1))
    perform_all(ledger)
    if how == "missing":
        clip = next(ledger.rows("clip")).result["clips"][0]
        (ledger.root / clip["file"]).unlink()
        assert ledger.requeue_missing() == {}, "its scene is packed"
        (ledger.root / next(row.result["file"] for row in ledger.rows("pack") if row.item == clip["id"])).unlink()
        assert ledger.requeue_missing() == {"clip": 1, "pack": 1}
    else:
        ledger.requeue([("clip", "url:000")], reason="redo", anew=how == "redo")
    perform(ledger, "clip", "url:000", setting="2" if how == "setting" else "1")
    # A clip that was only lost is cut again as it was: its poses hold.
    assert ledger.counts()["pose"] == ({"done": 2} if how == "missing" else {"pending": 2})


def test_what_is_done_but_not_there_is_done_again(ledger: Ledger) -> None:
    ledger.add_videos(manifest(4))
    perform_all(ledger)
    assert ledger.requeue_missing() == {}
    results = {row.stage: row.result for row in ledger.rows() if row.key == "url:002"}
    (ledger.root / results["pose"]["sidecar"]).unlink()
    (ledger.root / results["pack"]["file"]).write_bytes(b"")
    assert ledger.requeue_missing() == {"pose": 1, "pack": 1}
    assert [(row.stage, row.reason) for row in ledger.rows(state="pending")] == [
        ("pack", "missing"),
        ("pose", "missing"),
    ]


def test_a_newer_tool_is_told_and_no_reason_to_do_an_item_again(ledger: Ledger) -> None:
    ledger.add_videos(manifest(1))
    task = ledger.start("fetch", "url:000")
    ledger.finish(task, Outcome(state="done", result={"parts": []}), versions={"tool yt-dlp": "1", "format": "a"})
    assert next(ledger.rows("fetch")).versions["tool yt-dlp"] == "1"
    assert ledger.num_other_versions("fetch", {"tool yt-dlp": "2", "format": "a"}) == 0
    assert ledger.num_other_versions("fetch", {"tool yt-dlp": "1", "format": "b"}) == 1


def test_what_is_taken_out_is_gone_and_stays_so(ledger: Ledger, tmp_path: Path) -> None:
    own = tmp_path / "own.mp4"
    own.write_bytes(b"film")
    ledger.add_videos(manifest(3))
    perform_all(ledger)
    task = ledger.start("fetch", "url:001")
    ledger.finish(task, Outcome(state="done", result={"parts": [{"file": str(own)}]}))
    kept = {file for file in written(ledger.root) if "url_000" in file or "url_002" in file}
    with pytest.raises(ValueError, match="keys: nobody: not known in"):
        ledger.take_out(["url:001", "nobody"])
    gone = ledger.take_out(["url:001"])
    assert gone
    assert written(ledger.root) == kept
    assert own.exists()
    assert [(row.stage, row.state, row.reason) for row in ledger.rows(key="url:001")] == [
        ("fetch", "refused", "taken_out")
    ]
    assert ledger.add_videos(manifest(3))["taken_out"] == 1
    Selection(retry="all").apply(ledger, STAGES)
    assert ledger.pending("fetch") == []
    Selection(retry=["taken_out"]).apply(ledger, STAGES)
    assert ledger.pending("fetch") == ["url:001"]


def test_a_video_is_missed_only_until_it_is_cut(ledger: Ledger) -> None:
    ledger.add_videos(manifest(2))
    for key in ("url:000", "url:001"):
        perform(ledger, "fetch", key)
    perform(ledger, "clip", "url:000")
    for file in [file for file in written(ledger.root) if file.startswith("videos")]:
        (ledger.root / file).unlink()
    assert ledger.requeue_missing() == {"fetch": 1}
    assert {row.key: row.state for row in ledger.rows("fetch")} == {"url:000": "done", "url:001": "pending"}


def test_what_a_killed_run_was_at_is_pending_again(tmp_path: Path) -> None:
    code = f"""
import os, signal, sys
sys.path[:] = {sys.path!r}
from fake_stages import manifest
from wnv.ingest.ledger import Ledger
ledger = Ledger.open({str(tmp_path)!r}, val_fraction=0.2, test_fraction=0.1)
ledger.add_videos(manifest(2))
ledger.start("fetch", "url:001")
ledger._connection.execute("BEGIN IMMEDIATE")
ledger._connection.execute("DELETE FROM items")
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    with Ledger.read(tmp_path) as seen:
        assert seen.counts() == {"fetch": {"pending": 1, "running": 1}}
    with Ledger.open(tmp_path, **FRACTIONS) as ledger:
        assert [(row.state, row.reason) for row in ledger.rows("fetch")] == [
            ("pending", ""),
            ("pending", "interrupted"),
        ]


def test_a_second_writer_is_told_who_the_first_is(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match=rf"in use by another run \(process {os.getpid()} on .+, since 20"):
        Ledger.open(ledger.root, **FRACTIONS)
    with Ledger.read(ledger.root) as seen:
        assert seen.counts() == {}
    ledger.close()
    Ledger.open(ledger.root, **FRACTIONS).close()


def test_the_split_of_a_root_is_fixed(tmp_path: Path) -> None:
    Ledger.open(tmp_path, **FRACTIONS).close()
    with pytest.raises(ValueError, match=r"begun with val_fraction=0\.2 and test_fraction=0\.1, got 0\.2 and 0\.0"):
        Ledger.open(tmp_path, val_fraction=0.2, test_fraction=0.0)
    Ledger.open(tmp_path, **FRACTIONS).close()  # the refusal has let go of the lock


def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    Ledger.open(tmp_path, **FRACTIONS).close()
    connection = sqlite3.connect(tmp_path / LEDGER_FILE)
    connection.execute(f"PRAGMA user_version = {LEDGER_VERSION + 1}")
    connection.close()
    with pytest.raises(ValueError, match="has version 2, this wnv knows versions up to 1"):
        Ledger.open(tmp_path, **FRACTIONS)
    with pytest.raises(ValueError, match="has version 2"):
        Ledger.read(tmp_path)


@pytest.mark.parametrize("damage", ["text", "page", "cut"])
def test_a_damaged_ledger_is_named(tmp_path: Path, damage: str) -> None:
    with Ledger.open(tmp_path, **FRACTIONS) as ledger:
        ledger.add_videos(manifest(300))
    path = tmp_path / LEDGER_FILE
    content = bytearray(path.read_bytes())
    if damage == "text":
        content = bytearray("这不是账本 " * 1000, "utf-8")
    elif damage == "page":
        content[20_000:60_000] = os.urandom(40_000)
    else:
        content = content[: len(content) // 2]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"ledger\.sqlite is damaged or no ledger .*move it away"):
        Ledger.open(tmp_path, **FRACTIONS)


def test_a_root_without_a_ledger_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"ledger\.sqlite does not exist; name the root"):
        Ledger.read(tmp_path)
    (tmp_path / LEDGER_FILE).touch()
    with pytest.raises(FileNotFoundError, match="empty"):
        Ledger.read(tmp_path)
    Ledger.open(tmp_path, **FRACTIONS).close()  # a run that was killed at its first instant can be started again


def test_a_root_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RootError, match="cannot be written"):
        Ledger.open(tmp_path / "file", **FRACTIONS)
    with pytest.raises(RootError, match="cannot be written"):
        Ledger.open("/proc/wnv", **FRACTIONS)


def test_fractions_that_leave_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="together less than 1"):
        Ledger.open(tmp_path / "root", val_fraction=0.6, test_fraction=0.4)
    assert not (tmp_path / "root").exists()


def test_the_lock_file_says_who(ledger: Ledger) -> None:
    assert json.loads((ledger.root / LOCK_FILE).read_text())["pid"] == os.getpid()


def test_two_thousand_updates_a_second(tmp_path: Path) -> None:
    # In a process of its own, without the type checks that tests run under. Of its processor's time, since others use
    # the machine too; the time of the disk is kept low by not waiting for it at each update.
    code = f"""
import sys, time
sys.path[:] = {sys.path!r}
from fake_stages import manifest
from wnv.ingest.driver import children_of
from wnv.ingest.ledger import Ledger
from wnv.ingest.tasks import Outcome
ledger = Ledger.open({str(tmp_path)!r}, val_fraction=0.2, test_fraction=0.1)
ledger.add_videos(manifest(999))
items = ledger.pending("fetch")
for part in (items[:333], items[333:666], items[666:]):
    began = time.process_time()
    for item in part:
        task = ledger.start("fetch", item)
        outcome = Outcome(state="done", result={{"parts": [{{"file": "videos/a/00.mp4"}}], "segments": [[0.0, 1.0]]}})
        ledger.finish(task, outcome, versions={{"a": "1"}}, children=children_of(task, outcome.result))
    print(2 * len(part) / (time.process_time() - began))
for name in ("journal_mode", "synchronous"):
    print(*ledger._connection.execute(f"PRAGMA {{name}}").fetchone())
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    *rates, journal, synchronous = said
    assert max(map(float, rates)) > 2000
    assert (journal, synchronous) == ("wal", "1")  # 1: only where the journal is copied back
