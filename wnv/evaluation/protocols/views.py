"""Protocols that differ in which frames are given and which are drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from wnv.data.datamodule import ExampleDataModule
from wnv.data.evaluation_index import IndexSampler
from wnv.data.protocol_sampling import BetweenSampler, NestedSampler, OutsideSampler, WithinSampler
from wnv.data.view_sampling import ViewSampler
from wnv.evaluation.protocols.case import Variant
from wnv.evaluation.protocols.protocol import Protocol, check_numbers, index_or, join_numbers, scene_variant
from wnv.evaluation.protocols.scenes import open_scenes


class Re10k(Protocol):
    """The field's protocol on RealEstate10K: two views given, three between them drawn, as an index says.

    The published index (pixelSplat, arXiv:2312.12337) lists 7,194 scenes, of which 720 have no frames.

    Args:
        index: JSON file `{scene: {"context": [...], "target": [...]} | null}`.
        num_context: Context views that every scene must have; None takes what there is.
        num_target: Target views that every scene must have; None takes what there is.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no evaluation index, or has other numbers of views.
    """

    name = "re10k"

    def __init__(self, *, index: str | Path, num_context: int | None = 2, num_target: int | None = 3) -> None:
        self._sampler = _read_index(index, num_context=num_context, num_target=num_target)

    def variants(self, data: ExampleDataModule) -> list[Variant]:
        """One, with the scenes of the index."""
        return [scene_variant("", data, open_scenes(data, sampler=self._sampler))]


class Re10kContext(Protocol):
    """More views given, by an index for each number of views (PRoPE, arXiv:2507.10496).

    The published files differ in targets and spans, too: what changes from one variant to the next is not the number
    of views alone. `nested` changes nothing else.

    Args:
        indices: Number of context views -> JSON file.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If none is given, or one has another number of context views.
    """

    name = "re10k_context"

    def __init__(self, *, indices: Mapping[int, str | Path]) -> None:
        views = join_numbers("indices", list(indices), least=1)
        self._samplers = {n: _read_index(indices[n], num_context=int(n), num_target=None) for n in views}

    def variants(self, data: ExampleDataModule) -> list[Variant]:
        """One a number of views."""
        return [
            scene_variant(f"views={n}", data, open_scenes(data, sampler=sampler))
            for n, sampler in self._samplers.items()
        ]


class Extrapolate(Protocol):
    """Targets outside the span of the contexts, on either side.

    Args:
        index: JSON file of frames; None draws them by the other settings.
        num_context: Context frames.
        num_target: Target frames.
        min_gap: Fewest frames from the first to the last context.
        max_gap: Most frames from the first to the last context.
        reach: How far outside targets may lie, as a fraction of the gap.
    """

    name = "extrapolate"

    def __init__(
        self,
        *,
        index: str | Path | None = None,
        num_context: int = 2,
        num_target: int = 3,
        min_gap: int = 16,
        max_gap: int = 96,
        reach: float | int = 0.5,
    ) -> None:
        self._index = index
        self._sampler = OutsideSampler(
            num_context=num_context, num_target=num_target, min_gap=min_gap, max_gap=max_gap, reach=reach
        )

    def variants(self, data: ExampleDataModule) -> list[Variant]:
        """One."""
        return [scene_variant("", data, open_scenes(data, sampler=index_or(self._index, self._sampler)))]

    def sampler(self, data: ExampleDataModule) -> ViewSampler:
        """Targets outside."""
        return self._sampler


class Video(Protocol):
    """Every frame between the contexts, in order; the shown scenes become films beside the truth.

    Args:
        index: JSON file of frames; None draws them by the other settings.
        num_context: Context frames.
        min_gap: Fewest frames from the first to the last context.
        max_gap: Most frames from the first to the last context.
    """

    name = "video"
    makes_films = True

    def __init__(
        self, *, index: str | Path | None = None, num_context: int = 2, min_gap: int = 25, max_gap: int = 192
    ) -> None:
        self._index = index
        self._sampler = BetweenSampler(num_context=num_context, min_gap=min_gap, max_gap=max_gap)

    def variants(self, data: ExampleDataModule) -> list[Variant]:
        """One."""
        return [scene_variant("", data, open_scenes(data, sampler=index_or(self._index, self._sampler)))]

    def sampler(self, data: ExampleDataModule) -> ViewSampler:
        """All frames between."""
        return self._sampler


class Nested(Protocol):
    """A curve over the number of views given: the same targets in the same span, each context part of the next.

    With one view more, nothing else changes but the frame that the world is normalised into, which looks at the
    context's cameras.

    Args:
        views: Numbers of context views, at least 2 each: the ends of the span are always given.
        index: JSON file whose contexts have as many frames as the largest of `views`; None draws them.
        num_target: Target frames.
        min_gap: Fewest frames from the first to the last context.
        max_gap: Most frames from the first to the last context.

    Raises:
        ValueError: If a number is out of its range.
    """

    name = "nested"

    def __init__(
        self,
        *,
        views: Sequence[int] = (2, 4, 8),
        index: str | Path | None = None,
        num_target: int = 3,
        min_gap: int = 25,
        max_gap: int = 192,
    ) -> None:
        check_numbers("views", views, whole=True)
        self.views = list(join_numbers("views", sorted(views), least=2))
        self.reference = f"views={self.views[0]}"
        self._index = index
        self._sampler = WithinSampler(
            num_context=self.views[-1], num_target=num_target, min_gap=min_gap, max_gap=max_gap
        )

    def variants(self, data: ExampleDataModule) -> list[Variant]:
        """One a number of views."""
        whole = index_or(self._index, self._sampler)
        return [
            scene_variant(f"views={n}", data, open_scenes(data, sampler=NestedSampler(whole=whole, num_context=n)))
            for n in self.views
        ]

    def sampler(self, data: ExampleDataModule) -> ViewSampler:
        """The largest contexts."""
        return self._sampler


def _read_index(path: str | Path, *, num_context: int | None, num_target: int | None) -> IndexSampler:
    sampler = IndexSampler(path=path, allow_missing=True)
    for scene, choice in sampler.choices.items():
        for part, wanted in (("context", num_context), ("target", num_target)):
            found = len(getattr(choice, part))
            if wanted is not None and found != wanted:
                raise ValueError(
                    f"evaluation index {path}, scene {scene!r}: the protocol wants {wanted} {part} frames, got "
                    f"{found}; take another index, or set protocol.num_{part}"
                )
    return sampler
