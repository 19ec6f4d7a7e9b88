"""Downloads published lists and verifies their checksums."""

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wnv.runtime.atomic import atomic_file
from wnv.scenes.schema import SceneKind

MAX_BYTES = 2**26


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """One published list.

    Attributes:
        name: File name, also in the cache.
        kind: Kind of the listed videos.
        url: Its address.
        sha256: SHA-256 of its bytes, 64 hexadecimal digits.

    Raises:
        ValueError: If the name is not a plain file name, or another value is invalid.
    """

    name: str
    kind: SceneKind
    url: str
    sha256: str

    def __post_init__(self) -> None:
        if not self.name or self.name in (".", "..") or "/" in self.name or "\0" in self.name:
            raise ValueError(f"name must be a plain file name, got {self.name!r}")
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise ValueError(f"sha256 of {self.name} must be 64 lower-case hexadecimal digits, got {self.sha256!r}")
        if not self.url.startswith(("https://", "http://")):
            raise ValueError(f"url of {self.name} must be http or https, got {self.url!r}")


def download_published(files: Iterable[PublishedFile], cache_folder: Path, *, timeout_s: float = 60.0) -> list[Path]:
    """Download lists that are not cached, verify all, and return their paths.

    Args:
        files: The lists.
        cache_folder: Cache; created if missing.
        timeout_s: Timeout of a request, in seconds.

    Raises:
        ValueError: If a checksum differs; names both. Nothing is stored then, and a cached file is unchanged.
        OSError: If a file cannot be downloaded.
    """
    return [_cached(file, cache_folder, timeout_s) for file in files]


def _cached(file: PublishedFile, cache_folder: Path, timeout_s: float) -> Path:
    path = cache_folder / file.name
    if path.exists():
        _check(path.read_bytes(), file, where=str(path), way_out="move it away to download it again")
        return path
    data = _download(file.url, timeout_s)
    _check(data, file, where=file.url, way_out="the published file has changed; update sha256 if you trust it")
    with atomic_file(path) as output:
        output.write(data)
    return path


def _check(data: bytes, file: PublishedFile, *, where: str, way_out: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != file.sha256:
        raise ValueError(f"{where}: sha256 must be {file.sha256}, got {found}; {way_out}")


def _download(url: str, timeout_s: float) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as response:
            data = response.read(MAX_BYTES + 1)
            num_missing = response.length or 0
    except urllib.error.HTTPError as error:
        with error:
            raise OSError(f"{url}: HTTP status {error.code}; check the network and the address") from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
        raise OSError(f"{url}: {error}; check the network and the address") from None
    if len(data) > MAX_BYTES:
        raise ValueError(f"{url}: more than {MAX_BYTES} bytes")
    if num_missing:
        raise OSError(f"{url}: the download ended {num_missing} bytes short; try again")
    return data
