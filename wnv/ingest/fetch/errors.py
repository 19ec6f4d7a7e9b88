"""Classify fetch errors by exception type and, where yt-dlp raises one class for many causes, by message."""

import re
from collections.abc import Iterator, Sequence
from errno import EDQUOT, ENOSPC, EROFS
from typing import Literal

from yt_dlp.networking.exceptions import HTTPError, RequestError, TransportError
from yt_dlp.utils import ExtractorError, GeoRestrictedError, UnavailableVideoError

from wnv.ingest.fetch.guard import ForbiddenAddressError
from wnv.ingest.messages import one_line

Verdict = tuple[Literal["failed", "refused"], str, str]
"""State, reason code and message of an outcome."""

# Messages of yt-dlp and Bilibili; the first match decides.
_SIGNS: tuple[tuple[str, str], ...] = (
    (r"supporter-only video", "premium"),
    (r"premium members? only|become a premium member|大会员", "premium"),
    (r"exceeded the rate limit", "risk_control"),
    # yt-dlp fails like this on a captcha page, and on any page without the state it expects.
    (r"Unable to extract initial state", "risk_control"),
    (r"Unable to download video info: (352|401|412)\b", "risk_control"),
    (r"please wait and try later", "risk_control"),
    (r"HTTP Error (412|429)", "risk_control"),
    (r"deleted or geo-restricted", "gone"),
    (r"您所在的地区无法观看本片|not available (from|in) your (location|country)", "geo"),
    (r"only available for registered users|login required|need to log ?in|Sign in to", "login"),
    (r"Unsupported URL: \S*/(login|signin|passport)\b", "login"),
    (r"video (is )?(unavailable|no longer available)|has been (deleted|removed)", "gone"),
    (r"Did not get any data blocks", "empty_file"),
    (r"ffmpeg (could not be found|is not installed)", "unsupported"),
    (
        r"below throttle limit|Connection reset|Connection refused|bytes read|Downloaded \d+ bytes, expected",
        "transient",
    ),
)

_REFUSED = {"gone", "geo", "login", "premium", "unsupported", "forbidden_address"}

# HTTP statuses of pages and APIs.
_STATUS = {
    401: "login",
    403: "login",
    404: "gone",
    408: "transient",
    410: "gone",
    412: "risk_control",
    425: "transient",
    429: "risk_control",
    451: "geo",
}


def classify(error: BaseException, *, has_proxy: bool, warnings: Sequence[str] = (), media: bool = False) -> Verdict:
    """Map an error of a fetch to state, reason and message.

    Args:
        error: Raised by yt-dlp or by `RangeFile`.
        has_proxy: A proxy is in use. "Deleted or geo-restricted" then becomes `geo` and `failed`: another proxy may
            help.
        warnings: Warnings of yt-dlp: some causes appear only there, followed by a "no formats" error.
        media: The page was read and the media file failed. A media link answered with 401, 403, 404 or 410 has
            expired; a retry gets a new one.
    """
    message = one_line(str(error) or type(error).__name__)
    found = list(causes(error))
    if forbidden := next((cause for cause in found if isinstance(cause, ForbiddenAddressError)), None):
        return "refused", "forbidden_address", one_line(str(forbidden))
    for cause in found:
        if isinstance(cause, GeoRestrictedError):
            return _verdict("geo", message, has_proxy=has_proxy)
        if isinstance(cause, HTTPError):
            if media and cause.status in (401, 403, 404, 410):
                return "failed", "transient", f"{message} (of the media file)"
            reason = "transient" if cause.status >= 500 else _STATUS.get(cause.status, "unsupported")
            return _verdict(reason, message, has_proxy=has_proxy)
    said = f"{message} {error}"
    for text in (said, *warnings):  # the error decides; warnings only if it matches nothing
        reason = next((reason for sign, reason in _SIGNS if re.search(sign, text, re.IGNORECASE)), None)
        if reason is not None:
            note = "" if text is said else f" ({one_line(text)})"
            return _verdict(reason, message + note, has_proxy=has_proxy)
    for cause in found:
        if isinstance(cause, TransportError | TimeoutError | ConnectionError):
            return "failed", "transient", message
        if isinstance(cause, UnavailableVideoError | RequestError):
            return "refused", "unsupported", message
    # An unexpected extractor error: the site has changed; a newer yt-dlp may help.
    expected = any(isinstance(cause, ExtractorError) and cause.expected for cause in found)
    return "refused" if expected else "failed", "unsupported", message


def _verdict(reason: str, message: str, *, has_proxy: bool) -> Verdict:
    if reason == "gone" and has_proxy and "geo-restricted" in message:
        reason = "geo"
    if reason == "geo" and has_proxy:
        return "failed", reason, message
    return "refused" if reason in _REFUSED else "failed", reason, message


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, as yt-dlp and Python chain them, each once."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        found = waiting.pop(0)
        if not isinstance(found, BaseException) or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        kept = getattr(found, "exc_info", None)
        waiting += [kept[1] if kept else None, getattr(found, "cause", None), getattr(found, "reason", None)]
        waiting += [found.__cause__, found.__context__]


def disk_error(error: BaseException) -> OSError | None:
    """Return the disk error (full or read-only) that yt-dlp wrapped, if any."""
    for cause in causes(error):
        if isinstance(cause, OSError) and cause.errno in (ENOSPC, EDQUOT, EROFS):
            return cause
    return None
