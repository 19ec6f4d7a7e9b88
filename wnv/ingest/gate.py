"""Rate limits per host: parallel fetches, pauses between them, and back-off after a rate-limit answer."""

import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from wnv.ingest.tasks import Outcome

RISK_CONTROL = "risk_control"


@dataclass
class _Host:
    num_running: int = 0
    next_start: float = -math.inf
    trips: int = 0
    closed_until: float | None = None  # None: open
    probe: str | None = None  # the item that tests whether a closed host has reopened


class Gate:
    """Decide when a host may be contacted again.

    A host that answers with risk control (a rate limit) is closed for a while. Then one item probes it. If the probe
    succeeds the host is open again; otherwise the wait doubles.

    Args:
        parallel: Maximum concurrent fetches per host.
        pause_s: Minimum seconds between two starts per host.
        wait_s: First wait after a rate limit, seconds.
        max_wait_s: Maximum wait, seconds.
        jitter: Pauses and waits are lengthened by a random share of up to this.
        max_trips: After this many consecutive waits the host is given up for this run; its items stay pending.
        seed: Seed of the jitter.
        clock: Monotonic clock, seconds.

    Raises:
        ValueError: If a setting is out of range.
    """

    def __init__(
        self,
        *,
        parallel: int = 2,
        pause_s: float = 5.0,
        wait_s: float = 300.0,
        max_wait_s: float = 3600.0,
        jitter: float = 0.5,
        max_trips: int = 8,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, value, least in (
            ("parallel", parallel, 1),
            ("pause_s", pause_s, 0),
            ("wait_s", wait_s, 0),
            ("max_wait_s", max_wait_s, wait_s),
            ("jitter", jitter, 0),
            ("max_trips", max_trips, 1),
        ):
            if not value >= least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        self.parallel = parallel
        self.pause_s = pause_s
        self.wait_s = wait_s
        self.max_wait_s = max_wait_s
        self.jitter = jitter
        self.max_trips = max_trips
        self._rng = random.Random(seed)
        self._clock = clock
        self._hosts: dict[str, _Host] = {}

    def delay_s(self, host: str | None) -> float:
        """Seconds until the host may be contacted; infinite while that depends on running fetches."""
        if host is None:
            return 0.0
        state = self._host(host)
        if state.num_running >= self.parallel or state.probe is not None or self.has_given_up(host):
            return math.inf
        opens = state.next_start if state.closed_until is None else max(state.next_start, state.closed_until)
        return max(0.0, opens - self._clock())

    def has_given_up(self, host: str | None) -> bool:
        """Whether the host is given up for the rest of the run."""
        return host is not None and self._host(host).trips > self.max_trips

    def started(self, host: str | None, item: str) -> None:
        """Record the start of a fetch."""
        if host is None:
            return
        state = self._host(host)
        state.num_running += 1
        state.next_start = self._clock() + self._with_jitter(self.pause_s)
        if state.closed_until is not None:
            state.probe = item

    def ended(self, host: str | None, item: str, outcome: Outcome | None) -> float | None:
        """Record the end of a fetch; an outcome of None means that it was aborted.

        A rate limit closes the host named in the outcome and the host that was contacted, which redirected there.

        Returns:
            Seconds for which a host is now closed, if one is.
        """
        wait_s = None
        if host is not None:
            state = self._host(host)
            state.num_running -= 1
            if state.probe == item:
                state.probe = None
                if outcome is not None and outcome.state in ("done", "refused"):  # a rejection is an answer too
                    state.closed_until, state.trips = None, 0
        if outcome is not None and outcome.reason == RISK_CONTROL:
            for name in {host, outcome.host} - {None}:
                wait_s = self._trip(str(name)) or wait_s
        return wait_s

    def _trip(self, host: str) -> float | None:
        state = self._host(host)
        if state.closed_until is not None and self._clock() < state.closed_until:
            return None  # started before the host was closed
        state.trips += 1
        wait_s = self._with_jitter(min(self.max_wait_s, self.wait_s * 2 ** (state.trips - 1)))
        state.closed_until = self._clock() + wait_s
        return wait_s

    def _with_jitter(self, seconds: float) -> float:
        return seconds * (1 + self.jitter * self._rng.random())

    def _host(self, host: str) -> _Host:
        # Outcomes may include a port.
        return self._hosts.setdefault(host.partition(":")[0].lower(), _Host())


def host_of(payload: Mapping[str, Any]) -> str | None:
    """Return the host of a fetch, normalised by `site_of`; None for a local file."""
    try:
        parts = urlsplit(payload.get("url") or "")
    except ValueError:  # the fetch will report it
        return None
    return site_of(parts.hostname) if parts.scheme in ("http", "https") and parts.hostname else None


def site_of(host: str) -> str:
    """Return the canonical host of a site: Bilibili's pages, APIs and short links share one."""
    return "www.bilibili.com" if host == "b23.tv" or f".{host}".endswith(".bilibili.com") else host
