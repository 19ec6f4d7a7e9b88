"""Downloads published lists and verifies their checksums."""

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wnv.runtime.atomic import atomic_file
from wnv.scenes.schema import SceneKind


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """One published list.

    Attributes:
        name: File name, also in the cache.
        kind: Kind of the listed videos.
        url: Its address.
        sha256: SHA-256 of its bytes, 64 hexadecimal digits.
    """

    name: str
    kind: SceneKind
    url: str
    sha256: str


def download_published(files: Sequence[PublishedFile], cache_folder: Path, *, timeout_s: float = 60.0) -> list[Path]:
    """Download lists that are not cached, verify all, and return their paths.

    Args:
        files: The lists.
        cache_folder: Cache; created if missing.
        timeout_s: Timeout of a request, in seconds.

    Raises:
        ValueError: If a checksum differs; names both. Nothing is stored then, and a cached file is unchanged.
        OSError: If a file cannot be downloaded.
    """
    paths = [cache_folder / file.name for file in files]
    for file, path in zip(files, paths, strict=True):
        if path.exists():
            _check(path.read_bytes(), file, where=str(path), way_out="move it away to download it again")
            continue
        data = _download(file.url, timeout_s)
        _check(data, file, where=file.url, way_out="the published file has changed; update sha256 if you trust it")
        with atomic_file(path) as output:
            output.write(data)
    return paths


def _check(data: bytes, file: PublishedFile, *, where: str, way_out: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != file.sha256:
        raise ValueError(f"{where}: sha256 must be {file.sha256}, got {found}; {way_out}")


def _download(url: str, timeout_s: float) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as response:
            return response.read()
    except urllib.error.HTTPError as error:
        with error:
            raise OSError(f"{url}: HTTP status {error.code}; check the network and the address") from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
        raise OSError(f"{url}: {error}; check the network and the address") from None
