"""Evaluation indices: files that name the frames of each scene."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from wnv.data.view_sampling import SceneFrames, ViewChoice, ViewSampler

log = logging.getLogger(__name__)


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
            index = json.loads(path.read_text(encoding="utf-8-sig"))
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

    def sample(self, frames: SceneFrames, generator: torch.Generator, *, index: int = 0) -> ViewChoice:
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
