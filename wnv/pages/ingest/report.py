"""The ingest report: one self-contained HTML page about an output root."""

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wnv.ingest.layout import REPORT_FILE
from wnv.ingest.ledger import Ledger
from wnv.ingest.reasons import explain
from wnv.ingest.tasks import STAGES, STATES, StageName
from wnv.pages.camera_path import camera_path, path_length
from wnv.pages.charts import histogram, stacked_bar
from wnv.pages.html import counted, duration, file_size, render
from wnv.pages.ingest.facts import Facts, gather
from wnv.pages.ingest.scene_cards import SceneCard, choose, read_card
from wnv.runtime.atomic import atomic_file

NUM_SCENES = 24
MAX_ITEMS = 600
_MAX_REASONS = 40  # per stage
_MAX_VERSIONS = 6  # per stage
_NUM_EXTREMES = 5

_STATE_NAMES = {"done": "done", "refused": "rejected", "failed": "failed", "running": "running", "pending": "waiting"}
_STAGE_TITLES = {
    "fetch": "videos, downloaded",
    "clip": "videos, cut into clips",
    "pose": "clips, cameras estimated",
    "pack": "clips, packed as scenes",
}
# Title, unit, factor to that unit, and whether the low end is the suspicious one.
_MEASURES = {
    "duration_s": ("Length of clips", " s", 1, True),
    "num_frames": ("Frames per scene", "", 1, True),
    "registered_ratio": ("Frames with a pose", " %", 100, True),
    "reprojection_px": ("Reprojection error", " px", 1, False),
    "parallax_deg": ("Median parallax", "°", 1, True),
    "pose_s": ("Pose estimation per clip", " s", 1, False),
}
_CARD_STATISTICS = {
    "registered_ratio": ("posed", "{:.0%}"),
    "reprojection_px": ("error", "{:.2f} px"),
    "parallax_deg": ("parallax", "{:.1f}°"),
}


def write_ingest_report(
    root: str | Path, out: str | Path | None = None, *, num_scenes: int = NUM_SCENES, seed: int = 0
) -> Path:
    """Write a page about the items of a ledger, and return its path. An existing page is replaced.

    The page needs no other file and no network, and can be written while a run is active. Its size is bounded: 1 to
    2 MB are usual for 24 scenes of 4 thumbnails and 600 items.

    Args:
        root: An output root.
        out: The page; by default `report.html` in the root.
        num_scenes: Number of scenes to show, sampled from all kinds and splits.
        seed: Seed of the sample.
    """
    if num_scenes < 0:
        raise ValueError(f"num_scenes must be 0 or more, got {num_scenes}")
    root = Path(root).absolute()
    path = root / REPORT_FILE if out is None else Path(out)
    with Ledger.read(root) as ledger:
        facts = gather(ledger.rows())
    problems = facts.problems(MAX_ITEMS)
    page = render(
        "ingest",
        root=root,
        command=f"wnv-data run root={shlex.quote(str(root))}",
        last_update=None if facts.last_update is None else datetime.fromtimestamp(facts.last_update, UTC),
        standing=_standing(facts),
        tiles=_tiles(facts),
        state_names=_STATE_NAMES,
        stages=[_stage(name, facts) for name in STAGES],
        list_codes=facts.codes,
        figures=[_figure(name, values) for name in _MEASURES if (values := facts.measures.get(name))],
        cards=[_card(read_card(root, entry)) for entry in choose(facts.scenes, most=num_scenes, seed=seed)],
        num_scenes=len(facts.scenes),
        scene_counts=sorted(Counter(f"{entry.kind} {entry.split}" for entry in facts.scenes).items()),
        versions=[*_versions(facts)],
        problems=problems,
        num_problems=facts.num_problems,
        choices={
            "stage": sorted({item.stage for item in problems}, key=STAGES.index),
            "state": sorted({item.state for item in problems}, key=STATES.index),
            "reason": sorted({item.reason for item in problems}),
        },
    )
    with atomic_file(path, overwrite=True) as file:
        file.write(page.encode())
    return path


