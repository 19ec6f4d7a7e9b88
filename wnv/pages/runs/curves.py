"""The report's curves: how metrics went while the runs were trained."""

import math

from wnv.pages.charts import Line, legend, line_chart
from wnv.pages.markup import Markup, element, foreign
from wnv.pages.runs.contents import Contents
from wnv.pages.words import note, section

# Metric, title, whether on a logarithmic scale; the ones that others know come behind.
_CHARTS = (
    ("val/psnr", "PSNR in validation, dB", False),
    ("val/ssim", "SSIM in validation", False),
    ("val/lpips", "LPIPS in validation", False),
    ("train/loss", "Loss in training", True),
    ("val/loss", "Loss in validation", True),
    ("train/lr", "Learning rate", False),
    ("train/grad_norm", "Length of the gradient", True),
    ("speed/views_per_s", "Target views a second", False),
)
_REFERENCE = {"val/psnr": "val/psnr_copy"}
_OPEN = 3  # charts that are seen at once
_MAX_LABEL = 80
_COPY = "nearest context view, copied"


def curves(contents: Contents) -> Markup | None:
    """A chart a metric, a line a run; None where no run's folder is there."""
    if all(run.training is None for run in contents.runs):
        return None
    figures = []
    for metric, title, log in _CHARTS:
        lines = _lines(contents, metric)
        if lines:
            figures.append(
                element(
                    "figure",
                    element("figcaption", title),
                    line_chart(lines, x_name="step", label=f"{title}, by step", log=log),
                )
            )
    if not figures:
        return section("Curves", "curves", note("No metric was written to a metrics.csv (logger=csv writes it)."))
    rest = element("div", *figures[_OPEN:], class_="figures")
    return section(
        "Curves",
        "curves",
        legend(_names(contents)),
        element("div", *figures[:_OPEN], class_="figures"),
        element("details", element("summary", f"{len(figures) - _OPEN} more"), rest) if figures[_OPEN:] else None,
    )


def _names(contents: Contents) -> list[Line]:
    names = [
        Line(name=foreign(label, limit=_MAX_LABEL), points=(), colour=number)
        for number, label in enumerate(contents.labels)
        if contents.tells_training(number)
    ]
    has_copy = _copied(contents, "val/psnr") is not None
    return [*names, Line(name=_COPY, points=(), is_reference=True)] if has_copy else names


def _lines(contents: Contents, metric: str) -> list[Line]:
    lines = []
    for number, run in enumerate(contents.runs):
        points = run.training.metrics.get(metric, []) if contents.tells_training(number) else []
        if any(math.isfinite(value) for _, value in points):
            # A value is logged under the number of its step, from 0: here stands how many steps had been done.
            done = [(step + 1, value) for step, value in points]
            lines.append(Line(name=contents.labels[number], points=done, colour=number))
    copied = _copied(contents, metric)
    return [copied, *lines] if copied is not None and lines else lines


def _copied(contents: Contents, metric: str) -> Line | None:
    """What copying scores, where that is the same for all runs: where they validate on the same scenes."""
    name = _REFERENCE.get(metric)
    trainings = [run.training for run in contents.runs if run.training is not None]
    found = [points for training in trainings if (points := training.metrics.get(name or ""))]
    values = [value for points in found for _, value in points]
    if not values or not all(math.isclose(value, values[0], rel_tol=1e-4) for value in values):
        return None
    longest = max(found, key=lambda points: points[-1][0])
    return Line(name=_COPY, points=[(step + 1, value) for step, value in longest], is_reference=True)
