"""Which videos a run is about; what it does with them is tested with the driver."""

from pathlib import Path

import pytest
from fake_stages import manifest

from wnv.ingest.ledger import Ledger
from wnv.ingest.selection import Selection
from wnv.ingest.tasks import Outcome


def test_reasons_that_nothing_was_refused_for_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Ledger.open(tmp_path, val_fraction=0.0, test_fraction=0.0) as ledger:
        ledger.add_videos(manifest(2))
        ledger.finish(ledger.start("fetch", "url:000"), Outcome(state="refused", reason="login"))
        chosen = Selection(retry=["login", "logn"]).apply(ledger, ["fetch"])
        assert chosen == {"url:000", "url:001"}
        assert ledger.pending("fetch") == ["url:000", "url:001"]
    (told,) = (record.getMessage() for record in caplog.records)
    assert told.startswith("retry: nothing failed or was refused for logn; ")
