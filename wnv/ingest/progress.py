"""Progress of a run, and its summary."""

import logging
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from tqdm import tqdm

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
    """

    def __init__(self, *, shown: bool = True, log_every_s: float = 30.0) -> None:
        self.shown = shown
        self.log_every_s = log_every_s
        self.summary = Summary()
        self._expected: Counter[StageName] = Counter()
        self._num_retried = 0
        self._bar: tqdm | None = None
        self._began = self._logged = time.monotonic()

    def __enter__(self) -> "Progress":
        self._began = self._logged = time.monotonic()
        if self.shown and sys.stderr.isatty():
            self._bar = tqdm(total=self._expected.total(), unit="item", dynamic_ncols=True, smoothing=0.05)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(self._counts())
            self._bar.close()
        elif self.shown and self.summary.num_ended():
            _log.info("%s", self.line())

    def expect(self, stage: StageName) -> None:
        """Count one more item to do."""
        self._expected[stage] += 1

    def retried(self) -> None:
        """Count an attempt that failed and will be retried."""
        self._num_retried += 1

    def show(self) -> None:
        """Update the bar, or log a line if it is due."""
        if self._bar is not None:
            self._bar.total = self._expected.total()
            self._bar.set_postfix_str(self._counts(), refresh=False)
            self._bar.update(self.summary.num_ended() - self._bar.n)
        elif self.shown and time.monotonic() - self._logged >= self.log_every_s:
            self._logged = time.monotonic()
            _log.info("%s", self.line())

    def line(self) -> str:
        """Return the progress in one line. The time left counts known items only."""
        elapsed_s = time.monotonic() - self._began
        ended = self.summary.num_ended()
        left = self._expected.total() - ended
        rate = ended / elapsed_s if elapsed_s > 0 else 0.0
        left_s = f", {tqdm.format_interval(left / rate)} left" if rate and left else ""
        return f"{self._counts()}; {rate * 60:.1f} items/min, {tqdm.format_interval(elapsed_s)} elapsed{left_s}"

    def _counts(self) -> str:
        ended = self.summary.num_ended
        stages = [f"{name} {ended(name)}/{self._expected[name]}" for name in STAGES if self._expected[name]]
        reasons = sum(self.summary.reasons.values(), Counter()).most_common(4)
        retried = [f"retried {self._num_retried}"] if self._num_retried else []
        return ", ".join([*stages, *(f"{reason} {number}" for reason, number in reasons), *retried])
