"""The state of an output root as text tables."""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from wnv.ingest.ledger import Ledger
from wnv.ingest.lock import is_locked
from wnv.ingest.reasons import explain
from wnv.ingest.records import Row
from wnv.ingest.tasks import STAGES, STATES, StageName, State


def status_text(root: str | Path, *, now: float | None = None) -> str:
    """Return items per stage and state, reasons, and scenes per kind and split. Works during a run.

    Args:
        root: The output root.
        now: Unix time that durations refer to; None for the current time.

    Raises:
        FileNotFoundError: If the root has no ledger.
        ValueError: If its ledger is corrupt or has a newer version.
    """
    now = time.time() if now is None else now
    with Ledger.read(root) as ledger:
        rows = list(ledger.rows())
        fractions = ledger.fractions()
        num_videos = ledger.num_videos()
    parts = [
        f"{root}: {num_videos} video{'s' if num_videos != 1 else ''}; split {_split_text(fractions)}",
        _stages(rows),
    ]
    reasons = _reasons(rows)
    if reasons:
        parts.append(reasons)
    scenes = _scenes(rows)
    if scenes:
        parts.append(scenes)
    running = min((row for row in rows if row.state == "running"), key=lambda row: row.updated, default=None)
    if running is not None and not is_locked(Path(root)):
        parts.append("no run is active: running items were interrupted, and the next run restarts them")
    elif running is not None:
        parts.append(f"longest running: {running.stage} {running.item}, {_duration(now - running.updated)}")
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


def _split_text(fractions: Mapping[str, float]) -> str:
    val, test = fractions["val_fraction"], fractions["test_fraction"]
    return f"{1 - val - test:.4g} train, {val:.4g} val, {test:.4g} test"


def _stages(rows: Sequence[Row]) -> str:
    table = []
    for stage in STAGES:
        here = [row for row in rows if row.stage == stage]
        if here:
            states = Counter(row.state for row in here)
            done = [row for row in here if row.state == "done"]
            table.append(
                [
                    stage,
                    *(str(states[state]) if states[state] else "." for state in STATES),
                    str(len(here)),
                    _bytes(sum(row.num_bytes for row in done)),
                    _duration(sum(row.seconds for row in here)),
                ]
            )
    return _table(["stage", *STATES, "total", "written", "time"], table, right=range(1, 9))


def _reasons(rows: Sequence[Row]) -> str:
    """Return the reasons of items that are not done, per stage, the most frequent first."""
    alike: dict[tuple[StageName, State, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.state != "done" and row.reason:
            alike[row.stage, row.state, row.reason].append(row)
    table = [
        [stage, str(len(found)), state, reason, _example(found)]
        for (stage, state, reason), found in sorted(
            alike.items(), key=lambda entry: (STAGES.index(entry[0][0]), -len(entry[1]), entry[0])
        )
    ]
    return _table(["stage", "items", "state", "reason", "example"], table, right=(1,)) if table else ""


def _example(rows: Sequence[Row]) -> str:
    """Return the message of the item that changed last."""
    last = max(rows, key=lambda row: row.updated)
    text = f"{last.item}: {last.message}" if last.message else last.item
    return text if len(text) <= 100 else f"{text[:99]}…"


def _scenes(rows: Sequence[Row]) -> str:
    packed = [row for row in rows if row.stage == "pack" and row.state == "done"]
    if not packed:
        return ""
    scenes = Counter((row.payload["kind"], row.payload["split"]) for row in packed)
    frames: Counter[tuple[str, str]] = Counter()
    for row in packed:
        frames[row.payload["kind"], row.payload["split"]] += row.result["num_frames"]
    table = [[kind, split, str(scenes[kind, split]), str(frames[kind, split])] for kind, split in sorted(scenes)]
    return _table(["kind", "split", "scenes", "frames"], table, right=(2, 3))


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
