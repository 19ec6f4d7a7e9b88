"""Resolves `b23.tv` short links once; a lock file stores the targets for later runs."""

import http.client
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from wnv.ingest.manifest.jsonl import encode_json
from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.manifest.merge import merge_lines
from wnv.ingest.manifest.urls import read_address
from wnv.runtime.atomic import atomic_file

logger = logging.getLogger(__name__)

BASE = "https://b23.tv"
MAX_LOCATION = 4096

# Failures in a row after which the site is not asked again.
MAX_TROUBLE = 5
_SAVE_EVERY = 50

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
        lock_file: JSON file with the known targets; created or extended, also if interrupted.
        opener: Resolves a link, such as a `LocationOpener`; None uses the lock file alone.
        base: Scheme and host of the short links.

    Raises:
        ValueError: If the lock file is invalid.
    """
    lines = list(lines)
    known = _read_lock(lock_file)
    codes = dict.fromkeys(line.key[4:] for line in lines if line.key is not None and line.key.startswith("b23:"))
    if opener is not None:
        _ask([code for code in codes if code not in known], known, opener, lock_file, base)
    return merge_lines(_resolved(line, known) for line in lines)


def _ask(codes: list[str], known: dict[str, str | None], opener: Opener, lock_file: Path, base: str) -> None:
    num_new = 0
    num_trouble = 0
    try:
        for code in codes:
            try:
                location = opener(f"{base}/{code}")
            except OSError as error:
                num_trouble += 1
                if num_trouble == MAX_TROUBLE:
                    logger.warning(
                        "%d short links in a row could not be resolved, skipping the rest: %s", num_trouble, error
                    )
                    return
                continue
            num_trouble = 0
            known[code] = None if location is None else _address(location)
            num_new += 1
            if num_new % _SAVE_EVERY == 0:
                _write_lock(lock_file, known)
                logger.info("resolved %d of %d short links", num_new, len(codes))
    finally:
        if num_new:
            _write_lock(lock_file, known)


def _address(location: str) -> str:
    """The canonical address of a redirect, without tracking parameters; empty if it is not a Bilibili video."""
    address = read_address(location) if len(location) <= MAX_LOCATION else None
    is_video = address is not None and address.key is not None and address.key.startswith(("bv:", "ep:"))
    return (address.url or "") if address is not None and is_video else ""


def _resolved(line: ManifestLine, known: dict[str, str | None]) -> ManifestLine:
    if line.key is None or not line.key.startswith("b23:"):
        return line
    code = line.key[4:]
    key, url = line.key, line.url
    if code not in known:
        found = "short_link_unresolved"
    elif (location := known[code]) is None:
        found = "short_link_gone"
    elif not location:
        found, key, url = "short_link_foreign", None, None
    else:
        address = read_address(location)
        found, key, url = "short_link_resolved", address.key, address.url
    return replace(line, key=key, url=url, codes=tuple(dict.fromkeys((*line.codes, found))))


def _read_lock(path: Path) -> dict[str, str | None]:
    """Short codes and their targets: a canonical address, None if gone, empty if foreign."""
    if not path.exists():
        return {}
    way_out = "delete it, or set another lock file"
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); {way_out}") from None
    links = values.get("short_links") if isinstance(values, dict) else None
    if not isinstance(links, dict):
        raise ValueError(f"{path} is not a lock file of short links: it has no object 'short_links'; {way_out}")
    for code, location in links.items():
        if location is not None and (not isinstance(location, str) or _address(location) != location):
            raise ValueError(f"{path}: link {code!r} has the invalid target {location!r}; {way_out}")
    return links


def _write_lock(path: Path, known: dict[str, str | None]) -> None:
    with atomic_file(path, overwrite=True) as file:
        file.write(encode_json({"short_links": known}, indent=1) + b"\n")
