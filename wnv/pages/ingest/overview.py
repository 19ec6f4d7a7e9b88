"""The sections of the report that count: totals, stages, reasons, measures, versions."""

import json
import shlex
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from wnv.ingest.reasons import explain
from wnv.ingest.tasks import StageName
from wnv.pages.ingest.charts import histogram, share_bar, stacked_bar, summary
from wnv.pages.ingest.facts import Facts, StageFacts
from wnv.pages.ingest.words import CODE_LENGTH, KEY_LENGTH, STATE_WORDS, badge, settings
from wnv.pages.markup import Markup, element, foreign, join
from wnv.pages.words import duration, note, pairs, section, size, when

_MAKES: dict[StageName, str] = {
    "fetch": "videos, downloaded",
    "clip": "videos, cut into clips",
    "pose": "clips, given cameras",
    "pack": "clips, packed as scenes",
}
# Title, unit, factor to that unit, and whether the low end is the one that is worth a look.
_MEASURES: dict[str, tuple[str, str, float, bool]] = {
    "duration_s": ("Length of clips", " s", 1, True),
    "num_frames": ("Frames a scene", "", 1, True),
    "registered_ratio": ("Frames with a pose", " %", 100, True),
    "reprojection_px": ("Reprojection error", " px", 1, False),
    "parallax_deg": ("Median parallax", "°", 1, True),
    "pose_s": ("Work on a clip's poses", " s", 1, False),
}
_NUM_EXTREMES = 5
_MAX_REASONS = 40
_MAX_VERSIONS = 6
_VERSION_LENGTH = 2000


def header(root: Path, facts: Facts, *, now: datetime) -> Markup:
    """The root's name, when, how it stands, and the totals."""
    dates = [element("span", "written ", when(now))]
    if facts.last_update is not None:
        dates.append(element("span", "ledger of ", when(datetime.fromtimestamp(facts.last_update, UTC))))
    return element(
        "header",
        element("h1", foreign(root.name or str(root), limit=120)),
        element("p", foreign(str(root), limit=300), *dates, class_="where"),
        element("p", *_standing(facts), class_="standing"),
        element("div", *(_tile(*tile) for tile in _totals(facts)), class_="tiles"),
    )


def _standing(facts: Facts) -> Iterable[Markup | str]:
    total = sum((stage.counts for stage in facts.stages.values()), start=Counter())
    if not total:
        return [
            "Nothing is here yet: no list of videos has been taken in. ",
            settings("`wnv-data run --help` says how."),
        ]
    running, waiting = total["running"], total["pending"]
    if running:
        return [
            element("span", class_="dot fill-running"),
            f"{running:,} in hand and {waiting:,} waiting: a run is going on, or one was ended by force.",
        ]
    if waiting:
        return [
            element("span", class_="dot fill-pending"),
            f"{waiting:,} waiting, nothing in hand: the next run goes on.",
        ]
    undone = total["failed"] + total["refused"]
    words = (
        f"Through: {undone:,} items of all stages did not go well." if undone else "Through, and everything went well."
    )
    return [element("span", class_="dot fill-done"), words]


def _totals(facts: Facts) -> list[tuple[str, str, str]]:
    frames = int(sum(value for value, _ in facts.measures["num_frames"]))
    videos, clips = facts.stages["fetch"].counts, len(facts.measures["duration_s"])
    num_bytes = sum(stage.num_bytes for stage in facts.stages.values())
    return [
        (
            f"{videos.total():,}",
            _plural("video", videos.total()),
            f"{videos['done']:,} fetched, {duration(facts.video_s)} long",
        ),
        (f"{clips:,}", _plural("clip", clips), duration(facts.clip_s)),
        (
            f"{len(facts.scenes):,}",
            _plural("scene", len(facts.scenes)),
            f"{duration(facts.scene_s)}, {frames:,} frames",
        ),
        (size(num_bytes), "written", "videos, clips and scenes"),
    ]


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"


def _tile(number: str, name: str, note: str) -> Markup:
    return element(
        "div", element("b", number), element("span", name, class_="name"), element("small", note), class_="tile"
    )


def contents() -> Markup:
    """Links to the sections."""
    names = ("stages", "reasons", "measures", "scenes", "items")
    return element("nav", *(element("a", name.capitalize(), href=f"#{name}") for name in names))


def flow(facts: Facts) -> Markup:
    """The stages side by side, each with its items by state."""
    return section("Stages", "stages", element("ol", *(_stage(*pair) for pair in facts.stages.items()), class_="flow"))


