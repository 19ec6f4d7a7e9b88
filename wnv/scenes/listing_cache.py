"""Share the listing of a folder between the processes of a host, and with later runs while no file changes."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wnv.runtime.atomic import atomic_file

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@dataclass(frozen=True)
class ListedScene:
    """The path of a scene and its number of frames."""

    path: str
    num_frames: int


Listing = list[tuple[str, ListedScene]]


def once_per_host(folder: Path, paths: Sequence[Path], make: Callable[[], Listing]) -> Listing:
    """Return `make()`, or what another process of this host and user made of the same files.

    Processes that start together wait for the first one. Files are the same if their names, sizes and times are.
    """
    cache = _cache_folder()
    if cache is None:
        return make()
    stats = [(str(path), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in paths]
    key = hashlib.sha256(json.dumps(stats).encode()).hexdigest()
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:24]
    with _locked(cache / f"{name}.lock"):
        path = cache / f"{name}.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(path.read_bytes())
            if found["key"] == key:
                return [(scene, ListedScene(*entry)) for scene, entry in found["scenes"]]
        listing = make()
        scenes = [(scene, (entry.path, entry.num_frames)) for scene, entry in listing]
        with contextlib.suppress(OSError), atomic_file(path, overwrite=True) as file:
            file.write(json.dumps({"key": key, "scenes": scenes}).encode())
    return listing


def _cache_folder() -> Path | None:
    """A folder of this user's alone among the host's temporary files; None if there is none."""
    if fcntl is None:
        return None
    folder = Path(tempfile.gettempdir()) / f"wnv-listings-{os.getuid()}"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        stat = folder.lstat()
        if folder.is_dir() and not folder.is_symlink() and stat.st_uid == os.getuid() and not stat.st_mode & 0o022:
            return folder
    return None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    assert fcntl is not None
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed, also by the end of the process
        yield
