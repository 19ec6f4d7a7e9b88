"""Evaluation indices: JSON files that name the frames of each scene."""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from typing_extensions import override

from wnv.data.view_sampling import SceneFrames, ViewChoice, ViewSampler
from wnv.scenes.schema import safe_id

log = logging.getLogger(__name__)

_NAMES = ("scene", "scene_name", "scene_id", "key", "name")
_FOLD = re.compile(r"fold_(\d+)_kmeans_\d+_input")  # Long-LRM: every n-th frame is a target
_MAX_NAMES = 5


@dataclass(frozen=True, kw_only=True)
class IndexSampler(ViewSampler):
    """The frames that an evaluation index names.

    The common form is `{scene: {"context": [...], "target": [...]} | null}`. A null entry means that the authors of the
    index found no frames for the scene; it is skipped, and the number of such entries is logged. A list of entries that
    name their scene is read too, as are the inputs of Long-LRM's list, whose targets are every eighth frame. Other keys
    of an entry are ignored and logged. Scenes are visited in the order of the index.

    An entry belongs to the scene of its name, or of its name without folder and `dl3dv_`: `2K/HASH` to `HASH`.

    Args:
        path: The JSON file.
        allow_missing: Evaluate the available scenes, with a warning, if some of the index are missing or too short;
            otherwise that is an error, because the score would not be comparable.
        num_context: Which list of inputs to take from an entry with several; None if there is one.

    Attributes:
        choices: Name -> frames, in the order of the index. Empty targets are every `target_every`-th frame.
        null_scenes: The names with a null entry.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not an evaluation index; names the scene.
    """

    path: str | Path
    allow_missing: bool = False
    num_context: int | None = None
    choices: dict[str, ViewChoice] = field(init=False, repr=False, compare=False)
    null_scenes: tuple[str, ...] = field(init=False, repr=False, compare=False)
    target_every: int = field(init=False, repr=False, compare=False, default=1)
    _by_scene: dict[str, str] = field(init=False, repr=False, compare=False)  # possible scene id -> name in the index

    def __post_init__(self) -> None:
        index = _read_entries(Path(self.path))
        parts = {name: self._read(name, entry) for name, entry in index.items() if entry is not None}
        if not parts:
            raise ValueError(f"evaluation index {self.path} names no frames: all {len(index)} entries are null")
        null_scenes = tuple(name for name, entry in index.items() if entry is None)
        if null_scenes:
            log.info("evaluation index %s: %d of %d entries are null", self.path, len(null_scenes), len(index))
        ignored = sorted({key for entry in index.values() for key in entry or () if not _is_known(key)})
        if ignored:
            log.info("evaluation index %s: the keys %s are ignored", self.path, ", ".join(ignored))
        by_scene = {short_name(name): name for name in index}
        if len(by_scene) < len(index):
            twice = next(name for name in index if by_scene[short_name(name)] != name)
            raise ValueError(
                f"evaluation index {self.path} names one scene twice: {twice!r} and {by_scene[short_name(twice)]!r}"
            )
        by_scene |= {safe_id(name): name for name in index} | {name: name for name in index}
        set_field = object.__setattr__  # the sampler is frozen
        set_field(self, "choices", {name: choice for name, (choice, _) in parts.items()})
        set_field(self, "null_scenes", null_scenes)
        set_field(self, "target_every", max(every for _, every in parts.values()))
        set_field(self, "_by_scene", by_scene)

    def missing_scenes(self, num_frames: Mapping[str, int]) -> tuple[list[str], list[str]]:
        """The names in the index whose scenes are missing, and those whose scenes lack frames that it names."""
        found = self._found(num_frames)
        missing = [name for name in self.choices if name not in found]
        return missing, [name for name, scene in found.items() if self._last_frame(name) >= num_frames[scene]]

    @override
    def select_scenes(self, num_frames: Mapping[str, int]) -> list[str]:
        """The scenes of the index, in its order.

        Raises:
            ValueError: If scenes are missing or too short, unless `allow_missing`; or if all are.
        """
        found = self._found(num_frames)
        missing, short = self.missing_scenes(num_frames)
        count, place = len(self.choices), f"scenes of evaluation index {self.path}"
        if missing:
            text = f"{len(missing)} of {count} {place} are missing: {_some(missing)}"
            if len(missing) == count:
                others = f"scenes such as {min(num_frames)!r}" if num_frames else "no scenes"
                raise ValueError(f"{text}; the data set has {others}: use the index made for it")
            if not self.allow_missing:
                raise ValueError(f"{text}; add them to the data set, or set allow_missing=true for a partial score")
            log.warning("%s; the score is not comparable with one on all scenes", text)
        if short:
            text = f"{len(short)} of {count} {place} are too short: {self._describe(short[0], num_frames)}"
            if not self.allow_missing or len(missing) + len(short) == count:
                raise ValueError(
                    f"{text}; the index belongs to another version of the scenes, make one with wnv-eval make_index=..."
                )
            log.warning("%s; they are left out, and the score is not comparable with one on all scenes", text)
        return [scene for name, scene in found.items() if name not in short]

    def plain(self, num_frames: Mapping[str, int] | None = None) -> dict[str, dict[str, list[int]] | None]:
        """The index in the common form, with short names; targets that depend on the scenes need their `num_frames`."""
        found = self._found(num_frames or {})
        entries: dict[str, dict[str, list[int]] | None] = {short_name(name): None for name in self.null_scenes}
        for name, choice in self.choices.items():
            if not choice.target and name not in found:
                raise ValueError(
                    f"evaluation index {self.path}, scene {name!r}: every {self.target_every}-th frame is a target, so "
                    "the scenes are needed; name them, e.g. data=scenes data.root=FOLDER"
                )
            target = choice.target or range(0, (num_frames or {})[found[name]], self.target_every)
            entries[short_name(name)] = {"context": [*choice.context], "target": [*target]}
        return entries

    @override
    def choose(self, frames: SceneFrames, generator: torch.Generator, index: int) -> ViewChoice:
        name = self._by_scene.get(frames.scene_id, self._by_scene.get(short_name(frames.scene_id), ""))
        choice = self.choices.get(name)
        if choice is None:
            raise ValueError(f"scene {frames.scene_id!r} has no entry in evaluation index {self.path}")
        if self._last_frame(name) >= frames.num_frames:
            text = self._describe(name, {frames.scene_id: frames.num_frames})
            raise ValueError(f"evaluation index {self.path}: {text}")
        return ViewChoice(choice.context, choice.target or tuple(range(0, frames.num_frames, self.target_every)))

    def _read(self, name: str, entry: Mapping[str, Any]) -> tuple[ViewChoice, int]:
        """The frames of an entry, and that every n-th frame is a target if it names none."""
        folds = {key: match for key in entry if (match := _FOLD.fullmatch(key))}
        if folds and "context" not in entry:
            inputs = [key for key in folds if self.num_context in (None, len(entry[key]))]
            if len(inputs) != 1:
                raise ValueError(
                    f"evaluation index {self.path}, scene {name!r} has the inputs {', '.join(folds)}; set "
                    f"num_context to the number of frames of one, got {self.num_context}"
                )
            return ViewChoice(self._frames(name, entry, inputs[0]), ()), int(folds[inputs[0]][1])
        return ViewChoice(self._frames(name, entry, "context"), self._frames(name, entry, "target")), 1

    def _frames(self, name: str, entry: Mapping[str, Any], part: str) -> tuple[int, ...]:
        numbers = entry.get(part)
        if not isinstance(numbers, list) or not numbers or any(type(n) is not int or n < 0 for n in numbers):
            raise ValueError(
                f"evaluation index {self.path}, scene {name!r}: {part!r} must be a list of frame numbers, "
                f"got {numbers!r}"
            )
        return tuple(numbers)

    def _found(self, num_frames: Mapping[str, int]) -> dict[str, str]:
        """Name in the index -> scene id of the data."""
        names = {self._by_scene.get(scene, self._by_scene.get(short_name(scene))): scene for scene in num_frames}
        names |= {scene: scene for scene in num_frames}  # a scene of the very name comes first
        return {name: names[name] for name in self.choices if name in names}

    def _last_frame(self, name: str) -> int:
        return max(self.choices[name].context + self.choices[name].target)

    def _describe(self, name: str, num_frames: Mapping[str, int]) -> str:
        scene = self._found(num_frames)[name]
        return f"frame {self._last_frame(name)} of {scene!r}, which has {num_frames[scene]} frames (numbered from 0)"


