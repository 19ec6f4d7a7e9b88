"""The state of an output root as text tables."""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from wnv.ingest.ledger import Ledger
from wnv.ingest.lock import is_locked
from wnv.ingest.reasons import explain
from wnv.ingest.records import Tally
from wnv.ingest.tasks import STAGES, STATES, State


def status_text(root: str | Path, *, now: float | None = None) -> str:
    """Return items per stage and state, reasons, and scenes per kind and split. Works during a run.

    Args:
        root: The output root.
        now: Unix time that durations refer to; None for the current time.

    Raises:
        FileNotFoundError: If the root has no ledger.
        ValueError: If its ledger is corrupt or has a newer version.
    """
    with Ledger.read(root) as ledger:
        tallies = ledger.tally()
        fractions = ledger.fractions()
        num_videos = ledger.num_videos()
        scenes = ledger.num_scenes()
        running = min(ledger.rows(state="running"), key=lambda row: row.updated, default=None)
    val, test = fractions["val_fraction"], fractions["test_fraction"]
    split = f"{1 - val - test:.4g} train, {val:.4g} val, {test:.4g} test"
    parts = [f"{root}: {num_videos} video{'s' if num_videos != 1 else ''}; split {split}", _stages(tallies)]
    if reasons := [found for found in tallies if found.state != "done" and found.reason]:
        reasons.sort(key=lambda found: (STAGES.index(found.stage), -found.number, found))
        table = [[found.stage, str(found.number), found.state, found.reason, _example(found)] for found in reasons]
        parts.append(_table(["stage", "items", "state", "reason", "example"], table, right=(1,)))
    if scenes:
        table = [[str(cell) for cell in row] for row in scenes]
        parts.append(_table(["kind", "split", "scenes", "frames"], table, right=(2, 3)))
    if running is not None and not is_locked(Path(root)):
        parts.append("no run is active: running items were interrupted, and the next run restarts them")
    elif running is not None:
        seconds = (time.time() if now is None else now) - running.updated
        parts.append(f"longest running: {running.stage} {running.item}, {_duration(seconds)}")
    return "\n\n".join(parts)


def advice_text(root: str | Path) -> str:
    """Explain each failed or rejected item and what to do about it; empty if there is none.

    Args:
        root: The output root.

    Raises:
        FileNotFoundError: If the root has no ledger.
        ValueError: If its ledger is corrupt or has a newer version.
    """
    with Ledger.read(root) as ledger:
        rows = [row for row in ledger.rows() if row.state in ("failed", "refused")]
    parts = []
    for row in rows:
        meaning, remedy = explain(row.stage, row.reason)
        lines = [f"{row.item}: {row.stage} {row.state}, {row.reason}", meaning, row.message, f"What to do: {remedy}"]
        parts.append("\n  ".join(line for line in lines if line))
    return "\n".join(parts)


def _stages(tallies: Sequence[Tally]) -> str:
    table = []
    for stage in STAGES:
        here = [found for found in tallies if found.stage == stage]
        if here:
            states: Counter[State] = Counter()
            for found in here:
                states[found.state] += found.number
            written = sum(found.num_bytes for found in here if found.state == "done")
            counts = [str(states[state] or ".") for state in STATES]
            seconds = sum(found.seconds for found in here)
            table.append([stage, *counts, str(states.total()), _bytes(written), _duration(seconds)])
    return _table(["stage", *STATES, "total", "written", "time"], table, right=range(1, 9))


def _example(found: Tally) -> str:
    text = f"{found.item}: {found.message}" if found.message else found.item
    return text if len(text) <= 100 else f"{text[:99]}…"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int]) -> str:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [
        "  ".join(
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [head, *rows]
    ]
    return "\n".join(lines)


def _bytes(number: int) -> str:
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "KB")):
        if number >= 1000**power:
            return f"{number / 1000**power:.1f} {unit}"
    return f"{number} B"


def _duration(seconds: float) -> str:
    minutes, left = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {left:02d} s" if minutes else f"{left} s"
