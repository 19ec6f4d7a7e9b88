"""Charts of numbers as inline SVG: lines over steps, and pairs of scores; coloured by classes of the style sheet."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from wnv.pages.markup import Content, Markup, element

NUM_COLOURS = 8
_WIDTH, _HEIGHT, _SIDE = 420, 230, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 32
_MAX_POINTS = 240  # of a line; more are averaged
_MAX_DOTS = 400  # that are told one by one; of more only a cloud is drawn
_NUM_TICKS = 5
_LOG_RATIO = 8  # of the values; where they lie closer a logarithmic scale shows nothing more


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a chart.

    Attributes:
        name: Whose it is.
        points: (x, y) in order of x; values that are not finite leave a gap.
        colour: Number of its colour, 0..7; further ones begin again, dashed, then dotted.
        is_reference: Whether it is what others are compared with: drawn thin and grey.
    """

    name: str
    points: Sequence[tuple[float | int, float | int]]
    colour: int = 0
    is_reference: bool = False


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A point of a scatter chart, and what it is."""

    name: str
    x: float | int
    y: float | int


def line_chart(lines: Sequence[Line], *, x_name: str, label: str, log: bool = False) -> Markup:
    """Lines over a common axis; of many points the means of neighbours are drawn.

    Args:
        lines: At least one, with at least one finite value among them.
        x_name: What stands under the axis.
        label: What the chart is, for those who cannot see it.
        log: Whether the values stand on a logarithmic scale, where they are positive and far enough apart.

    Raises:
        ValueError: If no value is finite.
    """
    drawn = [(line, part) for line in lines for part in _parts(line.points)]
    values = [y for _, points in drawn for _, y in points]
    if not values:
        raise ValueError(f"{label}: a chart needs at least one finite value, got none")
    log = log and max(values) > _LOG_RATIO * min(values) > 0
    xs = [x for _, points in drawn for x, _ in points]
    across = _Scale(min(xs), max(xs), _LEFT, _WIDTH - _RIGHT)
    up = _Scale(min(values), max(values), _HEIGHT - _BOTTOM, _TOP, log=log)
    shapes = [*_grid(across, up, _WIDTH, _HEIGHT, x_name=x_name)]
    for line, points in drawn:
        title = element("title", f"{line.name}: {_short(points[-1][1])} at {points[-1][0]:,.0f}")
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
        kind = "reference" if line.is_reference else colour_class(line.colour)
        if len(points) == 1:
            x, y = path.split(",")
            shapes.append(element("circle", title, class_=f"end {kind}", cx=x, cy=y, r=3))
        else:
            shapes.append(element("polyline", title, class_=f"line {kind}", points=path))
    return _svg(shapes, _WIDTH, _HEIGHT, label=label)


def scatter_chart(dots: Sequence[Dot], *, x_name: str, y_name: str, label: str) -> Markup:
    """Pairs of values on equal axes, with the diagonal on which both are the same.

    Raises:
        ValueError: If there is no dot.
    """
    if not dots:
        raise ValueError(f"{label}: a scatter chart needs at least one pair, got none")
    values = [value for dot in dots for value in (dot.x, dot.y)]
    across = _Scale(min(values), max(values), _LEFT, _SIDE - _RIGHT)
    up = _Scale(min(values), max(values), _SIDE - _BOTTOM, _TOP)
    shapes = [*_grid(across, up, _SIDE, _SIDE, x_name=x_name)]
    shapes.append(element("text", y_name, class_="name", x=_LEFT + 4, y=_TOP + 10))
    low, high = across.low, across.high
    shapes.append(
        element(
            "line",
            class_="diagonal",
            x1=f"{across(low):.1f}",
            y1=f"{up(low):.1f}",
            x2=f"{across(high):.1f}",
            y2=f"{up(high):.1f}",
        )
    )
    if len(dots) <= _MAX_DOTS:
        for dot in dots:
            title = element("title", f"{dot.name}: {_short(dot.x)} and {_short(dot.y)}")
            x, y = f"{across(dot.x):.1f}", f"{up(dot.y):.1f}"
            shapes.append(element("circle", title, class_="dot", cx=x, cy=y, r=3.2))
    else:
        path = "".join(f"M{across(dot.x):.1f} {up(dot.y):.1f}h0" for dot in dots)
        shapes.append(element("path", class_="cloud", d=path))
    return _svg(shapes, _SIDE, _SIDE, label=label)


def legend(lines: Sequence[Line]) -> Markup:
    """The names of lines beside their colours."""
    entries = (
        element(
            "li",
            element("span", class_=f"key {'reference' if line.is_reference else colour_class(line.colour)}"),
            line.name,
        )
        for line in lines
    )
    return element("ul", *entries, class_="keys")


def colour_class(number: int) -> str:
    """The class of a colour: of the ninth on, the first eight again, dashed, then dotted."""
    return f"colour{number % NUM_COLOURS}" + ("", " dashed", " dotted")[number // NUM_COLOURS % 3]


class _Scale:
    """From values to places in the drawing; its ends are round numbers."""

    def __init__(self, low: float | int, high: float | int, start: int, end: int, *, log: bool = False) -> None:
        self._log = log
        self.ticks = _log_ticks(low, high) if log else round_ticks(low, high)
        self.low, self.high = min(low, self.ticks[0]), max(high, self.ticks[-1])
        self._start, self._end = start, end

    def __call__(self, value: float | int) -> float:
        low, high = (math.log(self.low), math.log(self.high)) if self._log else (self.low, self.high)
        value = math.log(value) if self._log else value
        return self._start + (self._end - self._start) * ((value - low) / (high - low) if high > low else 0.5)


def round_ticks(low: float | int, high: float | int, *, count: int = _NUM_TICKS) -> list[float]:
    """Round numbers at equal distances, about `count`, that enclose a range."""
    if high <= low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = 2 - math.floor(math.log10(step))
    return [round(i * step, digits) for i in range(first, last + 1)]


def _log_ticks(low: float | int, high: float | int) -> list[float]:
    """Of 1, 2 and 5 times the powers of ten those that enclose a range; of many only the powers."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    fine = [factor * 10.0**power for power in range(first - 1, last + 1) for factor in (1, 2, 5)]
    inside = [value for value in fine if low <= value <= high]
    below, above = [v for v in fine if v < low][-1:], [v for v in fine if v > high][:1]
    ticks = [*(below if inside[:1] != [low] else []), *inside, *(above if inside[-1:] != [high] else [])]
    if len(ticks) > 2 * _NUM_TICKS:
        ticks = [10.0**power for power in range(first, last + 1)]
    return ticks


