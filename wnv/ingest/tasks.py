"""What the driver hands to a stage and what a stage hands back: plain values that cross processes and machines."""

import errno
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

StageName = Literal["fetch", "clip", "pose", "pack"]
STAGES: tuple[StageName, ...] = ("fetch", "clip", "pose", "pack")
"""The stages that a ledger keeps account of, in the order in which an item goes through them."""

State = Literal["pending", "running", "done", "failed", "refused"]
"""`failed` may go well another time; `refused` will not, unless something outside changes (cookies, a setting)."""

STATES: tuple[State, ...] = ("pending", "running", "done", "failed", "refused")

TOOL = "tool "
"""Begins the names of versions that are told but make no difference: a newer one is no reason to do an item again."""

# What is wrong with the disk or the folder, not with the item: the run has to stop, and the item stays pending.
_ROOT_ERRORS = {errno.ENOSPC: "no_space", errno.EDQUOT: "no_space", errno.EROFS: "read_only", errno.EACCES: "denied"}


@dataclass(frozen=True, kw_only=True)
class Task:
    """One item's turn in one stage.

    Attributes:
        stage: Which stage.
        item: What the ledger calls the item: the key of a video (fetch, clip), the id of a clip (pose, pack).
        root: The output root, absolute.
        payload: What the stages before have found out about the item, as JSON has it.
        attempt: 0 the first time, one more at every repetition.
    """

    stage: StageName
    item: str
    root: Path
    payload: Mapping[str, Any]
    attempt: int = 0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a task ended.

    Attributes:
        state: `done`, `failed`, `refused`; or `pending` where the output root itself gave way, which ends the run.
        reason: A short code in snake_case, counted in tables; `ok` where it is done.
        message: What a person needs to know besides, in a line.
        result: What the next stages need, as JSON has it.
        host: The host that trouble belongs to, where a host is to be left alone for a while.
        seconds: How long it took.
        num_bytes: How much it wrote to the output root.
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
    """One stage with its settings. It is pickled and sent to where it runs."""

    name: StageName

    def __call__(self, task: Task) -> Outcome:
        """Do the work; outputs appear whole or not at all, and an output of an earlier try is replaced."""
        ...

    def versions(self) -> dict[str, str]:
        """Settings and tool versions that the outputs depend on, for the ledger; see `TOOL`."""
        ...


class StageError(Exception):
    """Ends a task with a reason; raised inside a stage where handing an `Outcome` up would only be in the way."""

    def __init__(self, state: Literal["failed", "refused"], reason: str, message: str, host: str | None = None) -> None:
        super().__init__(state, reason, message, host)  # all of them, so that it survives pickling
        self.outcome = Outcome(state=state, reason=reason, message=message, host=host)

    def __str__(self) -> str:
        return f"{self.outcome.reason}: {self.outcome.message}"


def run_task(stage: Stage, task: Task) -> Outcome:
    """Run a task and give its outcome, whatever it raises; only `KeyboardInterrupt` and `SystemExit` pass through."""
    start = time.monotonic()
    try:
        outcome = stage(task)
    except StageError as error:
        outcome = error.outcome
    except MemoryError:
        outcome = Outcome(state="failed", reason="out_of_memory", message="the worker ran out of memory")
    except OSError as error:
        if error.errno in _ROOT_ERRORS:
            where = "" if error.filename else f"{task.root}: "  # it may also be the folder for temporary files
            outcome = Outcome(state="pending", reason=_ROOT_ERRORS[error.errno], message=f"{where}{error}")
        else:
            outcome = _unexpected(error)
    except Exception as error:
        outcome = _unexpected(error)
    return replace(outcome, seconds=time.monotonic() - start)


def _unexpected(error: Exception) -> Outcome:
    where = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())[:500]
    message = f"{type(error).__name__}: {text} ({Path(where.filename).name}:{where.lineno})"
    return Outcome(state="failed", reason="error", message=message)
