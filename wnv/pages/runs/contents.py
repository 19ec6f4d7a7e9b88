"""What all sections of the report look at: runs with their labels, and the tasks that they were evaluated on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from wnv.evaluation.summary import Summary
from wnv.evaluation.table import heading
from wnv.pages.runs.differences import config_differences, labels, short_names
from wnv.pages.runs.runs import Evaluation, Findings, Run
from wnv.training.run_folder import flatten_config

MAX_RUNS = 24
"""Pictures are shown of so many runs, and so many pairs: more would make the page too large to open."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What runs were evaluated on, and by whom it was done.

    Attributes:
        key: `Evaluation.task`.
        title: The protocol, and in what the task differs from others of the same protocol.
        data: Which data.
        numbers: Runs with a finished evaluation, by their number in the report.
        summaries: Of these runs.
    """

    key: str
    title: str
    data: str
    numbers: Sequence[int]
    summaries: Sequence[Summary]

    @property
    def variants(self) -> list[str]:
        """The variants, in the order of the protocol."""
        return [*dict.fromkeys(variant.variant for summary in self.summaries for variant in summary.variants)]

    @property
    def main_variant(self) -> str:
        """The variant that stands for the whole."""
        return self.summaries[0].main.variant

    def summary(self, number: int) -> Summary:
        """The scores of a run, by its number."""
        return self.summaries[self.numbers.index(number)]

    @property
    def columns(self) -> dict[str, str]:
        """Heading -> metric, LPIPS by each network in a column of its own.

        Where LPIPS was asked for and could not be measured there is a column that stays empty.
        """
        found = {
            heading(metric, summary): metric
            for summary in self.summaries
            for variant in summary.variants
            for metric in variant.model
        }
        if "lpips" not in found.values() and any(summary.lpips_note is not None for summary in self.summaries):
            found[heading("lpips", self.summaries[0])] = "lpips"
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Contents:
    """What the report is about.

    Attributes:
        findings: What was found in folders.
    """

    findings: Findings

    @property
    def runs(self) -> Sequence[Run]:
        """In the order in which they were named; the first one is what others are compared with."""
        return self.findings.runs

    def tells_training(self, number: int) -> bool:
        """Whether a run is the first one of its training: of several checkpoints one tells it."""
        trainings = [run.training for run in self.runs]
        return trainings[number] is not None and trainings.index(trainings[number]) == number

    @cached_property
    def differences(self) -> Mapping[str, Sequence[str]]:
        """Setting -> its value in each run, where runs differ."""
        return config_differences(self.runs)

    @cached_property
    def labels(self) -> Sequence[str]:
        """What each run is called."""
        return labels(self.runs, self.differences)

    @cached_property
    def tasks(self) -> Sequence[Task]:
        """The tasks of finished evaluations, those of the most runs first."""
        found: dict[str, list[tuple[int, Summary]]] = {}
        for number, run in enumerate(self.runs):
            for evaluation in run.evaluations:
                if evaluation.summary is not None:
                    found.setdefault(evaluation.task, []).append((number, evaluation.summary))
        titles = _titles([*found])
        tasks = [
            Task(
                key=key,
                title=titles[key],
                data=_data(key),
                numbers=[number for number, _ in entries],
                summaries=[summary for _, summary in entries],
            )
            for key, entries in found.items()
        ]
        return sorted(tasks, key=lambda task: -len(task.numbers))

    def evaluation(self, number: int, task: Task) -> Evaluation:
        """The evaluation of a run, by its number, on a task."""
        return next(found for found in self.runs[number].evaluations if found.task == task.key)


def _titles(keys: Sequence[str]) -> dict[str, str]:
    tasks = {key: json.loads(key) for key in keys}
    flat = {key: {n: json.dumps(v) for n, v in flatten_config(task).items()} for key, task in tasks.items()}
    titles = {}
    for key, task in tasks.items():
        protocol = _protocol(task)
        rivals = [other for other in keys if other != key and _protocol(tasks[other]) == protocol]
        names = [name for name in flat[key] if any(flat[other].get(name) != flat[key][name] for other in rivals)]
        short = short_names(names)
        told = ", ".join(f"{short[name]}={flat[key][name].strip(chr(34))}" for name in names)
        titles[key] = f"{protocol} · {told}" if told else protocol
    return titles


def _protocol(task: Mapping[str, object]) -> str:
    protocol = task.get("protocol")
    name = protocol.get("name") if isinstance(protocol, Mapping) else None
    return "views of validation" if name in (None, "default") else str(name)


def _data(key: str) -> str:
    """The data set in a few words."""
    data = json.loads(key).get("data")
    if not isinstance(data, Mapping):
        return str(data or "")
    name = str(data.get("_target_", "")).rpartition(".")[2].removesuffix("DataModule").lower()
    place = data.get("root") or data.get("val_root")
    size = data.get("image_size")
    pixels = " × ".join(map(str, reversed(size))) + " px" if isinstance(size, list) else ""
    words = [str(place) if place else f"{name} scenes", pixels]
    return ", ".join(filter(None, words))
