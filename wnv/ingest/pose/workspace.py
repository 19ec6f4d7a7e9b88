"""Temporary folders that go away: at the end, or, where their maker was killed, when the next one is made."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "wnv-pose-"
_LOCK = "lock"


@contextmanager
def temporary_workspace(parent: Path | None = None) -> Iterator[Path]:
    """A new folder outside of any output root, removed when the block ends, however it ends.

    Args:
        parent: Where to make it; the system's folder for temporary files if None.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(parent)
    # The lock is held from before the folder has a name that is looked for.
    hidden = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=parent))
    try:
        with open(hidden / _LOCK, "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            folder = hidden.rename(hidden.with_name(hidden.name.removeprefix(".")))
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    """Remove the workspaces of killed processes: those whose lock nobody holds."""
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            if folder.stat().st_uid != os.getuid():
                continue
            with open(folder / _LOCK, "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except (FileNotFoundError, NotADirectoryError, BlockingIOError):
            continue  # gone in between, not ours, or in use
