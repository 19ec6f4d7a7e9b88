"""Choices of frames that evaluation asks for: beyond the context, all between, nested contexts, sparse in time."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from wnv.data.view_sampling import (
    SceneFrames,
    ViewChoice,
    ViewSampler,
    check_counts,
    sample_distinct,
    sample_integer,
    spread_evenly,
)


@dataclass(frozen=True, kw_only=True)
class SpanSampler(ViewSampler):
    """What the samplers here share: context frames spread evenly over a span of random length at a random place.

    Args:
        num_context: Context frames, at least 2; the first and the last are the ends of the span.
        min_gap: Smallest distance between the first and the last context frame, in frames of the scene file.
        max_gap: Largest such distance; cut to the length of a shorter scene.

    Raises:
        ValueError: If a number is out of its range.
    """

    num_context: int = 2
    min_gap: int
    max_gap: int

    def __post_init__(self) -> None:
        if self.num_context < 2:
            raise ValueError(f"num_context must be at least 2, the ends of a span of frames, got {self.num_context}")
        if not self.num_context - 1 <= self.min_gap <= self.max_gap:
            raise ValueError(
                f"gaps must satisfy num_context - 1 = {self.num_context - 1} <= min_gap <= max_gap, got {self.min_gap} "
                f"and {self.max_gap}"
            )

    @property
    def min_frames(self) -> int:
        """Room for the smallest span and what lies outside it."""
        return self.min_gap + 1 + self._room_outside

    @property
    def _room_outside(self) -> int:
        return 0

    def _sample_span(self, frames: SceneFrames, generator: torch.Generator) -> tuple[int, int]:
        """First frame and length of the span."""
        last = frames.num_frames - 1 - self._room_outside
        if last < self.min_gap:
            raise ValueError(
                f"scene {frames.scene_id!r} has {frames.num_frames} frames, fewer than the {self.min_frames} that "
                f"min_gap={self.min_gap} needs; lower min_gap, or leave the scene out"
            )
        gap = sample_integer(self.min_gap, min(self.max_gap, last), generator)
        return sample_integer(0, frames.num_frames - 1 - gap, generator), gap

    def _context(self, first: int, gap: int) -> tuple[int, ...]:
        return tuple(first + index for index in spread_evenly(gap + 1, self.num_context))


@dataclass(frozen=True, kw_only=True)
class OutsideSampler(SpanSampler):
    """Targets outside the span of the contexts, on either side: a model has to extrapolate.

    Args:
        num_context: As of `SpanSampler`.
        min_gap: As of `SpanSampler`.
        max_gap: As of `SpanSampler`; cut where a scene is too short to have targets outside.
        num_target: Target frames, drawn without repetition.
        reach: How far outside they may lie, as a fraction of the span.

    Raises:
        ValueError: If a number is out of its range, or there is no room for the targets outside the smallest span.
    """

    num_target: int = 3
    reach: float | int = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self.num_context, self.num_target)
        if int(self.reach * self.min_gap) < self.num_target:
            raise ValueError(
                f"reach={self.reach} of min_gap={self.min_gap} is {int(self.reach * self.min_gap)} frames, fewer than "
                f"num_target={self.num_target}; raise reach or min_gap"
            )

    @property
    def _room_outside(self) -> int:
        return self.num_target

    def sample(self, frames: SceneFrames, generator: torch.Generator, *, index: int = 0) -> ViewChoice:
        """Draw a span and targets before and after it."""
        first, gap = self._sample_span(frames, generator)
        beyond, end = int(self.reach * gap), first + gap
        before = range(max(0, first - beyond), first)
        after = range(end + 1, min(frames.num_frames - 1, end + beyond) + 1)
        target = sample_distinct([*before, *after], self.num_target, generator)
        return ViewChoice(context=self._context(first, gap), target=tuple(sorted(target)))


@dataclass(frozen=True, kw_only=True)
class BetweenSampler(SpanSampler):
    """Every frame between the first and the last context frame, the contexts left out: what a video shows.

    Args:
        num_context: As of `SpanSampler`.
        min_gap: As of `SpanSampler`; larger than num_context - 1, so that there are frames between.
        max_gap: As of `SpanSampler`.

    Raises:
        ValueError: If a number is out of its range.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_gap < self.num_context:
            raise ValueError(
                f"min_gap must be at least num_context = {self.num_context}, so that frames lie between the contexts, "
                f"got {self.min_gap}"
            )

    def sample(self, frames: SceneFrames, generator: torch.Generator, *, index: int = 0) -> ViewChoice:
        """Draw a span; the rest follows."""
        first, gap = self._sample_span(frames, generator)
        context = self._context(first, gap)
        return ViewChoice(context=context, target=tuple(f for f in range(first, first + gap) if f not in context))


@dataclass(frozen=True, kw_only=True)
class WithinSampler(BetweenSampler):
    """A few of the frames between the contexts, drawn without repetition; contexts may then be thinned out.

    Args:
        num_context: As of `SpanSampler`.
        min_gap: As of `SpanSampler`; with room for the targets between the contexts.
        max_gap: As of `SpanSampler`.
        num_target: Target frames.

    Raises:
        ValueError: If a number is out of its range.
    """

    num_target: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self.num_context, self.num_target)
        if self.min_gap + 1 - self.num_context < self.num_target:
            raise ValueError(
                f"min_gap={self.min_gap} leaves {self.min_gap + 1 - self.num_context} frames between "
                f"{self.num_context} contexts, fewer than num_target={self.num_target}; raise min_gap"
            )

    def sample(self, frames: SceneFrames, generator: torch.Generator, *, index: int = 0) -> ViewChoice:
        """Draw a span and targets in it."""
        choice = super().sample(frames, generator, index=index)
        return replace(choice, target=tuple(sorted(sample_distinct(choice.target, self.num_target, generator))))


