"""Records of many examples as a few numbers, with how sure they are."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from wnv.evaluation.records import SceneRecord

NORMAL_95 = 1.959964  # 97.5 % quantile of the normal distribution
INTERVAL_METHOD = "95 %, normal approximation over examples: mean +- 1.96 standard errors"
HEADINGS = {"psnr": ("PSNR dB", 2), "ssim": ("SSIM", 4)}  # how a metric is headed, and its decimals


@dataclass(frozen=True)
class Mean:
    """A mean over examples.

    Attributes:
        mean: The mean of the scores, one an example.
        half_width: Half the width of the 95 % confidence interval of the mean; None for a single example.
    """

    mean: float
    half_width: float | None

    def text(self, decimals: int, *, sign: bool = False) -> str:
        """The mean with its interval, for a table."""
        shown = f"{self.mean:+.{decimals}f}" if sign else f"{self.mean:.{decimals}f}"
        return shown if self.half_width is None else f"{shown} ± {self.half_width:.{decimals}f}"


@dataclass(frozen=True)
class Summary:
    """An evaluation in numbers.

    Attributes:
        num_examples: Examples (one context with its targets) that were scored; the scores are means over them.
        num_scenes: Different scenes among them.
        num_views: Target views that were drawn.
        model: Metric -> the model's score.
        copy: Metric -> the score of the nearest context view copied.
        difference: Metric -> model minus copy, paired by example, which is surer than either.
        num_ahead: Examples whose PSNR is higher than the copy's.
        num_capped: Views counted as the cap of the PSNR (100 dB) because they were equal to the truth or nearly so.
        encode_ms: Median milliseconds to encode a scene.
        render_ms: Median milliseconds to draw a view from an encoded scene.
        settings: What the numbers depend on: weights, data, sizes.
        provenance: When, where and with which version they were made.
    """

    num_examples: int
    num_scenes: int
    num_views: int
    model: Mapping[str, Mean]
    copy: Mapping[str, Mean]
    difference: Mapping[str, Mean]
    num_ahead: int
    num_capped: int
    encode_ms: float
    render_ms: float
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The summary in JSON values."""
        return {**asdict(self), "interval": INTERVAL_METHOD}

    def table(self, *, name: str = "model") -> str:
        """The summary as lines of text; `name` is what the model's row is called."""
        metrics = list(self.model)
        rows = [["", *(HEADINGS.get(metric, (metric, 4))[0] for metric in metrics)]]
        for title, means, sign in (
            (name, self.model, False),
            ("nearest context view", self.copy, False),
            ("difference", self.difference, True),
        ):
            rows.append([title, *(means[m].text(HEADINGS.get(m, (m, 4))[1], sign=sign) for m in metrics)])
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
            for row in rows
        ]
        lines.insert(1, "-" * len(lines[0]))
        examples = _count(self.num_scenes, "scene")
        if self.num_examples != self.num_scenes:
            examples = f"{_count(self.num_examples, 'example')} from {examples}"
        lines.append("")
        lines.append(
            f"{examples}, {_count(self.num_views, 'target view')}; {name} is ahead in {self.num_ahead} of "
            f"{self.num_examples}."
        )
        if self.num_examples > 1:
            lines.append("± is half the 95 % confidence interval of the mean.")
        if self.num_capped:
            lines.append(f"{_count(self.num_capped, 'view')} equal to the truth or nearly so, counted as 100 dB.")
        lines.append(
            f"Encoding a scene takes {self.encode_ms:.1f} ms, drawing a view from it {self.render_ms:.1f} ms"
            f" ({self.provenance.get('device', 'unknown device')})."
        )
        return "\n".join(lines)


def summarize(
    records: Sequence[SceneRecord],
    *,
    settings: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Summary:
    """Average records, each example counting the same however many target views it has.

    Raises:
        ValueError: If there is no record.
    """
    if not records:
        raise ValueError("no scene was evaluated: the data set is empty")
    metrics = list(records[0].model)
    difference = {
        metric: _mean([record.mean("model", metric) - record.mean("copy", metric) for record in records])
        for metric in metrics
    }
    return Summary(
        num_examples=len(records),
        num_scenes=len({record.scene for record in records}),
        num_views=sum(len(record.target_times) for record in records),
        model={metric: _mean([record.mean("model", metric) for record in records]) for metric in metrics},
        copy={metric: _mean([record.mean("copy", metric) for record in records]) for metric in metrics},
        difference=difference,
        num_ahead=sum(record.mean("model", "psnr") > record.mean("copy", "psnr") for record in records),
        num_capped=sum(record.num_capped for record in records),
        encode_ms=statistics.median(record.encode_ms for record in records),
        render_ms=statistics.median(record.render_ms for record in records),
        settings=dict(settings or {}),
        provenance=dict(provenance or {}),
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _mean(values: Sequence[float]) -> Mean:
    half_width = NORMAL_95 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Mean(mean=statistics.fmean(values), half_width=half_width)
