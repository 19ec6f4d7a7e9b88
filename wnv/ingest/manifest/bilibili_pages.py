"""The video of a Bilibili address: video, list, player and bangumi pages, mobile and short links."""

import re
from urllib.parse import SplitResult, parse_qsl

from wnv.ingest.manifest.bilibili_id import MAX_AV, av_to_bv, bv_to_av

Named = tuple[str | None, str | None, tuple[str, ...]]
"""Key, canonical URL and codes; without a key, the last code is the reason."""

MAX_PART = 9999

_BV = re.compile(r"bv[0-9a-z]{10}", re.IGNORECASE)
_AV = re.compile(r"av([0-9]{1,16})", re.IGNORECASE)
_EP = re.compile(r"ep([0-9]{1,12})", re.IGNORECASE)
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
SHORT_CODE = re.compile(r"[0-9A-Za-z]{4,16}")

# Parameters that name the video, its part and a time.
_MEANINGFUL = {"p", "t", "bvid", "aid", "oid", "avid"}


def read_id(token: str, *, part: int = 1) -> Named:
    """Read the id of a video: `BV...`, `av...` or `ep...`."""
    codes: list[str] = []
    if (episode := _EP.fullmatch(token)) and int(episode[1]) > 0:
        number = int(episode[1])
        return f"ep:{number}", f"https://www.bilibili.com/bangumi/play/ep{number}", ("bangumi",)
    bv: str | None = None
    if number := _AV.fullmatch(token):
        if 1 <= int(number[1]) <= MAX_AV:
            bv = av_to_bv(int(number[1]))
            codes.append("av_id")
    elif (bv := _checked_bv(token, codes)) is None and (foreign := _NOT_ASCII.search(token)):
        # Text after an address without a space.
        if (bv := _checked_bv(token[: foreign.start()], codes)) is not None:
            codes.append("text_after_url")
    if bv is None:
        return None, None, ("bv_malformed",)
    return f"bv:{bv}:p{part}", f"https://www.bilibili.com/video/{bv}?p={part}", tuple(codes)


def _checked_bv(token: str, codes: list[str]) -> str | None:
    if not _BV.fullmatch(token):
        return None
    # The third character is 1 in every id: the only position where a misread letter can be repaired.
    third = "1" if token[2] in "Il" else token[2]
    bv = f"BV{third}{token[3:]}"
    if bv_to_av(bv) is None:
        return None
    if bv != token:
        codes.append("bv_repaired")
    return bv


def read_short_link(parts: SplitResult) -> Named:
    """Read the video, or the short code, of a `b23.tv` address."""
    segments = [segment for segment in parts.path.split("/") if segment]
    if len(segments) != 1:
        return None, None, ("not_a_video",)
    token = segments[0]
    if _BV.fullmatch(token) or _AV.fullmatch(token) or _EP.fullmatch(token):
        key, url, codes = read_id(token)
        if key is not None:
            return key, url, (*codes, *(["query_removed"] if parts.query else []))
    match = SHORT_CODE.match(token)
    if match is None or (match.end() < len(token) and token[match.end() :].isascii()):
        return None, None, ("short_link_damaged",)
    codes = ["short_link"]
    if match.end() < len(token):
        codes.append("text_after_url")
    if parts.query:
        codes.append("query_removed")
    return f"b23:{match[0]}", f"https://b23.tv/{match[0]}", tuple(codes)


def read_bilibili(parts: SplitResult, host: str) -> Named:
    """Read the video of an address on a host of `bilibili.com`."""
    # `/video/BV...&p=2`: the question mark is missing.
    path, _, lost = parts.path.partition("&")
    try:
        query = dict(parse_qsl(f"{lost}&{parts.query}", max_num_fields=100))
    except ValueError:
        return None, None, ("url_malformed",)
    codes = _host_codes(host)
    token = _token(path, query, codes)
    if token is None:
        return None, None, (*codes, "not_a_video")
    part = _part(query, codes)
    _query_codes(query, codes)
    key, url, more = read_id(token, part=part)
    return key, url, (*codes, *more)


def _host_codes(host: str) -> list[str]:
    if host == "m.bilibili.com":
        return ["mobile_host"]
    return ["bare_host"] if host == "bilibili.com" else []


def _token(path: str, query: dict[str, str], codes: list[str]) -> str | None:
    segments = [segment for segment in path.split("/") if segment]
    if "video" in segments[:-1]:
        return segments[segments.index("video") + 1]
    if segments[:2] == ["bangumi", "play"] and len(segments) > 2 and _EP.fullmatch(segments[2]):
        return segments[2]
    if "bvid" in query:
        codes.append("list_url")
        return query["bvid"]
    for name in ("aid", "avid", "oid"):
        if query.get(name, "").isdecimal():
            codes.append("list_url")
            return f"av{query[name]}"
    # `bilibili.com/BV...` works too.
    return segments[0] if segments and (_BV.fullmatch(segments[0]) or _AV.fullmatch(segments[0])) else None


def _part(query: dict[str, str], codes: list[str]) -> int:
    if "p" not in query:
        return 1
    text = query["p"]
    if text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= MAX_PART:
        codes.append("part_in_url")
        return int(text)
    codes.append("part_unreadable")
    return 1


def _query_codes(query: dict[str, str], codes: list[str]) -> None:
    if "t" in query:
        codes.append("time_in_url")
    if "videopod" in query.get("spm_id_from", "") and "p" not in query:
        codes.append("collection_page")
    if "vd_source" in query:
        codes.append("account_tracker_removed")
    if "mid" in query or "share_session_id" in query:
        codes.append("share_tracker_removed")
    if query.keys() - _MEANINGFUL - {"vd_source", "mid", "share_session_id"}:
        codes.append("query_removed")
