"""Reads the address of a video from a cell: a canonical key and URL, or the reason why there is none.

All patterns take linear time, on text of bounded length.
"""

import ipaddress
import re
from dataclasses import dataclass, replace
from urllib.parse import SplitResult, quote, unquote, urlsplit

from wnv.ingest.manifest.bilibili_pages import read_bilibili, read_id, read_short_link

MAX_CELL = 8192
MAX_URL = 2048

# Tracking parameters of other hosts.
_TRACKERS = re.compile(r"utm_\w+|spm\w*|vd_source|share_\w+|fbclid|gclid|mc_[ce]id|igshid", re.IGNORECASE)

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_FULLWIDTH = {0xFEE0 + ord(letter): letter for letter in ":/.?=&"}
_FORBIDDEN = re.compile(
    r"(?:file|javascript|vbscript|data|blob|view-source|about|chrome|s?ftps?|ssh|scp|smb|wss?|rtmps?|rtsp|mms|magnet|"
    r"gopher|concat|subfile|pipe|fd|content|jar|ldap|dict|telnet):\S",
    re.IGNORECASE,
)
_HTTP = re.compile(r"https?://(?=[^\s/])", re.IGNORECASE)
_DAMAGED_HTTP = re.compile(r"(?<![a-z0-9])h{0,2}t{1,2}ps?(?::/{1,2}|//)(?=[^\s/])", re.IGNORECASE)
_BARE_HOST = re.compile(
    r"(?<![\w.@/-])(?::?//)?(?=(?:(?:w{1,4}|m|player)\.?)?bilibili\.co[mn]/|(?:b23|623)\.tv/)", re.IGNORECASE
)
_ANY_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,30}://", re.IGNORECASE)
_LOCAL = re.compile(r"~?[/\\]|\.{1,2}[/\\]|[a-z]:[/\\]", re.IGNORECASE)
_BARE_ID = re.compile(r"bv[0-9a-z]{10}|av[0-9]{1,16}|ep[0-9]{1,12}", re.IGNORECASE)
_END = re.compile(r"[\s\"<>`【】「」《》“”]")
_TYPO_HOST = re.compile(r"w{0,4}\.?bilibili\.(?:com|con|cm|cn|comm)")
_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


@dataclass(frozen=True, kw_only=True)
class Address:
    """The address in a cell.

    Attributes:
        key: `bv:BV...:p1`, `ep:...`, `b23:...`, `url:...`; None if there is no valid video address.
        url: Canonical address of the key.
        codes: Reason codes; without a key, the last one is the reason.
    """

    key: str | None = None
    url: str | None = None
    codes: tuple[str, ...] = ()


def read_address(cell: str) -> Address:
    """Read the first address in a cell; never fails."""
    if len(cell) > MAX_CELL:
        return Address(codes=("url_too_long",))
    codes: list[str] = []
    text = _INVISIBLE.sub("", cell).strip()
    if len(text) != len(cell.strip()):
        codes.append("invisible_characters")
    if not text:
        return Address(codes=("no_url",))
    if _CONTROL.search(text):
        return Address(codes=("control_characters",))
    if _FORBIDDEN.match(text):
        return Address(codes=("scheme_refused",))
    found = _find(text, codes)
    if found is None:
        return Address(codes=(*codes, *_why_none(text)))
    if found == "":
        key, url, more = read_id(text)
        return Address(key=key, url=url, codes=("bare_id", *more))
    address = _read_url(found)
    return replace(address, codes=tuple(dict.fromkeys((*codes, *address.codes))))


def split_title(title: str) -> tuple[str, Address | None]:
    """Separate a title from an address that was pasted into it."""
    match = _HTTP.search(title[:MAX_CELL])
    if match is None:
        return title, None
    end = _END.search(title, match.start())
    stop = end.start() if end else len(title)
    return f"{title[: match.start()].strip()} {title[stop:].strip()}".strip(), read_address(title[match.start() : stop])


