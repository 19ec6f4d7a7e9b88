"""Resolves `b23.tv` short links once; a lock file stores the targets for later runs."""

import http.client
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from wnv.ingest.manifest.jsonl import write_json
from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.manifest.merge import merge_lines
from wnv.ingest.manifest.urls import read_address

logger = logging.getLogger(__name__)

BASE = "https://b23.tv"
MAX_LOCATION = 4096

# Failures in a row after which the site is not asked again.
MAX_TROUBLE = 5

Opener = Callable[[str], str | None]
"""Returns the address that a link redirects to, None if there is no such link; raises OSError if unknown."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any, **options: Any) -> None:
        return None


class LocationOpener:
    """Reads the redirect of a link without following it.

    Args:
        timeout_s: Timeout of a request, in seconds.
        pause_s: Pause between two requests, in seconds.
    """

    def __init__(self, *, timeout_s: float = 20.0, pause_s: float = 1.0) -> None:
        self.timeout_s = timeout_s
        self.pause_s = pause_s
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._asked = False

    def __call__(self, url: str) -> str | None:
        """The address that `url` redirects to; None if there is no such link."""
        if self._asked:
            time.sleep(self.pause_s)
        self._asked = True
        request = urllib.request.Request(url, headers={"User-Agent": "Mozilla/5.0"})
        try:
            # The site answers unknown links with a page instead of a redirect.
            with self._opener.open(request, timeout=self.timeout_s):
                return None
        except urllib.error.HTTPError as error:
            with error:
                if 300 <= error.code < 400 and error.headers.get("Location"):
                    return error.headers["Location"]
                if error.code in (404, 410):
                    return None
                raise OSError(f"{url}: HTTP status {error.code}") from None
        except http.client.HTTPException as error:
            raise OSError(f"{url}: {type(error).__name__}: {error}") from None


def resolve_short_links(
    lines: Iterable[ManifestLine], *, lock_file: Path, opener: Opener | None = None, base: str = BASE
) -> list[ManifestLine]:
    """Replace `b23:` keys by those of their target videos, and merge lines of the same video.

    Lines get a code: `short_link_resolved`; `short_link_gone` for links that no longer exist (the key is kept);
    `short_link_foreign` for targets other than Bilibili videos (the key is removed); `short_link_unresolved` if the
    target is unknown. The first three are stored in the lock file, the last is requested again next time.

    Args:
        lines: Lines; those without a `b23:` key are unchanged.
        lock_file: JSON file with the known targets; created or extended after each answer.
        opener: Resolves a link, such as a `LocationOpener`; None uses the lock file alone.
        base: Scheme and host of the short links.

    Raises:
        ValueError: If the lock file is invalid.
    """
    lines = list(lines)
    known = _read_lock(lock_file)
    codes = dict.fromkeys((line.key or "")[4:] for line in lines if _is_short(line))
    if opener is not None:
        _ask([code for code in codes if code not in known], known, opener, lock_file, base)
    return merge_lines(_resolved(line, known) if _is_short(line) else line for line in lines)


def _ask(codes: list[str], known: dict[str, str | None], opener: Opener, lock_file: Path, base: str) -> None:
    num_trouble = 0
    for number, code in enumerate(codes, 1):
        try:
            location = opener(f"{base}/{code}")
        except OSError as error:
            num_trouble += 1
            if num_trouble < MAX_TROUBLE:
                continue
            logger.warning("%d short links in a row could not be resolved, skipping the rest: %s", num_trouble, error)
            return
        num_trouble = 0
        known[code] = None if location is None else _video_url(location)
        write_json(lock_file, {"short_links": known}, indent=1, overwrite=True)
        if number % 50 == 0:
            logger.info("resolved %d of %d short links", number, len(codes))


def _is_short(line: ManifestLine) -> bool:
    return (line.key or "").startswith("b23:")


def _video_url(location: str) -> str:
    """The canonical address of a redirect, without tracking parameters; empty if it is not a Bilibili video."""
    address = read_address(location[:MAX_LOCATION])
    return (address.url or "") if (address.key or "").startswith(("bv:", "ep:")) else ""


def _resolved(line: ManifestLine, known: dict[str, str | None]) -> ManifestLine:
    code = (line.key or "")[4:]
    if code not in known:
        return line.with_code("short_link_unresolved")
    location = known[code]
    if location is None:
        return line.with_code("short_link_gone")
    if not location:
        return line.with_code("short_link_foreign", key=None, url=None)
    address = read_address(location)
    return line.with_code("short_link_resolved", key=address.key, url=address.url)


def _read_lock(path: Path) -> dict[str, str | None]:
    """Short codes and their targets: a canonical address, None if gone, empty if foreign."""
    if not path.exists():
        return {}
    try:
        links: dict[str, str | None] = json.loads(path.read_bytes())["short_links"]
        invalid = [code for code, url in links.items() if url is not None and _video_url(url) != url]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a lock file of short links ({error!r}); delete it, or set another lock file"
        ) from None
    if invalid:
        raise ValueError(f"{path}: link {invalid[0]!r} has the invalid target {links[invalid[0]]!r}; delete the file")
    return links
