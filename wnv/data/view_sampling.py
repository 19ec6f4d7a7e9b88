"""Which frames of a scene are shown and which are to be drawn.

A view sampler is a frozen set of rules. It is handed one scene's frames and a generator, and returns frame numbers;
everything random comes from that generator, so the same generator state gives the same choice.
"""

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
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

    def num_draws(self, num_frames: int) -> int:
        """How many different draws one epoch makes of a scene of so many frames."""
        return 1

    @abstractmethod
    def sample(self, frames: SceneFrames, generator: torch.Generator, *, draw: int = 0) -> ViewChoice:
        """Choose frames.

        Args:
            frames: The scene.
            generator: Where all randomness comes from.
            draw: Which of the epoch's draws of this scene, below `num_draws`.

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

    def sample(self, frames: SceneFrames, generator: torch.Generator, *, draw: int = 0) -> ViewChoice:
        """Draw a gap, a place and the targets."""
        last = frames.num_frames - 1
        if last < self.min_gap:
            raise ValueError(
                f"scene {frames.scene_id!r} has {frames.num_frames} frames, too few for min_gap={self.min_gap}; "
                f"lower min_gap to at most {last}, or leave the scene out"
            )
        gap = draw_number(self.min_gap, min(self.max_gap, last), generator)
        first = draw_number(0, last - gap, generator)
        if self.num_context == 1:
            context = (first + gap * draw_number(0, 1, generator),)
        else:
            context = tuple(first + index for index in spread_evenly(gap + 1, self.num_context))
        beyond = int(self.extrapolate * gap)
        candidates = [
            frame
            for frame in range(max(0, first - beyond), min(last, first + gap + beyond) + 1)
            if self.allow_context_as_target or frame not in context
        ]
        return ViewChoice(context=context, target=tuple(sorted(draw_some(candidates, self.num_target, generator))))


@dataclass(frozen=True, kw_only=True)
class IndexSampler(ViewSampler):
    """The frames that an evaluation index names.

    The index is the field's JSON, `{scene: {"context": [...], "target": [...]} | null}`.
    Scenes come in the order of the index. Scenes whose entry is null are those for which the index's authors found no
    choice; they are left out and logged.

    Args:
        path: The JSON file.
        allow_missing: Evaluate on the scenes that are there when some of the index are not, with a warning; otherwise
            that is an error, since the score would not be comparable.

    Attributes:
        choices: scene -> frames, in the order of the index.
        null_scenes: The scenes whose entry is null.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not an evaluation index; names the scene.
    """

    path: str | Path
    allow_missing: bool = False
    choices: dict[str, ViewChoice] = field(init=False, repr=False, compare=False)
    null_scenes: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        path = Path(self.path)
        if not path.is_file():
            raise FileNotFoundError(f"evaluation index not found: {path}; give the path of a JSON file")
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"evaluation index {path} is not JSON: {error}") from error
        if not isinstance(index, dict):
            raise ValueError(f"evaluation index {path} must map scenes to frames, got a {type(index).__name__}")
        choices = {scene: _read_choice(path, scene, entry) for scene, entry in index.items() if entry is not None}
        if not choices:
            raise ValueError(f"evaluation index {path} names no frames: all {len(index)} entries are null")
        null_scenes = tuple(scene for scene, entry in index.items() if entry is None)
        if null_scenes:
            log.info("evaluation index %s: %d of %d entries are null", path, len(null_scenes), len(index))
        object.__setattr__(self, "choices", choices)
        object.__setattr__(self, "null_scenes", null_scenes)

    def missing_scenes(self, available: Sequence[str]) -> list[str]:
        """The scenes of the index that are not among those available."""
        there = set(available)
        return [scene for scene in self.choices if scene not in there]

    def select_scenes(self, available: Sequence[str]) -> list[str]:
        """The scenes of the index, in its order.

        Raises:
            ValueError: If scenes of the index are not available, unless `allow_missing`; or if none is.
        """
        missing = set(self.missing_scenes(available))
        if missing:
            names = ", ".join(sorted(missing)[:5]) + (", ..." if len(missing) > 5 else "")
            message = (
                f"{len(missing)} of {len(self.choices)} scenes of evaluation index {self.path} are missing: {names}"
            )
            if len(missing) == len(self.choices):
                there = f"such as {min(available)!r}" if available else "none"
                raise ValueError(
                    f"none of the {len(missing)} scenes of evaluation index {self.path} is there: it names {names}, "
                    f"the data set has others, {there}; take the index of these scenes, or the scenes of this index"
                )
            if not self.allow_missing:
                raise ValueError(f"{message}; add them to the data set, or set allow_missing=true for a partial score")
            log.warning("%s; the score is not comparable with one on all of them", message)
        return [scene for scene in self.choices if scene not in missing]

    def check_frames(self, num_frames: Mapping[str, int]) -> None:
        """Refuse an index that names frames which its scenes do not have, before anything is trained or drawn.

        Raises:
            ValueError: If it does; names the first such scene.
        """
        highest = {scene: max(self.choices[scene].context + self.choices[scene].target) for scene in num_frames}
        beyond = [scene for scene in num_frames if highest[scene] >= num_frames[scene]]
        if beyond:
            first = beyond[0]
            raise ValueError(
                f"evaluation index {self.path} names frames that {len(beyond)} of {len(num_frames)} scenes do not have "
                f"(numbered from 0): {first!r} has {num_frames[first]} frames and frame {highest[first]} is asked for; "
                "the index belongs to another cut of the scenes, make one with wnv-eval make_index=..."
            )

    def sample(self, frames: SceneFrames, generator: torch.Generator, *, draw: int = 0) -> ViewChoice:
        """The index's own frames; nothing is random."""
        choice = self.choices.get(frames.scene_id)
        if choice is None:
            raise ValueError(f"scene {frames.scene_id!r} has no entry in evaluation index {self.path}")
        highest = max(choice.context + choice.target)
        if highest >= frames.num_frames:
            raise ValueError(
                f"evaluation index {self.path} names frame {highest} of scene {frames.scene_id!r}, which has "
                f"{frames.num_frames} frames; the index belongs to another cut of the scene"
            )
        return choice


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

    def sample(self, frames: SceneFrames, generator: torch.Generator, *, draw: int = 0) -> ViewChoice:
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

    def num_draws(self, num_frames: int) -> int:
        """Number of the split's frames: each is the first target once."""
        held_out = len(range(0, num_frames, self.every))
        return held_out if self.split == "val" else num_frames - held_out

    def sample(self, frames: SceneFrames, generator: torch.Generator, *, draw: int = 0) -> ViewChoice:
        """One target group around a training frame, or one held-out frame."""
        train = [frame for frame in range(frames.num_frames) if frame % self.every]
        needed = self.num_context + (self.num_target if self.split == "train" else 0)
        if len(train) < needed:
            raise ValueError(
                f"scene {frames.scene_id!r} has {len(train)} training frames (of {frames.num_frames}, every="
                f"{self.every} held out), fewer than the {needed} asked for; lower num_context or num_target"
            )
        if not 0 <= draw < self.num_draws(frames.num_frames):
            raise ValueError(
                f"scene {frames.scene_id!r}: draw must be in 0..{self.num_draws(frames.num_frames) - 1}, got {draw}"
            )
        if self.split == "val":
            target = draw * self.every
            return ViewChoice(context=tuple(_by_nearness(frames, target, train)[: self.num_context]), target=(target,))
        first = train[draw]
        around = _by_nearness(frames, first, [frame for frame in train if frame != first])[: self.num_neighbours]
        others = draw_some(around, self.num_context + self.num_target - 1, generator)
        return ViewChoice(context=tuple(others[: self.num_context]), target=(first, *others[self.num_context :]))