def _parts(points: Sequence[tuple[float | int, float | int]]) -> list[list[tuple[float | int, float | int]]]:
    """The stretches of a line between values that are not finite, each with few enough points."""
    size = math.ceil(len(points) / _MAX_POINTS)
    parts = []
    for is_finite, group in itertools.groupby(points, key=lambda point: math.isfinite(point[1])):
        if is_finite:
            parts.append(_thin([*group], size))
    return parts


def _thin(points: list[tuple[float | int, float | int]], size: int) -> list[tuple[float | int, float | int]]:
    """The means of so many neighbours each; the last point is itself."""
    if size <= 1:
        return points
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    means = [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]
    return [*means[:-1], points[-1]]


def _grid(across: _Scale, up: _Scale, width: int, height: int, *, x_name: str) -> list[Markup]:
    shapes = []
    floor = height - _BOTTOM
    for value, text in zip(up.ticks, _tick_texts(up.ticks), strict=True):
        y = f"{up(value):.1f}"
        shapes.append(element("line", class_="grid", x1=_LEFT, x2=width - _RIGHT, y1=y, y2=y))
        shapes.append(element("text", text, x=_LEFT - 6, y=f"{up(value) + 3.5:.1f}", text_anchor="end"))
    last = len(across.ticks) - 1
    for number, (value, text) in enumerate(zip(across.ticks, _tick_texts(across.ticks), strict=True)):
        anchor = {0: "start", last: "end"}.get(number, "middle")
        shapes.append(element("text", text, x=f"{across(value):.1f}", y=floor + 13, text_anchor=anchor))
    shapes.append(element("text", x_name, class_="name", x=width - _RIGHT, y=height - 2, text_anchor="end"))
    return shapes


def _tick_texts(ticks: Sequence[float | int]) -> list[str]:
    """Ticks in as few letters as tell them apart."""
    for digits in range(3, 16):
        texts = [_short(value, digits) for value in ticks]
        if len({*texts}) == len(texts):
            break
    return texts


def _svg(shapes: Sequence[Content], width: int, height: int, *, label: str) -> Markup:
    return element("svg", *shapes, class_="chart", viewBox=f"0 0 {width} {height}", role="img", aria_label=label)


def _short(value: float | int, digits: int = 4) -> str:
    """A number in few letters: thousands as k, millions as M."""
    for limit, unit, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= limit:
            return f"{value / unit:.{digits}g}{letter}"
    return f"{value:.{max(digits, 4)}g}"
