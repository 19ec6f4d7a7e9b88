"""Bars and histograms: every value is counted once, and the numbers on the axis are round."""

import re

import numpy as np
import pytest
from page_checks import read_page

from wnv.pages.ingest.charts import histogram, stacked_bar, summary


def bars(svg: str) -> list[int]:
    return [int(count.replace(",", "")) for count in re.findall(r"<title>[^<]*: ([\d,]+)</title>", svg)]


@pytest.mark.parametrize(
    "values",
    [
        [0.0],
        [3.7] * 50,
        [1.0, 1.0 + 1e-12],
        [-2.5, 0.0, 7.0],
        np.linspace(0.5, 1.0, 101).tolist(),
        np.random.default_rng(0).lognormal(1, 1, 1000).tolist(),
        [*([1.0] * 500), 1e9],
        [1e-9, 2e-9],
        [0.1 * number for number in range(30)],
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


def test_outliers_do_not_squeeze_the_others() -> None:
    svg = histogram([*np.linspace(0, 10, 1000).tolist(), 1e6], unit=" px")
    assert len(bars(svg)) > 10
    assert "and more px: " in svg


def test_edges_are_round_and_values_on_them_go_up() -> None:
    svg = histogram([0.0, 0.1, 0.2, 0.3, 0.6, 0.7, 1.2], unit="")
    assert "0.30 to 0.35: 1<" in svg
    assert "0.70 to 0.75: 1<" in svg


def test_a_stacked_bar_has_the_shares_of_the_states() -> None:
    svg = stacked_bar({"done": 3, "failed": 1, "pending": 0})
    assert re.findall(r'class="(fill-\w+)" x="([\d.]+)%" width="([\d.]+)%"', svg) == [
        ("fill-done", "0.000", "75.000"),
        ("fill-failed", "75.000", "25.000"),
    ]
    assert 'aria-label="3 done, 1 failed"' in svg
    assert "rect" not in stacked_bar({})


def test_summary() -> None:
    assert summary([float(number) for number in range(101)], unit=" s") == (
        "median <b>50 s</b>, nine in ten 5 to 95, of 101"
    )
