"""Means with 95 % confidence intervals."""

import math
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass

MIN_EXAMPLES = 5
"""Fewer examples give no interval: of two, Student's t is 13 standard errors, and one odd scene decides."""

INTERVAL_METHOD = f"95 %, Student's t over examples: mean +- t standard errors; none below {MIN_EXAMPLES} examples"
_NORMAL_95 = 1.959964  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Mean:
    """A mean over examples.

    Attributes:
        mean: The mean of one score per example.
        half_width: Half the width of its 95 % confidence interval; None for fewer than `MIN_EXAMPLES`.
        count: Number of examples; None if unknown.
    """

    mean: float
    half_width: float | None
    count: int | None = None

    def text(self, decimals: int, *, sign: bool = False) -> str:
        """Format as `21.30 ± 0.45`, or `21.30 (n=2)` without an interval."""
        mean = f"{self.mean:+.{decimals}f}" if sign else f"{self.mean:.{decimals}f}"
        if self.half_width is not None:
            return f"{mean} ± {self.half_width:.{decimals}f}"
        return mean if self.count is None else f"{mean} (n={self.count})"


def mean_of(scores: Sequence[float]) -> Mean:
    """The mean of at least one score, with its confidence interval."""
    half_width = None
    if len(scores) >= MIN_EXAMPLES:
        half_width = student_t_95(len(scores) - 1) * statistics.stdev(scores) / math.sqrt(len(scores))
    return Mean(mean=statistics.fmean(scores), half_width=half_width, count=len(scores))


def interval_note(counts: Collection[int | None]) -> str:
    """Describe the intervals of means over so many examples."""
    few = sorted({count for count in counts if count is not None and count < MIN_EXAMPLES})
    sizes = ", ".join(f"n={count}" for count in few)
    lines = [f"{sizes}: too few examples for an interval ({MIN_EXAMPLES} needed)."] if few else []
    if not few or any(count is None or count >= MIN_EXAMPLES for count in counts):
        lines.insert(0, "± is half the 95 % confidence interval of the mean.")
    return " ".join(lines)


def student_t_95(freedom: int) -> float:
    """97.5 % quantile of Student's t distribution, within 0.15 %.

    Args:
        freedom: Degrees of freedom, at least 1. From 3 on, a series in their inverse (Abramowitz and Stegun, Handbook
            of Mathematical Functions, 26.7.5).
    """
    if freedom == 1:
        return math.tan(0.475 * math.pi)
    if freedom == 2:
        return 0.95 * math.sqrt(2 / (4 * 0.975 * 0.025))
    z = _NORMAL_95
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))
