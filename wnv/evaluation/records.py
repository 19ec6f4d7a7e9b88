"""The records of an evaluation: one line of JSON per example, so that an interrupted evaluation can be resumed."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from wnv.runtime.atomic import atomic_file

RECORDS_FILE = "records.jsonl"
SETTINGS_FILE = "evaluation.json"
_PART_FILE = "records.rank{}.jsonl"  # written by ranks 1, 2, ... while an evaluation runs

Scores = Mapping[str, Sequence[float | None]]
"""Metric -> one score per target view; None where a mask leaves no pixel to measure."""

RecordKey = tuple[str, int]
"""(variant, index) of a record, unique within an evaluation."""


@dataclass(frozen=True)
class SceneRecord:
    """The scores of one example: one context with its targets, under one variant of the protocol.

    Attributes:
        index: Index of the example in its variant.
        scene: The scene's id.
        num_context: Number of context views.
        context_times: Normalised time of each context view.
        target_times: Normalised time of each target view.
        model: The model's scores per target view: `psnr`, `ssim`, `lpips` if measured, and each with the suffix
            `_masked` if there are masks.
        copy: The scores of copying the nearest context view.
        num_capped: Views of the model whose PSNR was capped.
        encode_ms: Encoding time in milliseconds per scene.
        render_ms: Rendering time in milliseconds per view.
        variant: Name of the variant, e.g. `zoom=3`; empty if the protocol has only one.
        context_frames: Frame numbers of the context views in the scene file; None if frames have no numbers.
        target_frames: The same for the target views.
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
        """The variant and index of the example."""
        return self.variant, self.index

    def mean(self, who: str, metric: str) -> float | None:
        """Mean score over the target views of `who` (`model` or `copy`); None if no view was measured."""
        scores = [score for score in getattr(self, who).get(metric, ()) if score is not None]
        return sum(scores) / len(scores) if scores else None


class RecordFile:
    """The records of one evaluation in a folder, with the settings they were made with.

    Each append is one write, flushed to disk; a line cut off by a kill is dropped when the file is opened again.
    Several processes append to one file each. Rank 0 opens the folder first (`opens=True`), alone, and merges the files
    that earlier processes left.

    Args:
        folder: Folder of the evaluation; created if needed.
        settings: What the scores depend on (weights, data, sizes), as JSON values.
        resume: Keep the existing records.
        overwrite: Delete the existing records.
        rank: Rank of this process.
        opens: Check (see `can_resume`) and prepare the folder; otherwise only read it.

    Attributes:
        records: The existing records by key.
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
            if not can_resume(folder, settings=settings, resume=resume, overwrite=overwrite):
                for path in _record_files(self.folder):
                    path.unlink()
            self.merge()
            with atomic_file(self.folder / SETTINGS_FILE, overwrite=True) as file:
                file.write((json.dumps(settings, indent=2) + "\n").encode())
        self.records = {record.key: record for record in _read_all(self.folder)}

    def append(self, records: Sequence[SceneRecord]) -> None:
        """Add records and flush them to disk."""
        self.records |= {record.key: record for record in records}
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(handle, _lines(records))
            os.fsync(handle)
        finally:
            os.close(handle)

    def merge(self) -> list[SceneRecord]:
        """Merge the files of all processes into one, in order; call in one process when the others have finished."""
        records = _read_all(self.folder)
        with atomic_file(self.folder / RECORDS_FILE, overwrite=True) as file:
            file.write(_lines(records))
        for path in _record_files(self.folder):
            if path.name != RECORDS_FILE:
                path.unlink()
        self.records = {record.key: record for record in records}
        return records


def can_resume(folder: str | Path, *, settings: Mapping[str, Any], resume: bool, overwrite: bool) -> bool:
    """Whether there are records to continue from; nothing is written.

    Raises:
        FileExistsError: If there are records and neither `resume` nor `overwrite` is set.
        ValueError: If the records were made with different settings.
    """
    folder = Path(folder)
    exists = (folder / SETTINGS_FILE).exists() or bool(_record_files(folder))
    if not exists or overwrite:
        return False
    if not resume:
        raise FileExistsError(
            f"{folder} holds an evaluation; pass resume=true to continue it, overwrite=true to replace it, or "
            "choose another out="
        )
    _check_settings(folder / SETTINGS_FILE, json.loads(json.dumps(settings)))  # tuples become lists, as in the file
    return True


def read_records(folder: str | Path) -> list[SceneRecord]:
    """Read the records of an evaluation, which may be running or interrupted, by variant and index."""
    path = Path(folder) / RECORDS_FILE
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; wnv-eval writes it")
    return _read_all(Path(folder))


def _lines(records: Sequence[SceneRecord]) -> bytes:
    return "".join(json.dumps(asdict(record), allow_nan=False) + "\n" for record in records).encode()


def _record_files(folder: Path) -> list[Path]:
    main = folder / RECORDS_FILE
    return [*([main] if main.exists() else []), *sorted(folder.glob(_PART_FILE.format("*")))]


def _read_all(folder: Path) -> list[SceneRecord]:
    records: dict[RecordKey, SceneRecord] = {}
    for path in _record_files(folder):
        for record in _read(path):
            records.setdefault(record.key, record)
    variants = list(dict.fromkeys(variant for variant, _ in records))
    return sorted(records.values(), key=lambda record: (variants.index(record.variant), record.index))


def _read(path: Path) -> list[SceneRecord]:
    names = {field.name for field in fields(SceneRecord)}
    required = {field.name for field in fields(SceneRecord) if field.default is MISSING}
    records = []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            if not isinstance(values, dict) or not required <= set(values) <= names:
                raise ValueError(f"expected the keys {sorted(names)}")
            records.append(SceneRecord(**values))
        except ValueError as error:
            raise ValueError(f"{path}, line {number} is not a record: {error}; pass overwrite=true") from error
    return records


def _check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    try:
        existing = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(existing, dict):
            raise ValueError(f"{path} must hold an object")
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read, so the settings of the existing records are unknown; pass overwrite=true or "
            "choose another out="
        ) from error
    changed = sorted(key for key in {*existing, *settings} if existing.get(key) != settings.get(key))
    if changed:
        changes = ", ".join(f"{key} was {existing.get(key)!r}, is {settings.get(key)!r}" for key in changed)
        raise ValueError(
            f"{path.parent} holds an evaluation with different settings ({changes}); choose another out= or pass "
            "overwrite=true"
        )
