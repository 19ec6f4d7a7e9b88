"""Selection of the videos that a run processes, and of the items that it runs again."""

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
    """Videos to process, and items to run again in addition to the pending ones.

    Attributes:
        keys: Keys of videos, or files with one key per line (plain, or manifest lines); None for all.
        start: First position in the order of the manifests, counted from 0.
        end: Position after the last video; None selects up to the end.
        limit: Maximum number of videos that have something to do.
        retry: Items to run again: `none`, those that `failed`, `all` (also rejected ones, but not forgotten ones), or a
            list of reason codes.
        redo: Stages whose finished items are redone, with everything made from them.
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
        """Return the items to run again to `pending`; return the keys of the videos that have something to do.

        Raises:
            ValueError: If a key is not in the ledger, or `redo` names a stage that is not among `stages`.
        """
        unknown = [stage for stage in self.redo if stage not in stages]
        if unknown:
            raise ValueError(f"redo={','.join(unknown)} is not among the stages of this run: {', '.join(stages)}")
        wanted = self._wanted(ledger)
        chosen: dict[str, None] = {}
        retried: list[tuple[StageName, str]] = []
        redone: list[tuple[StageName, str]] = []
        found_reasons: set[str] = set()
        for stage, item, key, state, reason in ledger.states():
            if key not in wanted or stage not in stages:
                continue
            is_redone, is_retried = state == "done" and stage in self.redo, False
            if state in ("failed", "refused"):
                found_reasons.add(reason)
                is_retried = self._retries(state, reason)
            if not (is_redone or is_retried or state == "pending"):
                continue
            if key not in chosen and self.limit is not None and len(chosen) >= self.limit:
                continue
            chosen[key] = None
            if is_redone:
                redone.append((stage, item))
            elif is_retried:
                retried.append((stage, item))
        absent = [] if isinstance(self.retry, str) else sorted(set(self.retry) - found_reasons)
        if absent:
            _log.warning("retry=%s: no item has this reason; wnv-data status lists the reasons", ",".join(absent))
        ledger.requeue(retried, reason="retry")
        ledger.requeue(redone, reason="redo", redo=True)
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
                    f"keys: {', '.join(unknown[:5])}: neither in {ledger.root} nor a file of keys; wnv-data manifest "
                    "writes the keys of a list"
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
