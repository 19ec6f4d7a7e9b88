"""Find a video that a root has twice: under a short link, two addresses of one page, or as two identical files."""

import re
from collections.abc import Mapping
from typing import Any

from wnv.ingest.ledger_view import LedgerView

_UNNAMED = ("Generic", "HTML5MediaEmbed")
_VIDEO_ID = re.compile(r"(BV[0-9A-Za-z]{10})(?:_p([1-9][0-9]*))?")


def duplicate_of(ledger: LedgerView, key: str, result: Mapping[str, Any]) -> str | None:
    """Return the other key under which the root has a fetched video.

    Keeping both could put one video into two splits. Videos of other sites are compared by extractor and id, local
    ones by content.

    Args:
        ledger: The ledger of the root.
        key: Key of the fetched video.
        result: Result of its fetch.
    """
    if key.startswith("bv:"):
        plain: str | None = key
    elif key.startswith("b23:"):
        plain = _plain_key(result)
        if plain is None or any(video.key == plain for video in ledger.videos()):
            return plain
    else:
        identity = _identity(result)
        rows = [] if identity is None else ledger.rows("fetch", state="done", form=key.partition(":")[0])
        return next((row.key for row in rows if row.key != key and _identity(row.result) == identity), None)
    short = ledger.rows("fetch", state="done", form="b23")
    return next((row.key for row in short if row.key != key and _plain_key(row.result) == plain), None)


def duplicate_message(key: str, other: str) -> str:
    """Return what to do about a video that is fetched under another key."""
    if key.startswith(("bv:", "b23:")):
        # A short link that was fetched first keeps its key, so only a new root can merge the two.
        where = "" if other.startswith("bv:") else ", in a new root"
        return f"the same video as {other}; resolve=true merges both{where}, with the segments of both"
    if key.startswith("file:"):
        return f"the same file as {other}, whose clips are used"
    return f"the same video as {other}; to merge their segments, list both with that address in a new root"


def _plain_key(result: Mapping[str, Any]) -> str | None:
    found = _VIDEO_ID.fullmatch(str(result.get("video_id")))
    return None if found is None else f"bv:{found[1]}:p{found[2] or 1}"


def _identity(result: Mapping[str, Any]) -> tuple[str, str] | None:
    """Extractor and id of a video; None for plain files, whose id is only their name."""
    extractor, video_id = result.get("extractor"), result.get("video_id")
    return (extractor, video_id) if extractor and video_id and extractor not in _UNNAMED else None
