"""Write files and folders completely or not at all, even if the writer is killed."""

import functools
import os
import re
import secrets
import shutil
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = re.compile(r"\..+\.(?P<host>\w+)-(?P<pid>\d+)-[0-9a-f]{8}\.tmp")


@contextmanager
def atomic_file(path: Path, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` on success and is removed on failure.

    The content is flushed to the disk before it gets its name. Missing parent folders are created. The first write of
    a process to a folder also removes what killed writers left there (`sweep_temporary_files`).

    Raises:
        FileExistsError: If `path` exists and `overwrite` is not set.
    """
    _check_file(path, overwrite)
    temporary = _temporary_name(path)
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _check_file(path, overwrite)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def atomic_folder(path: Path, *, entries: Collection[str], overwrite: bool = False) -> Iterator[Path]:
    """Create a temporary folder that replaces `path` on success and is removed on failure.

    Args:
        path: The folder; may exist if empty.
        entries: Names that the block creates. A folder with any other entry is never replaced.
        overwrite: Replace a folder that holds only such entries.

    Raises:
        FileExistsError: If `path` is a file, is not empty and `overwrite` is not set, or holds other entries.
    """
    _check_folder(path, entries, overwrite)
    temporary = _temporary_name(path)
    try:
        temporary.mkdir()
        yield temporary
        _check_folder(path, entries, overwrite)
        if path.exists():
            # A non-empty folder cannot be replaced atomically: it is missing for an instant, but never incomplete.
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


def _check_file(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise FileExistsError(f"{path} is a folder; choose another name")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; set overwrite=true to replace it, or write to another folder")


def _check_folder(path: Path, entries: Collection[str], overwrite: bool) -> None:
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


def sweep_temporary_files(folder: Path, *, other_hosts: bool = False) -> list[Path]:
    """Remove the temporary files and folders that killed writers left in `folder`; return their paths.

    Args:
        folder: Searched without its subfolders.
        other_hosts: Also remove those of writers on other hosts. Only safe while no other host writes to `folder`.
    """
    removed = []
    for entry in folder.iterdir():
        match = _TEMPORARY.fullmatch(entry.name)
        if match and (not _is_alive(int(match["pid"])) if match["host"] == _host() else other_hosts):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
            removed.append(entry)
    return removed


def _temporary_name(path: Path) -> Path:
    """Return a hidden name beside `path`, on the same file system."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_once(path.parent)
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}.tmp")


@functools.cache  # listing the folder for every file would be quadratic in the number of files
def _sweep_once(folder: Path) -> None:
    sweep_temporary_files(folder)


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", socket.gethostname())


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
    # A dead process stays listed until its parent waits for it, which in a container may be never.
    return state != "Z"


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
