"""Inline SVG: stacked bars and histograms, coloured by the classes of the style sheet."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from wnv.ingest.tasks import STATES
from wnv.pages.markup import Markup, element, join

_NUM_BINS = 24
_WIDTH, _HEIGHT = 320, 120
_LEFT, _TOP, _BOTTOM = 4, 8, 20
# Beyond this share of the values lie outliers, which would squeeze all others into one bar.
_TAIL = 0.99


def stacked_bar(counts: Mapping[str, int]) -> Markup:
    """A bar as wide as its place, divided by the states of a stage's items."""
    total = sum(counts.values())
    parts, start = [], 0.0
    for state in ("done", *(state for state in reversed(STATES) if state != "done")):
        count = counts.get(state, 0)
        if not count:
            continue
        share = 100 * count / total
        label = element("title", f"{state}: {count:,} ({share:.1f} %)")
        parts.append(
            element("rect", label, class_=f"fill-{state}", x=f"{start:.3f}%", width=f"{share:.3f}%", height="100%")
        )
        start += share
    words = ", ".join(f"{counts[state]} {state}" for state in STATES if counts.get(state))
    return element("svg", *parts, class_="bar", role="img", aria_label=words or "nothing")


def share_bar(count: int, largest: int, state: str) -> Markup:
    """A bar as long as a count is beside the largest one."""
    width = f"{100 * count / max(largest, 1):.2f}%"
    track = element("rect", class_="track", width="100%", height="100%")
    return element(
        "svg",
        track,
        element("rect", class_=f"fill-{state}", width=width, height="100%"),
        class_="share",
        aria_hidden="true",
    )


def histogram(values: Sequence[float], *, unit: str) -> Markup:
    """How values are spread, at least one of them, with a line at the median; `unit` is for the bars' labels."""
    ordered = sorted(values)
    low, high, step = _bins(ordered)
    num_bins = max(1, round((high - low) / step))
    # The hair's breadth keeps what stands on an edge on the right side of it.
    counts = Counter(min(max(int((value - low) / step + 1e-9), 0), num_bins - 1) for value in ordered)
    beyond = ordered[-1] > high + 1e-9 * step
    bar_width = (_WIDTH - 2 * _LEFT) / num_bins
    floor = _HEIGHT - _BOTTOM

    shapes = [element("line", class_="axis", x1=_LEFT, x2=_WIDTH - _LEFT, y1=floor, y2=floor)]
    for index, count in sorted(counts.items()):
        stop = "" if beyond and index == num_bins - 1 else _number(low + (index + 1) * step, step)
        label = f"{_number(low + index * step, step)} {f'to {stop}' if stop else 'and more'}{unit}: {count:,}"
        height = (floor - _TOP) * count / max(counts.values())
        shapes.append(
            element(
                "rect",
                element("title", label),
                class_="fill-done",
                x=f"{_LEFT + index * bar_width + 0.6:.1f}",
                y=f"{floor - height:.1f}",
                width=f"{bar_width - 1.2:.1f}",
                height=f"{height:.1f}",
            )
        )
    middle = f"{_LEFT + bar_width * (ordered[len(ordered) // 2] - low) / step:.1f}"
    shapes.append(element("line", class_="median", x1=middle, x2=middle, y1=_TOP - 6, y2=floor))
    shapes.extend(_ticks(low, high, step, beyond=beyond))
    return element("svg", *shapes, class_="histogram", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img")


def _bins(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower end, upper end and width of the bins: round numbers."""
    low, high = values[0], values[min(len(values) - 1, math.ceil(_TAIL * len(values)))]
    span = high - low
    if span <= 0:
        span = max(abs(high), 1.0)
    power = 10.0 ** math.floor(math.log10(span / _NUM_BINS))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= span / _NUM_BINS)
    start = math.floor(low / step + 1e-9) * step
    # Near zero the axis starts at zero: half a picture of small numbers misleads.
    if 0 < start < 0.25 * high:
        start = 0.0
        step = next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= high / _NUM_BINS)
    return start, max(math.ceil(high / step - 1e-9) * step, start + step), step


def _ticks(low: float, high: float, step: float, *, beyond: bool) -> list[Markup]:
    num_bins = round((high - low) / step)
    every = max(1, math.ceil(num_bins / 5))
    ticks = []
    for index in range(0, num_bins + 1, every):
        x = _LEFT + (_WIDTH - 2 * _LEFT) * index / num_bins
        anchor = "start" if index == 0 else "end" if index == num_bins else "middle"
        text = _number(low + index * step, step)
        ticks.append(element("text", text, x=f"{x:.1f}", y=_HEIGHT - 6, text_anchor=anchor))
    if beyond:
        ticks.append(element("text", "and more", x=_WIDTH - _LEFT, y=_TOP + 2, text_anchor="end"))
    return ticks


def _number(value: float, step: float) -> str:
    """A number with as many digits as tell it from its neighbours."""
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{digits}f}"


def summary(values: Sequence[float], *, unit: str) -> Markup:
    """The median, the range of nine in ten, and how many there are, in words."""
    ordered = sorted(values)
    low, middle, high = (ordered[round(q * (len(ordered) - 1))] for q in (0.05, 0.5, 0.95))
    return join(
        "median ", element("b", f"{middle:.3g}{unit}"), f", nine in ten {low:.3g} to {high:.3g}, of {len(ordered):,}"
    )
