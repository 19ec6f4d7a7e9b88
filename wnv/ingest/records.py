"""What the ledger holds, as values: videos, items in stages, and the files that were made."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wnv.ingest.layout import Split
from wnv.ingest.tasks import StageName, State


@dataclass(frozen=True, kw_only=True)
class Row:
    """An item in a stage.

    Attributes:
        stage: Which stage.
        item: Key of the video (fetch, clip) or id of the clip (pose, pack).
        key: Key of the video it comes from.
        state: How it stands.
        tries: How often it was begun since its payload was new.
        reason: Reason code of the last try; for pending items why they are pending, if there is something to say.
        message: A line for people.
        seconds: How long the last try took.
        num_bytes: What the last try wrote.
        versions: Settings and tools of the last time it was done; empty before.
        payload: What it is made from.
        result: What was made the last time it was done; empty before. Holds true only where the state is `done`.
        updated: When this last changed, Unix time.
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


@dataclass(frozen=True, kw_only=True)
class Video:
    """A video of the manifests. `position` counts from 0 in the order in which the root was told of them."""

    position: int
    key: str
    split: Split
    line: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Child:
    """An item that a finished one gives rise to."""

    stage: StageName
    item: str
    payload: Mapping[str, Any]


def files_of(result: Mapping[str, Any]) -> set[str]:
    """The files that a stage's result names."""
    files = {part["file"] for name in ("parts", "clips") for part in result.get(name, ())}
    return files | {result[name] for name in ("sidecar", "file") if name in result}
