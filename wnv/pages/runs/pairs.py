"""Two evaluations side by side, example by example."""

from collections.abc import Sequence
from dataclasses import dataclass

from wnv.evaluation.confidence import Mean, mean_of
from wnv.evaluation.records import SceneRecord

_MIN_PAIRS = 10


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One example under two models.

    Attributes:
        scene: Its scene.
        variant: The protocol's variant.
        one: The first model's score.
        other: The second one's.
    """

    scene: str
    variant: str
    one: float
    other: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two models on the examples that both were scored on.

    Attributes:
        pairs: The examples, in the order of the first evaluation.
        difference: Of the second model's scores minus the first one's; paired, which is surer than the difference of
            two means.
        num_higher: Examples in which the second one's score is the higher one.
    """

    pairs: Sequence[Pair]
    difference: Mean
    num_higher: int

    @property
    def is_sure(self) -> bool:
        """Whether the second model is better beyond doubt; never by a few examples, whose scores need not be normal."""
        half = self.difference.half_width
        return len(self.pairs) >= _MIN_PAIRS and half is not None and self.difference.mean > half


def compare(one: Sequence[SceneRecord], other: Sequence[SceneRecord], *, metric: str = "psnr") -> Comparison | None:
    """Compare two evaluations by a metric; None if they share no example of which both have a score."""
    partners = {(record.key, record.scene): record.mean("model", metric) for record in other}
    pairs = []
    for record in one:
        mine, theirs = record.mean("model", metric), partners.get((record.key, record.scene))
        if mine is not None and theirs is not None:
            pairs.append(Pair(scene=record.scene, variant=record.variant, one=mine, other=theirs))
    if not pairs:
        return None
    return Comparison(
        pairs=pairs,
        difference=mean_of([pair.other - pair.one for pair in pairs]),
        num_higher=sum(pair.other > pair.one for pair in pairs),
    )
