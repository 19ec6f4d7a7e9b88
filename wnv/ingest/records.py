"""Values that the ledger stores: videos, and items of stages."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from wnv.ingest.layout import Split
from wnv.ingest.tasks import StageName, State


@dataclass(frozen=True, kw_only=True)
class Row:
    """An item of a stage.

    Attributes:
        stage: Its stage.
        item: Key of the video (fetch, clip) or id of the clip (pose, pack).
        key: Key of the video it comes from.
        state: Its state.
        tries: Attempts since its payload last changed.
        reason: Reason code of the last attempt; of a pending item, why it is pending, if known.
        message: Details of the last attempt, one line.
        seconds: Duration of the last attempt.
        num_bytes: Bytes written by the last attempt.
        versions: Settings and tools of the last successful attempt; empty before it.
        payload: Input of the stage.
        result: Output of the last successful attempt; empty before it. Up to date only if the state is `done`.
        updated: Unix time of the last change.
    """

    stage: StageName
    item: str
    key: str
    state: State
    tries: int
    reason: str
    message: str
    seconds: float
    num_bytes: int
    versions: Mapping[str, str]
    payload: Mapping[str, Any]
    result: Mapping[str, Any]
    updated: float


class Tally(NamedTuple):
    """The items of a stage with one state and reason: number, sums, and the item and message that changed last."""

    stage: StageName
    state: State
    reason: str
    number: int
    seconds: float
    num_bytes: int
    item: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Video:
    """A video of the manifests. `position` counts from 0 in the order in which videos were added."""

    position: int
    key: str
    split: Split
    line: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Child:
    """An item that follows from a finished one."""

    stage: StageName
    item: str
    payload: Mapping[str, Any]
