"""Restrict the hosts and addresses of all requests and redirects, yt-dlp's and our own."""

# yt-dlp's published stubs and typeshed lack the members that are overridden here.
# pyright: reportAttributeAccessIssue=false, reportAssignmentType=false

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
    "akamaized.net",  # CDN of some of Bilibili's media
)
"""Hosts of Bilibili's pages and media, each including its subdomains."""

ANY_HOST = "*"

_MEDIA_HOSTS = {
    "youtube.com": ("youtu.be", "youtube-nocookie.com", "googlevideo.com"),
    "vimeo.com": ("vimeocdn.com", "akamaized.net"),
    "dailymotion.com": ("dai.ly", "dmcdn.net", "dm-event.net"),
}
"""Hosts that are allowed together with a site: its short links and media."""

# Translated to the IPv4 address in the last four bytes (RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# The only allocated global unicast space; everything else embeds other addresses or is reserved (RFC 4291, RFC 8215).
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")


class ForbiddenAddressError(RequestError):
    """The request was blocked because the settings do not allow its target."""


class AddressGuard:
    """Check hosts and the addresses they resolve to.

    Args:
        hosts: Allowed names, including their subdomains and the media hosts of known sites; `*` allows any public host.
        allow_private: Allow addresses that are not public (loopback, private ranges). Link-local addresses are never
            allowed: cloud metadata services live there.
    """

    def __init__(self, *, hosts: Sequence[str], allow_private: bool = False) -> None:
        names = [host.lower().strip(".") for host in hosts]
        self._hosts = tuple(names)
        self._allowed = {*names, *(other for name in names for other in _MEDIA_HOSTS.get(name, ()))}
        self._allow_private = allow_private

    def check_host(self, scheme: str, host: str) -> None:
        """Check the host of a request.

        Args:
            scheme: URL scheme; only http and https are allowed.
            host: Name or address, without port.

        Raises:
            ForbiddenAddressError: If it is not allowed.
        """
        if scheme not in ("http", "https"):
            raise ForbiddenAddressError(f"only http and https are supported, got '{scheme}:'")
        name = host.lower().strip("[]").rstrip(".")
        allowed = any(entry in (ANY_HOST, name) or name.endswith(f".{entry}") for entry in self._allowed)
        if not name or not allowed:
            raise ForbiddenAddressError(
                f"host '{name}' is not among the allowed hosts ({', '.join(self._hosts)}); set fetch.hosts=[...]"
            )
        address = _address(name)
        if address is not None:
            self._check_address(name, address)
        elif name == "localhost" or name.endswith(".localhost"):
            self._check_address(name, ipaddress.ip_address("127.0.0.1"))

    def resolve(self, host: str, port: int) -> list[tuple[str, int]]:
        """Resolve a host and check every address, so that connections go to checked addresses only.

        Raises:
            ForbiddenAddressError: If an address is not allowed.
            OSError: If the name does not resolve.
        """
        found = [(str(entry[4][0]), port) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        for name, _ in found:
            address = _address(name.partition("%")[0])  # without the zone of a link-local address
            if address is None:
                raise ForbiddenAddressError(f"host '{host}' resolves to {name!r}, which cannot be checked")
            self._check_address(host, address)
        return list(dict.fromkeys(found))

    def _check_address(self, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
        forms = [address, getattr(address, "ipv4_mapped", None), getattr(address, "sixtofour", None)]
        if address in _NAT64:
            forms.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        for form in (form for form in forms if form is not None):
            if form.is_link_local:
                raise ForbiddenAddressError(f"host '{host}' resolves to the link-local address {address}")
            if not self._allow_private and not _is_public(form):
                raise ForbiddenAddressError(
                    f"host '{host}' resolves to {address}, which is not public; fetch.allow_private=true allows it"
                )


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST:
        return address in _NAT64 or address.ipv4_mapped is not None  # the IPv4 address inside is checked itself
    return address.is_global and not address.is_multicast


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


class GuardedRH(UrllibRH):
    """yt-dlp's urllib request handler behind an `AddressGuard`.

    Scheme and host are checked before every request and redirect, resolved addresses when connecting. A proxy resolves
    names itself, so only the former applies there.

    Raises:
        RuntimeError: If yt-dlp has no handler that connections can be checked in.
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
        handlers = [handler for handler in opener.handlers if isinstance(handler, HTTPHandler)]
        if not handlers:  # a yt-dlp that works differently must not connect unchecked
            raise RuntimeError("this version of yt-dlp does not connect through HTTPHandler; install an older one")
        for handler in handlers:
            _connect_through(self._guard, handler)
        opener.add_handler(_Check(self._guard))
        return opener


class _Check(urllib.request.BaseHandler):
    """Check every request, redirected ones included, before it is sent."""

    handler_order = 1  # before the proxy handler, which replaces the host

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
    """Make a handler connect to checked addresses only."""
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
