"""Metrics over the steps of training, one chart per metric and one line per run."""

import math
from collections.abc import Iterator
from typing import Any

from wnv.pages.charts import Line, line_chart
from wnv.pages.runs.comparison import Comparison

# Metric -> title and whether its axis is logarithmic.
_CHARTS = {
    "val/psnr": ("Validation PSNR, dB", False),
    "val/ssim": ("Validation SSIM", False),
    "val/lpips": ("Validation LPIPS", False),
    "train/loss": ("Training loss", True),
    "val/loss": ("Validation loss", True),
    "train/lr": ("Learning rate", False),
    "train/grad_norm": ("Gradient norm", True),
    "speed/views_per_s": ("Context and target views per second", False),
}
_BASELINES = {"val/psnr": "val/psnr_copy"}


def curves(comparison: Comparison) -> dict[str, Any] | None:
    """The charts and the lines of their legend; None if no run has a training folder."""
    trained = comparison.trained
    if not trained:
        return None
    charts = []
    for metric, (title, log) in _CHARTS.items():
        lines = [*_lines(comparison, metric)]
        baseline = _baseline(comparison, metric)
        if lines:
            shown = [baseline, *lines] if baseline is not None else lines
            charts.append((title, line_chart(shown, x_name="step", label=f"{title}, by step", log=log)))
    legend = [Line(name=comparison.labels[index], points=(), colour=index) for index in trained]
    baseline = _baseline(comparison, "val/psnr")
    return {"charts": charts, "legend": legend if baseline is None else [*legend, baseline]}


def _lines(comparison: Comparison, metric: str) -> Iterator[Line]:
    for index, training in comparison.trained.items():
        points = training.metrics.get(metric, [])
        if any(math.isfinite(value) for _, value in points):
            # Values are logged under the index of their step; the chart shows the number of finished steps.
            finished = [(step + 1, value) for step, value in points]
            yield Line(name=comparison.labels[index], points=finished, colour=index)


def _baseline(comparison: Comparison, metric: str) -> Line | None:
    """The score of the copied nearest view, if it is the same for all runs because they validate on the same scenes."""
    name = _BASELINES.get(metric, "")
    found = [points for training in comparison.trained.values() if (points := training.metrics.get(name))]
    values = [value for points in found for _, value in points]
    if not values or not all(math.isclose(value, values[0], rel_tol=1e-4) for value in values):
        return None
    longest = max(found, key=lambda points: points[-1][0])
    points = [(step + 1, value) for step, value in longest]
    return Line(name="nearest context view, copied", points=points, is_reference=True)
