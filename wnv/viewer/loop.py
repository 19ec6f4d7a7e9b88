"""A thread that draws the newest of what it is asked for, and forgets the rest."""

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from threading import Condition, Thread
from time import monotonic
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

Request = TypeVar("Request")
RATE_WINDOW_S = 1.0


class RenderLoop(Generic[Request]):
    """Draws the newest request as it comes, and once more when no newer one came for a while.

    Args:
        draw: Draws a request; told whether it has been the newest for a while, and given a function that says whether
            that is over, so that a slow still picture can be left undone. A picture of a moving camera is finished:
            where each came too late for the next request, a window would never see one.
        on_error: Told of an exception in `draw`; the loop goes on.
        still_after_s: Seconds without a newer request after which the last one is drawn as still.
        name: Of the thread.
    """

    def __init__(
        self,
        *,
        draw: Callable[[Request, bool, Callable[[], bool]], None],
        on_error: Callable[[Exception], None],
        still_after_s: float = 0.25,
        name: str = "wnv-window",
    ) -> None:
        self._draw = draw
        self._on_error = on_error
        self._still_after_s = still_after_s
        self._changed = Condition()
        self._newest: Request | None = None
        self._number = 0  # of the newest request
        self._asked_at = 0.0
        self._is_closed = False
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> None:
        """Ask for a picture; what was asked for before and is not drawn yet is forgotten."""
        with self._changed:
            self._newest = request
            self._number += 1
            self._asked_at = monotonic()
            self._changed.notify()

    def close(self, *, timeout_s: float = 5.0) -> None:
        """End the thread after the picture that it is drawing; may be called from any thread, also twice."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        moving_number = still_number = 0
        while True:
            with self._changed:
                while not self._is_closed and self._number == moving_number:
                    wait_s = None
                    if still_number != self._number:
                        wait_s = self._asked_at + self._still_after_s - monotonic()
                        if wait_s <= 0:
                            break
                    self._changed.wait(wait_s)
                if self._is_closed:
                    return
                is_still = self._number == moving_number
                request, number = self._newest, self._number
            if is_still:
                still_number = number
            else:
                moving_number = number
            try:
                self._draw(request, is_still, lambda n=number, s=is_still: self._is_closed or (s and self._number != n))
            except CancelledError:  # the session is closing
                return
            except Exception as error:
                log.exception("a view could not be drawn")
                still_number = moving_number = number  # not again until something changes
                self._on_error(error)


class RateMeter:
    """Counts pictures a second over the last second in which there were any."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def count(self, now: float | None = None) -> float:
        """Count a picture; gives pictures a second, zero for the first one after a pause.

        Args:
            now: Seconds on any clock; None is the present.
        """
        now = monotonic() if now is None else now
        if self._times and now - self._times[-1] > RATE_WINDOW_S:
            self._times.clear()
        self._times.append(now)
        while now - self._times[0] > RATE_WINDOW_S:
            self._times.popleft()
        elapsed = now - self._times[0]
        return (len(self._times) - 1) / elapsed if elapsed > 0 else 0.0
