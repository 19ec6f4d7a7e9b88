"""A web server on 127.0.0.1 that serves files, with faults scripted by the test."""

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Body = bytes | Path | Callable[[dict[str, str]], bytes]


@dataclass(kw_only=True)
class Route:
    """Content and faults of a path.

    Attributes:
        body: Bytes, a file, or made from the query.
        content_type: Content-Type of the response.
        status: Status of a successful response.
        location: Redirect to here instead.
        failures: Statuses of the first requests, one per request.
        always: Status of every request.
        truncate_at: Send this many bytes of a response, then close the connection; `num_truncations` times.
        num_truncations: See `truncate_at`; None for always.
        stall_after: Send this many bytes of a response, then nothing for 30 s; `num_stalls` times.
        num_stalls: See `stall_after`; None for always.
        drip: Bytes per second; None for no limit.
        has_ranges: Whether range requests are supported.
        claimed_length: A false Content-Length.
        cookie: Without this cookie, `name=value`, the status is 403.
    """

    body: Body = b""
    content_type: str = "video/mp4"
    status: int = 200
    location: str | None = None
    failures: list[int] = field(default_factory=list)
    always: int | None = None
    truncate_at: int | None = None
    num_truncations: int | None = None
    stall_after: int | None = None
    num_stalls: int | None = None
    drip: float | None = None
    has_ranges: bool = True
    claimed_length: int | None = None
    cookie: str | None = None


@dataclass(kw_only=True)
class Seen:
    """A request: method, path without query, query, headers by lower-case name, response.

    It is recorded before the response is sent; the bytes are counted as they are sent.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    status: int = 0
    num_bytes: int = 0


class LoopbackSite:
    """The server; a context manager.

    Attributes:
        url: `http://127.0.0.1:PORT`.
        seen: Requests, in order of arrival.
    """

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}
        self._lock = threading.Lock()
        self.seen: list[Seen] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.site = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._stopped = threading.Event()

    def __enter__(self) -> "LoopbackSite":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, path: str, body: Body = b"", **trouble: Any) -> str:
        """Serve content at a path from now on; return its address."""
        with self._lock:
            self._routes[path] = Route(body=body, **trouble)
        return self.url + path

    def redirects(self, path: str, target: str, *, num_hops: int = 1) -> str:
        """Add a chain of redirects to a target; return the address of its start."""
        for hop in range(num_hops):
            here = path if hop == 0 else f"{path}-{hop}"
            there = target if hop == num_hops - 1 else f"{self.url}{path}-{hop + 1}"
            self.add(here, location=there)
        return self.url + path

    def num_bytes(self, path: str) -> int:
        """Bytes of content sent for a path."""
        with self._lock:
            return sum(seen.num_bytes for seen in self.seen if seen.path == path)

    def requests(self, path: str) -> list[Seen]:
        """Requests for a path."""
        with self._lock:
            return [seen for seen in self.seen if seen.path == path]

    def wait(self, seconds: float) -> None:
        """Sleep, but not longer than the site runs."""
        self._stopped.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    site: LoopbackSite

    def handle_error(self, *_: Any) -> None:
        """Do not report clients that disconnect."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        site = self.server.site
        with site._lock:
            route = site._routes.get(parts.path)
            status = self._trouble(route)
            self._seen = Seen(
                method=self.command,
                path=parts.path,
                query=query,
                headers={name.lower(): value for name, value in self.headers.items()},
            )
            site.seen.append(self._seen)
        if status is not None:
            self._send(status, b"<html>no</html>", "text/html", with_body=with_body)
        else:
            assert route is not None
            self._give(route, query, with_body=with_body)

    def _trouble(self, route: Route | None) -> int | None:
        if route is None:
            return 404
        if route.failures:
            return route.failures.pop(0)
        if route.always is not None:
            return route.always
        cookies = [cookie.strip() for cookie in self.headers.get("Cookie", "").split(";")]
        return 403 if route.cookie is not None and route.cookie not in cookies else None

    def _give(self, route: Route, query: dict[str, str], *, with_body: bool) -> None:
        if route.location is not None:
            self._seen.status = route.status if 300 <= route.status < 400 else 302
            self.send_response(self._seen.status)
            self.send_header("Location", route.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = route.body
        content = body.read_bytes() if isinstance(body, Path) else body(query) if callable(body) else body
        span = self.headers.get("Range") if route.has_ranges else None
        if span is None:
            self._send(route.status, content, route.content_type, with_body=with_body, route=route)
            return
        first, _, last = span.removeprefix("bytes=").partition("-")
        begin, end = int(first), min(int(last) + 1 if last else len(content), len(content))
        if begin >= len(content):
            self._send(416, b"", route.content_type, with_body=False)
            return
        extra = {"Content-Range": f"bytes {begin}-{end - 1}/{len(content)}"}
        self._send(206, content[begin:end], route.content_type, with_body=with_body, route=route, extra=extra)

    def _send(
        self,
        status: int,
        content: bytes,
        content_type: str,
        *,
        with_body: bool,
        route: Route | None = None,
        extra: dict[str, str] | None = None,
    ) -> None:
        route = route or Route()
        self._seen.status = status
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        length = len(content) if route.claimed_length is None else route.claimed_length
        self.send_header("Content-Length", str(length))
        if route.has_ranges:
            self.send_header("Accept-Ranges", "bytes")
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if not with_body:
            return
        cut = route.truncate_at is not None and len(content) > route.truncate_at and _take(route, "num_truncations")
        content = content[: route.truncate_at] if cut else content
        stall = route.stall_after is not None and len(content) > route.stall_after and _take(route, "num_stalls")
        step = 16384 if route.drip is None else max(1, min(16384, round(route.drip / 20)))
        for begin in range(0, len(content), step):
            block = content[begin : begin + step]
            if stall and begin + len(block) > (route.stall_after or 0):
                self.wfile.write(block[: (route.stall_after or 0) - begin])
                self.server.site.wait(30.0)
                cut = True
                break
            self.wfile.write(block)
            self._seen.num_bytes += len(block)
            if route.drip is not None:
                self.server.site.wait(len(block) / route.drip)
        if cut or length != len(content):
            self.close_connection = True
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)


def _take(route: Route, counter: str) -> bool:
    left = getattr(route, counter)
    if left is None:
        return True
    setattr(route, counter, left - 1)
    return left > 0
