"""Find runs and evaluations in folders, and match each evaluation with the run of its weights."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from wnv.evaluation.records import RECORDS_FILE, SETTINGS_FILE, read_records
from wnv.evaluation.summary import SUMMARY_FILE, read_summary
from wnv.models.konet import KoNet
from wnv.models.pretrained import CONFIG_FILE as MODEL_FILE
from wnv.models.pretrained import local_folder
from wnv.pages.runs.run import Evaluation, Run, Training
from wnv.training.run_folder import (
    CONFIG_FILE,
    ENDS_FILE,
    METRICS_FILE,
    STARTS_FILE,
    is_run,
    read_lines,
    read_metrics,
)

SWEEP_FILE = "multirun.yaml"
_MAX_DEPTH = 4  # of subfolders to search
_SKIPPED = ("images", "pictures", "frames", "wandb", "tensorboard")


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Runs in the order of the searched folders, jobs of sweeps without results, and subfolder -> error."""

    runs: Sequence[Run]
    empty_jobs: Sequence[Path] = ()
    unreadable: Mapping[Path, str] = field(default_factory=dict)


def find_runs(folders: Sequence[str | Path]) -> Findings:
    """Read the runs and evaluations in folders and their subfolders.

    An evaluation belongs to the run that trained its weights, which is read too if it exists. Other weights are runs
    without a training.

    Raises:
        FileNotFoundError: If a folder does not exist, or contains neither a run nor an evaluation.
        ValueError: If `folders` is empty, or a file in one of them (but not in a subfolder) cannot be read.
    """
    if not folders:
        raise ValueError("runs is empty; name folders of runs, sweeps or evaluations")
    found: dict[Path, Training | Evaluation] = {}
    empty_jobs: dict[Path, Path] = {}
    unreadable: dict[Path, str] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not a folder; name folders of runs, sweeps or evaluations")
        is_empty = True
        for path in _walk(folder):
            try:
                is_empty &= not _add(path, found)
            except (ValueError, OSError) as error:
                if path == folder:
                    raise
                unreadable[path] = str(error)
            jobs = _empty_jobs(path)
            empty_jobs |= {job.resolve(): job for job in jobs}
            is_empty &= not jobs
        if is_empty and not any(path.is_relative_to(folder) for path in unreadable):
            raise FileNotFoundError(
                f"{folder} and its subfolders contain neither a run ({METRICS_FILE}) of wnv-train nor an evaluation "
                f"({SETTINGS_FILE}) of wnv-eval"
            )
    runs = _match(found, unreadable)
    return Findings(runs=runs, empty_jobs=[*empty_jobs.values()], unreadable=unreadable)


def _add(path: Path, found: dict[Path, Training | Evaluation]) -> bool:
    """Read a folder's run and evaluation, unless already done; False if it has neither."""
    kinds = ((is_run(path), METRICS_FILE, _read_training), (_is_evaluation(path), SETTINGS_FILE, _read_evaluation))
    for exists, name, read in kinds:
        key = path.resolve() / name
        if exists and key not in found:
            found[key] = read(path)
    return any(exists for exists, _, _ in kinds)


def _is_evaluation(path: Path) -> bool:
    return (path / SETTINGS_FILE).is_file()


def _walk(folder: Path) -> Iterator[Path]:
    """The folder and its subfolders, numbers in numerical order; links are followed, each folder once."""
    seen: set[Path] = set()
    for path, names, _ in os.walk(folder, followlinks=True):
        if (target := Path(path).resolve()) in seen:
            names.clear()
            continue
        seen.add(target)
        yield Path(path)
        is_deep = len(Path(path).relative_to(folder).parts) >= _MAX_DEPTH
        kept = [name for name in names if not (is_deep or name.startswith((".", "step-")) or name in _SKIPPED)]
        names[:] = sorted(kept, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))


def _read_training(folder: Path) -> Training:
    return Training(
        folder=folder,
        config=_read_object(folder / CONFIG_FILE) if (folder / CONFIG_FILE).is_file() else {},
        metrics=read_metrics(folder / METRICS_FILE),
        starts=read_lines(folder / STARTS_FILE),
        ends=read_lines(folder / ENDS_FILE),
    )


