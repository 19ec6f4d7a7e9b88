"""The journal of an evaluation: one line of JSON a scene, so that a stopped evaluation goes on where it was."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from wnv.scenes.atomic import atomic_file

RECORDS_FILE = "records.jsonl"
SETTINGS_FILE = "evaluation.json"

Scores = Mapping[str, Sequence[float]]
"""Metric name -> one score a target view."""


@dataclass(frozen=True)
class SceneRecord:
    """What was measured on one scene.

    Attributes:
        index: Place of the scene in the data set's order; one record an index.
        scene: The scene's id.
        num_context: How many views were given.
        context_times: The time of each context view, as in the batch.
        target_times: The time of each target view, as in the batch.
        model: The model's scores, one a target view.
        copy: The scores of the nearest context view copied.
        num_capped: How many of the model's views had a PSNR above the cap and were counted as the cap.
        encode_ms: Milliseconds that encoding took, a scene.
        render_ms: Milliseconds that drawing took, a view.
    """

    index: int
    scene: str
    num_context: int
    context_times: Sequence[float]
    target_times: Sequence[float]
    model: Scores
    copy: Scores
    num_capped: int
    encode_ms: float
    render_ms: float

    def mean(self, who: str, metric: str) -> float:
        """The scene's score: the mean over its target views. `who` is `model` or `copy`."""
        scores = getattr(self, who)[metric]
        return sum(scores) / len(scores)


class RecordFile:
    """The records of one evaluation in a folder, beside the settings they were made with.

    A line is appended with one write and flushed to the disk. A line that was cut off, because the process was
    killed while it wrote, is dropped when the file is opened again.

    Args:
        folder: The folder of the evaluation; made if it is not there.
        settings: What the numbers depend on (weights, data, sizes); JSON values.
        resume: Whether records that are there are kept.
        overwrite: Whether they are removed.

    Raises:
        FileExistsError: If there are records and neither `resume` nor `overwrite` is set.
        ValueError: If the records there were made with other settings, or cannot be read.
    """

    def __init__(
        self, folder: str | Path, *, settings: Mapping[str, Any], resume: bool = False, overwrite: bool = False
    ) -> None:
        self.folder = Path(folder)
        self.path = self.folder / RECORDS_FILE
        settings_path = self.folder / SETTINGS_FILE
        settings = json.loads(json.dumps(settings))  # tuples become lists, as they do in the file
        if (self.path.exists() or settings_path.exists()) and not overwrite:
            if not resume:
                raise FileExistsError(
                    f"{self.folder} holds an evaluation; pass resume=true to go on with it, overwrite=true to start "
                    "again, or another out="
                )
            _check_settings(settings_path, settings)
            self.records = _read(self.path)
        else:
            self.records = []
        with atomic_file(self.path, overwrite=True) as file:
            file.write("".join(_line(record) for record in self.records).encode())
        with atomic_file(settings_path, overwrite=True) as file:
            file.write((json.dumps(settings, indent=2) + "\n").encode())

    def append(self, records: Sequence[SceneRecord]) -> None:
        """Add records and wait until the disk has them."""
        self.records.extend(records)
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(handle, "".join(_line(record) for record in records).encode())
            os.fsync(handle)
        finally:
            os.close(handle)


def read_records(folder: str | Path) -> list[SceneRecord]:
    """The records that an evaluation left in its folder, in the order of the data set.

    Raises:
        FileNotFoundError: If the folder holds no records.
        ValueError: If a line cannot be read.
    """
    path = Path(folder) / RECORDS_FILE
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; wnv-eval writes it")
    return _read(path)


def _line(record: SceneRecord) -> str:
    return json.dumps(asdict(record), allow_nan=False) + "\n"


def _read(path: Path) -> list[SceneRecord]:
    if not path.exists():
        return []
    names = {field.name for field in fields(SceneRecord)}
    records: dict[int, SceneRecord] = {}
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if number == len(lines) and not line.endswith("\n"):
            break
        try:
            values = json.loads(line)
            if not isinstance(values, dict) or set(values) != names:
                raise ValueError(f"it must have the keys {sorted(names)}")
            record = SceneRecord(**values)
        except ValueError as error:
            raise ValueError(f"{path}, line {number} is not a record: {error}; pass overwrite=true") from error
        records[record.index] = record
    return [records[index] for index in sorted(records)]


def _check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(there, dict):
            raise ValueError(f"{path} must hold an object")
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read, so what the records beside it were made with is unknown; pass overwrite=true "
            "or another out="
        ) from error
    different = sorted(key for key in {*there, *settings} if there.get(key) != settings.get(key))
    if different:
        changes = ", ".join(f"{key} was {there.get(key)!r}, is {settings.get(key)!r}" for key in different)
        raise ValueError(
            f"{path.parent} holds an evaluation made with other settings ({changes}); choose another out= or pass "
            "overwrite=true"
        )
