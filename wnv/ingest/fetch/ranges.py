"""Random access to a remote file by HTTP range requests."""

import functools
import http.client
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from yt_dlp.networking import Request, Response
from yt_dlp.networking.exceptions import HTTPError, TransportError

_BLOCK = 64 * 1024
"""Bytes per read; small, so that a rate limit is smooth."""

_READ_THROUGH = 256 * 1024
"""Bytes to skip by reading rather than by a new request."""

_FIRST_WINDOW = 512 * 1024
_MAX_WINDOW = 8 * 1024 * 1024
"""Bytes per request: few after a seek, more while reading sequentially."""


class NoRangesError(Exception):
    """The server does not support range requests for this file."""


class RangeFile:
    """A remote file with the interface that PyAV needs: `read`, `seek`, `tell`.

    A broken connection is resumed where it broke, after increasing pauses. The count of retries restarts whenever data
    arrives.

    Args:
        urlopen: Sends a request; `YoutubeDL.urlopen` applies cookies, proxy and address checks.
        url: Address of the file.
        headers: HTTP headers to send.
        num_retries: Retries without receiving a byte.
        retry_pause_s: Seconds before the first retry; doubled for each further one.
        on_progress: Called with the number of bytes received; may wait, or raise to abort.

    Raises:
        NoRangesError: If the server does not support ranges or does not report the size.
        HTTPError, TransportError: If the file cannot be read.
    """

    def __init__(
        self,
        *,
        urlopen: Callable[[Request], Response],
        url: str,
        headers: Mapping[str, str],
        num_retries: int = 3,
        retry_pause_s: float = 1.0,
        on_progress: Callable[[int], None] = lambda num_bytes: None,
    ) -> None:
        self._urlopen = urlopen
        self._url = url
        self._headers = {**headers, "Accept-Encoding": "identity"}
        self._num_retries = num_retries
        self._retry_pause_s = retry_pause_s
        self._num_received = 0
        self._on_progress = on_progress
        self._response: Response | None = None
        self._reached = 0  # offset of the response
        self._until = 0  # end of the response
        self._window = _FIRST_WINDOW
        self._position = 0  # offset of the reader
        self.size = 0
        self._with_retries(self._connect)

    def read(self, num_bytes: int = -1) -> bytes:
        """Read at most `num_bytes`; empty at the end of the file."""
        left = self.size - self._position
        wanted = left if num_bytes < 0 else min(num_bytes, left)
        found = bytearray()
        while len(found) < wanted:
            block = functools.partial(self._block, wanted - len(found))
            found += self._with_retries(block)
        return bytes(found)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to an offset; no request is sent until the next read."""
        self._position = max(0, offset + (0, self._position, self.size)[whence])
        return self._position

    def tell(self) -> int:
        """Return the current offset, in bytes."""
        return self._position

    def seekable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Close the connection."""
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
                final = isinstance(error, HTTPError) and error.status < 500
                if final or attempt == self._num_retries:
                    raise
                time.sleep(self._retry_pause_s * 2**attempt)
        return None

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
            # `read1` returns what has arrived: waiting for a full block from a dripping server could take hours.
            data = self._response.fp.read1(min(num_bytes, self._until - self._reached))  # pyright: ignore[reportAttributeAccessIssue]
        except (OSError, http.client.HTTPException) as error:
            raise TransportError(cause=error) from error
        if not data:
            raise TransportError(f"the connection ended at byte {self._reached} of {self.size}")
        self._num_received += len(data)
        self._reached += len(data)
        if self._reached == self._until:
            self.close()
        self._on_progress(self._num_received)
        return data

    def _connect(self) -> None:
        last = self._position + self._window - 1
        request = Request(self._url, headers={**self._headers, "Range": f"bytes={self._position}-{last}"})
        try:
            response = self._urlopen(request)
        except HTTPError as error:
            if error.status == 416:
                error.response.close()
                # The file is empty, or shorter than before.
                raise NoRangesError("the server does not have this range of the file") from error
            raise
        span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", (response.headers.get("Content-Range") or "").strip())
        encoded = (response.headers.get("Content-Encoding") or "identity") != "identity"
        if response.status != 206 or span is None or int(span[1]) != self._position or encoded:
            response.close()
            raise NoRangesError(f"the server answered a range request with status {response.status}")
        size = int(span[3])
        if self.size and size != self.size:
            response.close()
            raise TransportError(f"the file changed while it was read: {self.size} bytes, then {size}")
        self.size = size
        self._response, self._reached, self._until = response, self._position, int(span[2]) + 1