def _by_nearness(frames: SceneFrames, frame: int, candidates: Sequence[int]) -> list[int]:
    """The candidates, the one whose camera is nearest to the frame's first; ties in frame order."""
    camtoworld = frames.camtoworld.double()
    distance = pose_distance(camtoworld[[frame]], camtoworld[list(candidates)])[0]
    order = torch.argsort(distance, stable=True)
    return [candidates[index] for index in order.tolist()]


def _read_choice(path: Path, scene: str, entry: object) -> ViewChoice:
    parts = {}
    for part in ("context", "target"):
        numbers = entry.get(part) if isinstance(entry, dict) else None
        if (
            not isinstance(numbers, list)
            or not numbers
            or any(type(number) is not int or number < 0 for number in numbers)
        ):
            raise ValueError(
                f"evaluation index {path}, scene {scene!r}: {part!r} must be a list of frame numbers, got {numbers!r}"
            )
        parts[part] = tuple(numbers)
    return ViewChoice(**parts)


def check_counts(num_context: int, num_target: int) -> None:
    """Refuse numbers of frames below 1.

    Raises:
        ValueError: If one is; names it.
    """
    for name, value in (("num_context", num_context), ("num_target", num_target)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def draw_number(low: int, high: int, generator: torch.Generator) -> int:
    """One integer of low..high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def draw_some(candidates: Sequence[int], count: int, generator: torch.Generator) -> list[int]:
    """So many different candidates, in random order."""
    return [candidates[index] for index in torch.randperm(len(candidates), generator=generator)[:count].tolist()]


def spread_evenly(length: int, count: int) -> list[int]:
    """So many different numbers of 0..length-1, evenly apart, both ends included; a single one is the middle."""
    if count == 1:
        return [(length - 1) // 2]
    return [round(index * (length - 1) / (count - 1)) for index in range(count)]
