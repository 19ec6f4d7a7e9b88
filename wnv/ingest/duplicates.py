"""Find a video that a root has twice: under a short link, two addresses of one page, or as two identical files."""

import re
from collections.abc import Mapping
from typing import Any

from wnv.ingest.ledger_view import LedgerView

# Extractors of plain files, whose id is only a file name.
_UNNAMED = ("Generic", "HTML5MediaEmbed")
_VIDEO_ID = re.compile(r"(BV[0-9A-Za-z]{10})(?:_p([1-9][0-9]*))?")


class Duplicates:
    """The fetched videos of a root, by what identifies them: extractor and id, or the content of local files.

    Keeping two copies could put one video into two splits.

    Args:
        ledger: The ledger of the root; read once.
    """

    def __init__(self, ledger: LedgerView) -> None:
        self._keys = {video.key for video in ledger.videos()}
        self._fetched: dict[str, str] = {}
        for row in ledger.rows("fetch", state="done"):
            self._fetched.setdefault(_identity(row.key, row.result) or row.key, row.key)

    def add(self, key: str, result: Mapping[str, Any]) -> str | None:
        """Add a fetched video, or return the other key under which the root has it.

        Args:
            key: Key of the video.
            result: Result of its fetch.
        """
        identity = _identity(key, result)
        if identity is None:
            return None
        if key.startswith("b23:") and identity in self._keys:
            return identity
        other = self._fetched.setdefault(identity, key)
        return None if other == key else other


def duplicate_message(key: str, other: str) -> str:
    """Return what to do about a video that is fetched under another key."""
    if key.startswith(("bv:", "b23:")):
        # A short link that was fetched first keeps its key, so only a new root can merge the two.
        where = "" if other.startswith("bv:") else ", in a new root"
        return f"the same video as {other}; resolve=true merges both{where}, with the segments of both"
    if key.startswith("file:"):
        return f"the same file as {other}, whose clips are used"
    return f"the same video as {other}; to merge their segments, list both with that address in a new root"


def _identity(key: str, result: Mapping[str, Any]) -> str | None:
    """Identify a video; None if only its key does."""
    if key.startswith("bv:"):
        return key
    if key.startswith("b23:"):
        found = _VIDEO_ID.fullmatch(str(result.get("video_id")))
        return None if found is None else f"bv:{found[1]}:p{found[2] or 1}"
    extractor, video_id = result.get("extractor"), result.get("video_id")
    return f"{extractor} {video_id}" if extractor and video_id and extractor not in _UNNAMED else None
