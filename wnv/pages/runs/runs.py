"""What the report is about: the runs and evaluations that lie in folders, brought together."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from wnv.evaluation.records import RECORDS_FILE, SETTINGS_FILE, SceneRecord, read_records
from wnv.evaluation.summary import SUMMARY_FILE, Summary, read_summary
from wnv.models.konet import KoNet
from wnv.models.pretrained import CONFIG_FILE as MODEL_FILE
from wnv.models.pretrained import local_folder
from wnv.training.run_folder import (
    CONFIG_FILE,
    ENDS_FILE,
    IMAGES_FOLDER,
    METRICS_FILE,
    STARTS_FILE,
    is_run,
    read_lines,
    read_metrics,
)

SWEEP_FILE = "multirun.yaml"
_MAX_DEPTH = 4  # folders below a named one that are looked into
_LEFT_OUT = ("images", "pictures", "frames", "wandb", "tensorboard")


@dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """A run's folder, as `wnv-train` writes it.

    Attributes:
        folder: Where it is.
        config: Its resolved configuration.
        metrics: Metric -> (step, value) in order of the steps.
        starts: What was noted each time it began.
        ends: What was noted each time it ended otherwise than by force.
    """

    folder: Path
    config: Mapping[str, Any]
    metrics: Mapping[str, Sequence[tuple[int, float]]]
    starts: Sequence[Mapping[str, Any]]
    ends: Sequence[Mapping[str, Any]]

    @cached_property
    def num_steps(self) -> int:
        """Steps that were done, as far as the table of metrics and the noted ends tell."""
        logged = [points[-1][0] + 1 for points in self.metrics.values() if points]
        return max([*logged, *(end["step"] for end in self.ends)], default=0)

    @property
    def last_end(self) -> Mapping[str, Any] | None:
        """How the last start ended; None while it has not, and in folders of versions that did not note it."""
        started = self.starts[-1].get("id") if self.starts else None
        return next((end for end in self.ends if started is not None and end.get("start") == started), None)

    @property
    def notes_ends(self) -> bool:
        """Whether the version that started it last notes how a training ends."""
        return bool(self.starts) and "id" in self.starts[-1]

    @property
    def max_steps(self) -> int | None:
        """Steps that were asked for."""
        steps = (self.config.get("trainer") or {}).get("max_steps")
        return steps if isinstance(steps, int) and steps > 0 else None

    @property
    def last_sheet(self) -> Path | None:
        """The newest contact sheet of its validation."""
        return max((self.folder / IMAGES_FOLDER).glob("step_*.png"), default=None)

    def last(self, metric: str) -> float | None:
        """The last value of a metric."""
        points = self.metrics.get(metric)
        return points[-1][1] if points else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """An evaluation's folder, as `wnv-eval` writes it.

    Attributes:
        folder: Where it is.
        settings: What its numbers depend on.
        records: What was measured, an example each.
        summary: The numbers; None while it has not finished.
    """

    folder: Path
    settings: Mapping[str, Any]
    records: Sequence[SceneRecord]
    summary: Summary | None

    @property
    def weights(self) -> str:
        """What was evaluated, as it was named."""
        return str(self.settings.get("weights", "unknown weights"))

    @property
    def task(self) -> str:
        """What the weights were evaluated on; evaluations with the same task can be compared."""
        own = ("weights", "fingerprint", "lpips")  # LPIPS may be at hand on one machine and not on another
        return json.dumps({name: value for name, value in self.settings.items() if name not in own}, sort_keys=True)

    @property
    def fingerprint(self) -> str:
        """Of the weights' values."""
        return str(self.settings.get("fingerprint"))

    def variant(self, name: str) -> list[SceneRecord]:
        """The examples of one variant of the protocol."""
        return [record for record in self.records if record.variant == name]


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One set of weights: how they were trained, where that is known, and what they scored.

    Attributes:
        name: What it is called: its folder, or the weights as they were named.
        config: Its resolved configuration; empty where it is not known, the model's alone for weights without a run.
        training: Its folder; None for weights without one.
        evaluations: Of the same weights, at most one a task.
    """

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    training: Training | None = None
    evaluations: Sequence[Evaluation] = ()


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All that folders hold.

    Attributes:
        runs: In the order in which they were named.
        empty_jobs: Jobs of sweeps that left neither a run nor an evaluation.
        unreadable: Folders in those that were named of which a file cannot be read, with what is wrong.
    """

    runs: Sequence[Run]
    empty_jobs: Sequence[Path] = ()
    unreadable: Mapping[Path, str] = field(default_factory=dict)


