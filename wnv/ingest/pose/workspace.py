"""Temporary folders that are removed at the end or, after a kill, when the next one is created."""

import fcntl
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

# With the host's name: on a disk that several share, one does not see the locks of another.
_PREFIX = f"wnv-pose-{re.sub(r'[^A-Za-z0-9]', '_', socket.gethostname())}-"
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
            _lock(lock)
            folder = hidden.rename(hidden.with_name(hidden.name.removeprefix(".")))
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _lock(file: IO[bytes]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        pass  # a file system without locks: nothing is ever taken for abandoned there


def _remove_abandoned(parent: Path) -> None:
    """Remove the workspaces of killed processes, whose locks are free."""
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            if folder.stat().st_uid != os.getuid():
                continue
            with open(folder / _LOCK, "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # removed meanwhile, not a workspace, in use, or without locks
