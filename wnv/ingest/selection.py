"""Which videos a run is about, and which of their items it does again."""

import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from wnv.ingest.ledger import TAKEN_OUT, Ledger
from wnv.ingest.tasks import StageName

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which videos, and what of them besides the items that are pending.

    Attributes:
        keys: Keys of videos, or files that hold one a line (as text, or as a manifest has it); None for all.
        start: First position in the order of the manifests, counted from 0.
        end: Position after the last one; None for the end.
        limit: At most so many videos that there is something to do for.
        retry: Items to try again: `none`, those that `failed`, `all` (also those that were refused, but not what was
            taken out), or a list of reason codes.
        redo: Stages whose items are made anew though they are done, and with them what comes of them.
    """

    keys: Sequence[str] | None = None
    start: int = 0
    end: int | None = None
    limit: int | None = None
    retry: str | Sequence[str] = "none"
    redo: Collection[StageName] = ()

    def __post_init__(self) -> None:
        if self.start < 0 or (self.end is not None and self.end < self.start):
            raise ValueError(f"0 <= start <= end must hold, got start={self.start} and end={self.end}")
        if self.limit is not None and self.limit < 0:
            raise ValueError(f"limit must be at least 0, got {self.limit}")
        if isinstance(self.retry, str) and self.retry not in ("none", "failed", "all"):
            raise ValueError(f"retry must be none, failed, all or a list of reason codes, got {self.retry}")

    def apply(self, ledger: Ledger, stages: Collection[StageName]) -> set[str]:
        """Send what is to be done again back to `pending`; the keys of the videos that there is something to do for.

        Raises:
            ValueError: If a key is not in the ledger, or `redo` names a stage that this run does not do.
        """
        strange = [stage for stage in self.redo if stage not in stages]
        if strange:
            raise ValueError(f"redo={','.join(strange)}: this run does {', '.join(stages)} only")
        wanted = self._wanted(ledger)
        chosen: dict[str, None] = {}
        again: list[tuple[StageName, str]] = []
        anew: list[tuple[StageName, str]] = []
        met: set[str] = set()
        for stage, item, key, state, reason in ledger.standing():
            if key not in wanted or stage not in stages:
                continue
            met |= {reason} if state in ("failed", "refused") else set()
            remade = state == "done" and stage in self.redo
            retried = state in ("failed", "refused") and self._retries(state, reason)
            if not (remade or retried or state == "pending"):
                continue
            if key not in chosen and self.limit is not None and len(chosen) >= self.limit:
                continue
            chosen[key] = None
            if remade:
                anew.append((stage, item))
            elif retried:
                again.append((stage, item))
        strangers = [] if isinstance(self.retry, str) else sorted(set(self.retry) - met)
        if strangers:
            _log.warning(
                "retry: nothing failed or was refused for %s; wnv-data status shows the reasons there are",
                " or ".join(strangers),
            )
        ledger.requeue(again, reason="retry")
        ledger.requeue(anew, reason="redo", anew=True)
        return set(chosen)

    def _retries(self, state: str, reason: str) -> bool:
        if isinstance(self.retry, str):
            return (self.retry == "all" and reason != TAKEN_OUT) or (self.retry == "failed" and state == "failed")
        return reason in self.retry

    def _wanted(self, ledger: Ledger) -> set[str]:
        positions = {video.key: video.position for video in ledger.videos()}
        keys: Collection[str] = positions
        if self.keys is not None:
            keys = [key for entry in self.keys for key in ([entry] if entry in positions else _keys_of(entry))]
            unknown = [key for key in keys if key not in positions]
            if unknown:
                raise ValueError(
                    f"keys: {', '.join(unknown[:5])}: not known in {ledger.root}, nor a file of keys; wnv-data "
                    "manifest writes the keys of a list"
                )
        end = len(positions) if self.end is None else self.end
        return {key for key in keys if self.start <= positions[key] < end}


def _keys_of(entry: str) -> list[str]:
    path = Path(entry)
    if not path.is_file():
        return [entry]
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    keys = [json.loads(line)["key"] if line.startswith("{") else line for line in lines if line]
    return [key for key in keys if key is not None]
