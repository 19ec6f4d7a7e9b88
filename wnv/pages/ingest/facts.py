"""Facts of the ingest report, gathered from the ledger in one pass; memory grows with scenes, not with messages."""

import heapq
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from wnv.ingest.records import Row
from wnv.ingest.tasks import STAGES, StageName

MAX_ITEMS_PER_REASON = 200
"""Items listed per reason, those with the most tries first; all are counted."""


@dataclass(frozen=True, kw_only=True)
class SceneEntry:
    """A packed scene: its file relative to the root, facts of its video, and measurements of the pose stage."""

    id: str
    file: str
    key: str
    kind: str
    split: str
    title: str
    url: str | None
    num_frames: int
    statistics: Mapping[str, float]


@dataclass
class StageFacts:
    """Sums over the items of one stage.

    Attributes:
        counts: Items per state.
        reasons: Items per (state, reason), without the finished ones.
        pieces: Parts of videos that the clip stage left out, per reason.
        seconds: Working time.
        num_bytes: Bytes written.
        versions: Items per set of settings and tool versions, as JSON.
    """

    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    pieces: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    num_bytes: int = 0
    versions: Counter[str] = field(default_factory=Counter)


@dataclass
class Facts:
    """Everything that the report shows, except pixels.

    Attributes:
        stages: Sums per stage.
        measures: Measurement -> values with the ids of their clips or scenes.
        codes: Videos per repair of their line in the manifest.
        scenes: All packed scenes.
        video_s: Seconds of fetched video, where the length is known.
        clip_s: Seconds of clips.
        scene_s: Seconds of the clips that became scenes.
        last_update: Time of the ledger's last change, seconds since 1970; None if it is empty.
    """

    stages: dict[StageName, StageFacts] = field(default_factory=lambda: {stage: StageFacts() for stage in STAGES})
    measures: dict[str, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))
    codes: Counter[str] = field(default_factory=Counter)
    scenes: list[SceneEntry] = field(default_factory=list)
    video_s: float = 0.0
    clip_s: float = 0.0
    scene_s: float = 0.0
    last_update: float | None = None
    # Per stage, state and reason a heap of the items with the most tries; the row number breaks ties.
    _problems: dict[tuple[StageName, str, str], list[tuple[int, int, Row]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    @property
    def num_problems(self) -> int:
        """Number of items with a problem."""
        return sum(stage.reasons.total() for stage in self.stages.values())

    def problems(self, most: int) -> list[Row]:
        """Return at most `most` items that failed, were rejected or have to wait, of every reason, most tries first."""
        reasons = sorted(self._problems, key=lambda reason: (STAGES.index(reason[0]), reason))
        groups = [sorted(self._problems[reason], reverse=True) for reason in reasons]
        rounds = itertools.zip_longest(*groups)
        taken = itertools.islice((entry[2] for turn in rounds for entry in turn if entry is not None), most)
        return sorted(taken, key=lambda item: (STAGES.index(item.stage), item.state, item.reason, -item.tries))

    def _add(self, row: Row, number: int) -> None:
        stage = self.stages[row.stage]
        stage.counts[row.state] += 1
        stage.seconds += row.seconds
        stage.num_bytes += row.num_bytes
        self.last_update = max(row.updated, self.last_update or row.updated)
        # A pending item with a reason has been tried, or waits for something.
        if row.state in ("failed", "refused") or (row.state == "pending" and row.reason):
            self._add_problem(row, number)
        if row.stage == "fetch":
            self.codes.update(row.payload.get("codes", ()))
        if row.state == "done":
            stage.versions[json.dumps(row.versions, sort_keys=True, ensure_ascii=False)] += 1
            self._add_result(row)

    def _add_problem(self, row: Row, number: int) -> None:
        self.stages[row.stage].reasons[row.state, row.reason] += 1
        heap = self._problems[row.stage, row.state, row.reason]
        heapq.heappush(heap, (row.tries, -number, row))
        if len(heap) > MAX_ITEMS_PER_REASON:
            heapq.heappop(heap)

    def _add_result(self, row: Row) -> None:
        if row.stage == "fetch":
            self.video_s += row.result.get("duration_s") or 0.0
        elif row.stage == "clip":
            for clip in row.result.get("clips", ()):
                self.clip_s += _duration_s(clip)
                if "fps" in clip:  # photographs have no duration
                    self.measures["duration_s"].append((_duration_s(clip), clip["id"]))
            self.stages["clip"].pieces.update(piece["reason"] for piece in row.result.get("dropped", ()))
        elif row.stage == "pose":
            for name, value in {**pose_statistics(row.result), "pose_s": row.seconds}.items():
                self.measures[name].append((value, row.item))
        elif row.stage == "pack":
            self.scene_s += _duration_s(row.payload)
            scene = SceneEntry(
                id=row.item,
                file=row.result["file"],
                key=row.key,
                kind=row.payload["kind"],
                split=row.payload["split"],
                title=row.payload.get("title") or "",
                url=row.payload.get("url"),
                num_frames=int(row.result["num_frames"]),
                statistics=pose_statistics(row.payload.get("pose", {})),
            )
            self.scenes.append(scene)
            self.measures["num_frames"].append((float(scene.num_frames), row.item))


def gather(rows: Iterable[Row]) -> Facts:
    """Read the ledger's rows once."""
    facts = Facts()
    for number, row in enumerate(rows):
        facts._add(row, number)
    return facts


def pose_statistics(result: Mapping[str, Any]) -> dict[str, float]:
    """Measurements of the pose stage; they depend on the estimator."""
    numbers = {
        name: float(value)
        for name, value in (result.get("stats") or {}).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if result.get("num_frames") and "num_registered" in result:
        numbers.setdefault("registered_ratio", result["num_registered"] / result["num_frames"])
    return numbers


def _duration_s(clip: Mapping[str, Any]) -> float:
    return float(clip["num_frames"] / Fraction(clip["fps"])) if "fps" in clip else 0.0
