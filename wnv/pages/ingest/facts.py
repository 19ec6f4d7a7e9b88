"""What the report says, gathered from the ledger in one pass; memory grows with the scenes, not with the messages."""

import heapq
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from wnv.ingest.records import Row
from wnv.ingest.tasks import STAGES, StageName

MAX_ITEMS_A_REASON = 200
"""So many items of one reason are remembered, those that were tried most often; all are counted."""

MEASURES = ("duration_s", "parallax_deg", "registered_ratio", "reprojection_px", "num_frames", "pose_s")


@dataclass(frozen=True, kw_only=True)
class SceneEntry:
    """A packed scene.

    Attributes:
        id: Its id.
        file: Its file, relative to the root.
        key: The video it was made of.
        kind: `static` or `dynamic`.
        split: `train`, `val` or `test`.
        title: The title of the video.
        url: The address of the video.
        num_frames: Its frames.
        statistics: What the pose stage measured.
    """

    id: str
    file: str
    key: str
    kind: str
    split: str
    title: str
    url: str | None
    num_frames: int
    statistics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """An item that did not go well; the fields are those of the ledger's row, title and url those of its video."""

    stage: StageName
    item: str
    key: str
    title: str
    url: str | None
    state: str
    reason: str
    message: str
    tries: int


@dataclass
class StageFacts:
    """Sums over the items of one stage.

    Attributes:
        counts: Items by state.
        reasons: Items by state and reason, of all that are not done.
        pieces: Parts of videos that the clip stage left out, by reason.
        seconds: Time that workers spent.
        num_bytes: What they wrote.
        versions: Items by what they were made with, as JSON.
    """

    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    pieces: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    num_bytes: int = 0
    versions: Counter[str] = field(default_factory=Counter)


@dataclass
class Facts:
    """All of the report's content but the scenes' pixels.

    Attributes:
        stages: Sums a stage.
        measures: For each of `MEASURES` the values, with the ids of the clips or scenes they belong to.
        codes: Videos by what was repaired in their lines of the manifest.
        scenes: Every packed scene.
        video_s: Seconds of the videos that were fetched, so far as their length is known.
        clip_s: Seconds of the clips.
        scene_s: Seconds of the clips that became scenes.
        last_update: When the ledger last changed, seconds since 1970; None in an empty one.
    """

    stages: dict[StageName, StageFacts] = field(default_factory=lambda: {stage: StageFacts() for stage in STAGES})
    measures: dict[str, list[tuple[float, str]]] = field(default_factory=lambda: {name: [] for name in MEASURES})
    codes: Counter[str] = field(default_factory=Counter)
    scenes: list[SceneEntry] = field(default_factory=list)
    video_s: float = 0.0
    clip_s: float = 0.0
    scene_s: float = 0.0
    last_update: float | None = None
    # By stage, state and reason the items with most tries; the number breaks ties, as items have no order.
    _trouble: dict[tuple[StageName, str, str], list[tuple[int, int, Trouble]]] = field(default_factory=dict)

    def add(self, row: Row, number: int) -> None:
        """Take in a row of the ledger; numbers are the rows' order."""
        stage = self.stages[row.stage]
        stage.counts[row.state] += 1
        stage.seconds += row.seconds
        stage.num_bytes += row.num_bytes
        self.last_update = max(row.updated, self.last_update or row.updated)
        # A pending item may have been tried, and may have to wait for something.
        if row.state in ("failed", "refused") or (row.state == "pending" and row.reason):
            self._add_trouble(row, number)
        if row.stage == "fetch":
            self.codes.update(row.payload.get("codes", ()))
        if row.state == "done":
            stage.versions[json.dumps(row.versions, sort_keys=True, ensure_ascii=False)] += 1
            _READERS[row.stage](self, row)

    def _add_trouble(self, row: Row, number: int) -> None:
        self.stages[row.stage].reasons[(row.state, row.reason)] += 1
        trouble = Trouble(
            stage=row.stage,
            item=row.item,
            key=row.key,
            title=row.payload.get("title") or "",
            url=row.payload.get("url"),
            state=row.state,
            reason=row.reason,
            message=row.message,
            tries=row.tries,
        )
        heap = self._trouble.setdefault((row.stage, row.state, row.reason), [])
        entry = (row.tries, -number, trouble)
        if len(heap) < MAX_ITEMS_A_REASON:
            heapq.heappush(heap, entry)
        else:
            heapq.heappushpop(heap, entry)

    def trouble(self, most: int) -> list[Trouble]:
        """At most so many items that did not go well: a few of every reason first, in each those with most tries."""
        groups = [sorted(heap, reverse=True) for _, heap in sorted(self._trouble.items(), key=_group_order)]
        turns = itertools.zip_longest(*groups)
        taken = itertools.islice((entry for turn in turns for entry in turn if entry is not None), most)
        items = [entry[2] for entry in taken]
        return sorted(items, key=lambda item: (STAGES.index(item.stage), item.state, item.reason, -item.tries))

    @property
    def num_trouble(self) -> int:
        """How many items did not go well."""
        return sum(stage.reasons.total() for stage in self.stages.values())


def gather(rows: Iterable[Row]) -> Facts:
    """Read the ledger's rows, once."""
    facts = Facts()
    for number, row in enumerate(rows):
        facts.add(row, number)
    return facts


def _group_order(group: tuple[tuple[StageName, str, str], Any]) -> tuple[int, str, str]:
    (stage, state, reason), _ = group
    return STAGES.index(stage), state, reason


def _read_fetch(facts: Facts, row: Row) -> None:
    facts.video_s += row.result.get("duration_s") or 0.0


def _read_clip(facts: Facts, row: Row) -> None:
    for clip in row.result.get("clips", ()):
        duration_s = _duration_s(clip)
        facts.clip_s += duration_s
        facts.measures["duration_s"].append((duration_s, clip["id"]))
    facts.stages["clip"].pieces.update(piece["reason"] for piece in row.result.get("dropped", ()))


def _read_pose(facts: Facts, row: Row) -> None:
    facts.measures["pose_s"].append((row.seconds, row.item))
    for name, value in pose_statistics(row.result).items():
        if name in facts.measures:
            facts.measures[name].append((value, row.item))


def _read_pack(facts: Facts, row: Row) -> None:
    num_frames = int(row.result["num_frames"])
    facts.scene_s += _duration_s(row.payload)
    facts.measures["num_frames"].append((float(num_frames), row.item))
    facts.scenes.append(
        SceneEntry(
            id=row.item,
            file=row.result["file"],
            key=row.key,
            kind=row.payload["kind"],
            split=row.payload["split"],
            title=row.payload.get("title") or "",
            url=row.payload.get("url"),
            num_frames=num_frames,
            statistics=pose_statistics(row.payload.get("pose", {})),
        )
    )


_READERS: dict[StageName, Callable[[Facts, Row], None]] = {
    "fetch": _read_fetch,
    "clip": _read_clip,
    "pose": _read_pose,
    "pack": _read_pack,
}


def pose_statistics(result: Mapping[str, Any]) -> dict[str, float]:
    """The numbers that the pose stage measured; an estimator that cannot tell one leaves it out."""
    numbers = {
        name: float(value)
        for name, value in (result.get("stats") or {}).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if result.get("num_frames") and "num_registered" in result:
        numbers.setdefault("registered_ratio", result["num_registered"] / result["num_frames"])
    return numbers


def _duration_s(clip: Mapping[str, Any]) -> float:
    return float(clip["num_frames"] / Fraction(clip["fps"]))
