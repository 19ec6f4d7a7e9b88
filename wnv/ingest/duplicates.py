"""One video under two names: a short link that nobody had resolved when the lists were merged."""

import re
from collections.abc import Mapping
from typing import Any

from wnv.ingest.ledger import Ledger

_VIDEO_ID = re.compile(r"(BV[0-9A-Za-z]{10})(?:_p([1-9][0-9]*))?")


def duplicate_of(ledger: Ledger, key: str, result: Mapping[str, Any]) -> str | None:
    """The key under which the root has, besides, the video that has been fetched; one of the two is a short link.

    Were both kept, the video could stand on both sides of the split.

    Args:
        ledger: Of the root.
        key: Of the video that has been fetched.
        result: What fetch found.
    """
    if key.startswith("bv:"):
        plain: str | None = key
    elif key.startswith("b23:"):
        plain = _plain_key(result)
        if plain is None or any(video.key == plain for video in ledger.videos()):
            return plain
    else:
        return None
    short = ledger.rows("fetch", state="done", form="b23")
    return next((row.key for row in short if row.key != key and _plain_key(row.result) == plain), None)


def _plain_key(result: Mapping[str, Any]) -> str | None:
    found = _VIDEO_ID.fullmatch(str(result.get("video_id")))
    return None if found is None else f"bv:{found[1]}:p{found[2] or 1}"
