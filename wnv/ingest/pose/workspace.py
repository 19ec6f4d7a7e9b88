"""Temporary folders that are removed at the end or, after a kill, when the next one is created."""

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
    """Create a temporary folder that is removed when the block ends.

    Args:
        parent: Its parent folder; None for the system's temporary folder.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(parent)
    # Locked under a hidden name first, so that other processes never see it unlocked.
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
    """Remove the workspaces of killed processes, whose locks are free."""
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            if folder.stat().st_uid != os.getuid():
                continue
            with open(folder / _LOCK, "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except (FileNotFoundError, NotADirectoryError, BlockingIOError):
            continue  # removed meanwhile, not a workspace, or in use
