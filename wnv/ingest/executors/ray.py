"""Runs tasks on a Ray cluster: many machines that see the output root under the same path."""

import logging
import os
import pickle
import socket
import sys
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from wnv.ingest.tasks import Outcome, Stage, StageName, Task, run_task

_CANCEL_GRACE_S = 5.0
_ASK_SIZE_EVERY_S = 5.0
_KNOCK_S = 10.0
# Stages and outcomes are small, and frames never travel.
_OBJECT_STORE_BYTES = 100 * 2**20

_stages: dict[bytes, Stage] = {}

_log = logging.getLogger(__name__)


class RayExecutor:
    """Workers of a Ray cluster; an extra (`pip install 'wnv[ray]'`).

    The driver alone writes the ledger. A worker or node that dies fails its tasks, `crashed` or `node_lost`, and the
    driver has them tried again wherever there is room.

    Args:
        address: Of a running cluster (`auto`, `host:6379`, `ray://host:10001`); None for one on this machine alone.
        num_workers: Tasks of clip, pose and pack at a time; None for as many as the cluster has room for at the moment.
        num_fetchers: Fetches at a time, beside these, in the whole cluster.
        cpus_per_task: Cores that Ray sets aside for each task other than a fetch.
        memory_per_worker_gb: Memory that Ray sets aside for each such task, GB.
        task_timeout_s: Seconds after which a task is ended as failed.

    Raises:
        ImportError: If Ray is not installed.
        ValueError: If a setting is out of its range, or there is no cluster at the address.
    """

    def __init__(
        self,
        *,
        address: str | None = None,
        num_workers: int | None = None,
        num_fetchers: int = 4,
        cpus_per_task: float = 1.0,
        memory_per_worker_gb: float = 2.0,
        task_timeout_s: float = 21600.0,
    ) -> None:
        if num_fetchers < 1 or (num_workers is not None and num_workers < 1):
            raise ValueError(f"num_workers and num_fetchers must be at least 1, got {num_workers} and {num_fetchers}")
        if min(cpus_per_task, memory_per_worker_gb, task_timeout_s) <= 0:
            raise ValueError(
                "cpus_per_task, memory_per_worker_gb and task_timeout_s must be above 0, got "
                f"{cpus_per_task}, {memory_per_worker_gb} and {task_timeout_s}"
            )
        self.num_workers = num_workers
        self.num_fetchers = num_fetchers
        self.cpus_per_task = cpus_per_task
        self.memory_per_worker = int(memory_per_worker_gb * 1e9)
        self.task_timeout_s = task_timeout_s
        self._ray = _import_ray()
        self._owns_ray = not self._ray.is_initialized()
        if self._owns_ray:
            self._connect(address)
        # Tried again by the driver, which counts: not by Ray, of which the ledger would know nothing.
        self._work = self._ray.remote(max_retries=0, scheduling_strategy="SPREAD")(_work)
        self._pickled: list[tuple[Stage, Any]] = []
        self._under_way: dict[Any, tuple[Task, float]] = {}  # by Ray's reference: the task and when it began
        self._late: set[Any] = set()
        self._size = (0, -_ASK_SIZE_EVERY_S)

    def __enter__(self) -> "RayExecutor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def room(self, stage: StageName) -> int:
        """How many more tasks of a stage can be taken now."""
        fetches = stage == "fetch"
        num_busy = sum((task.stage == "fetch") == fetches for task, _ in self._under_way.values())
        return (self.num_fetchers if fetches else self.num_workers or self._cluster_size()) - num_busy

    def submit(self, stage: Stage, task: Task) -> None:
        """Begin a task wherever Ray finds room for it."""
        resources: dict[str, Any] = {"num_cpus": 0}  # a fetch waits for the network
        if task.stage != "fetch":
            resources = {"num_cpus": self.cpus_per_task, "memory": self.memory_per_worker}
        reference = self._work.options(name=f"{task.stage} {task.item}", **resources).remote(
            self._put(stage), task, sys.path
        )
        self._under_way[reference] = task, time.monotonic()

    def wait(self, timeout_s: float) -> list[tuple[Task, Outcome]]:
        """Tasks that have ended; none if that takes longer than a while.

        Raises:
            RuntimeError: If a worker cannot load a stage.
        """
        if not self._under_way:
            time.sleep(timeout_s)
            return []
        self._end_late()
        ready, _ = self._ray.wait(list(self._under_way), num_returns=1, timeout=timeout_s)
        if ready:
            ready, _ = self._ray.wait(list(self._under_way), num_returns=len(self._under_way), timeout=0)
        return [self._collect(reference) for reference in ready]

    def cancel(self) -> None:
        """End what is under way and forget it."""
        references = list(self._under_way)
        self._under_way = {}
        for reference in references:
            self._ray.cancel(reference, force=True)
        if references:
            self._ray.wait(references, num_returns=len(references), timeout=_CANCEL_GRACE_S)

    def close(self) -> None:
        """End what is under way, and leave the cluster; one that was started for this is ended."""
        self.cancel()
        if self._owns_ray and self._ray.is_initialized():
            self._ray.shutdown()

    def _connect(self, address: str | None) -> None:
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
        if address is None:
            settings |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
        try:
            host, _, port = (address or "").removeprefix("ray://").rpartition(":")
            if host and port.isdigit():
                # Asked first: Ray itself gives up after minutes.
                socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
            self._ray.init(address=address or "local", **settings)
        except OSError as error:
            raise ValueError(
                f"no Ray cluster answers at address={address} ({error}); start one with ray start, or leave address out"
            ) from error

    def _cluster_size(self) -> int:
        """Tasks that the nodes of this moment have room for; at least 1."""
        size, asked = self._size
        if time.monotonic() - asked >= _ASK_SIZE_EVERY_S:
            size = 0
            for node in self._ray.nodes():
                if node["Alive"]:
                    has = node["Resources"]
                    by_cpu = has.get("CPU", 0) / self.cpus_per_task
                    size += int(min(by_cpu, has.get("memory", 0) / self.memory_per_worker))
            if size == 0 and asked < 0:
                _log.warning(
                    "no node of the Ray cluster has %g CPUs and %.1f GB for a task: tasks wait for one that has; lower "
                    "executor.cpus_per_task or executor.memory_per_worker_gb if none will come",
                    *(self.cpus_per_task, self.memory_per_worker / 1e9),
                )
            self._size = max(1, size), time.monotonic()
        return self._size[0]

    def _put(self, stage: Stage) -> Any:
        for known, reference in self._pickled:
            if known is stage:
                return reference
        self._pickled.append((stage, self._ray.put(pickle.dumps(stage))))
        return self._pickled[-1][1]

    def _end_late(self) -> None:
        now = time.monotonic()
        for reference, (_, began) in self._under_way.items():
            if now - began >= self.task_timeout_s and reference not in self._late:
                self._late.add(reference)
                self._ray.cancel(reference, force=True)

    def _collect(self, reference: Any) -> tuple[Task, Outcome]:
        errors = self._ray.exceptions
        task, began = self._under_way.pop(reference)
        try:
            outcome: Outcome = self._ray.get(reference)
        except errors.RayTaskError as error:
            raise RuntimeError(f"a worker cannot load the stage {task.stage}: {error}") from error
        except errors.RayError as error:
            if reference in self._late:
                reason, message = "timeout", f"not done after {self.task_timeout_s:g} s"
            else:
                lost = (errors.NodeDiedError, errors.ObjectLostError, errors.LocalRayletDiedError)
                reason = "node_lost" if isinstance(error, lost) else "crashed"
                reason = "out_of_memory" if isinstance(error, errors.OutOfMemoryError) else reason
                message = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            outcome = Outcome(state="failed", reason=reason, message=message, seconds=time.monotonic() - began)
        self._late.discard(reference)
        return task, outcome


def _work(pickled: bytes, task: Task, paths: Sequence[str]) -> Outcome:
    """What a worker does; it keeps the stages that it has met."""
    if pickled not in _stages:
        sys.path += [path for path in paths if path not in sys.path]
        _stages[pickled] = pickle.loads(pickled)
    return run_task(_stages[pickled], task)


def _import_ray() -> ModuleType:
    # Ray reports home unless told not to, by variables that it reads as it is imported and hands on to what it starts.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ImportError("executor=ray needs Ray: pip install 'wnv[ray]', or use executor=local") from error
    return ray
