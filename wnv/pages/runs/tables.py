"""The report's tables: the runs beside each other, and the scores of every evaluation."""

from collections.abc import Mapping, Sequence

from wnv.evaluation.confidence import Mean
from wnv.evaluation.summary import Summary, VariantSummary
from wnv.evaluation.table import decimals, heading
from wnv.pages.charts import colour_class
from wnv.pages.markup import Content, Markup, element, foreign, join
from wnv.pages.runs.contents import Contents, Task
from wnv.pages.runs.differences import short_names
from wnv.pages.runs.pairs import compare
from wnv.pages.words import note, section

_MAX_COLUMNS = 6  # settings in the table of runs; the others stand below
_VALUE_LENGTH, NAME_LENGTH = 60, 120
_VALIDATION = {"val/psnr": ("val PSNR dB", 2), "val/ssim": ("val SSIM", 4), "val/lpips": ("val LPIPS", 4)}
Cell = tuple[str, Content, str]
"""Heading, content and class of a cell."""


def runs_table(contents: Contents) -> Markup:
    """One row a run: in what it differs from the others, how far it was trained, what it scored."""
    if not contents.runs:
        return section("Runs", "runs", note("There is none."))
    differences = contents.differences
    shown = [*differences][:_MAX_COLUMNS]
    rest = {name: values for name, values in differences.items() if name not in shown}
    rows = [_run_cells(contents, number, shown) for number in range(len(contents.runs))]
    hints = []
    if len(contents.runs) > 1 and not differences:
        hints.append(note("No setting differs between them, as far as their folders tell."))
    if not contents.tasks:
        way = " scores on scenes of your choice, with intervals and pictures."
        hints.append(note("Scores are those of the last validation. ", element("code", "wnv-eval"), way))
    return section("Runs", "runs", _table(rows), *hints, _more_settings(contents, rest) if rest else None)


def _run_cells(contents: Contents, number: int, shown: Sequence[str]) -> list[Cell]:
    run, short = contents.runs[number], short_names([*contents.differences])
    cells: list[Cell] = [("run", run_title(contents, number), "")]
    cells += [(short[name], foreign(contents.differences[name][number], limit=_VALUE_LENGTH), "") for name in shown]
    training = run.training
    if any(other.training is not None for other in contents.runs):
        cells.append(("steps", f"{training.num_steps:,}" if training is not None else "", "number"))
    for metric, (title, digits) in _VALIDATION.items():
        values = [other.training and other.training.last(metric) for other in contents.runs]
        if any(value is not None for value in values):
            value = values[number]
            cells.append((title, "" if value is None else f"{value:.{digits}f}", "number"))
    for task in contents.tasks:
        summary = task.summary(number) if number in task.numbers else None
        is_only = len(contents.tasks) == 1
        for name, metric in task.columns.items():
            if is_only or metric == "psnr":  # the others stand among the scores
                means = {} if summary is None else summary.main.model
                text = _mean(means, metric, name, summary)
                cells.append((name if is_only else f"{task.title}, {name}", text, "number"))
    return cells


def _more_settings(contents: Contents, rest: Mapping[str, Sequence[str]]) -> Markup:
    rows = [
        [("setting", element("code", foreign(name, limit=NAME_LENGTH)), "")]
        + [
            (label, foreign(value, limit=_VALUE_LENGTH), "")
            for label, value in zip(contents.labels, values, strict=True)
        ]
        for name, values in rest.items()
    ]
    words = f"{len(rest)} more settings that differ"
    return element("details", element("summary", words), _table(rows))


def scores(contents: Contents) -> Markup:
    """Every evaluation: its variants, beside the nearest context view copied, and which run is ahead."""
    if not contents.tasks:
        missing = note("No finished evaluation was named; ", element("code", "wnv-eval"), " makes one.")
        return section("Scores", "scores", missing)
    return section("Scores", "scores", *(_task_scores(contents, task) for task in contents.tasks))


