"""View samplers: which frames of a scene are context and which are targets.

A view sampler is a frozen set of rules. It takes one scene's frames and a generator and returns frame numbers. All
randomness comes from that generator, so the same generator state gives the same choice.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from wnv.geometry.poses import pose_distance


@dataclass(frozen=True)
class SceneFrames:
    """Facts about a scene that a view sampler uses.

    Attributes:
        scene_id: The scene's id.
        num_frames: Number of frames; they are numbered from 0 in the order of time.
        times_s: Time of each frame, in seconds on the clip's clock.
        camtoworld: world<-camera of each frame, in the scene's own units.
    """

    scene_id: str
    num_frames: int
    times_s: Float[Tensor, " frame"]
    camtoworld: Float[Tensor, "frame 4 4"]


@dataclass(frozen=True)
class ViewChoice:
    """Frame numbers of the context and target views."""

    context: tuple[int, ...]
    target: tuple[int, ...]


class ViewSampler(ABC):
    """Rules by which a data set chooses context and target frames."""

    @property
    def min_frames(self) -> int:
        """The fewest frames of a scene that these rules can choose from."""
        return 1

    def select_scenes(self, num_frames: Mapping[str, int]) -> list[str]:
        """Select, in order, the scenes to visit, given the number of frames of each."""
        return list(num_frames)

    def num_samples(self, num_frames: int) -> int:
        """Number of different samples per epoch of a scene with `num_frames` frames."""
        return 1

    def too_short(self, scene_id: str, num_frames: int) -> str:
        """Describe why a scene has too few frames, and which setting to lower."""
        setting = "min_gap" if hasattr(self, "min_gap") else "num_context"
        return (
            f"{type(self).__name__} needs {self.min_frames} frames, scene {scene_id!r} has {num_frames} frames; lower "
            f"{setting}"
        )

    def sample(self, frames: SceneFrames, generator: torch.Generator, *, index: int = 0) -> ViewChoice:
        """Choose frames.

        Args:
            frames: The scene.
            generator: Source of all randomness.
            index: Which of the scene's samples of an epoch, below `num_samples`.

        Raises:
            ValueError: If these rules cannot choose from the scene; names the scene and the setting.
        """
        if frames.num_frames < self.min_frames:
            raise ValueError(f"{self.too_short(frames.scene_id, frames.num_frames)}, or leave the scene out")
        return self.choose(frames, generator, index)

    @abstractmethod
    def choose(self, frames: SceneFrames, generator: torch.Generator, index: int) -> ViewChoice:
        """Choose from a scene with at least `min_frames` frames: what a subclass implements. See `sample`."""


@dataclass(frozen=True, kw_only=True)
class SpanSampler(ViewSampler):
    """Base of samplers whose context is spread evenly over a span of random length at a random position.

    Args:
        num_context: Context frames; the first and the last are the ends of the span.
        min_gap: Smallest distance between the first and the last context frame, in frames of the scene file.
        max_gap: Largest such distance; limited by the length of the scene.

    Raises:
        ValueError: If a number is out of range.
    """

    num_context: int
    min_gap: int
    max_gap: int
    least_context: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_at_least(self.least_context, num_context=self.num_context)
        least = max(1, self.num_context - 1)
        if not least <= self.min_gap <= self.max_gap:
            raise ValueError(
                f"gaps must satisfy max(1, num_context - 1) = {least} <= min_gap <= max_gap, got "
                f"min_gap={self.min_gap} and max_gap={self.max_gap}"
            )

    @property
    @override
    def min_frames(self) -> int:
        return self.min_gap + 1 + self._room_outside

    @property
    def _room_outside(self) -> int:
        return 0

    def _sample_span(self, num_frames: int, generator: torch.Generator) -> tuple[int, int]:
        """First and last frame of the span."""
        gap = sample_integer(self.min_gap, min(self.max_gap, num_frames - 1 - self._room_outside), generator)
        first = sample_integer(0, num_frames - 1 - gap, generator)
        return first, first + gap

    def _context(self, first: int, last: int) -> tuple[int, ...]:
        return tuple(first + offset for offset in spread_evenly(last - first + 1, self.num_context))


@dataclass(frozen=True, kw_only=True)
class BoundedSampler(SpanSampler):
    """Context frames a random gap apart, targets between them or a little beyond. See `SpanSampler`.

    A single context frame is either end of the span. Targets are sampled without repetition.

    Args:
        num_target: Target frames, at least 1.
        extrapolate: How far beyond the contexts targets may lie, on either side, as a fraction of the gap.
        allow_context_as_target: Whether a context frame may also be a target.

    Raises:
        ValueError: If a number is out of range or the smallest gap has too little room.
    """

    num_target: int
    extrapolate: float | int = 0.0
    allow_context_as_target: bool = False
    least_context: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, num_target=self.num_target)
        if self.extrapolate < 0:
            raise ValueError(f"extrapolate must be a fraction of the gap, at least 0, got {self.extrapolate}")
        room = self.min_gap + 1 - (0 if self.allow_context_as_target else self.num_context)
        check_room(room, self.num_target, f"min_gap={self.min_gap}")

    @override
    def choose(self, frames: SceneFrames, generator: torch.Generator, index: int) -> ViewChoice:
        first, last = self._sample_span(frames.num_frames, generator)
        if self.num_context == 1:
            context = ((first, last)[sample_integer(0, 1, generator)],)
        else:
            context = self._context(first, last)
        beyond = int(self.extrapolate * (last - first))
        candidates = [
            frame
            for frame in range(max(0, first - beyond), min(frames.num_frames - 1, last + beyond) + 1)
            if self.allow_context_as_target or frame not in context
        ]
        target = sample_distinct(candidates, self.num_target, generator)
        return ViewChoice(context=context, target=tuple(sorted(target)))


@dataclass(frozen=True, kw_only=True)
class TrajectorySampler(ViewSampler):
    """All frames as targets, in order, and context frames spread evenly over them: for videos along a scene.

    Args:
        num_context: Context frames, at least 1; a single one is the middle frame.
    """

    num_context: int

    def __post_init__(self) -> None:
        check_at_least(1, num_context=self.num_context)

    @property
    @override
    def min_frames(self) -> int:
        return self.num_context

    @override
    def choose(self, frames: SceneFrames, generator: torch.Generator, index: int) -> ViewChoice:
        context = tuple(spread_evenly(frames.num_frames, self.num_context))
        return ViewChoice(context=context, target=tuple(range(frames.num_frames)))


@dataclass(frozen=True, kw_only=True)
class HoldoutSampler(ViewSampler):
    """Training and validation on one scene: every n-th frame is held out of training.

    Frames 0, every, 2 * every, ... are held out; the others are the training frames. The nearest frames are those
    with the nearest cameras: distance relative to the spread of the training cameras, plus the angle between the view
    directions in radians.

    - `train`: each training frame is the first target once per epoch; context and further targets are sampled from
      its `num_neighbours` nearest training frames.
    - `val`: each held-out frame is the target once per epoch, with its nearest training frames as context.

    Args:
        num_context: Context frames, at least 1.
        num_target: Target frames, at least 1; exactly 1 for `val`.
        split: `train` or `val`.
        every: Hold out every n-th frame, at least 2.
        num_neighbours: Frames around a target that `train` samples from, at least num_context + num_target - 1.

    Raises:
        ValueError: If a number is out of range.
    """

    num_context: int
    split: Literal["train", "val"]
    num_target: int = 1
    every: int = 8
    num_neighbours: int = 8

    def __post_init__(self) -> None:
        check_at_least(1, num_context=self.num_context, num_target=self.num_target)
        check_at_least(2, every=self.every)
        if self.split not in ("train", "val"):
            raise ValueError(f"split must be 'train' or 'val', got {self.split!r}")
        if self.split == "val" and self.num_target != 1:
            raise ValueError(
                f"num_target must be 1 for split='val', where each target has its own context, got {self.num_target}"
            )
        least = self.num_context + self.num_target - 1
        if self.split == "train" and self.num_neighbours < least:
            raise ValueError(
                f"num_neighbours must be at least num_context + num_target - 1 = {least}, got {self.num_neighbours}"
            )

    @property
    @override
    def min_frames(self) -> int:
        needed = self.num_context + (self.num_target if self.split == "train" else 0)
        groups, rest = divmod(needed - 1, self.every - 1)
        return groups * self.every + rest + 2

    @override
    def num_samples(self, num_frames: int) -> int:
        held_out = len(range(0, num_frames, self.every))
        return held_out if self.split == "val" else num_frames - held_out

    @override
    def choose(self, frames: SceneFrames, generator: torch.Generator, index: int) -> ViewChoice:
        num_samples = self.num_samples(frames.num_frames)
        if not 0 <= index < num_samples:
            raise ValueError(f"scene {frames.scene_id!r}: index must be in 0..{num_samples - 1}, got {index}")
        train = [frame for frame in range(frames.num_frames) if frame % self.every]
        if self.split == "val":
            target = index * self.every
            return ViewChoice(context=tuple(_by_nearness(frames, target, train)[: self.num_context]), target=(target,))
        first = train[index]
        around = _by_nearness(frames, first, [frame for frame in train if frame != first])[: self.num_neighbours]
        others = sample_distinct(around, self.num_context + self.num_target - 1, generator)
        return ViewChoice(context=tuple(others[: self.num_context]), target=(first, *others[self.num_context :]))


def _by_nearness(frames: SceneFrames, frame: int, candidates: Sequence[int]) -> list[int]:
    """The candidates by the distance of their cameras from the frame's; ties in frame order."""
    camtoworld = frames.camtoworld.double()
    distance = pose_distance(camtoworld[[frame]], camtoworld[list(candidates)])[0]
    order = torch.argsort(distance, stable=True)
    return [candidates[i] for i in order.tolist()]


def check_at_least(least: int, **settings: int) -> None:
    """Check that settings have at least a value.

    Raises:
        ValueError: If one has not; names it.
    """
    for name, value in settings.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def check_room(room: int, num_target: int, setting: str) -> None:
    """Check that the smallest span has enough frames for the targets.

    Args:
        room: Frames that may be targets.
        num_target: Target frames.
        setting: The setting that limits the room, as `name=value`.

    Raises:
        ValueError: If there are too few; names the setting.
    """
    if room < num_target:
        raise ValueError(f"{setting} leaves {room} frames for num_target={num_target}; raise {setting.split('=')[0]}")


def sample_integer(low: int, high: int, generator: torch.Generator) -> int:
    """An integer in low..high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def sample_distinct(candidates: Sequence[int], count: int, generator: torch.Generator) -> list[int]:
    """`count` different candidates, in random order."""
    return [candidates[i] for i in torch.randperm(len(candidates), generator=generator)[:count].tolist()]


def spread_evenly(length: int, count: int) -> list[int]:
    """`count` different numbers in 0..length-1, evenly spaced, both ends included; a single one is the middle."""
    if count == 1:
        return [(length - 1) // 2]
    return [round(i * (length - 1) / (count - 1)) for i in range(count)]
