"""The report on runs: one self-contained HTML page that compares runs and their evaluations."""

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import wnv
from wnv.pages.charts import Dot, colour_class, scatter_chart
from wnv.pages.html import render
from wnv.pages.runs.comparison import Comparison, Task
from wnv.pages.runs.curves import curves
from wnv.pages.runs.examples import ShownExample, embed_image, extremes, shared_examples
from wnv.pages.runs.failures import empty_job, failures
from wnv.pages.runs.paired import compare
from wnv.pages.runs.run import Run
from wnv.pages.runs.run_folders import find_runs
from wnv.pages.runs.table_files import SUFFIXES, file_name, write_tables
from wnv.pages.runs.tables import more_settings, runs_table, scores_table, verdict
from wnv.runtime.atomic import atomic_file
from wnv.training.run_folder import flatten_config

MAX_RUNS = 24
"""Runs with images, and charts of pairs: more would make the page too large to open."""

_NUM_SHARED = 3  # examples shown for every run
_NUM_EXTREMES = 3  # largest gains and losses of a pair of runs
_MAX_LISTED = 200  # examples of a pair of runs


def write_run_report(
    runs: Sequence[str | Path], out: str | Path, *, title: str | None = None, overwrite: bool = False
) -> Path:
    """Write a page that compares runs, and return its path; its tables are also files in `PAGE_tables/`.

    The page needs no other file and no network. It shows the images that `wnv-eval` and `wnv-train` saved; nothing is
    rendered. A run with one evaluation takes about 0.3 MB plus its videos.

    Args:
        runs: Folders of runs, sweeps or evaluations, or folders that contain such. The first run is the one that
            others are compared with.
        out: The page.
        title: Its heading; default: the folders' names.
        overwrite: Whether to replace an existing page.

    Raises:
        FileExistsError: If `out` exists and `overwrite` is False; nothing is read then.
        FileNotFoundError: If a folder does not exist, or contains neither a run nor an evaluation.
        ValueError: If `runs` is empty, or a file cannot be read.
    """
    out = Path(out)
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists; choose another out= or pass overwrite=true")
    found = find_runs(runs)
    comparison = Comparison(found.runs)
    problems: list[tuple[int | str, list[str]]] = [
        (index, failures(run, with_training=index in comparison.trained)) for index, run in enumerate(found.runs)
    ]
    problems += [(str(job), [empty_job(job)]) for job in found.empty_jobs]
    problems += [(str(folder), [error]) for folder, error in found.unreadable.items()]
    anchors = Anchors()
    galleries = [gallery for task in comparison.tasks if (gallery := _gallery(task, anchors))]
    tables = {"runs": runs_table(comparison)}
    scores = []
    for task in comparison.tasks:
        name = f"scores-{file_name(task.title)}"
        name += f"-{len(tables)}" if name in tables else ""
        tables[name] = scores_table(task)
        scores.append((task, name, verdict(comparison, task)))
    files = out.with_name(f"{out.stem}_tables")
    pairs = [(task, run) for task in comparison.tasks for run in [*task.summaries][1:]]
    page = render(
        "runs",
        title=title or _default_title(runs),
        version=wnv.__version__,
        comparison=comparison,
        colours=[colour_class(index) for index in range(len(found.runs))],
        num_evaluations=sum(len(run.evaluations) for run in found.runs),
        max_runs=MAX_RUNS,
        tables=tables,
        files=quote(files.name),
        suffixes=SUFFIXES,
        more_settings=more_settings(comparison),
        scores=scores,
        curves=curves(comparison),
        galleries=galleries,
        sheets=None if galleries else _validation_sheets(comparison),
        pairs=[figure for pair in pairs[:MAX_RUNS] if (figure := _pair(comparison, *pair))],
        num_pairs=len(pairs),
        problems=[(name, messages) for name, messages in problems if messages],
        origins=[(index, lines) for index, run in enumerate(found.runs) if (lines := [*_origin(run)])],
    )
    with atomic_file(out, overwrite=overwrite) as file:
        file.write(page.encode())
    write_tables(files, tables, comparison.labels)
    return out


