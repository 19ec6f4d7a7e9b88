"""The driver: takes items through the stages until there is nothing left to do, and writes down what became of them.

Late stages go first, so that disks do not fill with half-done work. A stage's children are queued as it ends, and never
run while what they are made from is to be made again.
"""

import logging
import math
import signal
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from heapq import heappop, heappush
from typing import Any

from wnv.ingest.database import RootError
from wnv.ingest.duplicates import duplicate_of
from wnv.ingest.executors.executor import Executor
from wnv.ingest.gate import Gate, host_of
from wnv.ingest.ledger import Ledger
from wnv.ingest.progress import Progress, Summary
from wnv.ingest.records import Child
from wnv.ingest.retries import Retries
from wnv.ingest.selection import Selection
from wnv.ingest.tasks import STAGES, Outcome, Stage, StageName, Task

_log = logging.getLogger(__name__)

# Longest time for which nothing is looked at: a signal or a gate must not wait longer than that.
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
    """Do what is pending in these stages, and what comes of it.

    Args:
        ledger: Opened to write.
        stages: The stages to do, by name: one, some, or all.
        executor: Where they run. It is the caller's to close; what is under way in it is ended if the run is.
        gate: When hosts may be asked.
        retries: Which failures are tried again within the run.
        selection: Which videos, and what of them is done again; by default all that is pending.
        max_waiting: Nothing is fetched while so many items wait for later stages of this run.
        progress: Where to show how it goes; None for nowhere.

    Raises:
        RootError: If the output root gave way. What was under way is pending; the next run goes on.
        KeyboardInterrupt: At Ctrl-C or SIGTERM. Likewise.
        ValueError: If the selection cannot be.
    """
    if max_waiting < 1:
        raise ValueError(f"max_waiting must be at least 1, got {max_waiting}")
    work = _Run(
        ledger=ledger,
        stages={name: stages[name] for name in STAGES if name in stages},
        executor=executor,
        gate=gate or Gate(),
        retries=retries or Retries(),
        max_waiting=max_waiting,
        progress=progress or Progress(shown=False),
    )
    return work.run(selection or Selection())


def children_of(task: Task, result: Mapping[str, Any]) -> list[Child]:
    """The items of the next stage that a finished one gives rise to."""
    payload = task.payload
    if task.stage == "fetch":
        about = {name: payload[name] for name in ("key", "kind", "split", "title", "url")}
        return [Child(stage="clip", item=task.item, payload={**about, "fetch": dict(result)})]
    if task.stage == "clip":
        about = {name: payload[name] for name in ("title", "url")}
        return [Child(stage="pose", item=clip["id"], payload={**clip, **about}) for clip in result["clips"]]
    if task.stage == "pose":
        return [Child(stage="pack", item=task.item, payload={**payload, "pose": dict(result)})]
    return []


def _parent_of(stage: StageName, item: str, key: str) -> _Item | None:
    parents: dict[StageName, _Item] = {"clip": ("fetch", key), "pose": ("clip", key), "pack": ("pose", item)}
    return parents.get(stage)


