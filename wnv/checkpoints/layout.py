"""File layout of a run's checkpoints: names, completeness markers, retention, leftovers of interrupted saves."""

import errno
import json
import logging
import os
import re
import shutil
from pathlib import Path

from wnv.runtime.atomic import atomic_file, sync_folder

log = logging.getLogger(__name__)

LAST = "last.ckpt"
PREVIOUS = "last-previous.ckpt"
BEST = "best.ckpt"
META = "meta.pt"
MARKER = "complete"
_FOLDER = re.compile(r"(step|best)-(\d{8,})")
_UNFINISHED = re.compile(r"\.(?:(?:step|best)-\d{8,}(?:\.old)?|(?:last|best)\.ckpt\..*)\.tmp")
_PREFIXES = {LAST: "step", BEST: "best"}


def sharded_folder(pointer: Path, *, step: int) -> Path:
    """Return the folder `step-00001234` (or `best-00001234`) to which `last.ckpt` (or `best.ckpt`) will link.

    Raises:
        ValueError: If `pointer` is neither.
    """
    if pointer.name not in _PREFIXES:
        raise ValueError(f"a sharded checkpoint is one of {', '.join(_PREFIXES)}, got {pointer.name}")
    return pointer.with_name(f"{_PREFIXES[pointer.name]}-{step:08d}")


def unfinished_name(folder: Path) -> Path:
    """Return the temporary name of a sharded checkpoint that is being written."""
    return folder.with_name(f".{folder.name}.tmp")


def is_sharded(path: Path) -> bool:
    """Whether a path is a sharded checkpoint, complete or not (and not the folder of a run)."""
    return path.is_dir() and (_FOLDER.fullmatch(path.name) is not None or (path / MARKER).is_file())


def holds_checkpoint(run_dir: Path) -> bool:
    """Whether the run has a checkpoint, possibly damaged. Leftovers of an interrupted save do not count."""
    has_file = any((run_dir / name).is_file() for name in (LAST, PREVIOUS, BEST))
    return has_file or any((folder / MARKER).is_file() for folder in sharded_folders(run_dir))


def sharded_folders(run_dir: Path) -> list[Path]:
    """List the sharded checkpoints of a run, complete or not: `step-*` before `best-*`, latest first."""
    matches = [_FOLDER.fullmatch(entry.name) for entry in run_dir.iterdir()] if run_dir.is_dir() else []
    order = sorted(((match[1] == "step", int(match[2]), match[0]) for match in matches if match), reverse=True)
    return [run_dir / name for _, _, name in order]


def unfinished_saves(run_dir: Path) -> list[Path]:
    """List files and folders of saves that were interrupted or are in progress."""
    return sorted(entry for entry in run_dir.iterdir() if _UNFINISHED.fullmatch(entry.name))


def mark_complete(folder: Path, *, step: int) -> None:
    """Write the completeness marker: the step, and the size of each file."""
    sizes = {entry.name: entry.stat().st_size for entry in sorted(folder.iterdir())}
    with atomic_file(folder / MARKER) as file:
        file.write(json.dumps({"step": step, "files": sizes}).encode())


def check_complete(folder: Path) -> int:
    """Check that a sharded checkpoint is complete, and return its step.

    Raises:
        ValueError: If it is not, with what is missing.
    """
    try:
        marker = json.loads((folder / MARKER).read_text())
        step, sizes = int(marker["step"]), dict(marker["files"])
    except FileNotFoundError:
        raise ValueError(f"{folder} is incomplete: its save was interrupted (no file '{MARKER}')") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} is damaged: cannot read '{MARKER}' ({error})") from error
    for name, size in sizes.items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            state = "is missing" if found is None else f"has {found} bytes"
            raise ValueError(f"{folder} is damaged: {name} {state}, expected {size} bytes")
    return step


def begin_sharded(folder: Path) -> Path:
    """Create the temporary folder of a sharded checkpoint, and remove leftovers of interrupted saves."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unmarked = [other for other in sharded_folders(folder.parent) if not (other / MARKER).exists()]
    for leftover in [*unfinished_saves(folder.parent), *unmarked]:
        if leftover.is_dir():
            shutil.rmtree(leftover)
        elif leftover.name.startswith((f".{LAST}", f".{BEST}")):
            leftover.unlink(missing_ok=True)
    unfinished = unfinished_name(folder)
    unfinished.mkdir()
    return unfinished


def finish_sharded(folder: Path, *, pointer: Path, step: int) -> None:
    """Rename and mark a written checkpoint, link to it, and remove older ones.

    Two complete `step-*` checkpoints are kept; later steps belong to a discarded continuation and are removed. At every
    moment a complete checkpoint exists, unless this is the first.
    """
    retired = folder.with_name(f".{folder.name}.old.tmp")
    sync_folder(unfinished_name(folder))
    if folder.exists():  # the run was continued from an earlier step
        os.replace(folder, retired)
    os.replace(unfinished_name(folder), folder)
    sync_folder(folder.parent)
    mark_complete(folder, step=step)
    replaces_file = pointer.name == LAST and pointer.is_file()  # the run wrote whole files before
    if replaces_file:
        keep_as_previous(pointer)
    _point(pointer, folder)
    _remove_older(folder, pointer=pointer, step=step, num_kept=1 if replaces_file or pointer.name == BEST else 2)


def keep_as_previous(path: Path) -> None:
    """Hard-link the checkpoint as `last-previous.ckpt`; its own name never disappears."""
    link = path.with_name(f".{PREVIOUS}.link")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:  # no hard links: for an instant only the previous name exists
        os.replace(path, path.with_name(PREVIOUS))
        return
    os.replace(link, path.with_name(PREVIOUS))
    link.unlink(missing_ok=True)  # left by os.replace if both names were already one file, after a kill


def file_error(error: BaseException | None) -> OSError | None:
    """Return the OS error that caused torch's error, or None."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def write_error(error: BaseException, path: Path, *, rank: int | None = None) -> OSError | None:
    """Build the error for a failed checkpoint write (None if no OS error caused it)."""
    if (cause := file_error(error)) is None:
        return None
    where = "" if rank is None else f"on rank {rank}: "
    return type(cause)(
        cause.errno or errno.EIO,
        f"cannot write the checkpoint ({where}{cause.strerror or cause}); earlier ones are kept: free disk space or "
        "make the folder writable",
        str(path),
    )


def _point(pointer: Path, folder: Path) -> None:
    link = pointer.with_name(f".{pointer.name}.link.tmp")
    try:
        os.symlink(folder.name, link)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        log.warning("%s is not written: no links on its file system; resume=last finds %s too", pointer, folder.name)
        return
    os.replace(link, pointer)
    sync_folder(pointer.parent)


def _remove_older(folder: Path, *, pointer: Path, step: int, num_kept: int) -> None:
    prefix = _PREFIXES[pointer.name]
    kept = 0
    for other in sharded_folders(folder.parent):
        match = _FOLDER.fullmatch(other.name)
        if match is None or match[1] != prefix:
            continue
        if kept < num_kept and int(match[2]) <= step and _is_complete(other):
            kept += 1
            continue
        gone = other.with_name(f".{other.name}.old.tmp")  # so that a partly removed folder is never read
        os.replace(other, gone)
        shutil.rmtree(gone)
    if (retired := folder.with_name(f".{folder.name}.old.tmp")).exists():
        shutil.rmtree(retired)
    if kept >= 2:
        folder.with_name(PREVIOUS).unlink(missing_ok=True)


def _is_complete(folder: Path) -> bool:
    try:
        check_complete(folder)
    except ValueError:
        return False
    return True
