"""The status table."""

from dataclasses import replace
from pathlib import Path

import pytest
from fake_stages import fake_stages, manifest

from wnv.ingest.driver import children_of
from wnv.ingest.ledger import Ledger
from wnv.ingest.ledger_view import LedgerView
from wnv.ingest.status import advice_text, status_text
from wnv.ingest.tasks import Outcome, run_task


def test_status_of_an_unfinished_root(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, val_fraction=0.25, test_fraction=0.0) as ledger:
        ledger.add_videos(manifest(5))
        assert status_text(tmp_path).splitlines() == [
            f"{tmp_path}: 5 videos; split 0.75 train, 0.25 val, 0 test",
            "",
            "stage  pending  running  done  failed  refused  total  written  time",
            "fetch        5        .     .       .        .      5      0 B   0 s",
        ]
        stages = fake_stages(failures={"url:001": ["gone"], "url:002": ["transient"]})
        for stage in stages:
            for item in ledger.pending(stage)[:4]:
                task = ledger.start(stage, item)
                outcome = replace(run_task(stages[stage], task), seconds=0.1)
                children = children_of(task, outcome.result) if outcome.state == "done" else []
                ledger.finish(task, outcome, children=children)
        ledger.finish(
            ledger.start("clip", "url:000"),
            Outcome(state="refused", reason="too_dark", message="夜 " * 99, seconds=3700.0),
        )
        ledger.start("fetch", "url:004")
        (running,) = ledger.rows(state="running")
        text = status_text(tmp_path, now=running.updated + 125.0)
        lines = text.splitlines()
    assert lines[3].split() == ["fetch", ".", "1", "2", "1", "1", "5", "92", "B", "0", "s"]
    assert lines[4].split()[:7] == ["clip", ".", ".", "1", ".", "1", "2"]
    assert lines[4].endswith("1 h 01 min")
    assert "fetch      1  failed   transient  url:002: transient as scripted" in text
    assert "fetch      1  refused  gone       url:001: gone as scripted" in text
    assert max(map(len, lines)) < 150
    assert "longest running: fetch url:004, 2 min 05 s" in text
    assert "no run is active" in status_text(tmp_path)
    assert "kind    split  scenes  frames\nstatic  train       2      18" in text


def test_advice_names_item_reason_message_and_remedy(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, val_fraction=0.0, test_fraction=0.0) as ledger:
        ledger.add_videos(manifest(3))
        assert advice_text(tmp_path) == ""
        ledger.finish(ledger.start("fetch", "url:000"), Outcome(state="done", result={}))
        refused = Outcome(state="refused", reason="too_short", message="1.2 s of 2 s")
        ledger.finish(ledger.start("fetch", "url:001"), refused)
        ledger.finish(ledger.start("fetch", "url:002"), Outcome(state="failed", reason="unheard_of"))
        lines = advice_text(tmp_path).splitlines()
        assert (lines[0], lines[2]) == ("url:001: fetch refused, too_short", "  1.2 s of 2 s")
        assert lines[3].endswith("`clip.rules.min_s=1` `retry=[too_short]`.")
        assert lines[4] == "url:002: fetch failed, unheard_of"
        assert lines[-1].endswith("`retry=[unheard_of]`.")


def test_status_during_a_run_is_consistent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task may end after its row was read."""
    with Ledger.open(tmp_path, val_fraction=0.0, test_fraction=0.0) as ledger:
        ledger.add_videos(manifest(1))
        read = LedgerView.tally

        def tally_before_the_end(seen: LedgerView) -> list:
            found = read(seen)
            ledger.finish(ledger.start("fetch", "url:000"), Outcome(state="refused", reason="gone"))
            return found

        monkeypatch.setattr(LedgerView, "tally", tally_before_the_end)
        assert "gone" not in status_text(tmp_path)
