"""A rate limit that all workers of a run share."""

import fcntl
import time
from pathlib import Path

# A time further ahead is that of a clock that was put back.
_MAX_AHEAD_S = 60.0


class SharedRate:
    """Limits the bytes per second of all processes that use the same file.

    The file holds the Unix time at which all bytes taken so far have passed at this rate. Idle time does not count.

    Args:
        file: The file, created if missing; its folder must exist.
        bytes_per_s: Maximum rate.
    """

    def __init__(self, file: Path, bytes_per_s: float) -> None:
        self._file = file
        self._rate = bytes_per_s

    def take(self, num_bytes: int) -> None:
        """Wait until this many bytes have passed."""
        with open(self._file, "a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            now = time.time()
            file.seek(0)
            known = float(file.read() or 0)
            due = (known if now < known < now + _MAX_AHEAD_S else now) + num_bytes / self._rate
            file.truncate(0)
            file.write(repr(due).encode())
        time.sleep(due - now)
