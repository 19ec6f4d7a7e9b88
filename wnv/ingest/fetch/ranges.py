"""A remote file that can be read from anywhere, by HTTP range requests."""

import functools
import http.client
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from yt_dlp.networking import Request, Response
from yt_dlp.networking.exceptions import HTTPError, TransportError

_BLOCK = 64 * 1024
"""Bytes read at once: small, so that a limit on the rate is kept smoothly."""

_READ_THROUGH = 256 * 1024
"""Bytes ahead that are read and thrown away rather than asked for anew."""

_FIRST_WINDOW = 512 * 1024
_MAX_WINDOW = 8 * 1024 * 1024
"""Bytes asked for at once: few after a jump, since little may be wanted there, more while one follows the other."""


class NoRangesError(Exception):
    """The server, or the kind of stream, gives no parts of a file."""


class TooSlowError(TransportError):
    """The server gives so little that the file would take for ever."""


class Throttle:
    """Keeps what is read in a task below a rate.

    Args:
        bytes_per_s: The rate; None for no limit.
    """

    def __init__(self, bytes_per_s: float | None) -> None:
        self._rate = bytes_per_s
        self._start = time.monotonic()
        self._taken = 0
        self.num_bytes = 0

    def take(self, num_bytes: int) -> None:
        """Count bytes, and wait until they were allowed to be there."""
        self.num_bytes += num_bytes
        if self._rate is None:
            return
        now = time.monotonic()
        # What was not used of the rate while nothing was read is not saved up.
        if self._start + self._taken / self._rate < now - 1.0:
            self._start, self._taken = now, 0
        self._taken += num_bytes
        time.sleep(max(0.0, self._start + self._taken / self._rate - now))


class RangeFile:
    """A file behind an address, as PyAV reads files: `read`, `seek`, `tell`.

    A connection that breaks is taken up where it broke, after a growing pause, a few times in a row; what arrives in
    between starts the count anew.

    Args:
        urlopen: Sends a request; `YoutubeDL.urlopen`, so that cookies, proxy and checks are those of the page.
        url: The file.
        headers: Sent along.
        throttle: Limits the rate.
        num_retries: Tries after the first without a single byte between them.
        retry_pause_s: The first pause; each further one is twice as long.
        min_rate: A server that gives less, bytes a second, counts as stalled.
        patience_s: How long it may give less.
        check_size: Called with the bytes received so far; may raise to end it.

    Raises:
        NoRangesError: If the server does not give parts of the file, or not its size.
        HTTPError, TransportError: If the file cannot be had.
    """

    def __init__(
        self,
        *,
        urlopen: Callable[[Request], Response],
        url: str,
        headers: Mapping[str, str],
        throttle: Throttle,
        num_retries: int = 3,
        retry_pause_s: float = 1.0,
        min_rate: float = 0.0,
        patience_s: float = 30.0,
        check_size: Callable[[int], None] = lambda num_bytes: None,
    ) -> None:
        self._urlopen = urlopen
        self._url = url
        self._headers = {**headers, "Accept-Encoding": "identity"}
        self._throttle = throttle
        self._num_retries = num_retries
        self._retry_pause_s = retry_pause_s
        self._min_rate = min_rate
        self._patience_s = patience_s
        self._waited_s, self._received = 0.0, 0  # since the rate was last looked at
        self._check_size = check_size
        self._response: Response | None = None
        self._reached = 0  # where the response stands
        self._until = 0  # where it ends
        self._window = _FIRST_WINDOW
        self._position = 0  # where the reader stands
        self.size = 0
        self._with_retries(self._connect)

    def read(self, num_bytes: int = -1) -> bytes:
        """Up to so many bytes from here; none at the end of the file."""
        left = self.size - self._position
        wanted = left if num_bytes < 0 else min(num_bytes, left)
        found = bytearray()
        while len(found) < wanted:
            block = functools.partial(self._block, wanted - len(found))
            found += self._with_retries(block)
        return bytes(found)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Stand elsewhere; nothing is read until it is asked for."""
        self._position = max(0, offset + (0, self._position, self.size)[whence])
        return self._position

    def tell(self) -> int:
        """Where the next read starts, in bytes."""
        return self._position

    def seekable(self) -> bool:
        """True: ranges are what this is about."""
        return True

    def close(self) -> None:
        """Give the connection back."""
        if self._response is not None:
            self._response.close()
            self._response = None

    def _with_retries(self, action: Callable[[], Any]) -> Any:
        for attempt in range(self._num_retries + 1):
            try:
                return action()
            except (HTTPError, TransportError) as error:
                self.close()
                if isinstance(error, HTTPError):
                    error.response.close()
                final = isinstance(error, TooSlowError) or (isinstance(error, HTTPError) and error.status < 500)
                if final or attempt == self._num_retries:
                    raise
                with self._waiting():
                    time.sleep(self._retry_pause_s * 2**attempt)
        return None

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Around all that the server has the reader wait for; many short waits are as bad as a long one."""
        start = time.monotonic()
        yield
        self._waited_s += time.monotonic() - start
        if self._waited_s > self._patience_s:
            if self._received < self._min_rate * self._waited_s:
                raise TooSlowError(f"the server gives less than {self._min_rate:g} bytes a second")
            self._waited_s, self._received = 0.0, 0

    def _block(self, wanted: int) -> bytes:
        ahead = self._position - self._reached
        if self._response is None or not 0 <= ahead <= min(_READ_THROUGH, self._until - self._reached - 1):
            follows = ahead == 0 and self._reached == self._until
            self._window = min(2 * self._window, _MAX_WINDOW) if follows else _FIRST_WINDOW
            self.close()
            self._connect()
        while self._reached < self._position:
            self._receive(min(_BLOCK, self._position - self._reached))
        data = self._receive(min(_BLOCK, wanted))
        self._position = self._reached
        return data

    def _receive(self, num_bytes: int) -> bytes:
        assert self._response is not None
        try:
            # What is there, not all that is asked for: a server that drips would hold a whole block back for hours.
            with self._waiting():
                data = self._response.fp.read1(min(num_bytes, self._until - self._reached))
        except (OSError, http.client.HTTPException) as error:
            raise TransportError(cause=error) from error
        if not data:
            raise TransportError(f"the connection ended at byte {self._reached} of {self.size}")
        self._received += len(data)
        self._reached += len(data)
        if self._reached == self._until:
            self.close()
        self._throttle.take(len(data))
        self._check_size(self._throttle.num_bytes)
        return data

    def _connect(self) -> None:
        last = self._position + self._window - 1
        request = Request(self._url, headers={**self._headers, "Range": f"bytes={self._position}-{last}"})
        response: Response | None = None
        try:
            with self._waiting():
                response = self._urlopen(request)
        except TooSlowError:
            if response is not None:  # it came, and too late
                response.close()
            raise
        except HTTPError as error:
            if error.status == 416:
                error.response.close()
                # An empty file has no first byte to give; a file that got shorter has changed.
                raise NoRangesError("the server has no such part of the file") from error
            raise
        span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", (response.headers.get("Content-Range") or "").strip())
        encoded = (response.headers.get("Content-Encoding") or "identity") != "identity"
        if response.status != 206 or span is None or int(span[1]) != self._position or encoded:
            response.close()
            raise NoRangesError(f"the server answers a request for a part with {response.status}")
        size = int(span[3])
        if self.size and size != self.size:
            response.close()
            raise TransportError(f"the file changed while it was read: {self.size} bytes, then {size}")
        self.size = size
        self._response, self._reached, self._until = response, self._position, int(span[2]) + 1