def _standing(facts: Facts) -> tuple[str, str]:
    """The state of the whole root and its description; an empty state for an empty root."""
    total = sum((stage.counts for stage in facts.stages.values()), start=Counter[str]())
    if not total:
        return "", "The ledger is empty: no list of videos was read yet. See `wnv-data run --help`."
    if total["running"]:
        counts = f"{total['running']:,} running and {total['pending']:,} waiting"
        return "running", f"{counts}: a run is active, or was killed."
    if total["pending"]:
        return "pending", f"{total['pending']:,} waiting, none running: the next run continues."
    if facts.num_problems:
        return "done", f"Finished; {counted(facts.num_problems, 'item')} of all stages failed or were rejected."
    return "done", "Finished without a problem."


def _tiles(facts: Facts) -> list[tuple[str, str, str]]:
    videos, clips, scenes = facts.stages["fetch"].counts, len(facts.measures["duration_s"]), len(facts.scenes)
    num_frames = sum(scene.num_frames for scene in facts.scenes)
    num_bytes = sum(stage.num_bytes for stage in facts.stages.values())
    fetched = f"{videos['done']:,} fetched, {duration(facts.video_s)} long"
    return [
        (f"{videos.total():,}", "video" if videos.total() == 1 else "videos", fetched),
        (f"{clips:,}", "clip" if clips == 1 else "clips", duration(facts.clip_s)),
        (f"{scenes:,}", "scene" if scenes == 1 else "scenes", f"{duration(facts.scene_s)}, {num_frames:,} frames"),
        (file_size(num_bytes), "written", "videos, clips and scenes"),
    ]


def _stage(name: StageName, facts: Facts) -> dict[str, Any]:
    stage = facts.stages[name]
    common = stage.reasons.most_common(_MAX_REASONS)
    states = ("done", *(state for state in reversed(STATES) if state != "done"))
    return {
        "name": name,
        "title": _STAGE_TITLES[name],
        "counts": stage.counts,
        "bar": stacked_bar({state: stage.counts[state] for state in states}),
        "seconds": stage.seconds,
        "num_bytes": stage.num_bytes,
        "reasons": [(state, code, count, *explain(name, code)) for (state, code), count in common],
        "largest": max(stage.reasons.values(), default=0),
        "num_rarer": stage.reasons.total() - sum(count for _, count in common),
        "pieces": stage.pieces,
    }


def _figure(name: str, values: Sequence[tuple[float, str]]) -> dict[str, Any]:
    title, unit, factor, low_first = _MEASURES[name]
    numbers = sorted((value * factor, item) for value, item in values)
    ordered = [value for value, _ in numbers]
    return {
        "title": title,
        "unit": unit,
        "chart": histogram(ordered, unit=unit) if len(ordered) > _NUM_EXTREMES else None,  # all are listed anyway
        "quantiles": [ordered[round(q * (len(ordered) - 1))] for q in (0.05, 0.5, 0.95)],
        "count": len(ordered),
        "end": "lowest" if low_first else "highest",
        "extremes": numbers[:_NUM_EXTREMES] if low_first else numbers[: -_NUM_EXTREMES - 1 : -1],
    }


def _card(card: SceneCard) -> dict[str, Any]:
    entry, statistics = card.entry, {"frames": f"{card.entry.num_frames:,}"}
    if card.camtoworld is not None:
        length = path_length(card.camtoworld)
        statistics["size"] = f"{card.width} × {card.height}"
        statistics["path"] = f"{length:.3g} units" + (f", {length * card.scale:.3g} m" if card.scale else "")
    for name, (title, form) in _CARD_STATISTICS.items():
        if name in entry.statistics:
            statistics[title] = form.format(entry.statistics[name])
    return {
        "entry": entry,
        "thumbnails": card.thumbnails,
        "path": None if card.camtoworld is None else camera_path(card.camtoworld, label=f"camera path of {entry.id}"),
        "statistics": statistics,
        "problem": card.problem,
    }


def _versions(facts: Facts) -> Iterator[tuple[str, int, Mapping[str, str]]]:
    """Stage, number of items, and the settings and tool versions that made them."""
    for name, stage in facts.stages.items():
        for text, count in stage.versions.most_common(_MAX_VERSIONS):
            if versions := json.loads(text):
                yield name, count, dict(sorted(versions.items()))
