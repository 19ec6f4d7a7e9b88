"""The sections of the report that show single things: scenes, and items that did not go well."""

from collections import Counter
from collections.abc import Iterable

from wnv.ingest.tasks import STAGES, STATES
from wnv.pages.ingest.camera_path import draw_path, path_length
from wnv.pages.ingest.facts import Facts, Trouble
from wnv.pages.ingest.gallery import Exhibit
from wnv.pages.ingest.words import CODE_LENGTH, KEY_LENGTH, MESSAGE_LENGTH, STATE_WORDS, TITLE_LENGTH, badge
from wnv.pages.markup import Markup, element, foreign, link
from wnv.pages.words import note, pairs, section


def scenes(exhibits: list[Exhibit], facts: Facts) -> Markup:
    """Some of the scenes: frames, camera path, statistics."""
    if not facts.scenes:
        return section("Scenes", "scenes", note("No scene has been packed yet."))
    groups = Counter(f"{entry.kind} {entry.split}" for entry in facts.scenes)
    counts = ", ".join(f"{count:,} {name}" for name, count in sorted(groups.items()))
    shown = f"{len(exhibits)} of {len(facts.scenes):,}, drawn by lot" if len(exhibits) < len(facts.scenes) else "All"
    words = f"{shown}. {counts}. Paths are seen from above, from the dot to the ring; wedges open where cameras look."
    return section(
        "Scenes",
        "scenes",
        element("p", words, class_="quiet"),
        element("div", *(_card(exhibit) for exhibit in exhibits), class_="cards"),
    )


def _card(exhibit: Exhibit) -> Markup:
    entry = exhibit.entry
    title = foreign(entry.title or entry.key, limit=TITLE_LENGTH)
    pictures = [
        element("img", src=source, alt=f"frame {number} of {len(exhibit.thumbnails)}")
        for number, source in enumerate(exhibit.thumbnails, start=1)
    ]
    drawing = None
    if exhibit.camtoworld is not None:
        drawing = draw_path(exhibit.camtoworld, label=f"camera path of {entry.id}")
    return element(
        "article",
        element("div", *pictures, class_=f"frames of{len(pictures)}") if pictures else None,
        element(
            "div",
            drawing,
            element(
                "div",
                element("h4", link(entry.url, title)),
                element("p", element("span", entry.kind, class_="badge"), element("span", entry.split, class_="badge")),
                element("dl", *_statistics(exhibit)),
                class_="about",
            ),
            class_="below",
        ),
        element("p", foreign(exhibit.problem, limit=MESSAGE_LENGTH), class_="problem") if exhibit.problem else None,
        element("p", element("code", entry.id), class_="id"),
        class_="card",
    )


def _statistics(exhibit: Exhibit) -> Iterable[Markup]:
    entry = exhibit.entry
    yield pairs("frames", f"{entry.num_frames:,}")
    if exhibit.camtoworld is not None:
        length = path_length(exhibit.camtoworld)
        yield pairs("size", f"{exhibit.width} × {exhibit.height}")
        yield pairs("path", f"{length:.3g} units" + (f", {length * exhibit.scale:.3g} m" if exhibit.scale else ""))
    for name, words, form in (
        ("registered_ratio", "posed", "{:.0%}"),
        ("reprojection_px", "error", "{:.2f} px"),
        ("parallax_deg", "parallax", "{:.1f}°"),
    ):
        if name in entry.statistics:
            yield pairs(words, form.format(entry.statistics[name]))


def items(shown: list[Trouble], facts: Facts) -> Markup:
    """The items that did not go well, in a table that can be narrowed down."""
    if not shown:
        return section("Items", "items", note("No item failed and none was refused."))
    count = (
        f"{facts.num_trouble:,} items"
        if len(shown) == facts.num_trouble
        else f"{len(shown):,} of {facts.num_trouble:,} items"
    )
    head = element(
        "tr", *(element("th", name, scope="col") for name in ("video", "stage", "reason", "message", "tries"))
    )
    controls = element(
        "form",
        element("input", type="search", id="text", placeholder="search", aria_label="search in the items"),
        _choice("stage", "every stage", sorted({item.stage for item in shown}, key=STAGES.index)),
        _choice("state", "every state", sorted({item.state for item in shown}, key=STATES.index)),
        _choice("reason", "every reason", sorted({item.reason for item in shown})),
        element("output", count, id="shown"),
        id="filter",
        hidden=True,  # until the script that makes it work runs
    )
    more = "Of every reason those that were tried most often. " if len(shown) < facts.num_trouble else ""
    table = element("table", element("thead", head), element("tbody", *(_item(item) for item in shown)))
    return section("Items", "items", element("p", f"{count} did not go well. {more}", class_="quiet"), controls, table)


def _choice(name: str, everything: str, values: Iterable[str]) -> Markup:
    options = [element("option", everything, value="")]
    options += [element("option", STATE_WORDS.get(value, value), value=value) for value in values]
    return element("select", *options, id=name, aria_label=name)


def _item(item: Trouble) -> Markup:
    title = foreign(item.title or item.key, limit=TITLE_LENGTH)
    return element(
        "tr",
        element(
            "td",
            link(item.url, title),
            element("small", foreign(item.item, limit=KEY_LENGTH), class_="key"),
            data_name="video",
        ),
        element("td", item.stage, data_name="stage"),
        element(
            "td",
            element("code", foreign(item.reason, limit=CODE_LENGTH)),
            badge(item.state),
            data_name="reason",
        ),
        element("td", foreign(item.message, limit=MESSAGE_LENGTH), data_name="message"),
        element("td", item.tries, data_name="tries", class_="number"),
        data_stage=item.stage,
        data_state=item.state,
        data_reason=item.reason,
    )
