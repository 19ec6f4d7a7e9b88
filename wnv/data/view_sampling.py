"""Which frames of a scene are shown and which are to be drawn.

A view sampler is a frozen set of rules. It is handed one scene's frames and a generator, and returns frame numbers;
everything random comes from that generator, so the same generator state gives the same choice.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from wnv.geometry.poses import pose_distance

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SceneFrames:
    """What a view sampler may know of a scene.

    Attributes:
        scene_id: The scene's id.
        num_frames: Number of its frames; they are numbered from 0 in the order of time.
        times_s: When each frame was taken, in seconds on the clip's clock.
        camtoworld: world<-camera of each frame, in the scene's own units.
    """

    scene_id: str
    num_frames: int
    times_s: Float[Tensor, " frame"]
    camtoworld: Float[Tensor, "frame 4 4"]


@dataclass(frozen=True)
class ViewChoice:
    """Frame numbers of the views that are given (`context`) and of those to draw (`target`)."""

    context: tuple[int, ...]
    target: tuple[int, ...]


class ViewSampler(ABC):
    """The rules by which a data set chooses context and target frames."""

    @property
    def min_frames(self) -> int:
        """The fewest frames that a scene must have for these rules to allow a choice."""
        return 1

    def select_scenes(self, available: Sequence[str]) -> list[str]:
        """The scenes to visit, in order, of those that a data set has."""
        return list(available)

    def check_frames(self, num_frames: Mapping[str, int]) -> None:  # noqa: B027 most rules ask for no frame by number
        """Refuse scenes, given by their numbers of frames, of which frames would be asked for that they do not have.

        Raises:
            ValueError: If there are such.
        """

    def num_samples(self, num_frames: int) -> int:
        """How many different draws one epoch makes of a scene of so many frames."""
        return 1

    @abstractmethod
    def sample(self, frames: SceneFrames, generator: torch.Generator, *, index: int = 0) -> ViewChoice:
        """Choose frames.

        Args:
            frames: The scene.
            generator: Where all randomness comes from.
            index: Which of the samples of this scene per epoch, below `num_samples`.

        Raises:
            ValueError: If the scene does not allow a choice under these rules; names the scene and the setting.
        """


@dataclass(frozen=True, kw_only=True)
class BoundedSampler(ViewSampler):
    """Context frames a random gap apart, targets between them or a little beyond.

    The first and the last context frame are `gap` frames apart, with `gap` drawn uniformly from min_gap..max_gap and
    the place drawn uniformly along the scene; further context frames lie evenly between them. With one context frame,
    it is either end. Targets are drawn without repetition.

    Args:
        num_context: Context frames, at least 1.
        num_target: Target frames, at least 1.
        min_gap: Smallest distance between the first and the last context frame, in frames of the scene file.
        max_gap: Largest such distance; cut to the length of a shorter scene.
        extrapolate: How far beyond the contexts targets may lie, on either side, as a fraction of the gap.
        allow_context_as_target: Whether a context frame may be drawn as a target too.

    Raises:
        ValueError: If a number is out of its range or the smallest gap has no room for the frames asked for.
    """

    num_context: int
    num_target: int
    min_gap: int
    max_gap: int
    extrapolate: float | int = 0.0
    allow_context_as_target: bool = False

    def __post_init__(self) -> None:
        check_counts(self.num_context, self.num_target)
        if not 1 <= self.min_gap <= self.max_gap:
            raise ValueError(f"gaps must satisfy 1 <= min_gap <= max_gap, got {self.min_gap} and {self.max_gap}")
        if self.extrapolate < 0:
            raise ValueError(f"extrapolate must be a fraction of the gap, at least 0, got {self.extrapolate}")
        if self.min_gap < self.num_context - 1:
            raise ValueError(
                f"min_gap must be at least num_context - 1 = {self.num_context - 1}, so that the context frames are "
                f"different ones, got {self.min_gap}"
            )
        room = self.min_gap + 1 - (0 if self.allow_context_as_target else self.num_context)
        if room < self.num_target:
            raise ValueError(
                f"min_gap={self.min_gap} leaves room for {room} targets, num_target={self.num_target} were asked for; "
                f"raise min_gap to at least {self.min_gap + self.num_target - room}"
            )

    @property
    def min_frames(self) -> int:
        """Room for the smallest gap."""
        return self.min_gap + 1

    def sample(self, frames: SceneFrames, generator: torch.Generator, *, index: int = 0) -> ViewChoice:
        """Draw a gap, a place and the targets."""
        last = frames.num_frames - 1
        if last < self.min_gap:
            raise ValueError(
                f"scene {frames.scene_id!r} has {frames.num_frames} frames, too few for min_gap={self.min_gap}; "
                f"lower min_gap to at most {last}, or leave the scene out"
            )
        gap = sample_integer(self.min_gap, min(self.max_gap, last), generator)
        first = sample_integer(0, last - gap, generator)
        if self.num_context == 1:
            context = (first + gap * sample_integer(0, 1, generator),)
        else:
            context = tuple(first + index for index in spread_evenly(gap + 1, self.num_context))
        beyond = int(self.extrapolate * gap)
        candidates = [
            frame
            for frame in range(max(0, first - beyond), min(last, first + gap + beyond) + 1)
            if self.allow_context_as_target or frame not in context
        ]
        return ViewChoice(
            context=context, target=tuple(sorted(sample_distinct(candidates, self.num_target, generator)))
        )


@dataclass(frozen=True, kw_only=True)
class TrajectorySampler(ViewSampler):
    """All frames as targets, in order, and context frames spread evenly over them: for videos along a scene.

    Args:
        num_context: Context frames, at least 1; a single one is the middle frame.
    """

    num_context: int

    def __post_init__(self) -> None:
        check_counts(self.num_context, 1)

    @property
    def min_frames(self) -> int:
        """Room for the context."""
        return self.num_context

    def sample(self, frames: SceneFrames, generator: torch.Generator, *, index: int = 0) -> ViewChoice:
        """All frames; nothing is random."""
        if frames.num_frames < self.num_context:
            raise ValueError(
                f"scene {frames.scene_id!r} has {frames.num_frames} frames, fewer than num_context={self.num_context}; "
                f"lower num_context to at most {frames.num_frames}"
            )
        context = tuple(spread_evenly(frames.num_frames, self.num_context))
        return ViewChoice(context=context, target=tuple(range(frames.num_frames)))


@dataclass(frozen=True, kw_only=True)
class HoldoutSampler(ViewSampler):
    """Trains and evaluates on one scene: every so many frames, one is held out and never shown.

    Frames 0, every, 2 * every, ... are held out, the others are the training frames. Nearness is that of cameras:
    distance relative to the spread of the training cameras, plus the angle between the view directions in radians.

    - `train`: a training frame is drawn, its target group; context and further targets come from its nearest
      `num_neighbours` training frames, at random.
    - `val`: each held-out frame is drawn once an epoch, with its nearest training frames as context.

    Args:
        num_context: Context frames, at least 1.
        num_target: Target frames, at least 1; exactly 1 for `val`.
        split: `train` or `val`.
        every: One frame of so many is held out, at least 2.
        num_neighbours: How many frames around a target `train` chooses from, at least
            num_context + num_target - 1.

    Raises:
        ValueError: If a number is out of its range.
    """

    num_context: int
    split: Literal["train", "val"]
    num_target: int = 1
    every: int = 8
    num_neighbours: int = 8

    def __post_init__(self) -> None:
        check_counts(self.num_context, self.num_target)
        if self.split not in ("train", "val"):
            raise ValueError(f"split must be 'train' or 'val', got {self.split!r}")
        if self.every < 2:
            raise ValueError(f"every must be at least 2, so that frames are left to train on, got {self.every}")
        if self.split == "val" and self.num_target != 1:
            raise ValueError(
                f"num_target must be 1 for split='val', where each target has its own context, got {self.num_target}"
            )
        if self.split == "train" and self.num_neighbours < self.num_context + self.num_target - 1:
            raise ValueError(
                "num_neighbours must be at least num_context + num_target - 1 = "
                f"{self.num_context + self.num_target - 1}, got {self.num_neighbours}"
            )

    @property
    def min_frames(self) -> int:
        """Room for the training frames that one choice needs, and the held-out frames among them."""
        groups, rest = divmod(self._needed - 1, self.every - 1)
        return groups * self.every + rest + 2

    @property
    def _needed(self) -> int:
        """Training frames of one choice."""
        return self.num_context + (self.num_target if self.split == "train" else 0)

    def num_samples(self, num_frames: int) -> int:
        """Number of the split's frames: each is the first target once."""
        held_out = len(range(0, num_frames, self.every))
        return held_out if self.split == "val" else num_frames - held_out

    def sample(self, frames: SceneFrames, generator: torch.Generator, *, index: int = 0) -> ViewChoice:
        """One target group around a training frame, or one held-out frame."""
        train = [frame for frame in range(frames.num_frames) if frame % self.every]
        if len(train) < self._needed:
            raise ValueError(
                f"scene {frames.scene_id!r} has {len(train)} training frames (of {frames.num_frames}, every="
                f"{self.every} held out), fewer than the {self._needed} asked for; lower num_context or num_target"
            )
        if not 0 <= index < self.num_samples(frames.num_frames):
            raise ValueError(
                f"scene {frames.scene_id!r}: index must be in 0..{self.num_samples(frames.num_frames) - 1}, got {index}"
            )
        if self.split == "val":
            target = index * self.every
            return ViewChoice(context=tuple(_by_nearness(frames, target, train)[: self.num_context]), target=(target,))
        first = train[index]
        around = _by_nearness(frames, first, [frame for frame in train if frame != first])[: self.num_neighbours]
        others = sample_distinct(around, self.num_context + self.num_target - 1, generator)
        return ViewChoice(context=tuple(others[: self.num_context]), target=(first, *others[self.num_context :]))


