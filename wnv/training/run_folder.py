"""What the folder of a run holds besides checkpoints and pictures: the names of its files, and how they are read."""

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
"""One line of JSON each time the training began: date, commit, versions, device, command."""

ENDS_FILE = "ends.jsonl"
"""One line of JSON each time the training ended otherwise than by force: date, step, and how."""

METRICS_FILE = "metrics.csv"
"""A row a step, a column a metric."""

IMAGES_FOLDER = "images"
"""Contact sheets of the validation, `step_00000100.png`."""

FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"
"""How a training can end."""


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run whose training has begun."""
    return (folder / STARTS_FILE).is_file() or (folder / METRICS_FILE).is_file()


def add_line(file: Path, entry: Mapping[str, Any]) -> None:
    """Append one line of JSON. What a kill or a full disk has left of a last line is dropped."""
    with file.open("ab") as lines:
        whole = file.read_bytes().rfind(b"\n") + 1
        if whole < lines.tell():
            lines.truncate(whole)
        lines.write((json.dumps(entry) + "\n").encode())


def note_start(folder: Path, facts: Mapping[str, Any]) -> str:
    """Write down that a training begins.

    Args:
        folder: Of the run.
        facts: Versions, device, command.

    Returns:
        The start's id, for the note of its end.
    """
    start = secrets.token_hex(4)
    add_line(folder / STARTS_FILE, {**facts, "id": start})
    return start


def note_end(folder: Path, how: str, *, start: str, step: int, message: str | None = None) -> None:
    """Write down how a training ended that had begun.

    Args:
        folder: Of the run.
        how: `FINISHED`, `STOPPED` or `FAILED`.
        start: Id of the start that it ends.
        step: Steps that were done.
        message: The signal that stopped it, or the error.
    """
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    add_line(folder / ENDS_FILE, {"date": date, "start": start, "step": step, "how": how, "message": message})


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The entries of a file of lines of JSON; none where there is no file. A last line that was cut off is left out.

    Raises:
        ValueError: If another line is not an object.
    """
    if not file.exists():
        return []
    entries = []
    lines = file.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict):
                raise ValueError("it is not an object")
        except ValueError as error:
            if number == len(lines) and not line.endswith(b"\n"):
                break
            raise ValueError(f"{file}, line {number} cannot be read: {error}") from error
        entries.append(entry)
    return entries


def read_metrics(file: Path) -> dict[str, list[tuple[int, float]]]:
    """Metric -> (step, value) of each row in which it stands; nothing where there is no table.

    Raises:
        ValueError: If the file is not such a table.
    """
    metrics: dict[str, list[tuple[int, float]]] = {}
    if not file.exists():
        return metrics
    with file.open(newline="", encoding="utf-8", errors="replace") as lines:
        for number, row in enumerate(csv.DictReader(lines), start=2):
            if None in row.values():  # cut short by a kill; a run that goes on takes it out
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
    """The last value of each metric of a run's table; nothing where there is no table."""
    return {name: points[-1][1] for name, points in read_metrics(file).items()}


def flatten_config(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Settings within settings as one table: `model.dim` and the like; lists stay whole."""
    if not isinstance(tree, Mapping):
        return {prefix.removesuffix("."): tree}
    flat: dict[str, Any] = {}
    for name, branch in tree.items():
        flat |= flatten_config(branch, f"{prefix}{name}.")
    return flat
