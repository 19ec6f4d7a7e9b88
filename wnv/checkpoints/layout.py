"""Where a run's folder keeps its checkpoints: names, what is complete, what is kept, and what a kill may leave."""

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
    """The folder of the sharded checkpoint that `last.ckpt` or `best.ckpt` will point to: `step-00001234` beside it.

    Raises:
        ValueError: If it is neither.
    """
    if pointer.name not in _PREFIXES:
        raise ValueError(f"a sharded checkpoint is one of {', '.join(_PREFIXES)}, got {pointer.name}")
    return pointer.with_name(f"{_PREFIXES[pointer.name]}-{step:08d}")


def unfinished_name(folder: Path) -> Path:
    """What a sharded checkpoint is called while it is being written."""
    return folder.with_name(f".{folder.name}.tmp")


def is_sharded(path: Path) -> bool:
    """Whether a folder is a sharded checkpoint, complete or not, and not the folder of a run."""
    return path.is_dir() and (_FOLDER.fullmatch(path.name) is not None or (path / MARKER).is_file())


def holds_checkpoint(run_dir: Path) -> bool:
    """Whether a run has a checkpoint, if perhaps a damaged one. What a killed save has left is none."""
    has_file = any((run_dir / name).is_file() for name in (LAST, PREVIOUS, BEST))
    return has_file or any((folder / MARKER).is_file() for folder in sharded_folders(run_dir))


def sharded_folders(run_dir: Path) -> list[Path]:
    """Sharded checkpoints of a run, complete or not, those that are not `best` first, of each kind the latest first."""
    matches = [_FOLDER.fullmatch(entry.name) for entry in run_dir.iterdir()] if run_dir.is_dir() else []
    order = sorted(((match[1] == "step", int(match[2]), match[0]) for match in matches if match), reverse=True)
    return [run_dir / name for _, _, name in order]


def unfinished_saves(run_dir: Path) -> list[Path]:
    """What saves have left that were killed, or are still going on."""
    return sorted(entry for entry in run_dir.iterdir() if _UNFINISHED.fullmatch(entry.name))


def mark_complete(folder: Path, *, step: int) -> None:
    """Write the marker, last of all: the step, and how long every file has to be."""
    sizes = {entry.name: entry.stat().st_size for entry in sorted(folder.iterdir())}
    with atomic_file(folder / MARKER) as file:
        file.write(json.dumps({"step": step, "files": sizes}).encode())


def check_complete(folder: Path) -> int:
    """The step of a sharded checkpoint.

    Raises:
        ValueError: If it is not complete, with what is missing.
    """
    try:
        marker = json.loads((folder / MARKER).read_text())
        step, sizes = int(marker["step"]), dict(marker["files"])
    except FileNotFoundError:
        raise ValueError(f"{folder} is not complete: it has no file '{MARKER}', as its save was killed") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} is damaged: its file '{MARKER}' cannot be read ({error})") from error
    for name, size in sizes.items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            state = "is missing" if found is None else f"has {found} bytes"
            raise ValueError(f"{folder} is damaged: {name} {state}, of {size}")
    return step


def begin_sharded(folder: Path) -> Path:
    """Make the folder in which a sharded checkpoint is written; what killed saves have left is removed."""
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
    """Give what was written its name and its marker, point to it, and remove what is no longer wanted.

    Of those that `last.ckpt` points to, two complete ones are kept; later ones than this are of a continuation that was
    given up. At every moment there is a complete one, unless this is the first.
    """
    retired = folder.with_name(f".{folder.name}.old.tmp")
    sync_folder(unfinished_name(folder))
    if folder.exists():  # of a continuation from an earlier step
        os.replace(folder, retired)
    os.replace(unfinished_name(folder), folder)
    sync_folder(folder.parent)
    mark_complete(folder, step=step)
    has_whole_before = pointer.name == LAST and pointer.is_file()  # of a time when this run wrote whole files
    if has_whole_before:
        keep_as_previous(pointer)
    _point(pointer, folder)
    _remove_older(folder, pointer=pointer, step=step, num_kept=1 if has_whole_before or pointer.name == BEST else 2)


def keep_as_previous(path: Path) -> None:
    """Give a checkpoint the name of the one of before, in such a way that it has its own at every moment as well."""
    link = path.with_name(f".{PREVIOUS}.link")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:  # a file system without hard links: for an instant there is the one of before alone
        os.replace(path, path.with_name(PREVIOUS))
        return
    os.replace(link, path.with_name(PREVIOUS))
    link.unlink(missing_ok=True)  # still there where both were names of one file already, as a kill may leave them


def file_error(error: BaseException | None) -> OSError | None:
    """The file system's error behind the one that torch makes of it; None where there is none."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def not_written(error: BaseException, path: Path, *, rank: int | None = None) -> OSError | None:
    """What a user is told of a checkpoint that could not be written; None where no file system is behind the error."""
    if (cause := file_error(error)) is None:
        return None
    where = "" if rank is None else f"on rank {rank}: "
    return type(cause)(
        cause.errno or errno.EIO,
        f"the checkpoint could not be written ({where}{cause.strerror or cause}); earlier ones are as they were: make "
        "room, or make the folder writable, and continue with resume=last",
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
        gone = other.with_name(f".{other.name}.old.tmp")  # first, so that half of one is never taken for a whole
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
