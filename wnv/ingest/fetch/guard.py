"""Which hosts and addresses may be talked to: one gate for every request and redirect, yt-dlp's and our own."""

import http.client
import ipaddress
import socket
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from yt_dlp.networking import Request
from yt_dlp.networking._urllib import HTTPHandler, UrllibRH
from yt_dlp.networking.exceptions import RequestError

BILIBILI_HOSTS = (
    "bilibili.com",
    "b23.tv",
    "bilivideo.com",
    "bilivideo.cn",
    "hdslb.com",
    "akamaized.net",  # the content network that serves some of Bilibili's media
)
"""Where Bilibili's pages and media are, each with its subdomains."""

ANY_HOST = "*"

# Addresses that a translator turns into the IPv4 address of their last four bytes (RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class ForbiddenAddressError(RequestError):
    """A request to a place that the settings do not allow; it was not sent."""


class AddressGuard:
    """Says whether a host, and the address that it resolves to, may be talked to.

    Args:
        hosts: Names that are allowed, each with its subdomains; `*` allows any public host.
        allow_private: Whether addresses that are not public (loopback, private ranges) are allowed. Link-local ones
            never are: there, clouds tell their machines secrets.
    """

    def __init__(self, *, hosts: Sequence[str], allow_private: bool = False) -> None:
        self._hosts = tuple(host.lower().strip(".") for host in hosts)
        self._allow_private = allow_private

    def check_host(self, scheme: str, host: str) -> None:
        """Check what a request names.

        Args:
            scheme: Of the address; only http and https are allowed.
            host: Name or address, without port.

        Raises:
            ForbiddenAddressError: If it is not allowed.
        """
        if scheme not in ("http", "https"):
            raise ForbiddenAddressError(f"only http and https addresses are fetched, got '{scheme}:'")
        name = host.lower().strip("[]").rstrip(".")
        allowed = any(entry in (ANY_HOST, name) or name.endswith(f".{entry}") for entry in self._hosts)
        if not name or not allowed:
            raise ForbiddenAddressError(
                f"host '{name}' is not among the allowed ones ({', '.join(self._hosts)}); name it in fetch.hosts=[...]"
            )
        address = _address(name)
        if address is not None:
            self._check_address(name, address)
        elif name == "localhost" or name.endswith(".localhost"):
            self._check_address(name, ipaddress.ip_address("127.0.0.1"))

    def resolve(self, host: str, port: int) -> list[tuple[str, int]]:
        """The addresses of a host, all of them checked, so that what was checked is what is connected to.

        Raises:
            ForbiddenAddressError: If one of them is not allowed.
            OSError: If the name does not resolve.
        """
        found = [(str(entry[4][0]), port) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        for name, _ in found:
            address = _address(name.partition("%")[0])  # without the zone of a link-local address
            if address is None:
                raise ForbiddenAddressError(f"host '{host}' is at {name!r}, which is no address that can be checked")
            self._check_address(host, address)
        return list(dict.fromkeys(found))

    def _check_address(self, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
        forms = [address, getattr(address, "ipv4_mapped", None), getattr(address, "sixtofour", None)]
        if address in _NAT64:
            forms.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        for form in (form for form in forms if form is not None):
            if form.is_link_local:
                raise ForbiddenAddressError(f"host '{host}' is at {address}, which is link-local: no video is there")
            if not self._allow_private and (not form.is_global or form.is_multicast):
                raise ForbiddenAddressError(
                    f"host '{host}' is at {address}, which is not a public address; set fetch.allow_private=true if "
                    "it is meant"
                )


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


class GuardedRH(UrllibRH):
    """yt-dlp's handler of requests on the standard library, behind an `AddressGuard`.

    The name and the scheme are checked before any request or redirect goes out; the resolved address is checked when
    it is connected to. Through a proxy, which resolves names itself, only the former is possible.
    """

    RH_NAME = "guarded"

    def __init__(self, *, guard: AddressGuard, **settings: Any) -> None:
        super().__init__(**settings)
        self._guard = guard

    def _check_url_scheme(self, request: Request) -> str:
        parts = urlsplit(request.url)
        self._guard.check_host(parts.scheme.lower(), parts.hostname or "")
        return parts.scheme.lower()

    def _create_instance(self, **settings: Any) -> urllib.request.OpenerDirector:
        opener = super()._create_instance(**settings)
        for handler in opener.handlers:
            if isinstance(handler, HTTPHandler):
                _connect_through(self._guard, handler)
        opener.add_handler(_Check(self._guard))
        return opener


class _Check(urllib.request.BaseHandler):
    """Sees every request, those that follow a redirect included, before it is sent."""

    handler_order = 1  # before the proxy's, which replaces the host

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard

    def http_request(self, request: urllib.request.Request) -> urllib.request.Request:
        host, _, port = (request.host or "").rpartition(":")
        self._guard.check_host(request.type, host if host and port.isdigit() else request.host or "")
        return request

    https_request = http_request

    def ftp_open(self, request: urllib.request.Request) -> None:
        self._guard.check_host(request.type, request.host or "")


def _connect_through(guard: AddressGuard, handler: HTTPHandler) -> None:
    """Have a handler's connections go to checked addresses only."""
    do_open = handler.do_open

    def guarded(http_class: Callable[..., http.client.HTTPConnection], request: Any, **settings: Any) -> Any:
        direct = not request.has_proxy() and not getattr(request, "_tunnel_host", None)

        def connection(*args: Any, **kwargs: Any) -> http.client.HTTPConnection:
            made = http_class(*args, **kwargs)
            if direct:
                create = made._create_connection

                def connect(address: tuple[str, int], *rest: Any, **more: Any) -> socket.socket:
                    error: OSError | None = None
                    for checked in guard.resolve(*address):
                        try:
                            return create(checked, *rest, **more)
                        except OSError as refused:
                            error = refused
                    raise error or OSError(f"{address[0]} has no address")

                made._create_connection = connect
            return made

        return do_open(connection, request, **settings)

    handler.do_open = guarded
