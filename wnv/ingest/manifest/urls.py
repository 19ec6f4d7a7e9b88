"""Reads the address of a video from a cell: a key and a canonical URL, or the reason why there is none.

All patterns take linear time, on text of bounded length.
"""

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from wnv.ingest.manifest.bilibili_id import MAX_AV, av_to_bv, bv_to_av

MAX_CELL = 8192
MAX_URL = 2048

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
_END = re.compile(r"[\s\"<>`【】「」《》“”]")
_TYPO_HOST = re.compile(r"w{0,4}\.?bilibili\.(?:com|con|cm|cn|comm)")
_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")

_BV = re.compile(r"bv[0-9a-z]{10}", re.IGNORECASE)
_AV = re.compile(r"av([0-9]{1,16})", re.IGNORECASE)
_EP = re.compile(r"ep([0-9]{1,12})", re.IGNORECASE)
_BARE_ID = re.compile(f"{_BV.pattern}|{_AV.pattern}|{_EP.pattern}", re.IGNORECASE)
_SHORT_CODE = re.compile(r"[0-9A-Za-z]{4,16}")

# Parameters of Bilibili: those that name the video, its part and a time, and those of the person who shared it.
_MEANINGFUL = {"p", "t", "bvid", "aid", "oid", "avid"}
_SHARE_TRACKERS = {"mid", "share_session_id"}
# Tracking parameters of other hosts.
_TRACKERS = re.compile(r"utm_\w+|spm\w*|vd_source|share_\w+|fbclid|gclid|mc_[ce]id|igshid", re.IGNORECASE)

_PATH_SAFE = "/%:@!$&'()*+,;=~"
_QUERY_SAFE = _PATH_SAFE + "?"

_Named = tuple[str, str]  # key and canonical URL


class Address(NamedTuple):
    """The address in a cell.

    Attributes:
        key: `bv:BV...:p1`, `ep:...`, `b23:...`, `url:...`; None if there is no valid video address.
        url: Canonical address of the key.
        codes: Reason codes; without a key, the last one is the reason.
    """

    key: str | None
    url: str | None
    codes: tuple[str, ...]


class _NoVideoError(Exception):
    """The cell has no video; the argument is the reason code."""


def read_address(cell: str) -> Address:
    """Read the first address in a cell; never fails."""
    codes: list[str] = []
    try:
        key, url = _read_cell(cell, codes)
    except _NoVideoError as error:
        return Address(None, None, tuple(dict.fromkeys([*codes, str(error)])))
    return Address(key, url, tuple(dict.fromkeys(codes)))


def split_title(title: str) -> tuple[str, Address | None]:
    """Separate a title from an address that was pasted into it."""
    match = _HTTP.search(title[:MAX_CELL])
    if match is None:
        return title, None
    end = _END.search(title, match.start())
    stop = end.start() if end else len(title)
    return f"{title[: match.start()].strip()} {title[stop:].strip()}".strip(), read_address(title[match.start() : stop])


def _read_cell(cell: str, codes: list[str]) -> _Named:
    if len(cell) > MAX_CELL:
        raise _NoVideoError("url_too_long")
    text = _INVISIBLE.sub("", cell).strip()
    if not text:
        raise _NoVideoError("no_url")
    if _CONTROL.search(text):
        raise _NoVideoError("control_characters")
    if _FORBIDDEN.match(text):
        raise _NoVideoError("scheme_refused")
    if len(text) != len(cell.strip()):
        codes.append("invisible_characters")
    if (url := _find_url(text, codes)) is not None:
        return _read_url(url, codes)
    if _BARE_ID.fullmatch(text):
        codes.append("bare_id")
        return _read_id(text, codes)
    if _ANY_SCHEME.search(text):
        raise _NoVideoError("scheme_refused")
    raise _NoVideoError("local_path" if _LOCAL.match(text) else "url_unreadable")


def _find_url(text: str, codes: list[str]) -> str | None:
    """The first URL in a text, its scheme repaired."""
    match = _HTTP.search(text)
    if match is None:
        match = _HTTP.search(narrow := text.translate(_FULLWIDTH))
        text = narrow if match else text
        match = match or _DAMAGED_HTTP.search(text) or _BARE_HOST.search(text)
        if match is None:
            return None
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


def _read_url(url: str, codes: list[str]) -> _Named:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _NoVideoError("url_malformed") from None
    if "\\" in url:
        raise _NoVideoError("url_malformed")
    if "@" in parts.netloc:
        raise _NoVideoError("credentials_in_url")
    host = (parts.hostname or "").rstrip(".")
    if _TYPO_HOST.fullmatch(host) and host not in ("www.bilibili.com", "bilibili.com"):
        codes.append("host_repaired")
        host = "www.bilibili.com"
    if host == "623.tv":
        # b23.tv misread by character recognition; its code may be misread too and has no checksum.
        raise _NoVideoError("short_link_damaged")
    if host == "b23.tv":
        return _read_short_link(parts, codes)
    if host == "bilibili.com" or host.endswith(".bilibili.com"):
        return _read_bilibili(parts, host, codes)
    return _read_other_site(parts, host, port, codes)


