"""One writer to an output root: a lock that ends with its holder, however that ends."""

import errno
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import IO

from wnv.ingest.layout import LOCK_FILE

_LOOK_S = 0.1


def take_lock(root: Path) -> IO[str]:
    """Take the lock of an output root; it is held until the file that is returned is closed, or the process is gone.

    Raises:
        ValueError: If another run holds it; the message says who and since when.
        OSError: If the root cannot be written to.
    """
    path = root / LOCK_FILE
    # "a": what the holder wrote about itself must survive our look at it.
    file = open(path, "a+", encoding="utf-8")
    try:
        if not _try(file, fcntl.LOCK_EX):
            time.sleep(_LOOK_S)  # somebody may only have looked
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = _holder(file)
        file.close()
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        raise ValueError(
            f"{root} is in use by another run ({holder}); wait for it, end it, or choose another root "
            "(status and report work meanwhile)"
        ) from None
    file.truncate(0)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}))
    file.flush()
    return file


def is_locked(root: Path) -> bool:
    """Whether a run is going on in an output root."""
    try:
        with open(root / LOCK_FILE, encoding="utf-8") as file:
            return not _try(file, fcntl.LOCK_SH)  # the one that a file opened to read can have on every system
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
        return "it has not said which"
