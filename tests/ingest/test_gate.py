"""Requests per host stay within the limits, and pause after a rate-limit response."""

import math

import pytest

from wnv.ingest.gate import Gate, host_of
from wnv.ingest.tasks import Outcome

DONE = Outcome(state="done")
GONE = Outcome(state="refused", reason="gone")
RISK = Outcome(state="failed", reason="risk_control")
TRANSIENT = Outcome(state="failed", reason="transient")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make_gate(**settings: object) -> tuple[Gate, Clock]:
    clock = Clock()
    defaults = {"parallel": 2, "pause_s": 0.0, "wait_s": 10.0, "max_wait_s": 35.0, "jitter": 0.0, "clock": clock}
    return Gate(**{**defaults, **settings}), clock


def test_no_more_at_a_time_than_agreed_by_host() -> None:
    gate, _ = make_gate()
    for item in "ab":
        assert gate.delay_s("h") == 0
        gate.started("h", item)
    assert gate.delay_s("h") == math.inf
    assert gate.delay_s("other") == 0
    gate.ended("h", "a", TRANSIENT)
    assert gate.delay_s("h") == 0


def test_starts_lie_apart() -> None:
    gate, clock = make_gate(pause_s=3.0, jitter=0.5)
    gate.started("h", "a")
    pause = gate.delay_s("h")
    assert 3.0 <= pause <= 4.5
    clock.now = pause
    assert gate.delay_s("h") == 0
    gate.started("h", "b")
    assert gate.delay_s("other") == 0


def test_a_host_that_refuses_is_left_alone_twice_as_long_each_time_up_to_a_limit() -> None:
    gate, clock = make_gate()
    for expected in (10, 20, 35, 35):
        gate.started("h", "a")
        assert gate.delay_s("h") == math.inf or expected == 10  # one probe at a time
        assert gate.ended("h", "a", RISK) == expected
        assert gate.delay_s("h") == expected
        clock.now += expected - 0.1
        assert gate.delay_s("h") == pytest.approx(0.1)
        clock.now += 0.1
        assert gate.delay_s("h") == 0


@pytest.mark.parametrize("answer", [DONE, GONE])
def test_a_probe_that_is_answered_opens_the_host_again(answer: Outcome) -> None:
    gate, clock = make_gate()
    gate.started("h", "a")
    gate.ended("h", "a", RISK)
    clock.now = 10
    gate.started("h", "b")
    assert gate.delay_s("h") == math.inf
    gate.ended("h", "b", answer)
    for item in "cd":
        assert gate.delay_s("h") == 0
        gate.started("h", item)
    gate.ended("h", "c", RISK)
    assert gate.delay_s("h") == 10  # counted from the beginning


@pytest.mark.parametrize("outcome", [TRANSIENT, None])
def test_a_probe_without_an_answer_leaves_the_host_half_open(outcome: Outcome | None) -> None:
    gate, clock = make_gate()
    gate.started("h", "a")
    gate.ended("h", "a", RISK)
    clock.now = 10
    gate.started("h", "b")
    gate.ended("h", "b", outcome)
    assert gate.delay_s("h") == 0
    gate.started("h", "c")
    assert gate.delay_s("h") == math.inf


def test_those_under_way_when_a_host_closes_neither_lengthen_the_wait_nor_end_it() -> None:
    gate, clock = make_gate(parallel=3)
    for item in "abc":
        gate.started("h", item)
    assert gate.ended("h", "a", RISK) == 10
    clock.now = 1
    assert gate.ended("h", "b", RISK) is None
    gate.ended("h", "c", DONE)
    assert gate.delay_s("h") == 9


def test_trouble_belongs_to_the_host_that_is_named_and_to_the_one_that_led_there() -> None:
    gate, _ = make_gate()
    gate.started("short.example", "a")
    named = Outcome(state="failed", reason="risk_control", host="Long.example:443")
    assert gate.ended("short.example", "a", named) == 10
    assert gate.delay_s("long.example") == 10
    assert gate.delay_s("short.example") == 10
    assert gate.delay_s("other.example") == 0


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("walks/a.mp4", None),
        (None, None),
        ("file:///etc/passwd", None),
        ("http://[half", None),
        ("https:///a", None),
        ("https://WWW.Bilibili.com/video/BV1?p=2", "www.bilibili.com"),
        ("https://b23.tv/abc", "www.bilibili.com"),
        ("http://bilibili.com/video/BV1", "www.bilibili.com"),
        ("https://notbilibili.com/a", "notbilibili.com"),
    ],
)
def test_host_of_a_fetch(url: str | None, host: str | None) -> None:
    assert host_of({"url": url}) == host


def test_local_files_wait_for_nothing() -> None:
    gate, _ = make_gate(parallel=1, pause_s=100.0)
    gate.started(None, "a")
    assert gate.delay_s(None) == 0
    assert gate.ended(None, "a", RISK) is None


@pytest.mark.parametrize(
    ("name", "value"), [("parallel", 0), ("pause_s", -1.0), ("max_wait_s", 5.0), ("jitter", -0.1), ("max_trips", 0)]
)
def test_settings_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        make_gate(**{name: value})
