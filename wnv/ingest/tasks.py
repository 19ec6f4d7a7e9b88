"""The interface between driver and stages: plain values that are sent to other processes and machines."""

import errno
import os
import shutil
import socket
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from wnv.ingest.layout import ROOT_ID_FILE
from wnv.ingest.messages import one_line

StageName = Literal["fetch", "clip", "pose", "pack"]
STAGES: tuple[StageName, ...] = ("fetch", "clip", "pose", "pack")
"""The stages, in the order in which an item passes through them."""

State = Literal["pending", "running", "done", "failed", "refused"]
"""`failed` may succeed when retried. `refused` is permanent unless cookies or settings change."""

STATES: tuple[State, ...] = ("pending", "running", "done", "failed", "refused")

TOOL = "tool "
"""Prefix of versions that are recorded only: a change of these does not make an item outdated."""

# Errors of a disk or folder rather than of the item. In the root: the run stops and the item stays pending.
_ROOT_ERRORS = {errno.ENOSPC: "no_space", errno.EDQUOT: "no_space", errno.EROFS: "read_only", errno.EACCES: "denied"}
# Elsewhere: the item fails, and may succeed on another machine.
_OTHER_ERRORS = {"no_space": "no_space_elsewhere", "read_only": "no_access", "denied": "no_access"}


@dataclass(frozen=True, kw_only=True)
class Task:
    """An item to process in a stage.

    Attributes:
        stage: The stage.
        item: Key of the video (fetch, clip) or id of the clip (pose, pack).
        root: The output root, absolute.
        payload: Results of the previous stages, as JSON values.
        attempt: 0 for the first attempt.
        root_id: Content of the root's identity file; empty if unknown. A machine on which the root is not mounted has
            another folder, or none, under its path.
    """

    stage: StageName
    item: str
    root: Path
    payload: Mapping[str, Any]
    attempt: int = 0
    root_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of a task.

    Attributes:
        state: `done`, `failed` or `refused`; or `pending` if the output root cannot be written, which ends the run.
        reason: Reason code in snake_case; `ok` if done.
        message: Details, one line.
        result: Input of the next stages, as JSON values.
        host: The host to pause, after a rate limit.
        seconds: Duration.
        num_bytes: Bytes written to the output root.
    """

    state: State
    reason: str = "ok"
    message: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    host: str | None = None
    seconds: float = 0.0
    num_bytes: int = 0


@runtime_checkable
class Stage(Protocol):
    """A stage with its settings. Pickled and sent to the workers."""

    @property
    def name(self) -> StageName:
        """The stage."""
        ...

    def __call__(self, task: Task) -> Outcome:
        """Process an item. Outputs are written atomically and replace those of earlier attempts."""
        ...

    def versions(self) -> dict[str, str]:
        """Return the settings and tool versions that the outputs depend on; see `TOOL`."""
        ...


class StageError(Exception):
    """Ends a task with a state and reason; for use deep inside a stage."""

    def __init__(self, state: Literal["failed", "refused"], reason: str, message: str, host: str | None = None) -> None:
        super().__init__(state, reason, message, host)  # all arguments, so that it can be pickled
        self.outcome = Outcome(state=state, reason=reason, message=message, host=host)

    def __str__(self) -> str:
        return f"{self.outcome.reason}: {self.outcome.message}"


def run_task(stage: Stage, task: Task) -> Outcome:
    """Run a task and return its outcome. Exceptions become outcomes, except `KeyboardInterrupt` and `SystemExit`."""
    start = time.monotonic()
    try:
        _check_root(task)
        outcome = stage(task)
    except StageError as error:
        outcome = error.outcome
    except MemoryError:
        outcome = Outcome(state="failed", reason="out_of_memory", message="the worker ran out of memory")
    except OSError as error:
        outcome = _disk_trouble(error, stage, task) if error.errno in _ROOT_ERRORS else _unexpected(error)
    except Exception as error:
        outcome = _unexpected(error)
    return replace(outcome, seconds=time.monotonic() - start)


def _check_root(task: Task) -> None:
    if not task.root_id:
        return
    file = task.root / ROOT_ID_FILE
    try:
        found = file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        found = ""
    if found != task.root_id:
        what = "is of another root" if found else "does not exist"
        message = f"{file} {what} on {socket.gethostname()}; mount the root there under the same path"
        raise StageError("failed", "node_without_root", message)


def _disk_trouble(error: OSError, stage: Stage, task: Task) -> Outcome:
    """Distinguish trouble of the root, which concerns all items, from that of one file or machine."""
    reason = _ROOT_ERRORS[error.errno or 0]
    if _blames_root(error, stage, task):
        where = "" if error.filename else f"{task.root}: "
        return Outcome(state="pending", reason=reason, message=f"{where}{error}")
    where = "" if error.filename else f"{_temporary_folder(stage)}: "
    message = f"{where}{one_line(str(error))} (on {socket.gethostname()})"
    return Outcome(state="failed", reason=_OTHER_ERRORS[reason], message=message)


def _blames_root(error: OSError, stage: Stage, task: Task) -> bool:
    if error.filename is not None and not isinstance(error.filename, int):
        return Path(os.fsdecode(error.filename)).absolute().is_relative_to(task.root)
    # A failed write does not name its file.
    temporary = _temporary_folder(stage)
    try:
        if temporary.stat().st_dev == task.root.stat().st_dev:
            return True
        return shutil.disk_usage(task.root).free <= shutil.disk_usage(temporary).free
    except OSError:
        return True


def _temporary_folder(stage: Stage) -> Path:
    return Path(getattr(stage, "workspace", None) or tempfile.gettempdir())


def _unexpected(error: Exception) -> Outcome:
    where = traceback.extract_tb(error.__traceback__)[-1]
    text = one_line(str(error))
    message = f"{type(error).__name__}: {text} ({Path(where.filename).name}:{where.lineno})"
    return Outcome(state="failed", reason="error", message=message)
