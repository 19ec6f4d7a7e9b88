"""The driver: every item is processed once and in order, even if others fail."""

import logging
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_stages import FakeStage, InlineExecutor, fake_stages, manifest, written

from wnv.ingest.database import RootError
from wnv.ingest.driver import run
from wnv.ingest.gate import Gate
from wnv.ingest.ledger import Ledger
from wnv.ingest.outputs import files_of
from wnv.ingest.progress import Progress, Summary
from wnv.ingest.retries import Retries
from wnv.ingest.selection import Selection
from wnv.ingest.tasks import Outcome, Stage, StageName, Task

KEYS = [f"url:{index:03d}" for index in range(10)]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "root", val_fraction=0.2, test_fraction=0.1) as opened:
        opened.add_videos(manifest(10))
        yield opened


def go(
    ledger: Ledger,
    stages: dict[StageName, Stage] | None = None,
    executor: InlineExecutor | None = None,
    **settings: object,
) -> Summary:
    """Run with short pauses."""
    settings = {
        "gate": Gate(parallel=2, pause_s=0.0, wait_s=0.01, max_wait_s=0.02),
        "retries": Retries(wait_s=0.001, max_wait_s=0.002),
        **settings,
    }
    return run(ledger, stages or fake_stages(), executor or InlineExecutor(), **settings)


def assert_sound(ledger: Ledger) -> None:
    """Check that exactly the recorded files exist."""
    recorded = {file for row in ledger.rows(state="done") for file in files_of(row.result)}
    assert recorded == written(ledger.root)


def states(ledger: Ledger, stage: StageName) -> dict[str, str]:
    return {row.item: f"{row.state}/{row.reason}" for row in ledger.rows(stage)}


def test_every_item_passes_all_stages_once(ledger: Ledger) -> None:
    executor = InlineExecutor()
    summary = go(ledger, executor=executor)
    assert ledger.counts() == {"fetch": {"done": 10}, "clip": {"done": 10}, "pose": {"done": 20}, "pack": {"done": 20}}
    assert max(Counter(executor.finished).values()) == 1
    assert {stage: dict(counts) for stage, counts in summary.counts.items()} == ledger.counts()
    assert summary.text().splitlines()[0] == "fetch: 10 done"
    assert_sound(ledger)
    again = InlineExecutor()
    assert go(ledger, executor=again).text() == "nothing to do"
    assert again.finished == []


def test_later_stages_run_first(ledger: Ledger) -> None:
    executor = InlineExecutor(num_workers=1, num_fetchers=1)
    go(ledger, executor=executor, max_waiting=1)
    finished = [stage for stage, _ in executor.finished]
    # With one worker each, a video is packed before the second next one is fetched.
    for video in range(2, 10):
        fetched = [i for i, stage in enumerate(finished) if stage == "fetch"][video]
        assert finished[:fetched].count("pack") >= 2 * (video - 1)


def test_transient_failures_are_retried_while_others_continue(ledger: Ledger) -> None:
    failures = {"url:000": ["transient"] * 2, "url:001": ["transient"] * 9, "url:002": ["error_reason"] * 9}
    executor = InlineExecutor()
    summary = go(ledger, fake_stages(failures=failures), executor, retries=Retries(wait_s=0.02, max_wait_s=0.02))
    fetched = Counter(item for stage, item in executor.finished if stage == "fetch")
    assert [fetched[key] for key in KEYS[:4]] == [3, 4, 1, 1]
    assert summary.reasons["fetch"] == {"failed/transient": 1, "failed/error_reason": 1}
    assert states(ledger, "fetch")["url:001"] == "failed/transient"
    assert [row.tries for row in ledger.rows("fetch")][:4] == [3, 4, 1, 1]
    # The first was waiting while the last were fetched.
    assert executor.finished.index(("fetch", "url:009")) < max(
        index for index, found in enumerate(executor.finished) if found == ("fetch", "url:000")
    )


@pytest.mark.parametrize(
    ("retry", "tried"),
    [
        ("none", []),
        (["other"], []),
        ("failed", ["url:001"]),
        (["gone"], ["url:000"]),
        ("all", ["url:000", "url:001"]),
    ],
)
def test_rejected_items_run_again_only_on_request(
    ledger: Ledger, caplog: pytest.LogCaptureFixture, retry: str | list[str], tried: list[str]
) -> None:
    go(ledger, {"fetch": FakeStage(name="fetch", failures={"url:000": ["gone"], "url:001": ["error_reason"]})})
    assert list(states(ledger, "fetch").values())[:3] == ["refused/gone", "failed/error_reason", "done/ok"]
    executor = InlineExecutor()
    go(ledger, {"fetch": FakeStage(name="fetch")}, executor, selection=Selection(retry=retry))
    assert [item for _, item in executor.finished] == tried
    assert ("retry=other:" in caplog.text) == (retry == ["other"])  # no item has this reason


