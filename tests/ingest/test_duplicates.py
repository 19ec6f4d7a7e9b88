"""A video under a short link and its own key is one video."""

from pathlib import Path

import pytest

from wnv.ingest.duplicates import Duplicates
from wnv.ingest.ledger import Ledger
from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.tasks import Outcome

BV = "BV1xx411c7mD"
PLAIN = f"bv:{BV}:p1"


@pytest.mark.parametrize(
    ("fetched", "key", "video_id", "other"),
    [
        (None, "b23:first", BV, PLAIN),
        (None, "b23:first", f"{BV}_p1", PLAIN),
        (None, "b23:first", f"{BV}_p2", None),
        (f"{BV}_p2", "b23:first", f"{BV}_p2", None),
        (f"{BV}_p2", "b23:second", f"{BV}_p2", "b23:first"),
        (f"{BV}_p2", "b23:second", f"{BV}_p3", None),
        (None, PLAIN, BV, None),
        (BV, PLAIN, BV, "b23:first"),
        (BV, f"bv:{BV}:p2", BV, None),
        (None, "url:other", BV, None),
        (None, "b23:first", None, None),
        (None, "b23:first", "v", None),
    ],
)
def test_duplicates(tmp_path: Path, fetched: str | None, key: str, video_id: str | None, other: str | None) -> None:
    with Ledger.open(tmp_path, val_fraction=0.0, test_fraction=0.0) as ledger:
        ledger.add_videos(
            ManifestLine(key=name, url=f"https://x.example/{name}", title="", kind="static")
            for name in (PLAIN, "b23:first", "b23:second", "url:other")
        )
        if fetched is not None:
            ledger.finish(ledger.start("fetch", "b23:first"), Outcome(state="done", result={"video_id": fetched}))
        assert Duplicates(ledger).add(key, {} if video_id is None else {"video_id": video_id}) == other


@pytest.mark.parametrize(
    ("first", "second", "is_duplicate"),
    [
        (("Youtube", "abc"), ("Youtube", "abc"), True),
        (("Youtube", "abc"), ("Youtube", "abd"), False),
        (("Youtube", "abc"), ("Vimeo", "abc"), False),
        (("Generic", "video"), ("Generic", "video"), False),  # a file name
        (("File", "7-ab"), ("File", "7-ab"), True),
        ((None, None), (None, None), False),
    ],
)
def test_two_addresses_of_one_page(tmp_path: Path, first: tuple, second: tuple, is_duplicate: bool) -> None:
    with Ledger.open(tmp_path, val_fraction=0.0, test_fraction=0.0) as ledger:
        keys = ("url:https://youtu.be/abc", "url:https://www.youtube.com/watch?v=abc")
        ledger.add_videos(ManifestLine(key=key, url=key[4:], title="", kind="static") for key in keys)
        results = [{"extractor": extractor, "video_id": video_id} for extractor, video_id in (first, second)]
        ledger.finish(ledger.start("fetch", keys[0]), Outcome(state="done", result=results[0]))
        other = keys[0] if is_duplicate else None
        duplicates = Duplicates(ledger)
        assert duplicates.add(keys[0], results[0]) is None  # fetched again
        assert [duplicates.add(keys[1], results[1]) for _ in range(2)] == [other, other]
