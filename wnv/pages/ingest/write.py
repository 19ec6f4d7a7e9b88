"""Writes the report: one HTML page about an output root, complete in itself."""

from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

from wnv.ingest.layout import REPORT_FILE
from wnv.ingest.ledger import Ledger
from wnv.pages.document import document
from wnv.pages.ingest import details, overview
from wnv.pages.ingest.facts import Facts, gather
from wnv.pages.ingest.gallery import Exhibit, choose, exhibit
from wnv.pages.markup import Markup, element
from wnv.runtime.atomic import atomic_file

NUM_SCENES = 24
MAX_ITEMS = 600


def write_ingest_report(
    root: str | Path, out: str | Path | None = None, *, num_scenes: int = NUM_SCENES, seed: int = 0
) -> Path:
    """Write a page about everything a ledger knows, and return its path. An earlier page is replaced.

    It needs no other file and no network, also while a run goes on. Its size is bounded: 24 scenes of 4 thumbnails of
    at most 32 kB (6 to 12 kB as a rule), 600 items, and texts from outside cut to length; 1 to 2 MB are usual.

    Args:
        root: An output root.
        out: The page; by default `report.html` in the root.
        num_scenes: How many scenes are shown, at least 0; they are drawn by lot from all kinds and sides of the split.
        seed: Of the lot. The same seed shows the same scenes as long as they are there.

    Raises:
        FileNotFoundError: If the root has no ledger.
        ValueError: If `num_scenes` is negative, or the ledger cannot be read.
    """
    if num_scenes < 0:
        raise ValueError(f"num_scenes must be 0 or more, got {num_scenes}")
    root = Path(root).absolute()
    path = root / REPORT_FILE if out is None else Path(out)
    with Ledger.read(root) as ledger:
        facts = gather(ledger.rows())
    exhibits = [exhibit(root, entry) for entry in choose(facts.scenes, most=num_scenes, seed=seed)]
    text = _html(root, facts, exhibits, now=datetime.now(UTC))
    with atomic_file(path, overwrite=True) as file:
        file.write(text.encode())
    return path


def _html(root: Path, facts: Facts, exhibits: list[Exhibit], *, now: datetime) -> Markup:
    folder = files("wnv.pages.ingest")
    return document(
        overview.header(root, facts, now=now),
        overview.contents(),
        overview.flow(facts),
        overview.reasons(root, facts),
        overview.histograms(facts),
        details.scenes(exhibits, facts),
        overview.made_with(facts),
        details.items(facts.trouble(MAX_ITEMS), facts),
        element("footer", "The videos belong to their makers. Written by wnv-data report."),
        title=f"{root.name or root} · wnv-data report",
        style=folder.joinpath("report.css").read_text(encoding="utf-8"),
        script=folder.joinpath("report.js").read_text(encoding="utf-8"),
    )
