"""Run tasks in worker processes of this machine."""

import fcntl
import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Pipe, wait
from typing import IO

from wnv.ingest.tasks import Outcome, Stage, StageName, Task
from wnv.runtime.machine import memory_gb, num_cores

_MAIN = "import sys; sys.path[:] = {path!r}; from wnv.ingest.executors.worker import main; main({descriptor})"

# cgroup v2: limits of the container.
# Time for a worker to remove half-written files after SIGTERM.
_GRACE_S = 3.0
# A worker's end closes its pipe, unless a process that it forked holds the pipe open.
_POLL_S = 0.5


class LocalExecutor:
    """Worker processes of this machine: compute workers, and fetchers that mostly wait for the network.

    Args:
        num_workers: Processes for clip, pose and pack; None for as many as cores and memory allow.
        num_fetchers: Additional processes for fetch.
        memory_per_worker_gb: Estimated memory per compute worker, 10^9 bytes; limits the default of `num_workers`.
        tasks_per_worker: Tasks after which a worker is replaced, since decoders leak memory.
        task_timeout_s: Seconds after which a task fails.

    Raises:
        ValueError: If a setting is out of range.
    """

    def __init__(
        self,
        *,
        num_workers: int | None = None,
        num_fetchers: int = 4,
        memory_per_worker_gb: float = 2.0,
        tasks_per_worker: int = 50,
        task_timeout_s: float = 21600.0,
    ) -> None:
        if memory_per_worker_gb <= 0 or task_timeout_s <= 0:
            raise ValueError(
                "memory_per_worker_gb and task_timeout_s must be above 0, got "
                f"{memory_per_worker_gb} and {task_timeout_s}"
            )
        if num_workers is None:
            num_workers = default_num_workers(memory_per_worker_gb)
        if min(num_workers, num_fetchers, tasks_per_worker) < 1:
            raise ValueError(
                "num_workers, num_fetchers and tasks_per_worker must be at least 1, got "
                f"{num_workers}, {num_fetchers} and {tasks_per_worker}"
            )
        self.num_workers = num_workers
        self.num_fetchers = num_fetchers
        self.tasks_per_worker = tasks_per_worker
        self.task_timeout_s = task_timeout_s
        self._workers: list[_Worker] = []
        self._leaving: list[_Worker] = []
        self._pickled: list[tuple[Stage, bytes]] = []

    def __enter__(self) -> "LocalExecutor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def room(self, stage: StageName) -> int:
        """Return how many more tasks of a stage can be submitted."""
        fetches = stage == "fetch"
        num_busy = sum(worker.task is not None and worker.fetches == fetches for worker in self._workers)
        return (self.num_fetchers if fetches else self.num_workers) - num_busy

    def submit(self, stage: Stage, task: Task) -> None:
        """Start a task on an idle or new worker."""
        if self.room(task.stage) < 1:
            raise RuntimeError(f"no room for {task.stage} {task.item}")
        self._reap()
        fetches = task.stage == "fetch"
        idle = [worker for worker in self._workers if worker.task is None and worker.fetches == fetches]
        if idle:
            worker = idle[0]
        else:
            threads = max(1, num_cores() // self.num_workers)
            worker = _Worker(fetches=fetches, num_threads=threads)
            self._workers.append(worker)
        number, pickled = self._pickle(stage)
        worker.start(number, pickled, task, deadline=time.monotonic() + self.task_timeout_s)

    def wait(self, timeout_s: float) -> list[tuple[Task, Outcome]]:
        """Return tasks that have ended, or none after `timeout_s`.

        Raises:
            RuntimeError: If a worker cannot load a stage.
        """
        until = time.monotonic() + timeout_s
        while True:
            busy = {worker.connection: worker for worker in self._workers if worker.task is not None}
            left = max(0.0, until - time.monotonic())
            wait(list(busy), min(left, _POLL_S)) if busy else time.sleep(min(left, _POLL_S))
            ended = [found for worker in busy.values() if (found := self._look_at(worker)) is not None]
            if ended or time.monotonic() >= until:
                return ended

    def cancel(self) -> None:
        """Stop the running tasks without reporting them."""
        busy = [worker for worker in self._workers if worker.task is not None]
        self._workers = [worker for worker in self._workers if worker.task is None]
        for worker in busy:
            worker.kill(signal.SIGTERM)
        until = time.monotonic() + _GRACE_S
        for worker in busy:
            worker.end(max(0.0, until - time.monotonic()))

    def close(self) -> None:
        """Stop the running tasks and the workers."""
        self.cancel()
        for worker in [*self._workers, *self._leaving]:
            worker.dismiss()
        for worker in [*self._workers, *self._leaving]:
            worker.end(_GRACE_S)
        self._workers, self._leaving = [], []

    def _pickle(self, stage: Stage) -> tuple[int, bytes]:
        for number, (known, pickled) in enumerate(self._pickled):
            if known is stage:
                return number, pickled
        self._pickled.append((stage, pickle.dumps(stage)))
        return len(self._pickled) - 1, self._pickled[-1][1]

    def _look_at(self, worker: "_Worker") -> tuple[Task, Outcome] | None:
        """Return how the task of a worker ended, if it has; dismiss dead, late and used-up workers."""
        task = worker.task
        assert task is not None
        dead = worker.process.poll() is not None  # checked before the pipe is read, which may hold its result
        try:
            while worker.connection.poll():
                name, content = worker.connection.recv()
                if name == "log":
                    logging.getLogger(content[0]).log(content[1], "%s %s: %s", task.stage, task.item, content[2])
                elif name == "broken":
                    raise RuntimeError(f"a worker cannot load the stage {task.stage}: {content}")
                else:
                    worker.task = None
                    if worker.num_tasks >= self.tasks_per_worker:
                        self._workers.remove(worker)
                        self._leaving.append(worker)
                        worker.dismiss()
                    return task, content
        except (EOFError, ConnectionError, pickle.UnpicklingError):
            dead = True
        if dead:
            self._workers.remove(worker)
            end = worker.end(_GRACE_S)
            return task, Outcome(state="failed", reason="crashed", message=end, seconds=worker.seconds())
        if time.monotonic() >= worker.deadline:
            self._workers.remove(worker)
            worker.kill(signal.SIGTERM)
            worker.end(_GRACE_S)
            message = f"exceeded task_timeout_s={self.task_timeout_s:g}"
            return task, Outcome(state="failed", reason="timeout", message=message, seconds=worker.seconds())
        return None

    def _reap(self) -> None:
        """Remove workers that have ended: dismissed ones, and idle ones that died."""
        for workers in (self._leaving, self._workers):
            for worker in [worker for worker in workers if worker.task is None and worker.process.poll() is not None]:
                worker.end(0.0)
                workers.remove(worker)


class _Worker:
    """A worker process, as the driver sees it."""

    def __init__(self, *, fetches: bool, num_threads: int) -> None:
        self.fetches = fetches
        self.task: Task | None = None
        self.num_tasks = 0
        self.deadline = 0.0
        self._started = 0.0
        self._known: set[int] = set()
        # Its output is not shown; the last line goes into the message if it dies.
        self._output: IO[bytes] = tempfile.TemporaryFile()
        fcntl.fcntl(self._output, fcntl.F_SETFL, fcntl.fcntl(self._output, fcntl.F_GETFL) | os.O_APPEND)
        self.connection, theirs = Pipe()
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(num_threads))
        self.process = subprocess.Popen(
            [sys.executable, "-c", _MAIN.format(path=sys.path, descriptor=theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C reaches the driver only, and one signal reaches a worker with its children
            env={**threads, **os.environ},
        )
        theirs.close()

    def start(self, number: int, pickled: bytes, task: Task, *, deadline: float) -> None:
        self.task, self.deadline, self._started = task, deadline, time.monotonic()
        self.num_tasks += 1
        self._output.truncate(0)
        self._send((number, None if number in self._known else pickled, task))
        self._known.add(number)

    def dismiss(self) -> None:
        """Let it end when its task is done."""
        self._send(None)

    def seconds(self) -> float:
        return time.monotonic() - self._started

    def kill(self, number: int) -> None:
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def end(self, grace_s: float) -> str:
        """Wait for the process, then kill it with its children; return how it ended and its last output."""
        try:
            self.process.wait(grace_s)
        except subprocess.TimeoutExpired:
            pass
        self.kill(signal.SIGKILL)
        self.process.wait()
        self.connection.close()
        with self._output:
            return self._describe_end()

    def _describe_end(self) -> str:
        code = self.process.returncode
        if code >= 0:
            how = f"the worker exited with status {code}"
        else:
            how = f"the worker was killed by {signal.Signals(-code).name}"
            how += " (out of memory?)" if -code == signal.SIGKILL else ""
        self._output.seek(max(0, self._output.seek(0, os.SEEK_END) - 2000))
        lines = self._output.read().decode("utf-8", "replace").split("\n")
        output = [line.strip() for line in lines if line.strip()]
        return f"{how}; last output: {output[-1][:300]}" if output else how

    def _send(self, message: object) -> None:
        try:
            self.connection.send(message)
        except OSError:
            pass  # it has died, which `wait` reports


def default_num_workers(memory_per_worker_gb: float) -> int:
    """Return how many workers the usable cores and memory allow; at least 1."""
    return max(1, min(num_cores(), int(memory_gb() / memory_per_worker_gb)))
