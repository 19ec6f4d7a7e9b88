"""Files and folders that appear whole or not at all, also when the writer is killed."""

import os
import re
import secrets
import shutil
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_file(path: Path, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block ends well, and vanishes when it does not.

    The content is on the disk before it gets its name. Parent folders are made. What an earlier, killed writer of
    the same file left behind is removed.

    Raises:
        FileExistsError: If `path` exists and `overwrite` is not set.
    """
    _refuse_existing(path, overwrite)
    temporary = _temporary_name(path)
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _refuse_existing(path, overwrite)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def atomic_folder(path: Path, *, entries: Collection[str], overwrite: bool = False) -> Iterator[Path]:
    """A new folder that takes the place of `path` when the block ends well, and vanishes when it does not.

    Args:
        path: The folder; an empty one that exists is filled.
        entries: Names that the block will make in it. Only a folder that holds nothing else is ever replaced.
        overwrite: Replace a folder that holds such entries.

    Raises:
        FileExistsError: If `path` is a file, holds anything and `overwrite` is not set, or holds other things.
    """
    _refuse_folder(path, entries, overwrite)
    temporary = _temporary_name(path)
    try:
        temporary.mkdir()
        yield temporary
        _refuse_folder(path, entries, overwrite)
        if path.exists():
            # A folder with content cannot be replaced in one step; for an instant there is none, never half of one.
            retired = _temporary_name(path)
            os.replace(path, retired)
            try:
                os.replace(temporary, path)
            except BaseException:
                os.replace(retired, path)
                raise
            shutil.rmtree(retired)
        else:
            os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.parent)


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise FileExistsError(f"{path} is a folder; choose another name")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; set overwrite=true to replace it, or write to another folder")


def _refuse_folder(path: Path, entries: Collection[str], overwrite: bool) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise FileExistsError(f"{path} is a file; name a folder")
    found = sorted(entry.name for entry in path.iterdir())
    if found and not overwrite:
        raise FileExistsError(f"{path} is not empty; set overwrite=true to replace it, or name another folder")
    foreign = [name for name in found if name not in entries]
    if foreign:
        raise FileExistsError(
            f"{path} also holds {', '.join(foreign[:5])}, which would be lost (only {', '.join(sorted(entries))} are "
            "replaced); name another folder"
        )


def _temporary_name(path: Path) -> Path:
    """A hidden name beside `path`, on the same file system; what dead writers of this machine left is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    host = re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())
    leftover = re.compile(rf"\.{re.escape(path.name)}\.{re.escape(host)}-(\d+)-[0-9a-f]{{8}}\.tmp")
    for entry in path.parent.iterdir():
        match = leftover.fullmatch(entry.name)
        if match and not _is_alive(int(match[1])):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{host}-{os.getpid()}-{secrets.token_hex(4)}.tmp")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:  # a system without /proc
        return True
    # A dead process is listed until its parent asks how it ended: in a container perhaps for ever.
    return state != "Z"


def sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
