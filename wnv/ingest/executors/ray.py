"""Run tasks on a Ray cluster whose nodes share the output root under the same path."""

import logging
import os
import pickle
import signal
import socket
import sys
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from wnv.ingest.tasks import Outcome, Stage, StageName, Task, run_task

_CANCEL_GRACE_S = 5.0
_SIZE_INTERVAL_S = 5.0
_CONNECT_TIMEOUT_S = 10.0
# Only stages and outcomes are sent, never frames.
_OBJECT_STORE_BYTES = 100 * 2**20

_stages: dict[bytes, Stage] = {}

_log = logging.getLogger(__name__)


class RayExecutor:
    """Workers of a Ray cluster; an extra (`pip install 'wnv[ray]'`).

    Only the driver writes the ledger. Tasks of a worker or node that dies fail as `crashed` or `node_lost`, and the
    driver retries them on other ones.

    Args:
        address: Running cluster (`auto`, `host:6379`, `ray://host:10001`); None starts one on this machine.
        num_workers: Concurrent tasks of clip, pose and pack; None for as many as the cluster currently has room for.
        num_fetchers: Additional concurrent fetches in the whole cluster.
        cpus_per_task: Cores that Ray reserves per task, except fetches.
        memory_per_worker_gb: Memory that Ray reserves per task, except fetches, 10^9 bytes.
        tasks_per_worker: Tasks after which a worker is replaced, since decoders leak memory.
        task_timeout_s: Seconds after its start in which a task must end.

    Raises:
        ImportError: If Ray is not installed.
        ValueError: If a setting is out of range, or no cluster answers at the address.
    """

    def __init__(
        self,
        *,
        address: str | None = None,
        num_workers: int | None = None,
        num_fetchers: int = 4,
        cpus_per_task: float = 1.0,
        memory_per_worker_gb: float = 2.0,
        tasks_per_worker: int = 50,
        task_timeout_s: float = 21600.0,
    ) -> None:
        if min(num_fetchers, tasks_per_worker, 1 if num_workers is None else num_workers) < 1:
            raise ValueError(
                "num_workers, num_fetchers and tasks_per_worker must be at least 1, got "
                f"{num_workers}, {num_fetchers} and {tasks_per_worker}"
            )
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
        # The driver retries and records attempts, so Ray must not retry.
        self._work = self._ray.remote(max_retries=0, max_calls=tasks_per_worker, scheduling_strategy="SPREAD")(_work)
        self._pickled: list[tuple[Stage, Any]] = []
        self._running: dict[Any, tuple[Task, float]] = {}  # task and time of submission, by Ray's reference
        self._size = (0, -_SIZE_INTERVAL_S)

    def __enter__(self) -> "RayExecutor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def room(self, stage: StageName) -> int:
        """Return how many more tasks of a stage can be submitted."""
        fetches = stage == "fetch"
        num_busy = sum((task.stage == "fetch") == fetches for task, _ in self._running.values())
        return (self.num_fetchers if fetches else self.num_workers or self._cluster_size()) - num_busy

    def submit(self, stage: Stage, task: Task) -> None:
        """Submit a task to Ray."""
        resources: dict[str, Any] = {"num_cpus": 0}  # a fetch waits for the network
        if task.stage != "fetch":
            resources = {"num_cpus": self.cpus_per_task, "memory": self.memory_per_worker}
        reference = self._work.options(name=f"{task.stage} {task.item}", **resources).remote(
            self._put(stage), task, sys.path, self.task_timeout_s
        )
        self._running[reference] = task, time.monotonic()

    def wait(self, timeout_s: float) -> list[tuple[Task, Outcome]]:
        """Return tasks that have ended, or none after `timeout_s`.

        Raises:
            RuntimeError: If a worker cannot load a stage.
        """
        if not self._running:
            time.sleep(timeout_s)
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
        if ready:
            ready, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        return [self._collect(reference) for reference in ready]

    def cancel(self) -> None:
        """Stop the running tasks without reporting them."""
        references = list(self._running)
        self._running = {}
        for reference in references:
            self._ray.cancel(reference, force=True)
        if references:
            self._ray.wait(references, num_returns=len(references), timeout=_CANCEL_GRACE_S)

    def close(self) -> None:
        """Stop the running tasks, and disconnect from the cluster or end the one started here."""
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
                # Tested first, since Ray gives up only after minutes.
                socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT_S).close()
            self._ray.init(address=address or "local", **settings)
        except OSError as error:
            raise ValueError(
                f"no Ray cluster answers at address={address} ({error}); start one with ray start, or omit address"
            ) from error

    def _cluster_size(self) -> int:
        """Return how many tasks the current nodes have room for; at least 1."""
        size, asked = self._size
        if time.monotonic() - asked >= _SIZE_INTERVAL_S:
            size = 0
            for node in self._ray.nodes():
                if node["Alive"]:
                    has = node["Resources"]
                    by_cpu = has.get("CPU", 0) / self.cpus_per_task
                    size += int(min(by_cpu, has.get("memory", 0) / self.memory_per_worker))
            if size == 0 and asked < 0:
                _log.warning(
                    "no node of the Ray cluster has %g CPUs and %.1f GB for a task, so tasks wait; add one, or lower "
                    "executor.cpus_per_task or executor.memory_per_worker_gb",
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

    def _collect(self, reference: Any) -> tuple[Task, Outcome]:
        errors = self._ray.exceptions
        task, submitted = self._running.pop(reference)
        seconds = time.monotonic() - submitted
        try:
            outcome, records = self._ray.get(reference)
        except errors.RayTaskError as error:
            raise RuntimeError(f"a worker cannot load the stage {task.stage}: {error}") from error
        except errors.RayError as error:
            if isinstance(error, errors.WorkerCrashedError) and seconds >= self.task_timeout_s:
                return task, Outcome(
                    state="failed",
                    reason="timeout",
                    message=f"exceeded task_timeout_s={self.task_timeout_s:g}",
                    seconds=seconds,
                )
            lost = (errors.NodeDiedError, errors.ObjectLostError, errors.LocalRayletDiedError)
            reason = "node_lost" if isinstance(error, lost) else "crashed"
            reason = "out_of_memory" if isinstance(error, errors.OutOfMemoryError) else reason
            message = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return task, Outcome(state="failed", reason=reason, message=message, seconds=seconds)
        for name, level, text in records:
            logging.getLogger(name).log(level, "%s %s: %s", task.stage, task.item, text)
        return task, outcome


def _work(
    pickled: bytes, task: Task, paths: Sequence[str], timeout_s: float
) -> tuple[Outcome, list[tuple[str, int, str]]]:
    """Run a task in a Ray worker, which caches the stages; return its outcome and warnings."""
    if pickled not in _stages:
        sys.path += [path for path in paths if path not in sys.path]
        _stages[pickled] = pickle.loads(pickled)
    collector = _Collector(logging.WARNING)
    logging.getLogger().addHandler(collector)
    # Ends this process after the time, whatever it is doing. Time in Ray's queue does not count.
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        return run_task(_stages[pickled], task), collector.records
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        logging.getLogger().removeHandler(collector)


class _Collector(logging.Handler):
    """Collects warnings, which the driver logs."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.records: list[tuple[str, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append((record.name, record.levelno, record.getMessage()))


def _import_ray() -> ModuleType:
    # Disables Ray's usage statistics; read on import and inherited by its processes.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ImportError("executor=ray needs Ray: pip install 'wnv[ray]', or use executor=local") from error
    return ray