def short_name(name: str) -> str:
    """A scene's name without folder and data set: `2K/HASH` and `dl3dv_HASH` are `HASH`."""
    return name.rpartition("/")[2].removeprefix("dl3dv_")


def _read_entries(path: Path) -> dict[str, Any]:
    """The entries of an index by name, each an object or None."""
    if not path.is_file():
        raise FileNotFoundError(f"evaluation index not found: {path}; give the path of a JSON file")
    try:
        index = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"evaluation index {path} is not JSON: {error}") from error
    if isinstance(index, list):
        named = [_named(path, number, entry) for number, entry in enumerate(index)]
        index = dict(named)
        if len(index) < len(named):
            raise ValueError(f"evaluation index {path} has {len(named)} entries of {len(index)} scenes; keep one each")
    if not isinstance(index, dict):
        raise ValueError(f"evaluation index {path} must map scenes to frames, got a {type(index).__name__}")
    for name, entry in index.items():
        if not isinstance(entry, dict | None):
            raise ValueError(
                f"evaluation index {path}, scene {name!r} must be an object with 'context' and 'target', got {entry!r}"
            )
    return index


def _named(path: Path, number: int, entry: Any) -> tuple[str, Any]:
    name = next((entry[key] for key in _NAMES if key in entry), None) if isinstance(entry, dict) else None
    if not isinstance(name, str):
        raise ValueError(
            f"evaluation index {path}, entry {number} must be an object that names its scene by one of "
            f"{', '.join(_NAMES)}, got {str(entry)[:80]}"
        )
    return name, entry


def _is_known(key: str) -> bool:
    return key in ("context", "target", *_NAMES) or _FOLD.fullmatch(key) is not None


def _some(names: list[str]) -> str:
    return ", ".join(sorted(names)[:_MAX_NAMES]) + (", ..." if len(names) > _MAX_NAMES else "")
