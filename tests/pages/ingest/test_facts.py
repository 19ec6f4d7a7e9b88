"""Sums over the ledger's rows, and the selection of problems."""

from collections import Counter
from typing import Any

from wnv.ingest.records import Row
from wnv.pages.ingest.facts import gather


def row(number: int, **changes: Any) -> Row:
    fields: dict[str, Any] = dict(stage="fetch", item=f"bv:{number}", key=f"bv:{number}", state="failed", tries=1)
    fields |= dict(reason="transient", message="x" * 2000, seconds=1.0, num_bytes=0, versions={}, result={})
    fields |= dict(payload={"title": "题" * 500, "url": f"https://example.org/{number}"}, updated=1e9 + number)
    return Row(**(fields | changes))


def test_of_many_failures_some_of_every_reason_are_listed() -> None:
    rows = [row(number, tries=1 + number % 7) for number in range(1500)]
    rows += [row(20_000 + number, state="refused", reason="gone") for number in range(3)]
    facts = gather(rows)
    assert facts.stages["fetch"].counts == {"failed": 1500, "refused": 3}
    assert facts.num_problems == 1503
    assert facts.last_update == 1e9 + 20_002
    shown = facts.problems(100)
    assert Counter(item.reason for item in shown) == {"transient": 97, "gone": 3}
    assert {item.tries for item in shown if item.reason == "transient"} == {7}
    assert len(facts.problems(600)) == 203


def test_items_that_wait_for_something_are_counted_with_their_reason() -> None:
    facts = gather([row(0, state="pending", reason=""), row(1, state="pending", reason="no_space")])
    assert facts.stages["fetch"].reasons == {("pending", "no_space"): 1}
    assert [item.item for item in facts.problems(9)] == ["bv:1"]


def test_results_of_an_earlier_try_do_not_count() -> None:
    facts = gather(
        [row(0, state="pending", reason="redo", result={"duration_s": 9.0}), row(1, result={"duration_s": 9.0})]
    )
    assert facts.video_s == 0