def find_runs(folders: Sequence[str | Path]) -> Findings:
    """Read the runs and evaluations in folders, and in folders below them: a sweep's jobs, a demo's parts.

    An evaluation belongs to the run that its weights are of; that run is read too where it is there. Other weights
    stand for themselves.

    Raises:
        FileNotFoundError: If a folder is not there, or holds nothing of the kind.
        ValueError: If no folder is named, or a file in one that is named cannot be read.
    """
    if not folders:
        raise ValueError("no run was named; name folders of runs, sweeps or evaluations")
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
                f"{folder} holds neither a run ({CONFIG_FILE}, {METRICS_FILE}) nor an evaluation ({SETTINGS_FILE}, "
                f"{RECORDS_FILE}), nor does a folder in it, {_MAX_DEPTH} deep; wnv-train and wnv-eval write them"
            )
    runs = _bring_together(found, unreadable)
    return Findings(runs=runs, empty_jobs=[*empty_jobs.values()], unreadable=unreadable)


def _add(path: Path, found: dict[Path, Training | Evaluation]) -> bool:
    """Read what a folder holds, unless it has been read; whether it holds anything. A folder may hold both kinds."""
    kinds = ((is_run(path), METRICS_FILE, _read_training), (_is_evaluation(path), SETTINGS_FILE, _read_evaluation))
    for is_there, name, read in kinds:
        place = path.resolve() / name
        if is_there and place not in found:
            found[place] = read(path)
    return any(is_there for is_there, _, _ in kinds)


def _is_evaluation(path: Path) -> bool:
    return (path / SETTINGS_FILE).is_file()


def _walk(folder: Path) -> Iterator[Path]:
    """The folder and those below it, by name, numbers as numbers; links are followed, each place once."""
    seen: set[Path] = set()
    for path, names, _ in os.walk(folder, followlinks=True):
        if (place := Path(path).resolve()) in seen:
            names.clear()
            continue
        seen.add(place)
        yield Path(path)
        is_deep = len(Path(path).relative_to(folder).parts) >= _MAX_DEPTH
        kept = [name for name in names if not (is_deep or name.startswith((".", "step-")) or name in _LEFT_OUT)]
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
        summary = None  # of an evaluation that was there before
    records = read_records(folder) if (folder / RECORDS_FILE).is_file() else []
    return Evaluation(folder=folder, settings=settings, records=records, summary=summary)


def _read_object(file: Path) -> dict[str, Any]:
    """Named values of a file of YAML or JSON."""
    read = json.loads if file.suffix == ".json" else yaml.safe_load
    try:
        values = read(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file} must hold named values, got {type(values).__name__}")
    return values


def _empty_jobs(folder: Path) -> list[Path]:
    if not (folder / SWEEP_FILE).is_file():
        return []
    jobs = [path for path in folder.iterdir() if path.is_dir() and path.name.isdigit()]
    empty = [path for path in jobs if not (is_run(path) or _is_evaluation(path))]
    return sorted(empty, key=lambda path: int(path.name))


def _bring_together(found: Mapping[Path, Training | Evaluation], unreadable: dict[Path, str]) -> list[Run]:
    trainings = {path.parent: item for path, item in found.items() if isinstance(item, Training)}
    owned: dict[Path | str, list[Evaluation]] = {}
    for path, item in found.items():
        if isinstance(item, Training):
            owned.setdefault(path.parent, [])
            continue
        place = _run_of(item, trainings)
        if place is not None and place not in trainings:
            try:
                trainings[place] = _read_training(place)
            except (ValueError, OSError) as error:  # of a run that was not named itself
                unreadable[place], place = str(error), None
        owned.setdefault(place or item.weights, []).append(item)
    runs: list[Run] = []
    for key, mine in owned.items():
        training = trainings.get(key) if isinstance(key, Path) else None
        name, config = (key, _model_config(key)) if training is None else (str(training.folder), training.config)
        groups = _same_weights(mine)
        for group in groups or [[]]:
            # Several checkpoints of one run, or weights that were evaluated twice or have changed in between.
            full = name if len(groups) < 2 else f"{name} ({group[0].folder})"
            runs.append(Run(name=full, config=config, training=training, evaluations=group))
    return runs


def _run_of(evaluation: Evaluation, trainings: Mapping[Path, Training]) -> Path | None:
    """The folder of the run that the weights of an evaluation are of, if it is there."""
    noted = None if evaluation.summary is None else evaluation.summary.environment.get("weights_path")
    if noted is not None:
        for folder in (Path(noted), Path(noted).parent):
            if folder in trainings or is_run(folder):
                return folder
    # The runs have been moved, or an older version did not note where they were: only those that were named count.
    typed = Path(os.path.expanduser(evaluation.weights))
    for folder in (typed, typed.parent) if typed.suffix == ".ckpt" else (typed,):
        fitting = [place for place in trainings if folder.name and place.parts[-len(folder.parts) :] == folder.parts]
        near = [place for place in fitting if place == folder.resolve()]
        if len(near or fitting) == 1:
            return (near or fitting)[0]
    return None


def _same_weights(evaluations: Sequence[Evaluation]) -> list[list[Evaluation]]:
    """The evaluations in as few groups as have one set of weights and no task twice."""
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
    """The model's settings of saved weights that belong to no run; empty where they are not at hand."""
    file = (local_folder(weights) or Path(weights)) / MODEL_FILE
    return {"model": KoNet.complete_config(_read_object(file))} if file.is_file() else {}