def _read_id(token: str, codes: list[str], *, part: int = 1) -> _Named:
    """Read the id of a Bilibili video: `BV...`, `av...` or `ep...`."""
    if (match := _EP.fullmatch(token)) and (episode := int(match[1])) > 0:
        codes.append("bangumi")
        return f"ep:{episode}", f"https://www.bilibili.com/bangumi/play/ep{episode}"
    if (match := _AV.fullmatch(token)) and 1 <= int(match[1]) <= MAX_AV:
        codes.append("av_id")
        bv = av_to_bv(int(match[1]))
    else:
        ascii_token = re.split(r"[^\x00-\x7f]", token, maxsplit=1)[0]  # text may follow an address without a space
        # The third character is 1 in every id: the only position where a misread letter can be repaired.
        bv = f"BV{'1' if ascii_token[2:3] in tuple('Il') else ascii_token[2:3]}{ascii_token[3:]}"
        if not _BV.fullmatch(ascii_token) or bv_to_av(bv) is None:
            raise _NoVideoError("bv_malformed")
        codes += ["bv_repaired"] * (bv != ascii_token) + ["text_after_url"] * (ascii_token != token)
    return f"bv:{bv}:p{part}", f"https://www.bilibili.com/video/{bv}?p={part}"


def _read_short_link(parts: SplitResult, codes: list[str]) -> _Named:
    segments = [segment for segment in parts.path.split("/") if segment]
    if len(segments) != 1:
        raise _NoVideoError("not_a_video")
    token = segments[0]
    named = None
    if _BARE_ID.fullmatch(token):
        try:
            named = _read_id(token, codes)
        except _NoVideoError:
            pass  # a short code that looks like an id
    if named is None:
        match = _SHORT_CODE.match(token)
        if match is None or (match.end() < len(token) and token[match.end() :].isascii()):
            raise _NoVideoError("short_link_damaged")
        codes += ["short_link"] + ["text_after_url"] * (match.end() < len(token))
        named = f"b23:{match[0]}", f"https://b23.tv/{match[0]}"
    codes += ["query_removed"] * bool(parts.query)
    return named


def _read_bilibili(parts: SplitResult, host: str, codes: list[str]) -> _Named:
    """Read the video of a video, list, player or bangumi page."""
    # `/video/BV...&p=2`: the question mark is missing.
    path, _, lost = parts.path.partition("&")
    try:
        query = dict(parse_qsl(f"{lost}&{parts.query}", max_num_fields=100))
    except ValueError:
        raise _NoVideoError("url_malformed") from None
    codes += {"m.bilibili.com": ["mobile_host"], "bilibili.com": ["bare_host"]}.get(host, [])
    token = _bilibili_id(path, query, codes)
    part = 1
    if "p" in query:
        is_part = re.fullmatch("[0-9]{1,4}", query["p"]) is not None and int(query["p"]) > 0
        part = int(query["p"]) if is_part else 1
        codes.append("part_in_url" if is_part else "part_unreadable")
    counted = {
        "time_in_url": "t" in query,
        "collection_page": "videopod" in query.get("spm_id_from", "") and "p" not in query,
        "account_tracker_removed": "vd_source" in query,
        "share_tracker_removed": query.keys() & _SHARE_TRACKERS,
        "query_removed": query.keys() - _MEANINGFUL - _SHARE_TRACKERS - {"vd_source"},
    }
    codes += [code for code, found in counted.items() if found]
    return _read_id(token, codes, part=part)


def _bilibili_id(path: str, query: dict[str, str], codes: list[str]) -> str:
    segments = [segment for segment in path.split("/") if segment]
    if "video" in segments[:-1]:
        return segments[segments.index("video") + 1]
    if segments[:2] == ["bangumi", "play"] and len(segments) > 2 and _EP.fullmatch(segments[2]):
        return segments[2]
    ids = [query["bvid"]] if "bvid" in query else []
    ids += [f"av{query[name]}" for name in ("aid", "avid", "oid") if query.get(name, "").isdecimal()]
    if ids:
        codes.append("list_url")
        return ids[0]
    if segments and (_BV.fullmatch(segments[0]) or _AV.fullmatch(segments[0])):
        return segments[0]  # `bilibili.com/BV...` works too
    raise _NoVideoError("not_a_video")


def _read_other_site(parts: SplitResult, host: str, port: int | None, codes: list[str]) -> _Named:
    name = _host_name(host)
    # Decoded twice, because a server may decode once too often.
    plain = unquote(unquote(parts.path))
    if _CONTROL.search(plain) or any(mark in plain for mark in "\t\n\r"):
        raise _NoVideoError("control_characters")
    if ".." in re.split(r"[/\\]", plain):
        raise _NoVideoError("path_refused")
    fields = [text for text in parts.query.split("&") if text]
    kept = [text for text in fields if not _TRACKERS.fullmatch(text.partition("=")[0])]
    codes += ["query_removed"] * (len(kept) < len(fields)) + ["fragment_removed"] * bool(parts.fragment)
    if parts.path in ("", "/") and not kept:
        raise _NoVideoError("not_a_video")
    default_port = 443 if parts.scheme == "https" else 80
    place = name if port in (None, default_port) else f"{name}:{port}"
    query = f"?{quote('&'.join(kept), safe=_QUERY_SAFE)}" if kept else ""
    url = f"{parts.scheme}://{place}{quote(parts.path, safe=_PATH_SAFE) or '/'}{query}"
    if len(url) > MAX_URL:
        raise _NoVideoError("url_too_long")
    return f"url:{url}", url


def _host_name(host: str) -> str:
    """A host name in ASCII (IDNA) or an IP address."""
    try:
        if ":" in host:
            return f"[{ipaddress.IPv6Address(host)}]"
        if not host.isascii() and len(host) <= 253:
            host = host.encode("idna").decode("ascii")
    except ValueError:  # also of IDNA
        raise _NoVideoError("url_malformed") from None
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise _NoVideoError("url_malformed")
    return host
