"""The report's curves: how metrics went while the runs were trained."""

import math
from collections.abc import Sequence

from wnv.evaluation.report.contents import Contents
from wnv.pages.charts import Line, legend, line_chart
from wnv.pages.markup import Markup, element, foreign
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
        for number, (label, run) in enumerate(zip(contents.labels, contents.runs, strict=True))
        if run.training is not None
    ]
    has_copy = any(run.training is not None and "val/psnr_copy" in run.training.metrics for run in contents.runs)
    reference = Line(name=_COPY, points=(), is_reference=True)
    return [*names, reference] if has_copy else names


def _lines(contents: Contents, metric: str) -> Sequence[Line]:
    lines = []
    references: list[Line] = []
    for number, run in enumerate(contents.runs):
        metrics = {} if run.training is None else run.training.metrics
        points = _finite(metrics.get(metric, []))
        if points:
            lines.append(Line(name=contents.labels[number], points=points, colour=number))
            copied = _finite(metrics.get(_REFERENCE.get(metric, ""), []))
            if copied and not references:
                references.append(Line(name=_COPY, points=copied, is_reference=True))
    return [*references, *lines] if lines else []


def _finite(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Values by how many steps had been done when they were logged."""
    return [(step + 1, value) for step, value in points if math.isfinite(value)]
