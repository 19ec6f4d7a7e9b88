"""A video under a short link and under its own name is one video."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from wnv.ingest.duplicates import duplicate_of
from wnv.ingest.ledger import Ledger
from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.tasks import Outcome

BV = "BV1xx411c7mD"
KEYS = (f"bv:{BV}:p1", "b23:first", "b23:second", "url:other")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path, val_fraction=0.0, test_fraction=0.0) as opened:
        opened.add_videos(
            ManifestLine(key=key, url=f"https://x.example/{key}", title="", kind="static") for key in KEYS
        )
        yield opened


@pytest.mark.parametrize("video_id", [BV, f"{BV}_p1"])
def test_a_short_link_yields_to_the_plain_name(ledger: Ledger, video_id: str) -> None:
    assert duplicate_of(ledger, "b23:first", {"video_id": video_id}) == f"bv:{BV}:p1"


def test_of_two_short_links_the_first_that_was_fetched_stays(ledger: Ledger) -> None:
    found = {"video_id": f"{BV}_p2"}
    assert duplicate_of(ledger, "b23:first", found) is None
    ledger.finish(ledger.start("fetch", "b23:first"), Outcome(state="done", result=found))
    assert duplicate_of(ledger, "b23:first", found) is None
    assert duplicate_of(ledger, "b23:second", found) == "b23:first"
    assert duplicate_of(ledger, "b23:second", {"video_id": f"{BV}_p3"}) is None


def test_a_name_that_comes_after_its_short_link_was_fetched_yields_to_it(ledger: Ledger) -> None:
    assert duplicate_of(ledger, KEYS[0], {"video_id": BV}) is None
    ledger.finish(ledger.start("fetch", "b23:first"), Outcome(state="done", result={"video_id": BV}))
    assert duplicate_of(ledger, KEYS[0], {"video_id": BV}) == "b23:first"
    assert duplicate_of(ledger, f"bv:{BV}:p2", {"video_id": BV}) is None


OTHERS = [("url:other", {"video_id": BV}), ("b23:first", {}), ("b23:first", {"video_id": "v"})]


@pytest.mark.parametrize(("key", "result"), OTHERS)
def test_other_names_may_be_alike(ledger: Ledger, key: str, result: dict) -> None:
    assert duplicate_of(ledger, key, result) is None
