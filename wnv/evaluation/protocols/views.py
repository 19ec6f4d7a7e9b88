"""Protocols that differ in which frames are context and which are targets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from wnv.data.datamodule import ExampleDataModule
from wnv.data.evaluation_index import IndexSampler
from wnv.data.protocol_sampling import BetweenSampler, NestedSampler, OutsideSampler
from wnv.data.view_sampling import BoundedSampler, ViewSampler
from wnv.evaluation.protocols.cases import Variant
from wnv.evaluation.protocols.protocol import Protocol, SampledProtocol, check_numbers
from wnv.evaluation.protocols.scenes import open_scenes, scene_variant


class Re10k(Protocol):
    """The common protocol on RealEstate10K: two context views and three targets between them, from an index.

    The published index (pixelSplat, arXiv:2312.12337) lists 7,194 scenes, of which 720 have no frames.

    Args:
        index: JSON file `{scene: {"context": [...], "target": [...]} | null}`.
        num_context: Context views that every scene must have; None accepts any number.
        num_target: Target views that every scene must have; None accepts any number.
    """

    name = "re10k"

    def __init__(self, *, index: str | Path, num_context: int | None = 2, num_target: int | None = 3) -> None:
        self._sampler = _read_index(index, num_context=num_context, num_target=num_target)

    def variants(self, data: ExampleDataModule) -> list[Variant]:
        """Return the only variant: the scenes of the index."""
        return [scene_variant("", data, open_scenes(data, sampler=self._sampler))]


class Re10kContext(Protocol):
    """More context views, with one index per number of views (PRoPE, arXiv:2507.10496).

    The published indices also differ in targets and spans. `Nested` changes the number of views alone.

    Args:
        indices: Number of context views -> JSON file.
    """

    name = "re10k_context"

    def __init__(self, *, indices: Mapping[int, str | Path]) -> None:
        check_numbers("indices", list(indices), at_least=1)
        self._samplers = {n: _read_index(path, num_context=int(n), num_target=None) for n, path in indices.items()}

    def variants(self, data: ExampleDataModule) -> list[Variant]:
        """Return one variant per number of views."""
        return [
            scene_variant(f"views={n}", data, open_scenes(data, sampler=sampler))
            for n, sampler in self._samplers.items()
        ]


class Extrapolate(SampledProtocol):
    """Targets outside the span of the contexts, on either side.

    Args:
        index: JSON file of frames; None samples them.
        num_context: Context frames.
        num_target: Target frames.
        min_gap: Smallest number of frames from the first to the last context.
        max_gap: Largest number of frames from the first to the last context.
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
        sampler = OutsideSampler(
            num_context=num_context, num_target=num_target, min_gap=min_gap, max_gap=max_gap, reach=reach
        )
        super().__init__(index, sampler)


class Video(SampledProtocol):
    """Every frame between the contexts, in order; examples are also written as videos beside the ground truth.

    Args:
        index: JSON file of frames; None samples them.
        num_context: Context frames.
        min_gap: Smallest number of frames from the first to the last context.
        max_gap: Largest number of frames from the first to the last context.
    """

    name = "video"
    makes_films = True

    def __init__(
        self, *, index: str | Path | None = None, num_context: int = 2, min_gap: int = 25, max_gap: int = 192
    ) -> None:
        super().__init__(index, BetweenSampler(num_context=num_context, min_gap=min_gap, max_gap=max_gap))


class Nested(SampledProtocol):
    """A curve over the number of context views: the same targets and span, each context a subset of the next.

    Between variants nothing else changes but the normalisation of the world, which depends on the context cameras.

    Args:
        views: Numbers of context views, each at least 2 because the ends of the span are always included.
        index: JSON file whose contexts have as many frames as the largest of `views`; None samples them.
        num_target: Target frames.
        min_gap: Smallest number of frames from the first to the last context.
        max_gap: Largest number of frames from the first to the last context.
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
        check_numbers("views", views, at_least=2, whole=True)
        self.views = sorted(views)
        self.reference = f"views={self.views[0]}"
        sampler = BoundedSampler(num_context=self.views[-1], num_target=num_target, min_gap=min_gap, max_gap=max_gap)
        super().__init__(index, sampler)

    def variants(self, data: ExampleDataModule) -> list[Variant]:
        """Return one variant per number of views."""
        whole = cast(ViewSampler, self.frames)
        return [
            scene_variant(f"views={n}", data, open_scenes(data, sampler=NestedSampler(whole=whole, num_context=n)))
            for n in self.views
        ]


def _read_index(path: str | Path, *, num_context: int | None, num_target: int | None) -> IndexSampler:
    sampler = IndexSampler(path=path, allow_missing=True, num_context=num_context)
    for scene, choice in sampler.choices.items():
        for part, wanted in (("context", num_context), ("target", num_target)):
            found = len(getattr(choice, part)) or f"every {sampler.target_every}-th"
            if wanted is not None and found != wanted:
                raise ValueError(
                    f"evaluation index {path}, scene {scene!r}: the protocol needs {wanted} {part} frames, got "
                    f"{found}; use another index or set protocol.num_{part} (null accepts any number)"
                )
    return sampler
