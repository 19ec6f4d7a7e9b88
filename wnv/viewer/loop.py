"""A thread per window that renders the newest request and drops older ones."""

import logging
from collections.abc import Callable
from concurrent.futures import CancelledError
from threading import Condition, Thread
from time import monotonic
from typing import Any, Generic, TypeVar

log = logging.getLogger(__name__)

Request = TypeVar("Request")


class RenderLoop(Generic[Request]):
    """Renders the newest request at once, and again as still after a while without a newer one.

    Args:
        render: Called with a request, whether to render it as still, and a function that returns whether the request
            is outdated, so that a slow still image can be aborted. Moving images are always finished: a window would
            never see one if each could be aborted by the next request.
        on_error: Called with an exception of `render`; the loop continues.
        still_after_s: Seconds without a newer request after which to render a still image.
        name: Name of the thread.
    """

    def __init__(
        self,
        *,
        render: Callable[[Request, bool, Callable[[], bool]], None],
        on_error: Callable[[Exception], None],
        still_after_s: float = 0.25,
        name: str = "wnv-window",
    ) -> None:
        self._render = render
        self._on_error = on_error
        self._still_after_s = still_after_s
        self._changed = Condition()
        self._newest: Any = None  # a Request
        self._number = 0  # of the newest request
        self._submitted_at = 0.0
        self._is_closed = False
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> None:
        """Request an image; a previous request that is not being rendered yet is dropped."""
        with self._changed:
            self._newest = request
            self._number += 1
            self._submitted_at = monotonic()
            self._changed.notify()

    def close(self, *, timeout_s: float = 5.0) -> None:
        """End the thread after its current image; safe to call from any thread, also twice."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        moving_number = still_number = 0  # of the requests that were rendered last
        while True:
            with self._changed:
                while not self._is_closed and self._number == moving_number:
                    wait_s = None
                    if still_number != self._number:
                        wait_s = self._submitted_at + self._still_after_s - monotonic()
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
                self._render(
                    request, is_still, lambda n=number, s=is_still: self._is_closed or (s and self._number != n)
                )
            except CancelledError:  # the session is closing
                return
            except Exception as error:
                log.exception("rendering a view failed")
                still_number = moving_number = number  # wait for a new request
                self._on_error(error)
