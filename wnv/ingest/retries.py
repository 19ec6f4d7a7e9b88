"""Retry policy of temporary failures within a run."""

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
    "node_without_root": 5,
    "no_space_elsewhere": 3,
}


class Retries:
    """Retry items after temporary failures; other items continue meanwhile.

    Args:
        tries: Maximum tries per run, by reason of the failure; 1 for other reasons.
        wait_s: Minimum seconds before the second try; doubled before each further one.
        max_wait_s: Maximum wait, seconds.
        jitter: Waits are lengthened by a random share of up to this.
        seed: Seed of the jitter.

    Raises:
        ValueError: If a number is out of range.
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
        """Seconds until the next try of an item after `num_tries` in this run; None for no further try."""
        if outcome.state != "failed" or num_tries >= self.tries.get(outcome.reason, 1):
            return None
        wait_s = min(self.max_wait_s, self.wait_s * 2 ** (num_tries - 1))
        return wait_s * (1 + self.jitter * self._rng.random())
