"""Charts show values where they are: read back from the SVG."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_checks import Page, read_page

from wnv.pages.charts import Dot, Line, histogram, line_chart, round_ticks, scatter_chart, stacked_bar


def places(page: Page, name: str) -> list[tuple[float, float]]:
    (line,) = [shape for shape in page.all("polyline") if name in shape["class"]]
    return [tuple(map(float, point.split(","))) for point in line["points"].split()]


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_few_and_enclose_the_range(low: float, span: float) -> None:
    high = low + span
    if high <= low:
        return
    ticks = round_ticks(low, high)
    step = ticks[1] - ticks[0]
    assert ticks[0] <= low + 1e-6 * step
    assert ticks[-1] >= high - 1e-6 * step
    assert 2 <= len(ticks) <= 8
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - round_one) for round_one in (1, 2, 2.5, 5, 10)) < 1e-3


def test_a_line_goes_up_where_its_values_do() -> None:
    page = read_page(line_chart([Line(name="a", points=[(0, 1), (50, 3), (100, 2)])], x_name="step", label="x"))
    (x0, y0), (x1, y1), (x2, y2) = places(page, "colour0")
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(2 * (y0 - y2), abs=0.2)
    assert y1 < y2 < y0
    assert page.all("svg")[0]["aria-label"] == "x"
    assert {"0", "40", "100", "step", "a: 2 at 100"} <= {*page.texts["text"], *page.texts["title"]}


@pytest.mark.parametrize("values", [(0.001, 0.1, 10), (1.0, 2.0, 3.0)], ids=["far apart", "too close for it"])
def test_on_a_logarithmic_scale_equal_ratios_are_equal_distances(values) -> None:
    line = Line(name="a", points=[*enumerate(values)])
    (_, y0), (_, y1), (_, y2) = places(read_page(line_chart([line], x_name="", label="", log=True)), "colour0")
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)


def test_many_points_become_means_and_the_last_stays() -> None:
    line = Line(name="a", points=[(x, x % 2) for x in range(10_001)])
    shown = places(read_page(line_chart([line], x_name="", label="")), "colour0")
    assert 200 <= len(shown) <= 240
    middle = shown[0][1]
    assert all(y == pytest.approx(middle, abs=3) for _, y in shown[:-1])
    assert shown[-1][1] > middle + 50  # the last value is 0


def test_values_that_are_not_finite_are_left_out() -> None:
    broken = Line(name="a", points=[(0, math.nan), (1, math.inf)])
    with pytest.raises(ValueError, match=r"loss.*finite"):
        line_chart([broken], x_name="", label="loss")
    page = read_page(line_chart([broken, Line(name="b", points=[(5, 2.0)], colour=1)], x_name="", label=""))
    assert page.all("polyline") == []
    assert [circle["class"] for circle in page.all("circle")] == ["end colour1"]


def test_a_scatter_chart_has_equal_axes_and_names_its_dots() -> None:
    dots = [Dot(name="low", x=10, y=20), Dot(name="same", x=15, y=15), Dot(name="<b>", x=20, y=10)]
    page = read_page(scatter_chart(dots, x_name="one", y_name="other", label="x"))
    (diagonal,) = [line for line in page.all("line") if line["class"] == "diagonal"]
    start, end = (float(diagonal["x1"]), float(diagonal["y1"])), (float(diagonal["x2"]), float(diagonal["y2"]))
    low, same, high = ((float(circle["cx"]), float(circle["cy"])) for circle in page.all("circle"))
    for along in (0, 1):
        assert same[along] == pytest.approx((start[along] + end[along]) / 2, abs=0.2)
    assert low[0] < same[0] < high[0]
    assert low[1] < same[1] < high[1]  # up is towards smaller numbers
    assert page.texts["title"] == ["low: 10 and 20", "same: 15 and 15", "<b>: 20 and 10"]
    many = scatter_chart([Dot(name="", x=i, y=i) for i in range(6474)], x_name="", y_name="", label="")
    assert len(many) < 150_000, "thousands of dots are one path"


def bars(svg: str) -> list[int]:
    return [int(count.replace(",", "")) for count in re.findall(r"<title>[^<]*: ([\d,]+)</title>", svg)]


@pytest.mark.parametrize(
    "values",
    [
        [3.7] * 50,
        [1.0, 1.0 + 1e-12],
        [-2.5, 0.0, 7.0],
        np.random.default_rng(0).lognormal(1, 1, 1000).tolist(),
        [*([1.0] * 500), 1e9],
    ],
)
def test_every_value_is_in_one_bar(values: list[float]) -> None:
    svg = histogram(values, unit=" s")
    read_page(svg)
    assert sum(bars(svg)) == len(values)
    assert len(bars(svg)) <= 60
    assert "nan" not in svg
    for attribute in ("x", "y", "x1", "width", "height"):
        assert all(0 <= float(number) <= 320 for number in re.findall(rf'\b{attribute}="([-\d.]+)"', svg))


def test_edges_are_round_and_outliers_do_not_squeeze_the_others() -> None:
    svg = histogram([0.0, 0.1, 0.2, 0.3, 0.6, 0.7, 1.2], unit="")
    assert "0.3 to 0.35: 1<" in svg
    assert "0.7 to 0.75: 1<" in svg
    svg = histogram([*np.linspace(0, 10, 1000).tolist(), 1e6], unit=" px")
    assert len(bars(svg)) > 10
    assert "and more px: " in svg


def test_a_stacked_bar_has_the_shares_of_the_states() -> None:
    svg = stacked_bar({"done": 3, "failed": 1, "pending": 0})
    assert re.findall(r'class="(fill-\w+)" x="([\d.]+)%" width="([\d.]+)%"', svg) == [
        ("fill-done", "0.000", "75.000"),
        ("fill-failed", "75.000", "25.000"),
    ]
    assert 'aria-label="3 done, 1 failed"' in svg
    assert "rect" not in stacked_bar({})
