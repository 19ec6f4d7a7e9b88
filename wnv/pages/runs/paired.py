"""Paired comparison of two evaluations, example by example."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from wnv.evaluation.confidence import Mean, mean_of
from wnv.evaluation.records import SceneRecord

MIN_PAIRS = 10


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The scores of one example by two models."""

    scene: str
    first: float
    second: float

    @property
    def gain(self) -> float:
        """The second score minus the first."""
        return self.second - self.first


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """Two models on the examples that both scored, from the second's largest loss to its largest gain.

    `difference` is the mean of the second's scores minus the first's: its interval is narrower than that of two means.
    """

    pairs: Sequence[Pair]
    difference: Mean

    @property
    def num_higher(self) -> int:
        """Number of examples in which the second model scores higher."""
        return sum(pair.gain > 0 for pair in self.pairs)

    @property
    def is_significant(self) -> bool:
        """Whether the second model is better at 95 % confidence; never for few pairs, which need not be normal."""
        half = self.difference.half_width
        return len(self.pairs) >= MIN_PAIRS and half is not None and self.difference.mean > half


def compare(first: Sequence[SceneRecord], second: Sequence[SceneRecord]) -> PairedComparison | None:
    """Compare two evaluations by their PSNR; None if they share no scored example."""
    partners = {(record.key, record.scene): record.mean("model", "psnr") for record in second}
    pairs = []
    for record in first:
        one, two = record.mean("model", "psnr"), partners.get((record.key, record.scene))
        if one is not None and two is not None:
            pairs.append(Pair(scene=record.scene, first=one, second=two))
    if not pairs:
        return None
    difference = mean_of([pair.gain for pair in pairs])
    return PairedComparison(pairs=sorted(pairs, key=attrgetter("gain")), difference=difference)
