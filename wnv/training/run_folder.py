"""Files of a run's folder, other than checkpoints and images."""

import csv
import datetime
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONFIG_FILE = "config.yaml"
"""The resolved configuration."""

STARTS_FILE = "starts.jsonl"
"""One line of JSON per start of the training: date, commit, versions, device, command."""

ENDS_FILE = "ends.jsonl"
"""One line of JSON per end of the training (unless killed): date, step, and how it ended."""

METRICS_FILE = "metrics.csv"
"""One row per step, one column per metric."""

IMAGES_FOLDER = "images"
"""Contact sheets of the validation, `step_00000100.png`."""

FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"
"""Possible ends of a training."""


def is_run(folder: Path) -> bool:
    """Whether a folder belongs to a run whose training has started."""
    return (folder / STARTS_FILE).is_file() or (folder / METRICS_FILE).is_file()


def add_line(file: Path, entry: Mapping[str, Any]) -> None:
    """Append one line of JSON, and drop an incomplete last line that a kill or a full disk left."""
    with file.open("ab") as lines:
        whole = file.read_bytes().rfind(b"\n") + 1
        if whole < lines.tell():
            lines.truncate(whole)
        lines.write((json.dumps(entry) + "\n").encode())


def note_start(folder: Path, facts: Mapping[str, Any]) -> str:
    """Record the start of a training.

    Args:
        folder: The run's folder.
        facts: Versions, device, command.

    Returns:
        The start's id, for `note_end`.
    """
    start = secrets.token_hex(4)
    add_line(folder / STARTS_FILE, {**facts, "id": start})
    return start


def note_end(folder: Path, how: str, *, start: str, step: int, message: str | None = None) -> None:
    """Record how a training ended.

    Args:
        folder: The run's folder.
        how: `FINISHED`, `STOPPED` or `FAILED`.
        start: Id returned by `note_start`.
        step: Number of completed steps.
        message: The signal that stopped it, or the error.
    """
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    add_line(folder / ENDS_FILE, {"date": date, "start": start, "step": step, "how": how, "message": message})


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Read the objects of a JSONL file (none if it does not exist), without an incomplete last line.

    Raises:
        ValueError: If a line is not a JSON object.
    """
    if not file.exists():
        return []
    entries = []
    lines = file.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict):
                raise ValueError(f"got {type(entry).__name__}")
        except ValueError as error:
            if number == len(lines) and not line.endswith(b"\n"):
                break
            raise ValueError(f"{file}, line {number} is not a JSON object: {error}") from error
        entries.append(entry)
    return entries


def read_metrics(file: Path) -> dict[str, list[tuple[int, float]]]:
    """Read `metrics.csv` as metric -> [(step, value)]; empty if there is no file.

    Raises:
        ValueError: If the file is not such a table.
    """
    metrics: dict[str, list[tuple[int, float]]] = {}
    if not file.exists():
        return metrics
    with file.open(newline="", encoding="utf-8", errors="replace") as lines:
        for number, row in enumerate(csv.DictReader(lines), start=2):
            if None in row.values():  # cut short by a kill; a resumed run removes it
                continue
            try:
                step = int(row.pop("step"))
                values = {name: float(value) for name, value in row.items() if value}
            except (KeyError, ValueError, TypeError) as error:
                raise ValueError(f"{file}, line {number} is not a row of metrics: {error!r}") from error
            for name, value in values.items():
                metrics.setdefault(name, []).append((step, value))
    return metrics


def last_metrics(file: Path) -> dict[str, float]:
    """Return the last value of each metric in `metrics.csv`; empty if there is no file."""
    return {name: points[-1][1] for name, points in read_metrics(file).items()}


def flatten_config(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to dotted names such as `model.dim`; lists stay whole."""
    if not isinstance(tree, Mapping):
        return {prefix.removesuffix("."): tree}
    flat: dict[str, Any] = {}
    for name, branch in tree.items():
        flat |= flatten_config(branch, f"{prefix}{name}.")
    return flat