@dataclass(frozen=True, kw_only=True)
class SparseSampler(ViewSampler):
    """Contexts a random number of frames apart, and targets in time far from all of them.

    Evenly spaced contexts with targets just beside them can be met by interpolating frames. Here the gaps differ, and
    a target keeps its distance from the contexts in time as well as in place.

    Args:
        num_context: Context frames, at least 2.
        num_target: Target frames, drawn without repetition between the first and the last context.
        min_gap: Smallest number of frames between one context and the next.
        max_gap: Largest such number; shorter where a scene has no room.
        min_distance: Fewest frames from a target to any context, at most half of `min_gap`.

    Raises:
        ValueError: If a number is out of its range, or the smallest gaps have no room for the targets.
    """

    num_context: int
    num_target: int
    min_gap: int
    max_gap: int
    min_distance: int = 1

    def __post_init__(self) -> None:
        check_counts(self.num_context, self.num_target)
        if self.num_context < 2:
            raise ValueError(f"num_context must be at least 2, so that there is a gap, got {self.num_context}")
        if not 1 <= self.min_distance <= self.min_gap // 2 or self.min_gap > self.max_gap:
            raise ValueError(
                "distances must satisfy 1 <= min_distance <= min_gap / 2 and min_gap <= max_gap, got "
                f"min_distance={self.min_distance}, min_gap={self.min_gap} and max_gap={self.max_gap}"
            )
        room = (self.num_context - 1) * (self.min_gap + 1 - 2 * self.min_distance)
        if room < self.num_target:
            raise ValueError(
                f"min_gap={self.min_gap} with min_distance={self.min_distance} leaves room for {room} targets between "
                f"{self.num_context} contexts, num_target={self.num_target} were asked for; raise min_gap"
            )

    @property
    def min_frames(self) -> int:
        """Room for the smallest gaps."""
        return (self.num_context - 1) * self.min_gap + 1

    def sample(self, frames: SceneFrames, generator: torch.Generator, *, index: int = 0) -> ViewChoice:
        """Draw gaps, a place and targets."""
        spare = frames.num_frames - self.min_frames
        if spare < 0:
            raise ValueError(
                f"scene {frames.scene_id!r} has {frames.num_frames} frames, fewer than the {self.min_frames} that "
                f"{self.num_context} contexts with min_gap={self.min_gap} need; lower them, or leave the scene out"
            )
        gaps = []
        for _ in range(self.num_context - 1):
            gap = sample_integer(self.min_gap, min(self.max_gap, self.min_gap + spare), generator)
            spare -= gap - self.min_gap
            gaps.append(gap)
        # What was left for the last gaps is little where the first ones were long; none is favoured by its place.
        gaps = sample_distinct(gaps, len(gaps), generator)
        context = [sample_integer(0, frames.num_frames - 1 - sum(gaps), generator)]
        for gap in gaps:
            context.append(context[-1] + gap)
        candidates = [
            frame
            for frame in range(context[0], context[-1])
            if min(abs(frame - given) for given in context) >= self.min_distance
        ]
        target = sample_distinct(candidates, self.num_target, generator)
        return ViewChoice(context=tuple(context), target=tuple(sorted(target)))


@dataclass(frozen=True, kw_only=True)
class NestedSampler(ViewSampler):
    """Part of another sampler's contexts: the same targets with few and with many views given.

    The parts are nested: the ends first, then always the context farthest from those that are taken, in frames.

    Args:
        whole: Chooses targets and the largest context.
        num_context: How many of its contexts are given.

    Raises:
        ValueError: If there is less than one.
    """

    whole: ViewSampler
    num_context: int

    def __post_init__(self) -> None:
        check_counts(self.num_context, 1)

    @property
    def min_frames(self) -> int:
        """As many as the whole needs."""
        return self.whole.min_frames

    def select_scenes(self, available: list[str]) -> list[str]:
        """As the whole selects."""
        return self.whole.select_scenes(available)

    def check_frames(self, num_frames: Mapping[str, int]) -> None:
        """As the whole does."""
        self.whole.check_frames(num_frames)

    def num_samples(self, num_frames: int) -> int:
        """As many as the whole's."""
        return self.whole.num_samples(num_frames)

    def sample(self, frames: SceneFrames, generator: torch.Generator, *, index: int = 0) -> ViewChoice:
        """The whole's choice, with part of its context in the order of the frames."""
        choice = self.whole.sample(frames, generator, index=index)
        if len(choice.context) < self.num_context:
            raise ValueError(
                f"scene {frames.scene_id!r} has {len(choice.context)} context frames to choose from, fewer than "
                f"views={self.num_context}; take an index with larger contexts, or fewer views"
            )
        return replace(choice, context=tuple(sorted(nesting_order(choice.context)[: self.num_context])))


def nesting_order(frames: tuple[int, ...]) -> list[int]:
    """Frames so ordered that any number of the first ones covers the span: the ends, then the farthest from all."""
    left = sorted(frames)
    order = [left.pop(0)]
    if left:
        order.append(left.pop())
    while left:
        farthest = max(left, key=lambda frame: (min(abs(frame - taken) for taken in order), -frame))
        left.remove(farthest)
        order.append(farthest)
    return order