def _find(text: str, codes: list[str]) -> str | None:
    """The URL in a text, with its scheme; empty if the text is a bare id; None if there is none."""
    match = _HTTP.search(text)
    if match is None:
        match = _HTTP.search(narrow := text.translate(_FULLWIDTH))
        text = narrow if match else text
        match = match or _DAMAGED_HTTP.search(text) or _BARE_HOST.search(text)
        if match is None:
            return "" if _BARE_ID.fullmatch(text) else None
        codes.append("scheme_repaired")
    if before := text[: match.start()].strip():
        codes.append("stray_characters" if len(before) <= 2 else "title_before_url")
    rest = text[match.end() :]
    if end := _END.search(rest):
        if after := rest[end.start() :].strip():
            codes.append("several_urls" if _HTTP.search(after) else "text_after_url")
        rest = rest[: end.start()]
    scheme = "http" if match[0].lower() == "http://" else "https"
    return f"{scheme}://{rest}"


def _why_none(text: str) -> tuple[str]:
    if _ANY_SCHEME.search(text):
        return ("scheme_refused",)
    return ("local_path",) if _LOCAL.match(text) else ("url_unreadable",)


def _read_url(url: str) -> Address:
    if "\\" in url:
        return Address(codes=("url_malformed",))
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return Address(codes=("url_malformed",))
    if "@" in parts.netloc:
        return Address(codes=("credentials_in_url",))
    host = (parts.hostname or "").rstrip(".")
    codes: list[str] = []
    if _TYPO_HOST.fullmatch(host) and host not in ("www.bilibili.com", "bilibili.com"):
        codes.append("host_repaired")
        host = "www.bilibili.com"
    if host == "623.tv":
        # b23.tv misread by character recognition; its code may be misread too and has no checksum.
        return Address(codes=("short_link_damaged",))
    if host == "b23.tv":
        key, address, more = read_short_link(parts)
    elif host == "bilibili.com" or host.endswith(".bilibili.com"):
        key, address, more = read_bilibili(parts, host)
    else:
        return _other_site(parts, host, port)
    return Address(key=key, url=address, codes=(*codes, *more))


def _other_site(parts: SplitResult, host: str, port: int | None) -> Address:
    if (name := _host_name(host)) is None:
        return Address(codes=("url_malformed",))
    # Decoded twice, because a server may decode once too often.
    plain = unquote(unquote(parts.path))
    if _CONTROL.search(plain) or any(mark in plain for mark in "\t\n\r"):
        return Address(codes=("control_characters",))
    if ".." in re.split(r"[/\\]", plain):
        return Address(codes=("path_refused",))
    codes: list[str] = []
    fields = [text for text in parts.query.split("&") if text]
    kept = [text for text in fields if not _TRACKERS.fullmatch(text.partition("=")[0])]
    if len(kept) < len(fields):
        codes.append("query_removed")
    if parts.fragment:
        codes.append("fragment_removed")
    if parts.path in ("", "/") and not kept:
        return Address(codes=(*codes, "not_a_video"))
    default_port = 443 if parts.scheme == "https" else 80
    place = name if port in (None, default_port) else f"{name}:{port}"
    query = f"?{quote('&'.join(kept), safe=_QUERY_SAFE)}" if kept else ""
    url = f"{parts.scheme}://{place}{quote(parts.path, safe=_PATH_SAFE) or '/'}{query}"
    if len(url) > MAX_URL:
        return Address(codes=(*codes, "url_too_long"))
    return Address(key=f"url:{url}", url=url, codes=tuple(codes))


_PATH_SAFE = "/%:@!$&'()*+,;=~"
_QUERY_SAFE = _PATH_SAFE + "?"


def _host_name(host: str) -> str | None:
    """A host name in ASCII (IDNA) or an IP address; None if it is neither."""
    if ":" in host:
        try:
            return f"[{ipaddress.IPv6Address(host)}]"
        except ValueError:
            return None
    if not host.isascii() and len(host) <= 253:
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    return host if len(host) <= 253 and _HOST.fullmatch(host) else None
