"""The driver: takes items through the stages until nothing is left to do, and records every outcome.

Later stages run first, so that disks do not fill with unfinished work. The children of an item are queued when it ends,
and wait while the item itself is to be redone.
"""

import logging
import math
import signal
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from typing import Any

from wnv.ingest.database import RootError
from wnv.ingest.duplicates import Duplicates, duplicate_message
from wnv.ingest.executors.executor import Executor
from wnv.ingest.forecast import Forecast
from wnv.ingest.gate import Gate, host_of
from wnv.ingest.ledger import Ledger
from wnv.ingest.missing_outputs import requeue_missing
from wnv.ingest.outputs import delete_files, files_of
from wnv.ingest.photos.photo_set import PHOTOS_PREFIX
from wnv.ingest.progress import Progress, Summary
from wnv.ingest.records import Child
from wnv.ingest.retries import Retries
from wnv.ingest.selection import Selection
from wnv.ingest.tasks import STAGES, Outcome, Stage, StageName, State, Task

_log = logging.getLogger(__name__)

# Longest wait for a task: signals and the gate are checked this often.
_TICK_S = 0.5

_Item = tuple[StageName, str]


def run(
    ledger: Ledger,
    stages: Mapping[StageName, Stage],
    executor: Executor,
    *,
    gate: Gate | None = None,
    retries: Retries | None = None,
    selection: Selection | None = None,
    max_waiting: int = 64,
    progress: Progress | None = None,
) -> Summary:
    """Run the pending items of these stages, and the items that follow from them.

    Args:
        ledger: Opened to write.
        stages: The stages to run, by name.
        executor: Where they run. The caller closes it; its tasks are cancelled if the run ends early.
        gate: Limits requests per host.
        retries: Which failures are retried within the run.
        selection: Which videos, and which of their items to run again; by default all pending items.
        max_waiting: No video is fetched while this many items wait for later stages.
        progress: Where to show progress; None shows none.

    Raises:
        RootError: If the output root cannot be written. Running items become pending; the next run resumes.
        KeyboardInterrupt: On Ctrl-C or SIGTERM, with the same effect on running items.
        ValueError: If the selection is invalid.
    """
    if max_waiting < 1:
        raise ValueError(f"max_waiting must be at least 1, got {max_waiting}")
    chosen: dict[StageName, Stage] = {name: stages[name] for name in STAGES if name in stages}
    work = _Run(ledger, chosen, executor, gate or Gate(), retries or Retries(), progress or Progress(shown=False))
    return work.run(selection or Selection(), max_waiting)


def children_of(task: Task, result: Mapping[str, Any]) -> list[Child]:
    """Return the items of the next stage that follow from a finished task."""
    payload = task.payload
    if task.stage == "fetch":
        video = {name: payload[name] for name in ("key", "kind", "split", "title", "url")}
        return [Child(stage="clip", item=task.item, payload={**video, "fetch": dict(result)})]
    if task.stage == "clip":
        video = {name: payload[name] for name in ("title", "url")}
        return [Child(stage="pose", item=clip["id"], payload={**clip, **video}) for clip in result["clips"]]
    if task.stage == "pose":
        return [Child(stage="pack", item=task.item, payload={**payload, "pose": dict(result)})]
    return []


def _parent_of(stage: StageName, item: str, key: str) -> _Item | None:
    parents: dict[StageName, _Item] = {"clip": ("fetch", key), "pose": ("clip", key), "pack": ("pose", item)}
    return parents.get(stage)