def _by_nearness(frames: SceneFrames, frame: int, candidates: Sequence[int]) -> list[int]:
    """The candidates, the one whose camera is nearest to the frame's first; ties in frame order."""
    camtoworld = frames.camtoworld.double()
    distance = pose_distance(camtoworld[[frame]], camtoworld[list(candidates)])[0]
    order = torch.argsort(distance, stable=True)
    return [candidates[index] for index in order.tolist()]


def check_counts(num_context: int, num_target: int) -> None:
    """Refuse numbers of frames below 1.

    Raises:
        ValueError: If one is; names it.
    """
    for name, value in (("num_context", num_context), ("num_target", num_target)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def sample_integer(low: int, high: int, generator: torch.Generator) -> int:
    """One integer of low..high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def sample_distinct(candidates: Sequence[int], count: int, generator: torch.Generator) -> list[int]:
    """So many different candidates, in random order."""
    return [candidates[index] for index in torch.randperm(len(candidates), generator=generator)[:count].tolist()]


def spread_evenly(length: int, count: int) -> list[int]:
    """So many different numbers of 0..length-1, evenly apart, both ends included; a single one is the middle."""
    if count == 1:
        return [(length - 1) // 2]
    return [round(index * (length - 1) / (count - 1)) for index in range(count)]