def _stage(name: StageName, stage: StageFacts) -> Markup:
    legend = [
        element(
            "li", element("span", class_=f"dot fill-{state}"), element("b", f"{stage.counts[state]:,}"), f" {words}"
        )
        for state, words in STATE_WORDS.items()
        if stage.counts[state]
    ]
    effort = f"{duration(stage.seconds)} of work, {size(stage.num_bytes)}" if stage.seconds else "not begun"
    return element(
        "li",
        element("h3", name, element("small", _MAKES[name])),
        stacked_bar(stage.counts),
        element("ul", *legend, class_="legend") if legend else note("nothing to do yet"),
        element("p", effort, class_="quiet"),
    )


def reasons(root: Path, facts: Facts) -> Markup:
    """Why items are not done, stage by stage, and what to do about it."""
    repairs = join(element("h3", "the list of videos"), note("What was repaired in it: ", _codes(facts.codes)))
    parts = [_stage_reasons(name, stage) for name, stage in facts.stages.items() if stage.reasons or stage.pieces]
    if not parts:
        parts = [note("Nothing failed and nothing was refused.")]
    else:
        command = element("code", f"wnv-data run root={shlex.quote(str(root))}")
        parts.insert(0, note("Settings go behind ", command, ", which leaves alone what is done."))
    return section("Reasons", "reasons", *parts, repairs if facts.codes else None)


def _stage_reasons(name: StageName, stage: StageFacts) -> Markup:
    common = stage.reasons.most_common(_MAX_REASONS)
    largest = max(stage.reasons.values(), default=0)
    rows = [_reason(name, state, code, count, largest) for (state, code), count in common]
    left = stage.reasons.total() - sum(count for _, count in common)
    return join(
        element("h3", name),
        element("div", *rows, class_="reasons") if rows else None,
        note(f"{left:,} items have rarer reasons.") if left else None,
        note("Parts left out of videos that gave other clips: ", _codes(stage.pieces)) if stage.pieces else None,
    )


def _codes(counts: Counter[str]) -> Markup:
    words = (join(foreign(code, limit=CODE_LENGTH), f" {count:,}") for code, count in counts.most_common(_MAX_REASONS))
    return element("span", *(element("span", word) for word in words), class_="codes")


def _reason(stage: StageName, state: str, code: str, count: int, largest: int) -> Markup:
    meaning, way_out = explain(stage, code)
    return element(
        "div",
        element(
            "p",
            element(
                "a",
                element("code", foreign(code, limit=CODE_LENGTH)),
                href="#items",
                data_stage=stage,
                data_reason=code,
            ),
            badge(state),
            class_="code",
        ),
        element("p", share_bar(count, largest, state), element("b", f"{count:,}"), class_="count"),
        element("p", meaning, " ", element("span", settings(way_out), class_="way"), class_="words"),
        class_="reason",
    )


def histograms(facts: Facts) -> Markup:
    """How the measured quantities are spread, and whose values are at the end that is worth a look."""
    figures = [_figure(name, values) for name in _MEASURES if (values := facts.measures[name])]
    if not figures:
        return section("Measures", "measures", note("Nothing has been measured yet."))
    return section("Measures", "measures", element("div", *figures, class_="figures"))


def _figure(name: str, values: list[tuple[float, str]]) -> Markup:
    title, unit, factor, low_first = _MEASURES[name]
    numbers = [value * factor for value, _ in values]
    ends = sorted(zip(numbers, (item for _, item in values), strict=True), reverse=not low_first)[:_NUM_EXTREMES]
    extremes = [
        element("li", element("b", f"{value:.3g}{unit}"), " ", foreign(item, limit=KEY_LENGTH)) for value, item in ends
    ]
    return element(
        "figure",
        element("figcaption", title, element("small", unit) if unit else None),
        histogram(numbers, unit=unit),
        element("p", summary(numbers, unit=unit), class_="quiet"),
        element("details", element("summary", "the lowest" if low_first else "the highest"), element("ol", *extremes)),
    )


def made_with(facts: Facts) -> Markup | None:
    """Settings and tools that the outputs were made with."""
    blocks = []
    for name, stage in facts.stages.items():
        for text, count in stage.versions.most_common(_MAX_VERSIONS):
            lines = [
                pairs(foreign(key, limit=CODE_LENGTH), foreign(value, limit=_VERSION_LENGTH))
                for key, value in sorted(json.loads(text).items())
            ]
            if lines:
                blocks.append(join(element("h3", name, element("small", f"{count:,} items")), element("dl", *lines)))
    if not blocks:
        return None
    return section("Made with", "made", element("details", element("summary", "settings and tools"), *blocks))
