"""Evaluation indices: JSON files that name the frames of each scene."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from typing_extensions import override

from wnv.data.view_sampling import SceneFrames, ViewChoice, ViewSampler

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class IndexSampler(ViewSampler):
    """The frames that an evaluation index names.

    The index is the JSON format common in the field: `{scene: {"context": [...], "target": [...]} | null}`. Scenes are
    visited in its order. A null entry means that the authors of the index found no frames for the scene; it is skipped,
    and the number of such entries is logged.

    Args:
        path: The JSON file.
        allow_missing: Evaluate the available scenes, with a warning, if some of the index are missing; otherwise that
            is an error, because the score would not be comparable.

    Attributes:
        choices: scene -> frames, in the order of the index.
        null_scenes: The scenes with a null entry.

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
        """The scenes of the index that are not available."""
        existing = set(available)
        return [scene for scene in self.choices if scene not in existing]

    @override
    def select_scenes(self, available: Sequence[str]) -> list[str]:
        """The scenes of the index, in its order.

        Raises:
            ValueError: If scenes are missing, unless `allow_missing`; or if all are.
        """
        missing = set(self.missing_scenes(available))
        if missing:
            names = ", ".join(sorted(missing)[:5]) + (", ..." if len(missing) > 5 else "")
            found = f"{len(missing)} of {len(self.choices)} scenes of evaluation index {self.path} are missing: {names}"
            if len(missing) == len(self.choices):
                others = f"scenes such as {min(available)!r}" if available else "no scenes"
                raise ValueError(f"{found}; the data set has {others}: use the index made for it")
            if not self.allow_missing:
                raise ValueError(f"{found}; add them to the data set, or set allow_missing=true for a partial score")
            log.warning("%s; the score is not comparable with one on all scenes", found)
        return [scene for scene in self.choices if scene not in missing]

    @override
    def check_frames(self, num_frames: Mapping[str, int]) -> None:
        """Check that the scenes have the frames that the index names.

        Raises:
            ValueError: If one does not; names the first such scene.
        """
        highest = {scene: max(self.choices[scene].context + self.choices[scene].target) for scene in num_frames}
        beyond = [scene for scene in num_frames if highest[scene] >= num_frames[scene]]
        if beyond:
            first = beyond[0]
            raise ValueError(
                f"evaluation index {self.path} names frames that {len(beyond)} of {len(num_frames)} scenes lack: "
                f"frame {highest[first]} of {first!r}, which has {num_frames[first]} frames (numbered from 0); the "
                "index belongs to another version of the scenes, make one with wnv-eval make_index=..."
            )

    @override
    def choose(self, frames: SceneFrames, generator: torch.Generator, index: int) -> ViewChoice:
        choice = self.choices.get(frames.scene_id)
        if choice is None:
            raise ValueError(f"scene {frames.scene_id!r} has no entry in evaluation index {self.path}")
        self.check_frames({frames.scene_id: frames.num_frames})
        return choice


def _read_choice(path: Path, scene: str, entry: object) -> ViewChoice:
    parts = {}
    for part in ("context", "target"):
        numbers: Any = entry.get(part) if isinstance(entry, dict) else None
        is_list = isinstance(numbers, list) and len(numbers) > 0
        if not is_list or any(type(number) is not int or number < 0 for number in numbers):
            raise ValueError(
                f"evaluation index {path}, scene {scene!r}: {part!r} must be a list of frame numbers, got {numbers!r}"
            )
        parts[part] = tuple(numbers)
    return ViewChoice(**parts)
