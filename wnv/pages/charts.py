"""Charts as inline SVG. Colours come from the style sheet's classes, so that they follow dark mode."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

Number = float | int
Point = tuple[Number, Number]

NUM_COLOURS = 8
_WIDTH, _HEIGHT, _SIDE = 420, 230, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 32
_MAX_POINTS = 240  # per line; more are averaged
_MAX_DOTS = 400  # with a tooltip each; more are one path
_NUM_TICKS = 5
_LOG_RATIO = 8  # of the largest to the smallest value, below which a logarithmic axis shows nothing more
_BARS_WIDTH, _BARS_HEIGHT, _BARS_LEFT, _BARS_TOP, _BARS_BOTTOM = 320, 120, 4, 8, 20
_NUM_BINS = 24
_TAIL = 0.99  # of the values; outliers beyond are counted in the last bar


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a chart."""

    name: str
    points: Sequence[Point]
    """(x, y) in order of x; values that are not finite leave a gap."""
    colour: int = 0
    is_reference: bool = False
    """Whether it is a baseline, thin and gray."""

    @property
    def style(self) -> str:
        """Class of the style sheet."""
        return "reference" if self.is_reference else colour_class(self.colour)


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A named point of a scatter chart."""

    name: str
    x: Number
    y: Number


def colour_class(index: int) -> str:
    """The class of a colour: from the ninth on, the first eight again, dashed, then dotted."""
    return f"colour{index % NUM_COLOURS}" + ("", " dashed", " dotted")[index // NUM_COLOURS % 3]


def line_chart(lines: Sequence[Line], *, x_name: str, label: str, log: bool = False) -> Markup:
    """Plot lines over a common axis. Lines of many points show the means of neighboring points.

    `label` is for screen readers; `log` uses a logarithmic vertical axis where the values are positive and far enough
    apart.
    """
    parts = [(line, part) for line in lines for part in _finite_parts(line.points)]
    xs = [x for _, points in parts for x, _ in points]
    ys = [y for _, points in parts for _, y in points]
    if not ys:
        raise ValueError(f"{label}: a chart needs at least one finite value, got none")
    log = log and max(ys) > _LOG_RATIO * min(ys) > 0
    across = _Axis(xs, _LEFT, _WIDTH - _RIGHT)
    up = _Axis(ys, _HEIGHT - _BOTTOM, _TOP, log=log)
    shapes = [*_grid(across, up, x_name)]
    for line, points in parts:
        title = f"{line.name}: {_short(points[-1][1])} at {points[-1][0]:,.0f}"
        if len(points) == 1:
            shape = Markup('<circle class="end {}" cx="{:.1f}" cy="{:.1f}" r="3"><title>{}</title></circle>')
            shapes.append(shape.format(line.style, across(points[0][0]), up(points[0][1]), title))
        else:
            shape = Markup('<polyline class="line {}" points="{}"><title>{}</title></polyline>')
            path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
            shapes.append(shape.format(line.style, path, title))
    return _svg("chart", _WIDTH, _HEIGHT, shapes, label)


def scatter_chart(dots: Sequence[Dot], *, x_name: str, y_name: str, label: str) -> Markup:
    """Plot at least one pair of values on equal axes, with the diagonal of equal values."""
    values = [value for dot in dots for value in (dot.x, dot.y)]
    across = _Axis(values, _LEFT, _SIDE - _RIGHT)
    up = _Axis(values, _SIDE - _BOTTOM, _TOP)
    ends = (across(across.low), up(up.low), across(across.high), up(up.high))
    shapes = [
        *_grid(across, up, x_name),
        Markup('<text class="name" x="{}" y="{}">{}</text>').format(_LEFT + 4, _TOP + 10, y_name),
        Markup('<line class="diagonal" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(*ends),
    ]
    if len(dots) <= _MAX_DOTS:
        shape = Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="3.2"><title>{}: {} and {}</title></circle>')
        shapes += [shape.format(across(dot.x), up(dot.y), dot.name, _short(dot.x), _short(dot.y)) for dot in dots]
    else:
        path = "".join(f"M{across(dot.x):.1f} {up(dot.y):.1f}h0" for dot in dots)
        shapes.append(Markup('<path class="cloud" d="{}"/>').format(path))
    return _svg("chart", _SIDE, _SIDE, shapes, label)


def histogram(values: Sequence[Number], *, unit: str) -> Markup:
    """Plot the distribution of at least one value, with a line at the median; `unit` is for the bars' tooltips."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[min(len(ordered) - 1, math.ceil(_TAIL * len(ordered)))]
    # An axis that starts just above zero misleads.
    edges = round_ticks(0 if 0 < low < 0.25 * high else low, high, count=_NUM_BINS)
    low, step, num_bins = edges[0], edges[1] - edges[0], len(edges) - 1
    # 1e-9 keeps a value on an edge in the bin above it, despite rounding.
    counts = Counter(min(max(int((value - low) / step + 1e-9), 0), num_bins - 1) for value in ordered)
    has_tail = ordered[-1] > edges[-1] + 1e-9 * step
    texts = _tick_texts(edges)

    def x(value: Number) -> float:
        return _BARS_LEFT + (_BARS_WIDTH - 2 * _BARS_LEFT) * (value - low) / (step * num_bins)

    floor = _BARS_HEIGHT - _BARS_BOTTOM
    axis = Markup('<line class="axis" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/>')
    shapes = [axis.format(_BARS_LEFT, _BARS_WIDTH - _BARS_LEFT, floor)]
    bar = Markup(
        '<rect class="fill-done" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
    )
    for index, count in sorted(counts.items()):
        end = "and more" if has_tail and index == num_bins - 1 else f"to {texts[index + 1]}"
        height = (floor - _BARS_TOP) * count / max(counts.values())
        left, right = x(edges[index]) + 0.6, x(edges[index + 1]) - 0.6
        title = f"{texts[index]} {end}{unit}: {count:,}"
        shapes.append(bar.format(left, floor - height, right - left, height, title))
    median = Markup('<line class="median" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>')
    shapes.append(median.format(x(ordered[len(ordered) // 2]), _BARS_TOP - 6, floor))
    for index in range(0, num_bins + 1, max(1, math.ceil(num_bins / _NUM_TICKS))):
        shapes.append(_text(texts[index], x(edges[index]), _BARS_HEIGHT - 6, _anchor(index, num_bins)))
    if has_tail:
        shapes.append(_text("and more", _BARS_WIDTH - _BARS_LEFT, _BARS_TOP + 2, "end"))
    return _svg("histogram", _BARS_WIDTH, _BARS_HEIGHT, shapes, "histogram")


def stacked_bar(counts: Mapping[str, int]) -> Markup:
    """Divide a bar, as wide as its place, by the counts of states, in their order."""
    total = sum(counts.values())
    shape = Markup('<rect class="fill-{}" x="{:.3f}%" width="{:.3f}%" height="100%"><title>{}</title></rect>')
    shapes, start = [], 0.0
    for state, count in counts.items():
        share = 100 * count / total if total else 0
        if count:
            shapes.append(shape.format(state, start, share, f"{state}: {count:,} ({share:.1f} %)"))
        start += share
    label = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "nothing"
    return Markup('<svg class="bar" role="img" aria-label="{}">{}</svg>').format(label, _joined(shapes))


def round_ticks(low: Number, high: Number, *, count: int = _NUM_TICKS) -> list[float]:
    """Round numbers at equal distances, about `count` intervals, that enclose a range."""
    if high <= low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = 2 - math.floor(math.log10(step))
    return [round(i * step, digits) for i in range(first, last + 1)]


def _log_ticks(low: Number, high: Number) -> list[float]:
    """The values of 1, 2 and 5 times the powers of ten that enclose a range; if many, only the powers."""
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    fine = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    first = max(i for i, value in enumerate(fine) if value <= low)
    last = min((i for i, value in enumerate(fine) if value >= high), default=len(fine) - 1)
    ticks = fine[first : last + 1]
    return ticks if len(ticks) <= 2 * _NUM_TICKS else [10.0**power for power in powers[1:]]


class _Axis:
    """Maps values to coordinates of the chart; its ends are round numbers."""

    def __init__(self, values: Sequence[Number], start: int, end: int, *, log: bool = False) -> None:
        low, high = min(values), max(values)
        self._log = log
        self.ticks = _log_ticks(low, high) if log else round_ticks(low, high)
        self.low, self.high = min(low, self.ticks[0]), max(high, self.ticks[-1])
        self.start, self.end = start, end

    def __call__(self, value: Number) -> float:
        low, high = (math.log(self.low), math.log(self.high)) if self._log else (self.low, self.high)
        value = math.log(value) if self._log else value
        return self.start + (self.end - self.start) * ((value - low) / (high - low) if high > low else 0.5)


def _grid(across: _Axis, up: _Axis, x_name: str) -> Iterable[Markup]:
    line = Markup('<line class="grid" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/>')
    for value, text in zip(up.ticks, _tick_texts(up.ticks), strict=True):
        yield line.format(across.start, across.end, up(value))
        yield _text(text, across.start - 6, up(value) + 3.5, "end")
    for index, (value, text) in enumerate(zip(across.ticks, _tick_texts(across.ticks), strict=True)):
        yield _text(text, across(value), up.start + 13, _anchor(index, len(across.ticks) - 1))
    name = Markup('<text class="name" x="{}" y="{}" text-anchor="end">{}</text>')
    yield name.format(across.end, up.start + _BOTTOM - 2, x_name)


def _text(text: str, x: Number, y: Number, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


def _anchor(index: int, last: int) -> str:
    """Anchor that keeps the first and the last text of an axis inside the chart."""
    return {0: "start", last: "end"}.get(index, "middle")


def _svg(style: str, width: int, height: int, shapes: Iterable[Markup], label: str) -> Markup:
    svg = Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
    return svg.format(style, width, height, label, _joined(shapes))


def _joined(shapes: Iterable[Markup]) -> Markup:
    return Markup("").join(shapes)


def _finite_parts(points: Sequence[Point]) -> list[list[Point]]:
    """Split a line at values that are not finite, and thin each part: the last point stays, others become means."""
    size = math.ceil(len(points) / _MAX_POINTS)
    parts: list[list[Point]] = []
    for is_finite, group in itertools.groupby(points, key=lambda point: math.isfinite(point[1])):
        part = [*group]
        if is_finite and size > 1:
            chunks = [part[i : i + size] for i in range(0, len(part), size)]
            means = [(sum(x for x, _ in c) / len(c), sum(y for _, y in c) / len(c)) for c in chunks]
            part = [*means[:-1], part[-1]]
        if is_finite:
            parts.append(part)
    return parts


def _tick_texts(ticks: Sequence[Number]) -> list[str]:
    """Format ticks with as few digits as keep them different."""
    texts: list[str] = []
    for digits in range(3, 16):
        texts = [_short(value, digits) for value in ticks]
        if len({*texts}) == len(texts):
            break
    return texts


def _short(value: Number, digits: int = 4) -> str:
    """Format a number shortly: thousands as k, millions as M."""
    for limit, unit, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= limit:
            return f"{value / unit:.{digits}g}{letter}"
    return f"{value:.{max(digits, 4)}g}"
