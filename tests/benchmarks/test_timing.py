from functools import partial
from itertools import count

from wnv.benchmarks.timing import measure_in_turns, seconds_of


def test_cases_are_measured_in_turns_and_the_first_turn_is_a_warm_up():
    calls = []

    def measure(name):
        calls.append(name)
        return float(len(calls))

    values = measure_in_turns({name: partial(measure, name) for name in ("slow", "fast")}, repeats=3)
    assert calls == ["slow", "fast"] * 4
    assert values == {"slow": [3, 5, 7], "fast": [4, 6, 8]}


def test_seconds_of_a_call_are_those_of_the_clock():
    ticks = count()
    assert seconds_of(lambda: [next(ticks) for _ in range(4)], clock=lambda: float(next(ticks))) == 5