class Anchors:
    """Ids of the page's elements, each once: `scene-NAME`, then `scene-NAME-2`."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def __call__(self, scene: str) -> str:
        """Make the next id of a scene."""
        name = f"scene-{re.sub(r'[^A-Za-z0-9._-]+', '-', scene)}"
        self._counts[name] += 1
        return name if self._counts[name] == 1 else f"{name}-{self._counts[name]}"


def _default_title(runs: Sequence[str | Path]) -> str:
    names = [Path(run).resolve().name for run in runs]
    return " and ".join(names) if len(names) <= 3 else f"{len(names)} folders"


def _gallery(task: Task, anchors: Anchors) -> dict[str, Any] | None:
    """Examples of a task: the same ones by every run, and the worst, median and best of each run."""
    variant = task.main_variant
    found = {run: extremes(evaluation, variant) for run, evaluation in task.evaluations.items()}
    found = {run: examples for run, examples in found.items() if examples}
    if not found:
        return None
    runs = [*found][:MAX_RUNS]
    shared: list[list[ShownExample]] = []
    if len(runs) > 1:
        shared = shared_examples([task.evaluations[run] for run in runs], variant, count=_NUM_SHARED)
    return {
        "task": task,
        "num_runs": len(found),
        "shared": [(anchors(examples[0].record.scene), list(zip(runs, examples, strict=True))) for examples in shared],
        "shared_keys": {examples[0].record.key for examples in shared},
        "extremes": [(run, [(anchors(e.record.scene), e) for e in found[run]]) for run in runs],
    }


def _validation_sheets(comparison: Comparison) -> dict[str, Any]:
    """The last contact sheet of the validation of each run."""
    found = [(run, file) for run, training in comparison.trained.items() if (file := training.last_sheet)]
    sheets = [(run, file.stem, embed_image(file)) for run, file in found[:MAX_RUNS]]
    return {"num_runs": len(found), "images": [sheet for sheet in sheets if sheet[2]]}


def _pair(comparison: Comparison, task: Task, run: int) -> dict[str, Any] | None:
    """A run against the first one of a task, example by example; None if they share no example."""
    first = next(iter(task.evaluations))
    found = compare(*(task.evaluations[index].variant(task.main_variant) for index in (first, run)))
    if found is None:
        return None
    one, two = comparison.labels[first], comparison.labels[run]
    dots = [Dot(name=pair.scene, x=pair.first, y=pair.second) for pair in found.pairs]
    descending = [*reversed(found.pairs)]
    return {
        "name": two,
        "title": ", ".join(filter(None, [task.title, task.main_variant])),
        "chart": scatter_chart(dots, x_name=f"{one}, dB", y_name=f"{two}, dB", label=f"{two} against {one}"),
        "gap": found.difference.text(2, sign=True),
        "num_higher": found.num_higher,
        "num_pairs": len(found.pairs),
        "lists": {
            "largest gains": [pair for pair in descending[:_NUM_EXTREMES] if pair.gain > 0],
            "largest losses": [pair for pair in found.pairs[:_NUM_EXTREMES] if pair.gain < 0],
            f"all {len(descending)}": descending if len(descending) <= _MAX_LISTED else [],
        },
    }


def _origin(run: Run) -> Iterator[tuple[str, str]]:
    """Commands, versions, devices and settings of a run and its evaluations."""
    for start in run.training.starts if run.training is not None else ():
        command = start.get("command")
        if isinstance(command, list) and command:
            yield "command", shlex.join([Path(str(command[0])).name, *map(str, command[1:])])
        yield "started", _facts(start, ("date", "device", "devices", "version", "commit", "torch"))
    for evaluation in run.evaluations:
        environment = {} if evaluation.summary is None else evaluation.summary.environment
        facts = _facts(environment, ("date", "device", "version", "commit", "torch"))
        yield "evaluated", ", ".join(filter(None, [str(evaluation.folder), evaluation.weights, facts]))
        for path, digest in environment.get("index_sha256", {}).items():
            yield "index", f"{path}, SHA-256 {digest}"
    for name, value in sorted(flatten_config(run.config).items()):
        yield name, str(value)


def _facts(source: Mapping[str, Any], names: Sequence[str]) -> str:
    return ", ".join(f"{name} {source[name]}" for name in names if source.get(name) is not None)