@dataclass(eq=False)
class _Run:
    ledger: Ledger
    stages: dict[StageName, Stage]
    executor: Executor
    gate: Gate
    retries: Retries
    progress: Progress
    # Items that may start, per stage and host: a closed host must not block the others.
    ready: dict[StageName, dict[str | None, deque[str]]] = field(init=False)
    versions: dict[StageName, dict[str, str]] = field(init=False)
    duplicates: Duplicates = field(init=False)
    hosts: dict[str, str | None] = field(default_factory=dict)
    later: list[tuple[float, StageName, str]] = field(default_factory=list)  # retries, by the time they are due
    # Items, by the parent they wait for.
    blocked: dict[_Item, list[_Item]] = field(default_factory=lambda: defaultdict(list))
    running: dict[_Item, Task] = field(default_factory=dict)
    num_tries: dict[_Item, int] = field(default_factory=lambda: defaultdict(int))
    stopped: bool = False

    def __post_init__(self) -> None:
        self.versions = {name: stage.versions() for name, stage in self.stages.items()}
        self.ready = {name: defaultdict(deque) for name in self.stages}
        self.duplicates = Duplicates(self.ledger)
        self.progress.forecast = Forecast(tuple(self.stages), seconds=self.ledger.mean_seconds())

    def run(self, selection: Selection, max_waiting: int) -> Summary:
        self._prepare(selection)
        with self._signals(), self.progress:
            try:
                self._loop(max_waiting)
            except BaseException:
                self._cancel()
                raise
        self._log_unfinished()
        return self.progress.summary

    def _prepare(self, selection: Selection) -> None:
        self._requeue_missing()
        keys = selection.apply(self.ledger, tuple(self.stages))
        self._requeue_missing()  # a clip that is redone needs its video again
        for name, versions in self.versions.items():
            number = self.ledger.num_other_versions(name, versions)
            if number:
                _log.warning(
                    "%s: %d finished items were made with other settings or tools; redo them with redo=[%s]",
                    *(name, number, name),
                )
        self.hosts = {row.item: host_of(row.payload) for row in self.ledger.rows("fetch", state="pending")}
        items = self.ledger.states()
        states: dict[_Item, State] = {(stage, item): state for stage, item, _, state, _ in items}
        for stage, item, key, state, _ in items:
            if state != "pending" or stage not in self.stages or key not in keys:
                continue
            parent = _parent_of(stage, item, key)
            if parent is None or self._is_settled(parent, states):
                self.progress.expect(stage)
                self._make_ready(stage, item)
            else:
                self.progress.expect(stage, blocked=True)
                self.blocked[parent].append((stage, item))

    def _is_settled(self, parent: _Item, states: Mapping[_Item, State]) -> bool:
        state = states.get(parent)
        return state == "done" or (state in ("failed", "refused") and self.ledger.has_outputs(*parent))

    def _requeue_missing(self) -> None:
        for stage, number in requeue_missing(self.ledger).items():
            _log.warning("%s: the files of %d finished items are missing; redoing them", stage, number)

    def _make_ready(self, stage: StageName, item: str) -> None:
        self.ready[stage][self.hosts.get(item) if stage == "fetch" else None].append(item)

    def _loop(self, max_waiting: int) -> None:
        while not self.stopped:
            now = time.monotonic()
            while self.later and self.later[0][0] <= now:
                _, stage, item = heappop(self.later)
                self._make_ready(stage, item)
            delay_s = self._start_ready(max_waiting)
            if self.later:
                delay_s = min(delay_s, self.later[0][0] - now)
            if not self.running and delay_s == math.inf:
                return
            for task, outcome in self.executor.wait(max(0.0, min(delay_s, _TICK_S))):
                self._finish(task, outcome)
            self.progress.show()
        raise KeyboardInterrupt

    def _start_ready(self, max_waiting: int) -> float:
        """Start the items that may start; return the seconds until a host accepts the next one, or infinity."""
        delay_s = math.inf
        for stage in reversed(self.stages):
            if stage == "fetch" and self._num_waiting() >= max_waiting:
                continue
            while self.executor.room(stage) > 0:
                item, opens_s = self._next(stage)
                if item is None:
                    delay_s = min(delay_s, opens_s)
                    break
                self._start(stage, item)
        return delay_s

    def _num_waiting(self) -> int:
        """Return the number of items of later stages that this run has still to do."""
        num_ready = sum(len(items) for stage in self.stages if stage != "fetch" for items in self.ready[stage].values())
        return num_ready + sum(stage != "fetch" for stage, _ in self.running)

    def _next(self, stage: StageName) -> tuple[str | None, float]:
        """Return an item that may start now, or None and the seconds until one may."""
        opens_s = math.inf
        for host, items in self.ready[stage].items():
            if not items:
                continue
            delay_s = self.gate.delay_s(host) if stage == "fetch" else 0.0
            if delay_s == 0:
                return items.popleft(), 0.0
            opens_s = min(opens_s, delay_s)
        return None, opens_s

    def _start(self, stage: StageName, item: str) -> None:
        task = self.ledger.start(stage, item)
        self.running[stage, item] = task
        self.num_tries[stage, item] += 1
        if stage == "fetch":
            self.gate.started(self.hosts.get(item), item)
        self.progress.start(stage, item)
        self.executor.submit(self.stages[stage], task)

    def _finish(self, task: Task, outcome: Outcome) -> None:
        stage, item = task.stage, task.item
        if stage == "fetch":
            host = self.hosts.get(item)
            pause_s = self.gate.ended(host, item, outcome)
            if pause_s is not None:
                _log.warning("%s: %s; downloads paused for %.0f s", outcome.host or host, outcome.message, pause_s)
        if outcome.state == "pending":
            raise RootError(
                f"cannot write to the root ({outcome.reason}) at {stage} {item}: {outcome.message}; finished work is "
                "safe, so fix the disk and run the same command again"
            )
        delay_s = self.retries.delay_s(outcome, self.num_tries[stage, item])
        if delay_s is not None:
            self.ledger.finish(task, replace(outcome, state="pending"))
            del self.running[stage, item]
            heappush(self.later, (time.monotonic() + delay_s, stage, item))
            self.progress.retried(stage, item)
            return
        if stage == "fetch" and outcome.state == "done":
            outcome = self._without_duplicate(item, outcome)
        children = children_of(task, outcome.result) if outcome.state == "done" else []
        pending = self.ledger.finish(task, outcome, versions=self.versions[stage], children=children)
        del self.running[stage, item]
        self.progress.end(stage, item, outcome, num_children=len(pending))
        if outcome.state == "done" and outcome.message and str(task.payload.get("key")).startswith(PHOTOS_PREFIX):
            _log.warning("%s: %s: %s", task.payload["key"], stage, outcome.message)  # photographs that are left out
        blocked = self.blocked.pop((stage, item), [])
        if outcome.state == "done":
            for child in pending:
                if child.stage in self.stages:
                    if (child.stage, child.item) in blocked:
                        self.progress.unblock(child.stage)
                    else:
                        self.progress.expect(child.stage)
                    self._make_ready(child.stage, child.item)
        elif self.ledger.has_outputs(stage, item):
            for child_stage, child_item in blocked:
                self.progress.unblock(child_stage)
                self._make_ready(child_stage, child_item)
        elif outcome.state == "failed" or stage == "fetch":  # else the children were removed with it
            self.blocked[stage, item] = blocked

    def _without_duplicate(self, item: str, outcome: Outcome) -> Outcome:
        """Reject a fetched video that the root has under another key, and delete its files."""
        other = self.duplicates.add(item, outcome.result)
        if other is None:
            return outcome
        delete_files(self.ledger.root, files_of(outcome.result))
        message = duplicate_message(item, other)
        return replace(outcome, state="refused", reason="duplicate", message=message)

    def _cancel(self) -> None:
        self.executor.cancel()
        try:
            for task in self.running.values():
                self.ledger.release(task)
        except RootError:
            pass  # opening the ledger again repairs what cannot be written now

    def _log_unfinished(self) -> None:
        for stage, hosts in self.ready.items():
            for host, items in hosts.items():
                if items:
                    _log.warning(
                        "%s: %s rate-limited us too often in a row; %d items stay pending, run again later",
                        *(stage, host, len(items)),
                    )
        blocked = [item for items in self.blocked.values() for item in items]
        for stage in self.stages:
            number = sum(name == stage for name, _ in blocked)
            if number:
                _log.warning("%s: %d items wait for an earlier stage that is not done", stage, number)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Shut the run down cleanly on Ctrl-C or SIGTERM; abort it on a second one."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def stop(number: int, frame: object) -> None:
            self.stopped = True
            restore()

        def restore() -> None:
            for number, handler in previous.items():
                signal.signal(number, handler)

        for number in previous:
            signal.signal(number, stop)
        try:
            yield
        finally:
            restore()