def _read_evaluation(folder: Path) -> Evaluation:
    settings = _read_object(folder / SETTINGS_FILE)
    summary = read_summary(folder) if (folder / SUMMARY_FILE).is_file() else None
    if summary is not None and summary.settings != settings:
        summary = None  # of a previous evaluation in this folder
    records = read_records(folder) if (folder / RECORDS_FILE).is_file() else []
    return Evaluation(folder=folder, settings=settings, records=records, summary=summary)


def _read_object(file: Path) -> dict[str, Any]:
    """Read a mapping from a YAML or JSON file."""
    read = json.loads if file.suffix == ".json" else yaml.safe_load
    try:
        values = read(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file} must be a mapping, got {type(values).__name__}")
    return values


def _empty_jobs(folder: Path) -> list[Path]:
    if not (folder / SWEEP_FILE).is_file():
        return []
    jobs = [path for path in folder.iterdir() if path.is_dir() and path.name.isdigit()]
    empty = [path for path in jobs if not (is_run(path) or _is_evaluation(path))]
    return sorted(empty, key=lambda path: int(path.name))


def _match(found: Mapping[Path, Training | Evaluation], unreadable: dict[Path, str]) -> list[Run]:
    trainings = {path.parent: item for path, item in found.items() if isinstance(item, Training)}
    owned: dict[Path | str, list[Evaluation]] = {}
    for path, item in found.items():
        if isinstance(item, Training):
            owned.setdefault(path.parent, [])
            continue
        folder = _run_of(item, trainings)
        if folder is not None and folder not in trainings:
            try:
                trainings[folder] = _read_training(folder)
            except (ValueError, OSError) as error:
                unreadable[folder], folder = str(error), None
        owned.setdefault(folder or item.weights, []).append(item)
    runs: list[Run] = []
    for key, evaluations in owned.items():
        training = trainings[key] if isinstance(key, Path) else None
        name = str(key) if training is None else str(training.folder)
        config = _model_config(name) if training is None else training.config
        # Several groups: several checkpoints of a run, or weights that changed between evaluations.
        groups = _same_weights(evaluations)
        for group in groups or [[]]:
            full = name if len(groups) < 2 else f"{name} ({group[0].folder})"
            runs.append(Run(name=full, config=config, training=training, evaluations=group))
    return runs


def _run_of(evaluation: Evaluation, trainings: Mapping[Path, Training]) -> Path | None:
    """The folder of the run that trained the weights of an evaluation; None if it is unknown."""
    logged = None if evaluation.summary is None else evaluation.summary.environment.get("weights_path")
    if logged is not None:
        for folder in (Path(logged), Path(logged).parent):
            if folder in trainings or is_run(folder):
                return folder
    # The run was moved, or an older version did not log its path: compare the end of the path.
    weights = Path(os.path.expanduser(evaluation.weights))
    for folder in (weights, weights.parent) if weights.suffix == ".ckpt" else (weights,):
        same_end = [path for path in trainings if folder.name and path.parts[-len(folder.parts) :] == folder.parts]
        found = [path for path in same_end if path == folder.resolve()] or same_end
        if len(found) == 1:
            return found[0]
    return None


def _same_weights(evaluations: Sequence[Evaluation]) -> list[list[Evaluation]]:
    """Split evaluations into groups that share their weights and have no task twice."""
    groups: list[list[Evaluation]] = []
    for evaluation in evaluations:
        fitting = [
            group
            for group in groups
            if group[0].fingerprint == evaluation.fingerprint and all(other.task != evaluation.task for other in group)
        ]
        if fitting:
            fitting[0].append(evaluation)
        else:
            groups.append([evaluation])
    return groups


def _model_config(weights: str) -> dict[str, Any]:
    """The model settings of saved weights without a run; empty if there are none here."""
    file = (local_folder(weights) or Path(weights)) / MODEL_FILE
    return {"model": KoNet.complete_config(_read_object(file))} if file.is_file() else {}
