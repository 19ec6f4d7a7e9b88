"""Progress of a run, and its summary."""

import logging
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from tqdm import tqdm

from wnv.ingest.forecast import Forecast
from wnv.ingest.tasks import STAGES, STATES, Outcome, StageName, State

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Summary:
    """Outcomes of a run.

    Attributes:
        counts: Number of items per stage and final state.
        reasons: Number of items that are not done, per stage and `state/reason`.
    """

    counts: dict[StageName, Counter[State]] = field(default_factory=lambda: defaultdict(Counter))
    reasons: dict[StageName, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, stage: StageName, outcome: Outcome) -> None:
        """Count an item that ended."""
        self.counts[stage][outcome.state] += 1
        if outcome.state != "done":
            self.reasons[stage][f"{outcome.state}/{outcome.reason}"] += 1

    def num_ended(self, stage: StageName | None = None) -> int:
        """Return the number of items that ended, in one stage or all."""
        return sum(states.total() for name, states in self.counts.items() if stage in (None, name))

    def nothing_succeeded(self) -> bool:
        """Return whether items ended and none of them is done."""
        states = sum(self.counts.values(), Counter())
        return states.total() > 0 and not states["done"]

    def text(self) -> str:
        """Return one line per stage."""
        lines = []
        for stage in STAGES:
            if stage in self.counts:
                states = ", ".join(
                    f"{self.counts[stage][state]} {state}" for state in STATES if self.counts[stage][state]
                )
                reasons = ", ".join(f"{reason} {number}" for reason, number in self.reasons[stage].most_common())
                lines.append(f"{stage}: {states}" + (f" ({reasons})" if reasons else ""))
        return "\n".join(lines or ["nothing to do"])


class Progress:
    """A progress bar if stderr is a terminal, otherwise a log line at intervals. A context manager.

    Args:
        shown: Whether to show anything.
        log_every_s: Seconds between log lines.

    Attributes:
        summary: Outcomes so far.
        forecast: Estimates the time left.
    """

    def __init__(self, *, shown: bool = True, log_every_s: float = 30.0) -> None:
        self.shown = shown
        self.log_every_s = log_every_s
        self.summary = Summary()
        self.forecast = Forecast()
        self._expected: Counter[StageName] = Counter()
        self._num_retried = 0
        self._bar: tqdm | None = None
        self._began = self._logged = time.monotonic()

    def __enter__(self) -> "Progress":
        self._began = self._logged = time.monotonic()
        if self.shown and sys.stderr.isatty():
            # tqdm's own estimate takes all items for equally long.
            layout = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
            self._bar = tqdm(total=self._expected.total(), unit="item", dynamic_ncols=True, bar_format=layout)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(self._counts())
            self._bar.close()
        elif self.shown and self.summary.num_ended():
            _log.info("%s", self.line())

    def expect(self, stage: StageName, *, blocked: bool = False) -> None:
        """Count one more item to do; a blocked one waits for the item that it is made from."""
        self._expected[stage] += 1
        self.forecast.expect(stage, blocked=blocked)

    def unblock(self, stage: StageName) -> None:
        """Count a blocked item as one that may run."""
        self.forecast.unblock(stage)

    def start(self, stage: StageName, item: str) -> None:
        """Note the start of an item."""
        self.forecast.start(stage, item)

    def end(self, stage: StageName, item: str, outcome: Outcome, *, num_children: int) -> None:
        """Count an item that ended, and the number of items of the next stage that it gave."""
        self.summary.add(stage, outcome)
        self.forecast.end(stage, item, num_children=num_children)

    def retried(self, stage: StageName, item: str) -> None:
        """Count an attempt that failed and will be retried."""
        self._num_retried += 1
        self.forecast.end(stage, item, retried=True)

    def show(self) -> None:
        """Update the bar, or log a line if it is due."""
        if self._bar is not None:
            self._bar.total = self._expected.total()
            self._bar.set_postfix_str(self._counts() + self._left(), refresh=False)
            self._bar.update(self.summary.num_ended() - self._bar.n)
        elif self.shown and time.monotonic() - self._logged >= self.log_every_s:
            self._logged = time.monotonic()
            _log.info("%s", self.line())

    def line(self) -> str:
        """Return the progress in one line."""
        elapsed_s = time.monotonic() - self._began
        rate = self.summary.num_ended() / elapsed_s if elapsed_s > 0 else 0.0
        elapsed = tqdm.format_interval(elapsed_s)
        return f"{self._counts()}; {rate * 60:.1f} items/min, {elapsed} elapsed{self._left()}"

    def _left(self) -> str:
        left_s = self.forecast.left_s()
        return f", {tqdm.format_interval(left_s)} left" if left_s else ""

    def _counts(self) -> str:
        ended = self.summary.num_ended
        stages = [f"{name} {ended(name)}/{self._expected[name]}" for name in STAGES if self._expected[name]]
        reasons = sum(self.summary.reasons.values(), Counter()).most_common(4)
        retried = [f"retried {self._num_retried}"] if self._num_retried else []
        return ", ".join([*stages, *(f"{reason} {number}" for reason, number in reasons), *retried])
