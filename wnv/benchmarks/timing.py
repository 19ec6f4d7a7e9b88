"""Measuring several cases in turns, so that other load on the machine affects them alike."""

import time
from collections.abc import Callable, Mapping


def measure_in_turns(cases: Mapping[str, Callable[[], float]], *, repeats: int) -> dict[str, list[float]]:
    """Measure each case `repeats` times, in turns, after one warm-up of each.

    Args:
        cases: Name -> function that returns one measurement.
        repeats: Measurements per case.
    """
    values: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(repeats + 1):
        for name, measure in cases.items():
            value = measure()
            if turn > 0:
                values[name].append(value)
    return values


def seconds_of(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds that a call takes by a clock."""
    start = clock()
    call()
    return clock() - start
