"""The report's pairs: each run against the first one, scene by scene."""

from collections.abc import Sequence

from wnv.pages.charts import Dot, scatter_chart
from wnv.pages.markup import Markup, element, foreign
from wnv.pages.runs.contents import MAX_RUNS, Contents, Task
from wnv.pages.runs.pairs import Comparison, Pair, compare
from wnv.pages.runs.tables import NAME_LENGTH
from wnv.pages.words import note, section

_NUM_EXTREMES = 3
_MAX_LISTED = 200


def pair_charts(contents: Contents) -> Markup | None:
    """For every task of several runs a scatter chart a run, against the first one; None where there is no such task."""
    pairs = [(task, task.numbers[0], other) for task in contents.tasks for other in task.numbers[1:]]
    compared = ((pair, _compare(contents, *pair)) for pair in pairs[:MAX_RUNS])
    figures = [_figure(contents, found, *pair) for pair, found in compared if found is not None]
    if not figures:
        return None
    words = (
        "A dot is an example: across its PSNR by the run that was named first, upwards by another one. Above the "
        "diagonal the other one is better."
    )
    left_out = note(f"The first {MAX_RUNS} pairs are shown, of {len(pairs)}.") if len(pairs) > MAX_RUNS else None
    return section("Scene by scene", "pairs", note(words), left_out, element("div", *figures, class_="figures"))


def _compare(contents: Contents, task: Task, first: int, other: int) -> Comparison | None:
    evaluations = [contents.evaluation(number, task) for number in (first, other)]
    return compare(*(evaluation.variant(task.main_variant) for evaluation in evaluations))


def _figure(contents: Contents, found: Comparison, task: Task, first: int, other: int) -> Markup:
    one, two = contents.labels[first], contents.labels[other]
    gap = found.difference.text(2, sign=True)
    dots = [Dot(name=pair.scene, x=pair.one, y=pair.other) for pair in found.pairs]
    order = sorted(found.pairs, key=lambda pair: pair.other - pair.one)
    gains = [pair for pair in reversed(order[-_NUM_EXTREMES:]) if pair.other > pair.one]
    losses = [pair for pair in order[:_NUM_EXTREMES] if pair.other < pair.one]
    title = f"{task.title}{f', {task.main_variant}' if task.main_variant else ''}"
    return element(
        "figure",
        element("figcaption", foreign(two, limit=NAME_LENGTH), element("small", foreign(title, limit=NAME_LENGTH))),
        scatter_chart(dots, x_name=f"{one}, dB", y_name=f"{two}, dB", label=f"{two} against {one}"),
        note(element("b", f"{gap} dB"), f", higher in {found.num_higher} of {len(found.pairs)}"),
        _list("most gained", gains),
        _list("most lost", losses),
        _list(f"all {len(order)}", [*reversed(order)]) if len(order) <= _MAX_LISTED else None,
    )


def _list(title: str, pairs: Sequence[Pair]) -> Markup | None:
    if not pairs:
        return None
    entries = (
        element(
            "li",
            element("b", f"{pair.other - pair.one:+.2f} dB"),
            foreign(pair.scene, limit=NAME_LENGTH),
            element("small", f"{pair.one:.2f} and {pair.other:.2f}"),
        )
        for pair in pairs
    )
    return element("details", element("summary", title), element("ol", *entries))
