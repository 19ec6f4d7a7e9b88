"""Forecast of the time that a run still takes, from what its items took so far."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

from wnv.ingest.tasks import STAGES, StageName

# What is left at least of an item that already runs longer than the mean, as a share of the mean.
_TAIL = 0.2


class Forecast:
    """Estimates the time left from the mean seconds per stage, and from the items that will still be found.

    Stages differ in cost by two orders of magnitude, and most items are known only when those before them have ended.
    Videos are fetched beside the other stages, so the longer of the two counts.

    Args:
        stages: The stages of the run.
        seconds: Mean seconds per item from earlier runs, used until an item of that stage has ended.
        clock: Seconds, from any origin.
    """

    def __init__(
        self,
        stages: Sequence[StageName] = STAGES,
        *,
        seconds: Mapping[StageName, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stages: list[StageName] = [stage for stage in STAGES if stage in stages]
        self._earlier = dict(seconds or {})
        self._clock = clock
        self._ready: Counter[StageName] = Counter()
        self._blocked: Counter[StageName] = Counter()
        self._running: dict[tuple[StageName, str], float] = {}
        self._num_ended: Counter[StageName] = Counter()
        self._seconds: dict[StageName, float] = defaultdict(float)
        self._num_children: Counter[StageName] = Counter()
        self._fetch_began: float | None = None
        self._num_workers = 1

    def expect(self, stage: StageName, *, blocked: bool = False) -> None:
        """Count an item to do; a blocked one waits for the item that it is made from."""
        (self._blocked if blocked else self._ready)[stage] += 1

    def unblock(self, stage: StageName) -> None:
        """Count a blocked item as one that may run."""
        self._blocked[stage] -= 1
        self._ready[stage] += 1

    def start(self, stage: StageName, item: str) -> None:
        """Note the start of an item."""
        self._running[stage, item] = self._clock()
        if stage == "fetch" and self._fetch_began is None:
            self._fetch_began = self._clock()
        self._num_workers = max(self._num_workers, sum(name != "fetch" for name, _ in self._running))

    def end(self, stage: StageName, item: str, *, retried: bool = False, num_children: int = 0) -> None:
        """Note the end of an item, or of a try that is repeated, and the number of items made from it."""
        self._seconds[stage] += self._clock() - self._running.pop((stage, item), self._clock())
        if not retried:
            self._num_ended[stage] += 1
            self._ready[stage] -= 1
            self._num_children[stage] += num_children

    def left_s(self) -> float | None:
        """Return the seconds left; None while the cost of a stage is unknown, 0 if nothing is left."""
        left = self._items_left()
        if any(number > 0 and self._mean_s(stage) is None for stage, number in left.items()):
            return None
        now = self._clock()
        work_s = longest_s = 0.0
        for stage, number in left.items():
            mean_s = self._mean_s(stage) or 0.0
            began = [start for (name, _), start in self._running.items() if name == stage]
            running_s = [max(_TAIL * mean_s, mean_s - (now - start)) for start in began]
            if stage == "fetch":
                continue
            work_s += sum(running_s) + max(0.0, number - len(began)) * mean_s
            longest_s += mean_s if number > len(began) else max(running_s, default=0.0)
        return max(work_s / self._num_workers, longest_s if work_s else 0.0, self._fetch_left_s(left.get("fetch", 0.0)))

    def _items_left(self) -> dict[StageName, float]:
        """Return the number of items left per stage, with those that will be made from others."""
        left: dict[StageName, float] = {}
        found = 0.0
        for stage in self._stages:
            left[stage] = self._ready[stage] + max(float(self._blocked[stage]), found)
            ended = self._num_ended[stage]
            found = left[stage] * (self._num_children[stage] / ended if ended else 1.0)
        return left

    def _mean_s(self, stage: StageName) -> float | None:
        if self._num_ended[stage]:
            return self._seconds[stage] / self._num_ended[stage]
        return self._earlier.get(stage)

    def _fetch_left_s(self, number: float) -> float:
        """Return the time to fetch the rest at the rate so far, which pauses between requests are part of."""
        ended = self._num_ended["fetch"]
        if not number:
            return 0.0
        if not ended or self._fetch_began is None:
            return number * self._earlier.get("fetch", 0.0)
        return number * (self._clock() - self._fetch_began) / ended
