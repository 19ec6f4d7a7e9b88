"""Means with 95 % confidence intervals."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

INTERVAL_METHOD = "95 %, Student's t over examples: mean +- t standard errors"
_NORMAL_95 = 1.959964  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Mean:
    """A mean over examples.

    Attributes:
        mean: The mean of one score per example.
        half_width: Half the width of its 95 % confidence interval; None for a single example.
    """

    mean: float
    half_width: float | None

    def text(self, decimals: int, *, sign: bool = False) -> str:
        """Format as `21.30 ± 0.45`."""
        mean = f"{self.mean:+.{decimals}f}" if sign else f"{self.mean:.{decimals}f}"
        return mean if self.half_width is None else f"{mean} ± {self.half_width:.{decimals}f}"


def mean_of(scores: Sequence[float]) -> Mean:
    """The mean of at least one score, with its confidence interval."""
    half_width = None
    if len(scores) > 1:
        half_width = student_t_95(len(scores) - 1) * statistics.stdev(scores) / math.sqrt(len(scores))
    return Mean(mean=statistics.fmean(scores), half_width=half_width)


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