def test_selection_by_keys_positions_and_limit(ledger: Ledger, tmp_path: Path) -> None:
    def fetched(**selection: object) -> list[str]:
        executor = InlineExecutor()
        stages = {"fetch": FakeStage(name="fetch")}
        go(ledger, stages, executor, selection=Selection(**selection))
        return sorted(item for _, item in executor.finished)

    keys = tmp_path / "keys.txt"
    keys.write_text("url:002\n\n" + '{"key": "url:003", "title": "北京"}\n{"key": null}\n', encoding="utf-8")
    assert fetched(keys=["url:009", str(keys)]) == ["url:002", "url:003", "url:009"]
    assert fetched(start=1, end=4) == ["url:001"]
    assert fetched(limit=2) == ["url:000", "url:004"]  # of the videos with something to do
    assert fetched(start=8) == ["url:008"]
    assert fetched(redo=["fetch"], limit=1) == ["url:000"]
    assert fetched() == ["url:005", "url:006", "url:007"]
    with pytest.raises(ValueError, match="keys: url:999, nope"):
        fetched(keys=["url:999", "nope"])


def test_redo_includes_everything_made_from_the_items(ledger: Ledger) -> None:
    go(ledger)
    executor = InlineExecutor()
    go(ledger, fake_stages(num_clips=1), executor, selection=Selection(redo=["clip"], keys=["url:003"]))
    assert [stage for stage, _ in executor.finished] == ["clip", "pose", "pack"]
    assert ledger.counts()["pack"] == {"done": 19}
    assert_sound(ledger)
    with pytest.raises(ValueError, match=r"redo=pose.*fetch"):
        go(ledger, {"fetch": FakeStage(name="fetch")}, selection=Selection(redo=["pose"]))


def test_redo_of_several_stages_runs_each_item_once(ledger: Ledger) -> None:
    go(ledger)
    executor = InlineExecutor()
    go(ledger, executor=executor, selection=Selection(redo=["fetch", "clip", "pose", "pack"], limit=2))
    assert Counter(stage for stage, _ in executor.finished) == {"fetch": 2, "clip": 2, "pose": 4, "pack": 4}
    assert max(Counter(executor.finished).values()) == 1
    order = [stage for stage, item in executor.finished if item.startswith("url_000") or item == "url:000"]
    assert order == sorted(order, key=["fetch", "clip", "pose", "pack"].index)