class _Run:
    def __init__(
        self,
        *,
        ledger: Ledger,
        stages: dict[StageName, Stage],
        executor: Executor,
        gate: Gate,
        retries: Retries,
        max_waiting: int,
        progress: Progress,
    ) -> None:
        self.ledger = ledger
        self.stages = stages
        self.executor = executor
        self.gate = gate
        self.retries = retries
        self.max_waiting = max_waiting
        self.progress = progress
        self.versions = {name: stage.versions() for name, stage in stages.items()}
        self.summary = Summary()
        # Items that may start, by stage and host: a host that is closed must not hold up the others.
        self.ready: dict[StageName, dict[str | None, deque[str]]] = {name: defaultdict(deque) for name in stages}
        self.hosts: dict[str, str | None] = {}
        self.later: list[tuple[float, _Item]] = []  # to be tried again, by when
        self.blocked: dict[_Item, list[_Item]] = defaultdict(list)  # by what they wait for
        self.under_way: dict[_Item, Task] = {}
        self.num_tries: dict[_Item, int] = defaultdict(int)
        self.stopped = False

    def run(self, selection: Selection) -> Summary:
        self._prepare(selection)
        with self._signals(), self.progress:
            try:
                self._loop()
            except BaseException:
                self._break_off()
                raise
        self._say_what_is_left()
        return self.summary

    # ---------------------------------------------------------------- what there is to do

    def _prepare(self, selection: Selection) -> None:
        self._requeue_missing()
        keys = selection.apply(self.ledger, tuple(self.stages))
        self._requeue_missing()  # a clip that is made anew needs its video again
        for name, versions in self.versions.items():
            number = self.ledger.num_other_versions(name, versions)
            if number:
                _log.warning(
                    "%s: %d finished items were made with other settings or tools; redo=[%s] makes them anew",
                    *(name, number, name),
                )
        self.hosts = {row.item: host_of(row.payload) for row in self.ledger.rows("fetch", state="pending")}
        standing = self.ledger.standing()
        states = {(stage, item): state for stage, item, _, state, _ in standing}
        for stage, item, key, state, _ in standing:
            if state != "pending" or stage not in self.stages or key not in keys:
                continue
            self.progress.expect(stage)
            parent = _parent_of(stage, item, key)
            if parent is None or states.get(parent) == "done":
                self._make_ready(stage, item)
            elif states.get(parent) in ("failed", "refused") and self.ledger.has_outputs(*parent):
                self._make_ready(stage, item)
            else:
                self.blocked[parent].append((stage, item))

    def _requeue_missing(self) -> None:
        for stage, number in self.ledger.requeue_missing().items():
            _log.warning("%s: files of %d finished items are gone; they are made again", stage, number)

    def _make_ready(self, stage: StageName, item: str) -> None:
        self.ready[stage][self.hosts.get(item) if stage == "fetch" else None].append(item)

    # ---------------------------------------------------------------- the loop

    def _loop(self) -> None:
        while not self.stopped:
            now = time.monotonic()
            while self.later and self.later[0][0] <= now:
                _, (stage, item) = heappop(self.later)
                self._make_ready(stage, item)
            delay_s = self._dispatch()
            if self.later:
                delay_s = min(delay_s, self.later[0][0] - now)
            if not self.under_way and delay_s == math.inf:
                return
            for task, outcome in self.executor.wait(max(0.0, min(delay_s, _TICK_S))):
                self._settle(task, outcome)
            self.progress.show()
        raise KeyboardInterrupt

    def _dispatch(self) -> float:
        """Start what can be started; seconds until a host lets the next item in, infinite if none is waited for."""
        delay_s = math.inf
        for stage in reversed(self.stages):
            if stage == "fetch" and self._num_waiting() >= self.max_waiting:
                continue
            while self.executor.room(stage) > 0:
                item, opens_s = self._next(stage)
                if item is None:
                    delay_s = min(delay_s, opens_s)
                    break
                self._start(stage, item)
        return delay_s

    def _num_waiting(self) -> int:
        """Items of later stages that this run has still to do."""
        num_ready = sum(len(items) for stage in self.stages if stage != "fetch" for items in self.ready[stage].values())
        return num_ready + sum(stage != "fetch" for stage, _ in self.under_way)

    def _next(self, stage: StageName) -> tuple[str | None, float]:
        """An item that may start now; or none, and in how many seconds there may be one."""
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
        self.under_way[stage, item] = task
        self.num_tries[stage, item] += 1
        if stage == "fetch":
            self.gate.started(self.hosts.get(item), item)
        self.executor.submit(self.stages[stage], task)

    def _settle(self, task: Task, outcome: Outcome) -> None:
        stage, item = task.stage, task.item
        if stage == "fetch":
            host = self.hosts.get(item)
            left_alone_s = self.gate.ended(host, item, outcome)
            if left_alone_s is not None:
                _log.warning("%s: %s; left alone for %.0f s", outcome.host or host, outcome.message, left_alone_s)
        if outcome.state == "pending":
            raise RootError(
                f"the disk gave way ({outcome.reason}) at {stage} {item}: {outcome.message}; nothing that was done is "
                "lost: mend it and run again"
            )
        delay_s = self.retries.delay_s(outcome, self.num_tries[stage, item])
        if delay_s is not None:
            self.ledger.finish(task, replace(outcome, state="pending"))
            del self.under_way[stage, item]
            heappush(self.later, (time.monotonic() + delay_s, (stage, item)))
            self.progress.retried(stage, outcome)
            return
        if stage == "fetch" and outcome.state == "done" and (twin := duplicate_of(self.ledger, item, outcome.result)):
            self.ledger.discard(outcome.result)
            # A short link that was fetched first stays, whatever name its video gets later.
            where = "" if twin.startswith("bv:") else ", in a new root"
            message = f"the same video as {twin}; resolve=true makes one line of both{where}, with the segments of both"
            outcome = replace(outcome, state="refused", reason="duplicate", message=message)
        children = children_of(task, outcome.result) if outcome.state == "done" else []
        pending = self.ledger.finish(task, outcome, versions=self.versions[stage], children=children)
        del self.under_way[stage, item]
        self.summary.add(stage, outcome)
        self.progress.ended(stage, outcome)
        blocked = self.blocked.pop((stage, item), [])
        if outcome.state == "done":
            for child in pending:
                if child.stage in self.stages:
                    if (child.stage, child.item) not in blocked:
                        self.progress.expect(child.stage)
                    self._make_ready(child.stage, child.item)
        elif self.ledger.has_outputs(stage, item):
            for child_stage, child_item in blocked:
                self._make_ready(child_stage, child_item)
        elif outcome.state == "failed" or stage == "fetch":  # else they are gone with it
            self.blocked[stage, item] = blocked

    # ---------------------------------------------------------------- the end

    def _break_off(self) -> None:
        self.executor.cancel()
        try:
            for task in self.under_way.values():
                self.ledger.release(task)
        except RootError:
            pass  # what cannot be written now is put right when the ledger is opened again

    def _say_what_is_left(self) -> None:
        for stage, hosts in self.ready.items():
            for host, items in hosts.items():
                if items:
                    _log.warning(
                        "%s: %s refused too often in a row; %d items stay pending, run again later",
                        *(stage, host, len(items)),
                    )
        blocked = [item for items in self.blocked.values() for item in items]
        for stage in self.stages:
            number = sum(name == stage for name, _ in blocked)
            if number:
                _log.warning("%s: %d items wait for an earlier stage, which is not done", stage, number)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn Ctrl-C and SIGTERM into an orderly end; a second one ends at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def stop(number: int, frame: object) -> None:
            self.stopped = True
            restore()

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            restore()
