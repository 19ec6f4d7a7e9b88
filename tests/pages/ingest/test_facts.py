"""Sums over the ledger's rows, and which of many items are shown."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from wnv.ingest.reasons import explain
from wnv.ingest.records import Row
from wnv.ingest.tasks import STAGES
from wnv.pages.ingest.details import items
from wnv.pages.ingest.facts import gather

CONF = Path(__file__).parents[3] / "conf" / "ingest"

CODES = """gone geo login premium preview risk_control transient unsupported forbidden_address wrong_length too_large
corrupt empty_file too_short too_dark no_parallax few_frames no_video few_registered reprojection low_parallax focal
jump no_model timeout crashed out_of_memory error no_space read_only denied redo retry changed
missing missing_file node_lost interrupted duplicate frozen not_fetched taken_out""".split()


def row(number: int, **changes: Any) -> Row:
    fields: dict[str, Any] = dict(stage="fetch", item=f"bv:{number}", key=f"bv:{number}", state="failed", tries=1)
    fields |= dict(reason="transient", message="x" * 2000, seconds=1.0, num_bytes=0, versions={}, result={})
    fields |= dict(payload={"title": "题" * 500, "url": f"https://example.org/{number}"}, updated=1e9 + number)
    return Row(**(fields | changes))


def test_ten_thousand_failures_make_a_page_of_bounded_size() -> None:
    rows = [row(number, tries=1 + number % 7) for number in range(10_000)]
    rows += [row(20_000 + number, state="refused", reason="gone") for number in range(3)]
    facts = gather(rows)
    assert facts.stages["fetch"].counts == {"failed": 10_000, "refused": 3}
    assert facts.num_trouble == 10_003
    assert facts.last_update == 1e9 + 20_002
    shown = facts.trouble(100)
    assert Counter(item.reason for item in shown) == {"transient": 97, "gone": 3}
    assert {item.tries for item in shown if item.reason == "transient"} == {7}
    table = items(facts.trouble(600), facts)
    assert "203 of 10,003 items" in table
    assert len(table.encode()) < 1_500_000


def test_items_that_wait_for_something_are_counted_with_their_reason() -> None:
    facts = gather([row(0, state="pending", reason=""), row(1, state="pending", reason="no_space")])
    assert facts.stages["fetch"].reasons == {("pending", "no_space"): 1}
    assert [item.item for item in facts.trouble(9)] == ["bv:1"]


def test_results_of_an_earlier_try_do_not_count() -> None:
    facts = gather(
        [row(0, state="pending", reason="redo", result={"duration_s": 9.0}), row(1, result={"duration_s": 9.0})]
    )
    assert facts.video_s == 0


def test_every_reason_has_words() -> None:
    unknown = explain("fetch", "brand_new")
    for stage in STAGES:
        for code in CODES:
            meaning, way_out = explain(stage, code)
            assert meaning != unknown[0], code
            assert "{" not in way_out
            assert way_out.count("`") % 2 == 0
            assert "retry=" not in way_out or f"retry=[{code}]" in way_out
    assert unknown[1] == "Try again: `retry=[brand_new]`."
    assert explain("fetch", "corrupt") != explain("clip", "corrupt")


def test_no_reason_that_a_stage_raises_is_forgotten() -> None:
    raised = set()
    for file in (Path(__file__).parents[3] / "wnv" / "ingest").rglob("*.py"):
        raised |= set(re.findall(r'StageError\(\s*"(?:refused|failed)",\s*"(\w+)"', file.read_text()))
    assert len(raised) > 8
    assert raised <= set(CODES)


def test_the_settings_that_are_named_exist() -> None:
    named = {
        name
        for stage in STAGES
        for code in CODES
        for name in re.findall(r"`((?:fetch|clip|pose|pack)\.[\w.]+)=", explain(stage, code)[1])
    }
    assert len(named) > 8
    for name in named:
        group, _, setting = name.partition(".")
        files = [OmegaConf.load(file) for file in (CONF / group).glob("*.yaml")]
        assert any(OmegaConf.select(file, setting, default="absent") != "absent" for file in files), name
