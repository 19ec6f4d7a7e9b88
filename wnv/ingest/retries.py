"""Which failures are tried again within a run, how often, and after how long."""

import random
from collections.abc import Mapping

from wnv.ingest.tasks import Outcome

TRIES = {
    "transient": 4,
    "risk_control": 6,
    "wrong_length": 2,
    "empty_file": 2,
    "crashed": 2,
    "timeout": 2,
    "node_lost": 5,
}


class Retries:
    """Tries an item again after failures that may pass; other items go on meanwhile.

    Args:
        tries: How often an item may be tried in a run where it ends with a reason; once for reasons not named.
        wait_s: Least wait before the second try, seconds; twice as long before each further one.
        max_wait_s: Longest wait, seconds.
        jitter: Waits are longer by a random share up to this.
        seed: Of the jitter.

    Raises:
        ValueError: If a number is out of its range.
    """

    def __init__(
        self,
        *,
        tries: Mapping[str, int] = TRIES,
        wait_s: float = 5.0,
        max_wait_s: float = 300.0,
        jitter: float = 0.5,
        seed: int = 0,
    ) -> None:
        for reason, number in tries.items():
            if number < 1:
                raise ValueError(f"tries of {reason} must be at least 1, got {number}")
        if wait_s < 0 or max_wait_s < wait_s or jitter < 0:
            raise ValueError(
                f"0 <= wait_s <= max_wait_s and jitter >= 0 must hold, got wait_s={wait_s}, max_wait_s={max_wait_s}, "
                f"jitter={jitter}"
            )
        self.tries = dict(tries)
        self.wait_s = wait_s
        self.max_wait_s = max_wait_s
        self.jitter = jitter
        self._rng = random.Random(seed)

    def delay_s(self, outcome: Outcome, num_tries: int) -> float | None:
        """Seconds until an item that was tried so often in this run is tried again; None if it is not."""
        if outcome.state != "failed" or num_tries >= self.tries.get(outcome.reason, 1):
            return None
        wait_s = min(self.max_wait_s, self.wait_s * 2 ** (num_tries - 1))
        return wait_s * (1 + self.jitter * self._rng.random())
