"""A start that is refused leaves nothing behind: remove what it has written, but never results."""

import contextlib
import os
import shutil
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

# Settings that name the folder of results; the folders above it are then the user's.
_FOLDER_SETTINGS = ("out=", "run_dir=", "hydra.run.dir=")
# What a run has before its first step: records of its start, and folders of loggers.
_RECORDS = ("config.yaml", "starts.jsonl", "ends.jsonl", "metrics.csv")
_LOGGERS = ("wandb", "tensorboard")
_MARGIN_NS = 120 * 10**9  # between the starts of a run's processes


def is_fresh(folder: Path, *, since_ns: int) -> bool:
    """Whether a start has made a folder, which holds at most logs of the run's other processes.

    Args:
        folder: Folder of results.
        since_ns: When this process started.
    """
    if "LOCAL_RANK" in os.environ:
        since_ns -= _MARGIN_NS
    with contextlib.suppress(OSError):
        paths = [*folder.iterdir()]
        return all(path.suffix == ".log" for path in paths) and all(
            path.stat().st_mtime_ns >= since_ns for path in (folder, *paths)
        )
    return False


def remove_start(folder: Path) -> None:
    """Remove a fresh folder, unless it holds anything but logs and records of a start."""
    with contextlib.suppress(OSError):  # another process of the run may remove it first, or still write
        paths = [*folder.iterdir()]
        if folder == Path.cwd() or not all(_belongs_to_start(path) for path in paths):
            return
        for path in paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        folder.rmdir()
        typed = [*HydraConfig.get().overrides.task, *HydraConfig.get().overrides.hydra]
        if folder.is_relative_to(Path.cwd()) and not any(item.startswith(_FOLDER_SETTINGS) for item in typed):
            os.removedirs(folder.relative_to(Path.cwd()).parent)  # outputs/eval, if empty


def _belongs_to_start(path: Path) -> bool:
    return path.name in (*_RECORDS, *_LOGGERS) or path.suffix == ".log"
