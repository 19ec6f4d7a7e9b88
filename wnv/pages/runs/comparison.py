"""Runs to compare: their labels, their differences, and the tasks that they were evaluated on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from wnv.evaluation.confidence import interval_note
from wnv.evaluation.summary import Summary
from wnv.evaluation.table import heading
from wnv.pages.runs.differences import config_differences, labels, short_names
from wnv.pages.runs.run import Evaluation, Run, Training
from wnv.training.run_folder import flatten_config


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A protocol on a data set, and the finished evaluations of it.

    Attributes:
        title: The protocol, with the settings that distinguish it from other tasks of the same protocol.
        data: Short description of the data set.
        evaluations: Index of a run -> its evaluation.
        summaries: Index of a run -> its summary.
    """

    title: str
    data: str
    evaluations: Mapping[int, Evaluation]
    summaries: Mapping[int, Summary]

    @property
    def variants(self) -> list[str]:
        """The variants, in the order of the protocol."""
        return [*dict.fromkeys(variant.variant for s in self.summaries.values() for variant in s.variants)]

    @property
    def main_variant(self) -> str:
        """The variant to report if only one can be."""
        return next(iter(self.summaries.values())).main.variant

    @property
    def interval_note(self) -> str:
        """Describe the intervals of its scores."""
        variants = [variant for summary in self.summaries.values() for variant in summary.variants]
        return interval_note([mean.count for variant in variants for mean in variant.model.values()])

    @property
    def columns(self) -> dict[str, str]:
        """Heading -> metric, with one column per LPIPS network, an empty one if LPIPS could not be measured."""
        summaries = [*self.summaries.values()]
        found = {heading(m, s): m for s in summaries for variant in s.variants for m in variant.model}
        if "lpips" not in found.values() and any(summary.lpips_note is not None for summary in summaries):
            found[heading("lpips", summaries[0])] = "lpips"
        return found


class Comparison:
    """Runs, of which the first is the one that others are compared with.

    Args:
        runs: The runs, in the order of the report.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        self.differences: Mapping[str, Sequence[str]] = config_differences(runs)
        """Setting -> its value per run, where runs differ."""
        self.labels: Sequence[str] = labels(runs, self.differences)
        """Name per run."""

    @cached_property
    def trained(self) -> Mapping[int, Training]:
        """Index of a run -> its training; of several checkpoints of one training, the first."""
        trainings = [run.training for run in self.runs]
        return {i: t for i, t in enumerate(trainings) if t is not None and trainings.index(t) == i}

    @cached_property
    def tasks(self) -> Sequence[Task]:
        """The tasks of finished evaluations, by descending number of runs."""
        found: dict[str, dict[int, Evaluation]] = {}
        for index, run in enumerate(self.runs):
            for evaluation in run.evaluations:
                if evaluation.summary is not None:
                    found.setdefault(evaluation.task, {})[index] = evaluation
        titles = _titles({key: json.loads(key) for key in found})
        tasks = [
            Task(
                title=titles[key],
                data=_data(json.loads(key)),
                evaluations=evaluations,
                summaries={i: e.summary for i, e in evaluations.items() if e.summary is not None},
            )
            for key, evaluations in found.items()
        ]
        return sorted(tasks, key=lambda task: -len(task.summaries))


def _titles(tasks: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    flat = {key: {n: json.dumps(v) for n, v in flatten_config(task).items()} for key, task in tasks.items()}
    titles = {}
    for key, task in tasks.items():
        others = [flat[other] for other in tasks if other != key and _protocol(tasks[other]) == _protocol(task)]
        names = [name for name in flat[key] if any(other.get(name) != flat[key][name] for other in others)]
        short = short_names(names)
        settings = ", ".join(f"{short[name]}={flat[key][name].strip(chr(34))}" for name in names)
        titles[key] = " · ".join(filter(None, [_protocol(task), settings]))
    return titles


def _protocol(task: Mapping[str, object]) -> str:
    protocol = task.get("protocol")
    name = protocol.get("name") if isinstance(protocol, Mapping) else None
    return "validation views" if name in (None, "default") else str(name)


def _data(task: Mapping[str, object]) -> str:
    data = task.get("data")
    if not isinstance(data, Mapping):
        return str(data or "")
    name = str(data.get("_target_", "")).rpartition(".")[2].removesuffix("DataModule").lower()
    root = data.get("root") or data.get("val_root")
    size = data.get("image_size")
    pixels = " × ".join(map(str, reversed(size))) + " px" if isinstance(size, list) else ""
    return ", ".join(filter(None, [str(root) if root else f"{name} scenes", pixels]))