def test_items_made_with_other_settings_are_reported(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    go(ledger)
    caplog.clear()
    go(ledger, fake_stages(setting="2"))
    assert re.match(r"clip: 10 .*redo=\[clip\]", caplog.messages[1])
    assert ledger.counts()["pack"] == {"done": 20}


def test_a_child_waits_for_its_parent(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    go(ledger, {name: stage for name, stage in fake_stages().items() if name in ("fetch", "clip")})
    clip = next(ledger.rows("clip")).result["clips"][0]["file"]
    (ledger.root / clip).unlink()
    executor = InlineExecutor()
    go(ledger, {"pose": FakeStage(name="pose")}, executor)
    assert len(executor.finished) == 18
    assert "pose: 2 items wait" in caplog.text
    caplog.clear()
    go(ledger, fake_stages(failures={"url:000": ["error_reason"]}))
    assert "pose: 2 items wait" in caplog.text
    ledger.requeue([("clip", "url:000")], reason="retry")
    go(ledger)
    assert ledger.counts()["pack"] == {"done": 20}
    assert_sound(ledger)


def test_a_video_that_cannot_be_fetched_again_keeps_its_clips(ledger: Ledger) -> None:
    go(ledger)
    stages = fake_stages(failures={"url:000": ["gone"]}, setting="2")
    go(ledger, {"fetch": stages["fetch"]}, selection=Selection(redo=["fetch"], keys=["url:000"]))
    assert states(ledger, "fetch")["url:000"] == "refused/gone"
    go(ledger, fake_stages(num_clips=1), selection=Selection(redo=["clip"], keys=["url:000"]))
    assert ledger.counts()["pack"] == {"done": 19}


def test_videos_deleted_after_clipping_are_fetched_again_only_if_needed(ledger: Ledger) -> None:
    go(ledger)
    for path in (ledger.root / "videos").rglob("*.mp4"):
        path.unlink()
    executor = InlineExecutor()
    go(ledger, executor=executor)
    assert executor.finished == []
    go(ledger, executor=executor, selection=Selection(redo=["clip"], keys=["url:001"]))
    assert Counter(stage for stage, _ in executor.finished) == {"fetch": 1, "clip": 1, "pose": 2, "pack": 2}


def test_a_rate_limited_host_pauses_while_others_continue(ledger: Ledger) -> None:
    ledger.add_videos([replace(line, key=f"other:{line.key}") for line in manifest(4, host="other.example")])
    storm = {"url:000": ["risk_control"], "url:001": ["risk_control"] * 2}
    executor = InlineExecutor()
    stages: dict[StageName, Stage] = {"fetch": FakeStage(name="fetch", failures=storm)}
    gate = Gate(parallel=2, pause_s=0.0, wait_s=0.05, max_wait_s=0.1, jitter=0.0)
    summary = go(ledger, stages, executor, gate=gate)
    assert summary.text() == "fetch: 14 done"
    items = [item for _, item in executor.finished]
    others = [items.index(f"other:url:{index:03d}") for index in range(4)]
    # The other host was not delayed, nor were items attempted more often.
    assert max(others) < items.index("url:003")
    assert Counter(items) == {
        **dict.fromkeys(KEYS, 1),
        **{f"other:{key}": 1 for key in KEYS[:4]},
        "url:000": 2,
        "url:001": 3,
    }


def test_items_of_a_host_that_keeps_rate_limiting_stay_pending(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    storm = {key: ["risk_control"] * 99 for key in KEYS}
    gate = Gate(parallel=1, pause_s=0.0, wait_s=0.001, max_wait_s=0.002, max_trips=3)
    retries = Retries(tries={"risk_control": 99}, wait_s=0.0)
    go(ledger, {"fetch": FakeStage(name="fetch", failures=storm)}, gate=gate, retries=retries)
    assert ledger.counts() == {"fetch": {"pending": 10}}
    assert "videos.example rate-limited us too often in a row; 10 items stay pending" in caplog.text
    go(ledger)
    assert ledger.counts()["pack"] == {"done": 20}


def test_a_full_disk_ends_the_run_and_the_next_one_completes_it(ledger: Ledger) -> None:
    stages = fake_stages(failures={"url:003": ["no_space"]})
    executor = InlineExecutor()
    with pytest.raises(RootError, match=r"no_space.*fetch url:003.*No space left"):
        go(ledger, stages, executor)
    assert executor.num_cancelled > 0
    assert {state for states in ledger.counts().values() for state in states} <= {"done", "pending"}
    assert_sound(ledger)
    go(ledger)
    assert ledger.counts()["pack"] == {"done": 20}
    assert next(row for row in ledger.rows("fetch") if row.key == "url:003").tries == 1
    assert_sound(ledger)


def test_a_disk_too_full_for_the_ledger_ends_the_run(ledger: Ledger) -> None:
    (pages,) = ledger._connection.execute("PRAGMA page_count").fetchone()
    ledger._connection.execute(f"PRAGMA max_page_count = {pages + 3}")
    executor = InlineExecutor()
    with pytest.raises(RootError, match=r"ledger\.sqlite.*disk is full"):
        go(ledger, executor=executor)
    ledger.close()
    with Ledger.open(ledger.root, val_fraction=0.2, test_fraction=0.1) as again:
        assert {state for states in again.counts().values() for state in states} <= {"done", "pending"}
        go(again)
        assert again.counts()["pack"] == {"done": 20}
        assert_sound(again)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_in_order(ledger: Ledger, number: signal.Signals) -> None:
    def at_the_fifth(task: Task) -> None:
        if len(executor.finished) == 5:
            os.kill(os.getpid(), number)

    executor = InlineExecutor(on_task=at_the_fifth)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt):
        go(ledger, executor=executor)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert len(executor.finished) == 6
    assert {state for states in ledger.counts().values() for state in states} <= {"done", "pending"}
    assert_sound(ledger)
    go(ledger)
    assert ledger.counts()["pack"] == {"done": 20}


def test_progress_without_a_terminal_is_logged(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    failures = {"url:000": ["gone"], "url:001": ["transient"]}
    go(ledger, {"fetch": FakeStage(name="fetch", failures=failures)}, progress=Progress(log_every_s=0.0))
    lines = [record.getMessage() for record in caplog.records if "items/min" in record.getMessage()]
    assert len(lines) > 2
    assert lines[-1].startswith("fetch 10/10, refused/gone 1, retried 1; ")
    assert any(line.endswith(" left") for line in lines)


class _ShortLink(FakeStage):
    """Resolves every short link to the same video."""

    def __call__(self, task: Task) -> Outcome:
        outcome = super().__call__(task)
        return replace(outcome, result={**outcome.result, "video_id": "BV1xx411c7mD_p2"})


def test_a_video_is_kept_once_if_its_own_key_comes_later(ledger: Ledger) -> None:
    short, plain = manifest(2)
    ledger.add_videos([replace(short, key="b23:0")])
    go(ledger, {"fetch": _ShortLink(name="fetch")})
    ledger.add_videos([replace(plain, key="bv:BV1xx411c7mD:p2")])
    summary = go(ledger, {"fetch": _ShortLink(name="fetch")})
    assert summary.reasons["fetch"] == {"refused/duplicate": 1}
    (refused,) = ledger.rows("fetch", state="refused")
    assert re.search("b23:0.*resolve=true.*new root", refused.message)
    assert_sound(ledger)
