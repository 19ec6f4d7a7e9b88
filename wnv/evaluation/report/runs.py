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
from wnv.models.pretrained import SHIPPED, shipped_weights
from wnv.training.run_folder import (
    CONFIG_FILE,
    ENDS_FILE,
    IMAGES_FOLDER,
    METRICS_FILE,
    STARTS_FILE,
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
        ends: What was noted each time it ended; None in a folder of a version that did not note it.
    """

    folder: Path
    config: Mapping[str, Any]
    metrics: Mapping[str, Sequence[tuple[int, float]]]
    starts: Sequence[Mapping[str, Any]]
    ends: Sequence[Mapping[str, Any]] | None

    @cached_property
    def num_steps(self) -> int:
        """Steps that were done, as far as the table of metrics and the noted ends tell."""
        logged = [points[-1][0] + 1 for points in self.metrics.values() if points]
        return max([*logged, *(end["step"] for end in self.ends or ())], default=0)

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
        task = {name: value for name, value in self.settings.items() if name not in ("weights", "fingerprint")}
        return json.dumps(task, sort_keys=True)

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
        evaluations: At most one a task.
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
        empty_jobs: Jobs of sweeps that left no run: they failed before they trained.
    """

    runs: Sequence[Run]
    empty_jobs: Sequence[Path] = ()


def find_runs(folders: Sequence[str | Path]) -> Findings:
    """Read the runs and evaluations in folders, and in folders below them: a sweep's jobs, a demo's parts.

    An evaluation belongs to the run whose folder, or file in it, its weights were named by; that run is read too where
    it is there. Other weights stand for themselves.

    Raises:
        FileNotFoundError: If a folder is not there, or holds nothing of the kind.
        ValueError: If no folder is named, or a file in one cannot be read.
    """
    if not folders:
        raise ValueError("no run was named; name folders of runs, sweeps or evaluations")
    trainings: dict[Path, Training] = {}
    evaluations: dict[Path, Evaluation] = {}
    empty_jobs: list[Path] = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not a folder; name folders of runs, sweeps or evaluations")
        found = 0
        for path in _walk(folder):
            if (path / METRICS_FILE).is_file() or (path / STARTS_FILE).is_file():
                trainings.setdefault(path.resolve(), _read_training(path))
                found += 1
            if (path / SETTINGS_FILE).is_file():
                evaluations.setdefault(path.resolve(), _read_evaluation(path))
                found += 1
            empty_jobs += _empty_jobs(path)
        if not found and not empty_jobs:
            raise FileNotFoundError(
                f"{folder} holds neither a run ({CONFIG_FILE}, {METRICS_FILE}) nor an evaluation ({SETTINGS_FILE}, "
                f"{RECORDS_FILE}), nor does a folder in it; wnv-train and wnv-eval write them"
            )
    return Findings(runs=_bring_together(trainings, [*evaluations.values()]), empty_jobs=empty_jobs)


def _walk(folder: Path) -> Iterator[Path]:
    """The folder and those below it, by name, numbers as numbers."""
    for path, names, _ in os.walk(folder):
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
        ends=read_lines(folder / ENDS_FILE) if (folder / ENDS_FILE).is_file() else None,
    )


def _read_evaluation(folder: Path) -> Evaluation:
    return Evaluation(
        folder=folder,
        settings=_read_object(folder / SETTINGS_FILE),
        records=read_records(folder) if (folder / RECORDS_FILE).is_file() else [],
        summary=read_summary(folder) if (folder / SUMMARY_FILE).is_file() else None,
    )


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
    own = (STARTS_FILE, METRICS_FILE, SETTINGS_FILE)
    empty = [path for path in jobs if not any((path / name).is_file() for name in own)]
    return sorted(empty, key=lambda path: int(path.name))


def _bring_together(trainings: dict[Path, Training], evaluations: Sequence[Evaluation]) -> list[Run]:
    owned: dict[Path | tuple[str, str], list[Evaluation]] = {path: [] for path in trainings}
    for evaluation in evaluations:
        place = _run_folder(evaluation.weights)
        if place is not None and place not in trainings:
            trainings[place] = _read_training(place)
        key = place or (evaluation.weights, str(evaluation.settings.get("fingerprint")))
        owned.setdefault(key, []).append(evaluation)
    runs = []
    for key, mine in owned.items():
        training = trainings.get(key) if isinstance(key, Path) else None
        for number, group in enumerate(_one_a_task(mine) or [[]]):
            if training is None:
                name, config = group[0].weights, _model_config(group[0].weights)
            else:
                name, config = str(training.folder), training.config
            if number:  # several checkpoints of one run, or one that was evaluated twice
                name = f"{name} ({group[0].folder})"
            runs.append(Run(name=name, config=config, training=training, evaluations=group))
    return runs


def _run_folder(weights: str) -> Path | None:
    """The folder of the run that weights were named by, if it is there."""
    path = Path(weights)
    for folder in (path, path.parent):
        if folder.name and (folder / METRICS_FILE).is_file() and (folder / CONFIG_FILE).is_file():
            return folder.resolve()
    return None


def _one_a_task(evaluations: Sequence[Evaluation]) -> list[list[Evaluation]]:
    """The evaluations in as few groups as have no task twice."""
    groups: list[list[Evaluation]] = []
    for evaluation in evaluations:
        free = [group for group in groups if all(other.task != evaluation.task for other in group)]
        if free:
            free[0].append(evaluation)
        else:
            groups.append([evaluation])
    return groups


def _model_config(weights: str) -> dict[str, Any]:
    """The model's settings of saved weights that belong to no run; empty where they are not at hand."""
    folder = SHIPPED / weights if weights in shipped_weights() else Path(weights)
    file = folder / MODEL_FILE
    return {"model": KoNet.complete_config(_read_object(file))} if file.is_file() else {}
