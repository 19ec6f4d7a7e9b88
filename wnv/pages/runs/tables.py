"""Tables of the runs and of their scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from wnv.evaluation.confidence import Mean
from wnv.evaluation.summary import Summary, VariantSummary
from wnv.evaluation.table import decimals, heading
from wnv.pages.html import duration
from wnv.pages.runs.comparison import Comparison, Task
from wnv.pages.runs.differences import short_names
from wnv.pages.runs.paired import MIN_PAIRS, compare

COPIED = "nearest context view, copied"
_MAX_SETTINGS = 6  # in the table of runs; the others get a table of their own
_VALIDATION = {"val/psnr": ("val PSNR dB", 2), "val/ssim": ("val SSIM", 4), "val/lpips": ("val LPIPS", 4)}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table: its heading, its text per row, and the class of its cells."""

    name: str
    cells: Sequence[str]
    style: str = "number"
    values: Sequence[Mean | float | int | None] = ()
    """The numbers behind the text, if it is made of numbers; None for an empty cell."""

    def sort_key(self, row: int) -> float | int | None:
        """The number to sort a row by; None to sort by its text."""
        value = self.values[row] if self.values else None
        return value.mean if isinstance(value, Mean) else value


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with one row per run, or per variant and run."""

    runs: Sequence[int | None]
    """Index of the run per row; None in rows of the copied nearest view."""
    columns: Sequence[Column]


@dataclass(frozen=True, kw_only=True)
class _ScoreRow:
    """A row of a table of scores: a variant of a run, or the copied nearest view if `run` is None."""

    run: int | None
    variant: VariantSummary
    summary: Summary

    @property
    def means(self) -> Mapping[str, Mean]:
        return self.variant.copy if self.run is None else self.variant.model


def runs_table(comparison: Comparison) -> Table:
    """One row per run: the settings in which runs differ, the size, the training, the scores."""
    short = short_names([*comparison.differences])
    settings = [*comparison.differences.items()][:_MAX_SETTINGS]
    columns = [Column(name=short[name], cells=values, style="") for name, values in settings]
    trainings = [run.training for run in comparison.runs]
    facts = [
        _numbers("parameters", [run.num_parameters for run in comparison.runs], "{:,.0f}".format),
        _numbers("steps", [t.num_steps if t else None for t in trainings], "{:,.0f}".format),
        _numbers("training time", [t.seconds if t else None for t in trainings], duration),
    ]
    for metric, (title, digits) in _VALIDATION.items():
        facts.append(_numbers(title, [t.last(metric) if t else None for t in trainings], f"{{:.{digits}f}}".format))
    columns += [column for column in facts if any(column.cells)]
    is_only = len(comparison.tasks) == 1
    for task in comparison.tasks:
        for name, metric in task.columns.items():
            if is_only or metric == "psnr":  # the other metrics are in the tables of scores
                summaries = [task.summaries.get(index) for index in range(len(comparison.runs))]
                means = [_mean(s.main.model, metric, name, s) if s else None for s in summaries]
                columns.append(_means(name if is_only else f"{task.title}, {name}", means, decimals(metric)))
    return Table(runs=range(len(comparison.runs)), columns=columns)


def more_settings(comparison: Comparison) -> Mapping[str, Sequence[str]]:
    """Setting -> value per run, for settings that `runs_table` has no room for."""
    return dict([*comparison.differences.items()][_MAX_SETTINGS:])


def scores_table(task: Task) -> Table:
    """One row per variant and run, and per variant one of the copied nearest context view."""
    rows: list[_ScoreRow] = []
    for name in task.variants:
        found = [
            _ScoreRow(run=run, variant=variant, summary=summary)
            for run, summary in task.summaries.items()
            for variant in summary.variants
            if variant.variant == name
        ]
        rows += [*found, _ScoreRow(run=None, variant=found[0].variant, summary=found[0].summary)]
    own = [None if row.run is None else row.variant for row in rows]  # the copy has scores alone

    def gains(name: str, means: Callable[[VariantSummary], Mapping[str, Mean]]) -> Column:
        return _means(name, [None if variant is None else means(variant).get("psnr") for variant in own], 2, sign=True)

    columns = []
    if len(task.variants) > 1:
        columns.append(Column(name="variant", cells=[row.variant.variant for row in rows], style=""))
    for name, metric in task.columns.items():
        means = [_mean(row.means, metric, name, row.summary) for row in rows]
        columns.append(_means(name, means, decimals(metric)))
    if any(row.variant.change for row in rows):
        reference = next(row.summary.reference for row in rows if row.variant.change)
        columns.append(gains(f"change from {reference}, dB", lambda variant: variant.change or {}))
    columns.append(gains("ahead of the copy, dB", lambda variant: variant.difference))
    ahead = [None if variant is None else variant.num_ahead / variant.num_examples for variant in own]
    columns.append(Column(name="ahead in", cells=[_ahead(variant) for variant in own], values=ahead))
    columns.append(_numbers("ms per view", [v and v.render_ms for v in own], "{:.1f}".format))
    columns.append(_numbers("views/s", [v and v.views_per_s for v in own], "{:.1f}".format))
    return Table(runs=[row.run for row in rows], columns=columns)


def verdict(comparison: Comparison, task: Task) -> str:
    """Name the run with the highest PSNR, and whether its paired difference to the next one is significant."""
    order = sorted(task.summaries, key=lambda run: -task.summaries[run].main.model["psnr"].mean)[:2]
    if len(order) < 2:
        return ""
    best, next_best = (task.evaluations[run].variant(task.main_variant) for run in order)
    found = compare(next_best, best)
    if found is None:
        return "The runs share no example, so they cannot be compared."
    best_name, next_name = (comparison.labels[run] for run in order)
    of_variant = f" of {task.main_variant}" if task.main_variant else ""
    gap = f"{found.difference.text(2, sign=True)} dB, paired over {len(found.pairs)} examples{of_variant}"
    if len(found.pairs) < MIN_PAIRS:
        significance = f"ahead of {next_name} (too few examples to say whether significantly)"
    else:
        significance = f"{'significantly' if found.is_significant else 'not significantly'} ahead of {next_name}"
    return f"{best_name} has the highest mean, {significance}: {gap}."


def _numbers(name: str, values: Sequence[float | int | None], text: Callable[[float], str]) -> Column:
    return Column(name=name, cells=["" if value is None else text(value) for value in values], values=values)


def _means(name: str, means: Sequence[Mean | None], digits: int, *, sign: bool = False) -> Column:
    return Column(name=name, cells=["" if m is None else m.text(digits, sign=sign) for m in means], values=means)


def _mean(means: Mapping[str, Mean], metric: str, name: str, summary: Summary) -> Mean | None:
    """The mean of a metric, if the column is that of the summary's LPIPS network."""
    return means.get(metric) if heading(metric, summary) == name else None


def _ahead(variant: VariantSummary | None) -> str:
    if variant is None:
        return ""
    return f"{variant.num_ahead} of {variant.num_examples}" + (" (partial)" if variant.is_partial else "")
