"""The journal of an evaluation: one line of JSON an example, so that a stopped evaluation goes on where it was."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from wnv.runtime.atomic import atomic_file

RECORDS_FILE = "records.jsonl"
SETTINGS_FILE = "evaluation.json"
# What the processes of an evaluation but the first write while it runs.
_PART_FILE = "records.rank{}.jsonl"

Scores = Mapping[str, Sequence[float | None]]
"""Metric name -> one score a target view; None where the view has nothing that the metric could measure."""

RecordKey = tuple[str, int]
"""(variant, index): there is one record of each."""


@dataclass(frozen=True)
class SceneRecord:
    """What was measured on one example: a scene's context and its target views, under one variant of the protocol.

    Attributes:
        index: Place of the example in the variant's order; one record a variant and index.
        scene: The scene's id.
        num_context: How many views were given.
        context_times: The time of each context view, as in the batch.
        target_times: The time of each target view, as in the batch.
        model: The model's scores, one a target view: `psnr`, `ssim`; `lpips` only where it was measured; the same with
            `_masked` behind the name where pixels were masked.
        copy: The scores of the nearest context view copied.
        num_capped: How many of the model's views had a PSNR above the cap and were counted as the cap.
        encode_ms: Milliseconds that encoding took, a scene.
        render_ms: Milliseconds that drawing took, a view.
        variant: The variant of the protocol, as `zoom=3`; empty where the protocol has only one.
        context_frames: Frame numbers of the context views in the scene file; None for worlds without frames.
        target_frames: Those of the target views.
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
    variant: str = ""
    context_frames: Sequence[int] | None = None
    target_frames: Sequence[int] | None = None

    @property
    def key(self) -> RecordKey:
        """What tells the record from all others of the evaluation."""
        return self.variant, self.index

    def mean(self, who: str, metric: str) -> float | None:
        """The example's score: the mean over its target views. `who` is `model` or `copy`.

        None where the metric was not measured, or measured on none of the views.
        """
        scores = [score for score in getattr(self, who).get(metric, ()) if score is not None]
        return sum(scores) / len(scores) if scores else None


class RecordFile:
    """The records of one evaluation in a folder, beside the settings they were made with.

    A line is appended with one write and flushed to the disk. A line that was cut off, because the process was
    killed while it wrote, is dropped when the file is opened again. Of several processes each appends to a file of its
    own; the first process opens the folder (`opens=True`), alone, before the others do, and brings what any number of
    processes left there into one file.

    Args:
        folder: The folder of the evaluation; made if it is not there.
        settings: What the numbers depend on (weights, data, sizes); JSON values.
        resume: Whether records that are there are kept.
        overwrite: Whether they are removed.
        rank: Which process this is.
        opens: Whether the folder is checked and brought in order; otherwise its records are only read.

    Attributes:
        records: What is there already, by variant and index.

    Raises:
        FileExistsError: If there are records and neither `resume` nor `overwrite` is set.
        ValueError: If the records there were made with other settings, or cannot be read.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        settings: Mapping[str, Any],
        resume: bool = False,
        overwrite: bool = False,
        rank: int = 0,
        opens: bool = True,
    ) -> None:
        self.folder = Path(folder)
        self.path = self.folder / (_PART_FILE.format(rank) if rank else RECORDS_FILE)
        if opens:
            self._open(settings, resume=resume, overwrite=overwrite)
        self.records = {record.key: record for record in _read_all(self.folder)}

    def append(self, records: Sequence[SceneRecord]) -> None:
        """Add records and wait until the disk has them."""
        self.records |= {record.key: record for record in records}
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(handle, "".join(_line(record) for record in records).encode())
            os.fsync(handle)
        finally:
            os.close(handle)

    def merge(self) -> list[SceneRecord]:
        """Bring the records of all processes into one file, in order; by one process, when the others have ended."""
        records = _read_all(self.folder)
        with atomic_file(self.folder / RECORDS_FILE, overwrite=True) as file:
            file.write("".join(_line(record) for record in records).encode())
        for path in _part_files(self.folder):
            path.unlink()
        self.records = {record.key: record for record in records}
        return records

    def _open(self, settings: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
        settings_path = self.folder / SETTINGS_FILE
        settings = json.loads(json.dumps(settings))  # tuples become lists, as they do in the file
        if not is_continued(self.folder, settings=settings, resume=resume, overwrite=overwrite):
            for path in _part_files(self.folder):
                path.unlink()
            with atomic_file(self.folder / RECORDS_FILE, overwrite=True):
                pass
        self.merge()
        with atomic_file(settings_path, overwrite=True) as file:
            file.write((json.dumps(settings, indent=2) + "\n").encode())


def is_continued(folder: str | Path, *, settings: Mapping[str, Any], resume: bool, overwrite: bool) -> bool:
    """Whether an evaluation goes on with the records in a folder, or begins there; nothing is written.

    Raises:
        FileExistsError: If there are records and neither `resume` nor `overwrite` is set.
        ValueError: If the records there were made with other settings.
    """
    folder = Path(folder)
    is_there = any((folder / name).exists() for name in (SETTINGS_FILE, RECORDS_FILE)) or bool(_part_files(folder))
    if not is_there or overwrite:
        return False
    if not resume:
        raise FileExistsError(
            f"{folder} holds an evaluation; pass resume=true to go on with it, overwrite=true to start again, or "
            "another out="
        )
    _check_settings(folder / SETTINGS_FILE, json.loads(json.dumps(settings)))
    return True


def read_records(folder: str | Path) -> list[SceneRecord]:
    """The records in the folder of an evaluation, one that still runs or was stopped included.

    Variants come in the order in which the evaluation began with them, and within one in the order of the data.

    Raises:
        FileNotFoundError: If the folder holds no records.
        ValueError: If a line cannot be read.
    """
    path = Path(folder) / RECORDS_FILE
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; wnv-eval writes it")
    return _read_all(Path(folder))


def _line(record: SceneRecord) -> str:
    return json.dumps(asdict(record), allow_nan=False) + "\n"


def _part_files(folder: Path) -> list[Path]:
    return sorted(folder.glob(_PART_FILE.format("*")))


def _read_all(folder: Path) -> list[SceneRecord]:
    records: dict[RecordKey, SceneRecord] = {}
    for path in (folder / RECORDS_FILE, *_part_files(folder)):
        for record in _read(path):
            records.setdefault(record.key, record)
    variants = list(dict.fromkeys(variant for variant, _ in records))
    return sorted(records.values(), key=lambda record: (variants.index(record.variant), record.index))


def _read(path: Path) -> list[SceneRecord]:
    if not path.exists():
        return []
    names = {field.name for field in fields(SceneRecord)}
    needed = {field.name for field in fields(SceneRecord) if field.default is MISSING}
    records = []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if number == len(lines) and not line.endswith("\n"):
            break
        try:
            values = json.loads(line)
            if not isinstance(values, dict) or not needed <= set(values) <= names:
                raise ValueError(f"it must have the keys {sorted(names)}")
            records.append(SceneRecord(**values))
        except ValueError as error:
            raise ValueError(f"{path}, line {number} is not a record: {error}; pass overwrite=true") from error
    return records


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