def _task_scores(contents: Contents, task: Task) -> Markup:
    rows = []
    for variant in task.variants:
        copied: tuple[Summary, VariantSummary] | None = None
        for number in task.numbers:
            summary = task.summary(number)
            found = next((v for v in summary.variants if v.variant == variant), None)
            if found is None:
                continue
            copied = copied or (summary, found)
            rows.append(_score_cells(contents, task, summary, found, number))
        if copied is not None:
            rows.append(_copy_cells(task, *copied))
    return join(
        element("h3", foreign(task.title, limit=NAME_LENGTH), element("small", foreign(task.data, limit=NAME_LENGTH))),
        _table(rows),
        note("± is half the 95 % confidence interval of the mean. ", _verdict(contents, task)),
    )


def _score_cells(contents: Contents, task: Task, summary: Summary, variant: VariantSummary, number: int) -> list[Cell]:
    cells: list[Cell] = [("run", run_key(contents, number), "")]
    if len(task.variants) > 1:
        cells.insert(1, ("variant", variant.variant, ""))
    cells += [(name, _mean(variant.model, m, name, summary), "number") for name, m in task.columns.items()]
    change = variant.change or {}
    if any(v.change for s in task.summaries for v in s.variants):
        shown = change["psnr"].text(2, sign=True) if "psnr" in change else ""
        cells.append((f"change from {summary.reference}, dB", shown, "number"))
    lead = variant.difference.get("psnr")
    cells.append(("ahead of the copy, dB", "" if lead is None else lead.text(2, sign=True), "number"))
    scenes = f"{variant.num_ahead} of {variant.num_examples}"
    cells.append(("ahead in", scenes + (" (partial)" if variant.is_partial else ""), "number"))
    cells.append(("ms a view", f"{variant.render_ms:.1f}", "number"))
    return cells


def _copy_cells(task: Task, summary: Summary, variant: VariantSummary) -> list[Cell]:
    cells: list[Cell] = [("run", element("span", "nearest context view, copied", class_="quiet"), "copy")]
    if len(task.variants) > 1:
        cells.append(("variant", variant.variant, ""))
    cells += [(name, _mean(variant.copy, m, name, summary), "number") for name, m in task.columns.items()]
    return cells


def _verdict(contents: Contents, task: Task) -> str:
    """Which run has the highest PSNR, and whether that is sure: by the paired difference to the next one."""
    order = sorted(task.numbers, key=lambda number: -task.summary(number).main.model["psnr"].mean)
    if len(order) < 2:
        return ""
    first, second = (contents.evaluation(number, task).variant(task.main_variant) for number in order[:2])
    found = compare(second, first)
    if found is None:
        return "The runs share no example, so they cannot be compared."
    names = [contents.labels[number] for number in order[:2]]
    of_variant = f" of {task.main_variant}" if task.main_variant else ""
    gap = f"{found.difference.text(2, sign=True)} dB, paired over {len(found.pairs)} examples{of_variant}"
    words = "is ahead of" if found.is_sure else "is not surely ahead of"
    return f"{names[0]} has the highest mean, and {words} {names[1]}: {gap}."


def _table(rows: Sequence[Sequence[Cell]]) -> Markup:
    heads = [(name, style) for name, _, style in max(rows, key=len)]
    head = element("tr", *(element("th", name, class_=style or None) for name, style in heads))
    body = []
    for row in rows:
        cells = [element("td", content, data_name=name, class_=style or None) for name, content, style in row]
        cells += [element("td")] * (len(heads) - len(cells))
        body.append(element("tr", *cells))
    return element("div", element("table", element("thead", head), element("tbody", *body)), class_="wide")


def run_title(contents: Contents, number: int) -> Markup:
    """A run's colour and label, and below them where it is, if the label does not say so."""
    name = contents.runs[number].name
    place = element("small", foreign(name, limit=NAME_LENGTH), class_="where")
    return join(run_key(contents, number), place if name != contents.labels[number] else None)


def run_key(contents: Contents, number: int) -> Markup:
    """A run's colour and label."""
    colour = element("span", class_=f"key {colour_class(number)}")
    return element("span", colour, foreign(contents.labels[number], limit=NAME_LENGTH))


def _mean(means: Mapping[str, Mean], metric: str, name: str, summary: Summary | None) -> str:
    """A mean for the column of that name, which is not that of every summary: LPIPS is by different networks."""
    is_its_own = summary is not None and metric in means and heading(metric, summary) == name
    return means[metric].text(decimals(metric)) if is_its_own else ""
