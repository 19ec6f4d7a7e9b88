"""The time left of a simulated run: items of very different cost, most of which are found on the way."""

import heapq
import random
from collections import deque

import pytest

from wnv.ingest.forecast import Forecast
from wnv.ingest.tasks import STAGES, StageName

# Seconds of an item; those of pose spread by a factor of 20, as on real videos.
COST = {"fetch": (0.5, 2.0), "clip": (2.0, 6.0), "pose": (13.0, 260.0), "pack": (0.5, 1.5)}
NUM_WORKERS, NUM_FETCHERS = 2, 4


class Simulation:
    """The driver's order (later stages first) over items whose costs are sampled, on a clock of its own."""

    def __init__(self, num_videos: int, seed: int, *, pause_s: float = 0.0) -> None:
        self.rng = random.Random(seed)
        self.pause_s = pause_s
        self.now = 0.0
        self.forecast = Forecast(clock=lambda: self.now)
        self.ready: dict[StageName, deque[str]] = {stage: deque() for stage in STAGES}
        self.events: list[tuple[float, StageName, str]] = []
        self.estimates: list[tuple[float, float | None]] = []
        for number in range(num_videos):
            self._add("fetch", f"{number}")

    def run(self) -> None:
        self._start()
        while self.events:
            self.now, stage, item = heapq.heappop(self.events)
            num_children = self.rng.choice([0, 1, 1, 2, 3]) if stage == "clip" else int(stage != "pack")
            self.forecast.end(stage, item, num_children=num_children)
            for child in range(num_children):
                self._add(STAGES[STAGES.index(stage) + 1], f"{item}_{child}")
            self._start()
            self.estimates.append((self.now, self.forecast.left_s()))

    def _add(self, stage: StageName, item: str) -> None:
        self.forecast.expect(stage)
        self.ready[stage].append(item)

    def _start(self) -> None:
        for stage in reversed(STAGES):
            room = NUM_FETCHERS if stage == "fetch" else NUM_WORKERS
            while self.ready[stage] and sum((s == "fetch") == (stage == "fetch") for _, s, _ in self.events) < room:
                item = self.ready[stage].popleft()
                self.forecast.start(stage, item)
                low, high = COST[stage]
                pause_s = self.pause_s if stage == "fetch" else 0.0
                cost_s = low * (high / low) ** self.rng.random() + pause_s
                heapq.heappush(self.events, (self.now + cost_s, stage, item))


@pytest.mark.parametrize("pause_s", [0.0, 400.0])
@pytest.mark.parametrize(("num_videos", "share"), [(24, 0.85), (80, 0.99)])
def test_the_time_left_is_within_a_factor_of_two_after_a_tenth_of_the_work(
    num_videos: int, share: float, pause_s: float
) -> None:
    # Costs are random, so a few estimates of short runs are further off.
    ratios = []
    for seed in range(8):
        simulation = Simulation(num_videos, seed, pause_s=pause_s)
        simulation.run()
        for now, left_s in simulation.estimates:
            if 0.1 * simulation.now < now < 0.9 * simulation.now:
                ratios.append((left_s or 0.0) / (simulation.now - now))
    assert sum(0.5 < ratio < 2.0 for ratio in ratios) > share * len(ratios)
    assert 0.8 < sorted(ratios)[len(ratios) // 2] < 1.25


def test_nothing_is_claimed_before_the_slowest_stage_is_known() -> None:
    simulation = Simulation(3, 0)
    simulation.run()
    ended = [left_s for _, left_s in simulation.estimates]
    assert ended[0] is None
    assert ended[-1] == 0.0
    # Earlier runs of the root tell it at once.
    forecast = Forecast(seconds={"pose": 60.0, "pack": 1.0}, stages=("pose", "pack"))
    for _ in range(2):
        forecast.expect("pose")
    assert forecast.left_s() == 122.0


def test_items_that_wait_for_a_redone_one_are_not_counted_twice() -> None:
    now = 0.0
    forecast = Forecast(("clip", "pose"), seconds={"clip": 1.0, "pose": 10.0}, clock=lambda: now)
    forecast.expect("clip")
    for _ in range(3):
        forecast.expect("pose", blocked=True)
    assert forecast.left_s() == 31.0
    forecast.start("clip", "a")
    now = 1.0
    forecast.end("clip", "a", num_children=3)
    for _ in range(3):
        forecast.unblock("pose")
    assert forecast.left_s() == 30.0
