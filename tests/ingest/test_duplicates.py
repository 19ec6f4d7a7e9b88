"""A video under a short link and its own key is one video."""

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
def test_a_short_link_duplicates_a_plain_key(ledger: Ledger, video_id: str) -> None:
    assert duplicate_of(ledger, "b23:first", {"video_id": video_id}) == f"bv:{BV}:p1"


def test_the_first_of_two_short_links_stays(ledger: Ledger) -> None:
    found = {"video_id": f"{BV}_p2"}
    assert duplicate_of(ledger, "b23:first", found) is None
    ledger.finish(ledger.start("fetch", "b23:first"), Outcome(state="done", result=found))
    assert duplicate_of(ledger, "b23:first", found) is None
    assert duplicate_of(ledger, "b23:second", found) == "b23:first"
    assert duplicate_of(ledger, "b23:second", {"video_id": f"{BV}_p3"}) is None


def test_a_plain_key_duplicates_a_fetched_short_link(ledger: Ledger) -> None:
    assert duplicate_of(ledger, KEYS[0], {"video_id": BV}) is None
    ledger.finish(ledger.start("fetch", "b23:first"), Outcome(state="done", result={"video_id": BV}))
    assert duplicate_of(ledger, KEYS[0], {"video_id": BV}) == "b23:first"
    assert duplicate_of(ledger, f"bv:{BV}:p2", {"video_id": BV}) is None


OTHERS = [("url:other", {"video_id": BV}), ("b23:first", {}), ("b23:first", {"video_id": "v"})]


@pytest.mark.parametrize(("key", "result"), OTHERS)
def test_other_keys_are_no_duplicates(ledger: Ledger, key: str, result: dict) -> None:
    assert duplicate_of(ledger, key, result) is None
