"""What the report knows of a run: its training and its evaluations."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from wnv.evaluation.records import SceneRecord
from wnv.evaluation.summary import Summary
from wnv.models.konet import KoNet
from wnv.training.run_folder import IMAGES_FOLDER


@dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """A run folder of `wnv-train`: its resolved configuration, metrics as (step, value), and starts and ends."""

    folder: Path
    config: Mapping[str, Any]
    metrics: Mapping[str, Sequence[tuple[int, float]]]
    starts: Sequence[Mapping[str, Any]]
    ends: Sequence[Mapping[str, Any]]
    """One entry per end; a killed training leaves none."""

    @cached_property
    def num_steps(self) -> int:
        """The number of steps, according to metrics and ends."""
        logged = [points[-1][0] + 1 for points in self.metrics.values() if points]
        return max([*logged, *(end["step"] for end in self.ends)], default=0)

    @property
    def last_end(self) -> Mapping[str, Any] | None:
        """The end of the last start; None if it has none, or was started by a version that logged no ends."""
        started = self.starts[-1].get("id") if self.starts else None
        return next((end for end in self.ends if started is not None and end.get("start") == started), None)

    @property
    def seconds(self) -> float | None:
        """Wall time of the starts whose end is known; None if there is none."""
        ends = {end.get("start"): end for end in self.ends}
        times = [(start.get("date"), ends[start["id"]].get("date")) for start in self.starts if start.get("id") in ends]
        spans = [(_time(end) - _time(start)).total_seconds() for start, end in times if start and end]
        return sum(spans) if spans else None

    @property
    def logs_ends(self) -> bool:
        """Whether the version that started it last logs ends."""
        return bool(self.starts) and "id" in self.starts[-1]

    @property
    def max_steps(self) -> int | None:
        """The configured number of steps; None without a limit."""
        steps = (self.config.get("trainer") or {}).get("max_steps")
        return steps if isinstance(steps, int) and steps > 0 else None

    @property
    def last_sheet(self) -> Path | None:
        """The newest contact sheet of the validation."""
        return max((self.folder / IMAGES_FOLDER).glob("step_*.png"), default=None)

    def last(self, metric: str) -> float | None:
        """The last value of a metric; None if it was not logged."""
        points = self.metrics.get(metric)
        return points[-1][1] if points else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """An evaluation folder of `wnv-eval`; `summary` is None if it has not finished."""

    folder: Path
    settings: Mapping[str, Any]
    records: Sequence[SceneRecord]
    summary: Summary | None

    @property
    def weights(self) -> str:
        """The evaluated weights, as the user named them."""
        return str(self.settings.get("weights", "unknown weights"))

    @property
    def task(self) -> str:
        """Key of data and protocol; evaluations of the same task are comparable."""
        own = ("weights", "fingerprint", "lpips")  # LPIPS may be installed on one machine only
        task = {name: value for name, value in self.settings.items() if name not in own}
        protocol = task.get("protocol")
        if isinstance(protocol, Mapping) and "index_sha256" in protocol:  # an index is its content, not its path
            task["protocol"] = {k: v for k, v in protocol.items() if k not in ("index", "indices")}
        return json.dumps(task, sort_keys=True)

    @property
    def fingerprint(self) -> str:
        """Hash of the weights' values."""
        return str(self.settings.get("fingerprint"))

    def variant(self, name: str) -> list[SceneRecord]:
        """The examples of a variant of the protocol."""
        return [record for record in self.records if record.variant == name]


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One set of weights, its training if known, and its evaluations, at most one per task."""

    name: str
    """Its folder, or the weights as the user named them."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The resolved configuration; only the model's for weights without a run folder, empty if unknown."""
    training: Training | None = None
    evaluations: Sequence[Evaluation] = ()

    @cached_property
    def num_parameters(self) -> int | None:
        """Number of the model's parameters, as evaluations report it or from a KoNet's settings; None if unknown."""
        for evaluation in self.evaluations:
            if evaluation.summary is not None and "num_parameters" in evaluation.summary.environment:
                return evaluation.summary.environment["num_parameters"]
        settings = {**(self.config.get("model") or {})}
        if not settings or str(settings.pop("_target_", "KoNet")).rpartition(".")[2] != "KoNet":
            return None
        try:
            with torch.device("meta"):
                return sum(parameter.numel() for parameter in KoNet(**settings).parameters())
        except (TypeError, ValueError):  # settings of another version
            return None


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
