"""View samplers of the evaluation protocols: beyond the context, all between, sparse in time, nested contexts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from typing_extensions import override

from wnv.data.view_sampling import (
    SceneFrames,
    SpanSampler,
    ViewChoice,
    ViewSampler,
    check_at_least,
    check_room,
    sample_distinct,
    sample_integer,
)


@dataclass(frozen=True, kw_only=True)
class OutsideSampler(SpanSampler):
    """Targets outside the span of the contexts, on either side: the model extrapolates. See `SpanSampler`.

    Args:
        num_target: Target frames, sampled without repetition. The span leaves room for them outside.
        reach: How far outside they may lie, as a fraction of the span.
    """

    num_target: int = 3
    reach: float | int = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, num_target=self.num_target)
        check_room(int(self.reach * self.min_gap), self.num_target, f"reach={self.reach} of min_gap={self.min_gap}")

    @property
    @override
    def _room_outside(self) -> int:
        return self.num_target

    @override
    def choose(self, frames: SceneFrames, generator: torch.Generator, index: int) -> ViewChoice:
        first, last = self._sample_span(frames.num_frames, generator)
        beyond = int(self.reach * (last - first))
        before = range(max(0, first - beyond), first)
        after = range(last + 1, min(frames.num_frames - 1, last + beyond) + 1)
        target = sample_distinct([*before, *after], self.num_target, generator)
        return ViewChoice(context=self._context(first, last), target=tuple(sorted(target)))


@dataclass(frozen=True, kw_only=True)
class BetweenSampler(SpanSampler):
    """Every frame between the first and the last context frame but the contexts, as in a video. See `SpanSampler`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_room(self.min_gap + 1 - self.num_context, 1, f"min_gap={self.min_gap}")

    @override
    def choose(self, frames: SceneFrames, generator: torch.Generator, index: int) -> ViewChoice:
        first, last = self._sample_span(frames.num_frames, generator)
        context = self._context(first, last)
        return ViewChoice(context=context, target=tuple(f for f in range(first, last) if f not in context))


@dataclass(frozen=True, kw_only=True)
class SparseSampler(ViewSampler):
    """Contexts at random distances, and targets far from all of them in time.

    With evenly spaced contexts and targets next to them, interpolating frames does well. Here the gaps differ, and a
    target keeps its distance from the contexts in time as well as in place.

    Args:
        num_context: Context frames, at least 2.
        num_target: Target frames, sampled without repetition between the first and the last context.
        min_gap: Smallest number of frames between one context and the next.
        max_gap: Largest such number; limited by the length of the scene.
        min_distance: Fewest frames from a target to any context, at most half of `min_gap`.

    Raises:
        ValueError: If a number is out of range, or the smallest gaps have too little room for the targets.
    """

    num_context: int
    num_target: int
    min_gap: int
    max_gap: int
    min_distance: int = 1

    def __post_init__(self) -> None:
        check_at_least(2, num_context=self.num_context)
        check_at_least(1, num_target=self.num_target)
        if not 1 <= self.min_distance <= self.min_gap // 2 or self.min_gap > self.max_gap:
            raise ValueError(
                "distances must satisfy 1 <= min_distance <= min_gap / 2 and min_gap <= max_gap, got "
                f"min_distance={self.min_distance}, min_gap={self.min_gap} and max_gap={self.max_gap}"
            )
        room = (self.num_context - 1) * (self.min_gap + 1 - 2 * self.min_distance)
        check_room(room, self.num_target, f"min_gap={self.min_gap} with min_distance={self.min_distance}")

    @property
    @override
    def min_frames(self) -> int:
        return (self.num_context - 1) * self.min_gap + 1

    @override
    def choose(self, frames: SceneFrames, generator: torch.Generator, index: int) -> ViewChoice:
        spare = frames.num_frames - self.min_frames
        gaps = []
        for _ in range(self.num_context - 1):
            gap = sample_integer(self.min_gap, min(self.max_gap, self.min_gap + spare), generator)
            spare -= gap - self.min_gap
            gaps.append(gap)
        # Long first gaps leave little for the last ones: shuffled, no place is favoured.
        gaps = sample_distinct(gaps, len(gaps), generator)
        context = [sample_integer(0, frames.num_frames - 1 - sum(gaps), generator)]
        for gap in gaps:
            context.append(context[-1] + gap)
        candidates = [
            frame
            for frame in range(context[0], context[-1])
            if min(abs(frame - other) for other in context) >= self.min_distance
        ]
        target = sample_distinct(candidates, self.num_target, generator)
        return ViewChoice(context=tuple(context), target=tuple(sorted(target)))


@dataclass(frozen=True, kw_only=True)
class NestedSampler(ViewSampler):
    """Some of another sampler's contexts: the same targets from few and from many context views.

    The contexts are nested: the ends first, then repeatedly the context farthest from those taken, in frames.

    Args:
        whole: Chooses the targets and the largest context.
        num_context: How many of its contexts to keep.

    Raises:
        ValueError: If that is less than one.
    """

    whole: ViewSampler
    num_context: int

    def __post_init__(self) -> None:
        check_at_least(1, num_context=self.num_context)

    @property
    @override
    def min_frames(self) -> int:
        return self.whole.min_frames

    @override
    def select_scenes(self, num_frames: Mapping[str, int]) -> list[str]:
        return self.whole.select_scenes(num_frames)

    @override
    def too_short(self, scene_id: str, num_frames: int) -> str:
        return self.whole.too_short(scene_id, num_frames)

    @override
    def num_samples(self, num_frames: int) -> int:
        return self.whole.num_samples(num_frames)

    @override
    def choose(self, frames: SceneFrames, generator: torch.Generator, index: int) -> ViewChoice:
        choice = self.whole.sample(frames, generator, index=index)
        if len(choice.context) < self.num_context:
            raise ValueError(
                f"scene {frames.scene_id!r} has {len(choice.context)} context frames to choose from, fewer than "
                f"views={self.num_context}; take an index with larger contexts, or fewer views"
            )
        return replace(choice, context=tuple(sorted(nesting_order(choice.context)[: self.num_context])))


def nesting_order(frames: Sequence[int]) -> list[int]:
    """Order frames so that each prefix covers the span: the ends, then repeatedly the farthest from all taken."""
    left = sorted(frames)
    order = [left.pop(0)]
    if left:
        order.append(left.pop())
    while left:
        farthest = max(left, key=lambda frame: (min(abs(frame - taken) for taken in order), -frame))
        left.remove(farthest)
        order.append(farthest)
    return order
