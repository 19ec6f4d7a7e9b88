"""A lock that lets one run write to an output root; it is released when its process ends."""

import errno
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import IO

from wnv.ingest.layout import LOCK_FILE

_RETRY_S = 0.1


def take_lock(root: Path) -> IO[str]:
    """Lock an output root until the returned file is closed or the process ends.

    Raises:
        ValueError: If another run holds the lock; the message names its process, host and start.
        OSError: If the root cannot be written to.
    """
    # "a": opening must not erase what the holder wrote.
    file = open(root / LOCK_FILE, "a+", encoding="utf-8")
    try:
        if not _try(file, fcntl.LOCK_EX):
            time.sleep(_RETRY_S)  # `is_locked` of another process holds it for a moment
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = _holder(file)
        file.close()
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        raise ValueError(
            f"root={root} is used by another run ({holder}); wait for it, stop it, or choose another root. "
            "wnv-data status and report work meanwhile"
        ) from None
    file.truncate(0)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}))
    file.flush()
    return file


def is_locked(root: Path) -> bool:
    """Return whether a run is active in an output root."""
    try:
        with open(root / LOCK_FILE, encoding="utf-8") as file:
            return not _try(file, fcntl.LOCK_SH)  # a file opened to read can take a shared lock on every system
    except FileNotFoundError:
        return False


def _try(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(file: IO[str]) -> str:
    file.seek(0)
    try:
        holder = json.loads(file.read())
        return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "process unknown"
