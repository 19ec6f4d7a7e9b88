"""Courtesy to hosts: how many fetches at a time, how far apart, and when to leave a host alone for a while."""

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
    closed_until: float | None = None  # None: the host is open
    probe: str | None = None  # the one item that tries whether a closed host can be opened again


class Gate:
    """Says when a host may be asked again.

    A host that answers with risk control is closed: nothing is asked of it for a while. Then one item tries. If it gets
    through, the host is open again; if not, the wait is twice as long.

    Args:
        parallel: Fetches from a host at a time.
        pause_s: Least time between two starts at a host, seconds.
        wait_s: How long a host is left alone at first, seconds.
        max_wait_s: How long at most, seconds.
        jitter: Pauses and waits are longer by a random share up to this, so that they have no beat.
        max_trips: After so many vain waits in a row the host is given up for this run; its items stay pending.
        seed: Of the jitter.
        clock: Seconds that never run back.

    Raises:
        ValueError: If a setting is out of its range.
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
        """Seconds until the host may be asked: 0 for now; infinite where that depends on what is under way there."""
        if host is None:
            return 0.0
        state = self._host(host)
        if state.num_running >= self.parallel or state.probe is not None or self.has_given_up(host):
            return math.inf
        opens = state.next_start if state.closed_until is None else max(state.next_start, state.closed_until)
        return max(0.0, opens - self._clock())

    def has_given_up(self, host: str | None) -> bool:
        """Whether the host is left alone for the rest of the run."""
        return host is not None and self._host(host).trips > self.max_trips

    def started(self, host: str | None, item: str) -> None:
        """Take note that an item is being fetched from the host."""
        if host is None:
            return
        state = self._host(host)
        state.num_running += 1
        state.next_start = self._clock() + self._with_jitter(self.pause_s)
        if state.closed_until is not None:
            state.probe = item

    def ended(self, host: str | None, item: str, outcome: Outcome | None) -> float | None:
        """Take note of how it ended; None if it was broken off.

        Trouble belongs to the host that the outcome names, and to the one that was asked, which led there.

        Returns:
            For how many seconds a host is left alone from now on, if it is.
        """
        wait_s = None
        if host is not None:
            state = self._host(host)
            state.num_running -= 1
            if state.probe == item:
                state.probe = None
                if outcome is not None and outcome.state in ("done", "refused"):  # an answer, even if it is no
                    state.closed_until, state.trips = None, 0
        if outcome is not None and outcome.reason == RISK_CONTROL:
            for name in {host, outcome.host} - {None}:
                wait_s = self._trip(str(name)) or wait_s
        return wait_s

    def _trip(self, host: str) -> float | None:
        state = self._host(host)
        if state.closed_until is not None and self._clock() < state.closed_until:
            return None  # it began before the host was closed, and says what is known
        state.trips += 1
        wait_s = self._with_jitter(min(self.max_wait_s, self.wait_s * 2 ** (state.trips - 1)))
        state.closed_until = self._clock() + wait_s
        return wait_s

    def _with_jitter(self, seconds: float) -> float:
        return seconds * (1 + self.jitter * self._rng.random())

    def _host(self, host: str) -> _Host:
        # Outcomes may name a host with its port.
        return self._hosts.setdefault(host.partition(":")[0].lower(), _Host())


def host_of(payload: Mapping[str, Any]) -> str | None:
    """The host that a fetch will ask, as `site_of` has it; None for a file of one's own."""
    try:
        parts = urlsplit(payload.get("url") or "")
    except ValueError:  # not a URL that can be parsed: the fetch will say so
        return None
    return site_of(parts.hostname) if parts.scheme in ("http", "https") and parts.hostname else None


def site_of(host: str) -> str:
    """The host by which a site is known: Bilibili's pages, interfaces and short links are one."""
    return "www.bilibili.com" if host == "b23.tv" or f".{host}".endswith(".bilibili.com") else host
