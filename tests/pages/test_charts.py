"""Charts show the values where they are: read back out of the drawing."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_checks import Page, read_page

from wnv.pages.charts import Dot, Line, colour_class, legend, line_chart, round_ticks, scatter_chart


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


def test_on_a_logarithmic_scale_equal_ratios_are_equal_distances() -> None:
    lines = [Line(name="a", points=[(0, 0.001), (1, 0.1), (2, 10)])]
    (_, y0), (_, y1), (_, y2) = places(read_page(line_chart(lines, x_name="", label="", log=True)), "colour0")
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    near = [Line(name="a", points=[(0, 1.0), (1, 2.0), (2, 3.0)])]  # too close for it
    (_, y0), (_, y1), (_, y2) = places(read_page(line_chart(near, x_name="", label="", log=True)), "colour0")
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
    with pytest.raises(ValueError, match="loss: a chart needs at least one finite value, got none"):
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
    with pytest.raises(ValueError, match="x: a scatter chart needs at least one pair, got none"):
        scatter_chart([], x_name="", y_name="", label="x")


def test_thousands_of_dots_are_one_cloud() -> None:
    text = scatter_chart([Dot(name="", x=i, y=i) for i in range(6474)], x_name="", y_name="", label="")
    page = read_page(text)
    assert page.all("circle") == []
    (cloud,) = [path for path in page.all("path") if path["class"] == "cloud"]
    assert len(re.findall("M", cloud["d"])) == 6474
    assert len(text) < 150_000


def test_colours_begin_again_dashed() -> None:
    assert [colour_class(i) for i in (0, 7, 8)] == ["colour0", "colour7", "colour0 dashed"]
    page = read_page(legend([Line(name="<a>", points=()), Line(name="b", points=(), is_reference=True)]))
    assert [span["class"] for span in page.all("span")] == ["key colour0", "key reference"]
    assert page.texts["li"] == ["<a>", "b"]
