"""Runs tasks on this machine, each in a process that may die without taking anything else along."""

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
from pathlib import Path
from typing import IO

from wnv.ingest.tasks import Outcome, Stage, StageName, Task

_MAIN = "import sys; sys.path[:] = {path!r}; from wnv.ingest.executors.worker import main; main({descriptor})"

# Where Linux says what a container may use.
_CONTAINER = Path("/sys/fs/cgroup")
# How long a worker that is told to end may take to clear away what it was writing.
_GRACE_S = 3.0
# A worker's end shows on its pipe at once, unless a process that it forked holds the pipe open.
_LOOK_EVERY_S = 0.5


class LocalExecutor:
    """Worker processes of this machine: some that compute, and some that fetch and mostly wait for the network.

    Args:
        num_workers: Processes for clip, pose and pack; None for as many as there are cores and memory for.
        num_fetchers: Processes for fetch, beside these.
        memory_per_worker_gb: What a computing worker is reckoned to need, GB; bounds the default of `num_workers`.
        tasks_per_worker: Tasks after which a worker is replaced by a new one, since decoders leak.
        task_timeout_s: Seconds after which a task is ended as failed.

    Raises:
        ValueError: If a setting is out of its range.
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
        """How many more tasks of a stage can be taken now."""
        fetches = stage == "fetch"
        num_busy = sum(worker.task is not None and worker.fetches == fetches for worker in self._workers)
        return (self.num_fetchers if fetches else self.num_workers) - num_busy

    def submit(self, stage: Stage, task: Task) -> None:
        """Begin a task on an idle worker, or on a new one."""
        if self.room(task.stage) < 1:
            raise RuntimeError(f"no room for {task.stage} {task.item}")
        self._reap()
        fetches = task.stage == "fetch"
        idle = [worker for worker in self._workers if worker.task is None and worker.fetches == fetches]
        if idle:
            worker = idle[0]
        else:
            threads = max(1, _num_cores() // self.num_workers)
            worker = _Worker(fetches=fetches, num_threads=threads)
            self._workers.append(worker)
        number, pickled = self._pickle(stage)
        worker.begin(number, pickled, task, deadline=time.monotonic() + self.task_timeout_s)

    def wait(self, timeout_s: float) -> list[tuple[Task, Outcome]]:
        """Tasks that have ended; none if that takes longer than a while.

        Raises:
            RuntimeError: If a worker cannot load a stage.
        """
        until = time.monotonic() + timeout_s
        while True:
            busy = {worker.connection: worker for worker in self._workers if worker.task is not None}
            left = max(0.0, until - time.monotonic())
            wait(list(busy), min(left, _LOOK_EVERY_S)) if busy else time.sleep(min(left, _LOOK_EVERY_S))
            ended = [found for worker in busy.values() if (found := self._look_at(worker)) is not None]
            if ended or time.monotonic() >= until:
                return ended

    def cancel(self) -> None:
        """End what is under way and forget it."""
        busy = [worker for worker in self._workers if worker.task is not None]
        self._workers = [worker for worker in self._workers if worker.task is None]
        for worker in busy:
            worker.kill(signal.SIGTERM)
        until = time.monotonic() + _GRACE_S
        for worker in busy:
            worker.end(max(0.0, until - time.monotonic()))

    def close(self) -> None:
        """End the workers; what is still under way is broken off."""
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
        """How the task of a worker has ended, if it has; a worker that is of no more use is let go."""
        task = worker.task
        assert task is not None
        dead = worker.process.poll() is not None  # asked before the pipe is read: its last word may be there
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
            last_words = worker.end(_GRACE_S)
            return task, Outcome(state="failed", reason="crashed", message=last_words, seconds=worker.seconds())
        if time.monotonic() >= worker.deadline:
            self._workers.remove(worker)
            worker.kill(signal.SIGTERM)
            worker.end(_GRACE_S)
            message = f"not done after {self.task_timeout_s:g} s"
            return task, Outcome(state="failed", reason="timeout", message=message, seconds=worker.seconds())
        return None

    def _reap(self) -> None:
        """Let go of workers that are gone: those that were told to leave, and any that died with nothing to do."""
        for workers in (self._leaving, self._workers):
            for worker in [worker for worker in workers if worker.task is None and worker.process.poll() is not None]:
                worker.end(0.0)
                workers.remove(worker)


class _Worker:
    """The driver's side of a worker process."""

    def __init__(self, *, fetches: bool, num_threads: int) -> None:
        self.fetches = fetches
        self.task: Task | None = None
        self.num_tasks = 0
        self.deadline = 0.0
        self._began = 0.0
        self._known: set[int] = set()
        # What it says is kept out of the terminal; the end of it is told if it dies.
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
            start_new_session=True,  # Ctrl-C goes to the driver alone, and one signal reaches all that a worker starts
            env={**threads, **os.environ},
        )
        theirs.close()

    def begin(self, number: int, pickled: bytes, task: Task, *, deadline: float) -> None:
        self.task, self.deadline, self._began = task, deadline, time.monotonic()
        self.num_tasks += 1
        self._output.truncate(0)
        self._send((number, None if number in self._known else pickled, task))
        self._known.add(number)

    def dismiss(self) -> None:
        """Let it leave when it is done."""
        self._send(None)

    def seconds(self) -> float:
        return time.monotonic() - self._began

    def kill(self, number: int) -> None:
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def end(self, grace_s: float) -> str:
        """Wait for the process, then kill what is left of it and of all that it has started; its last words."""
        try:
            self.process.wait(grace_s)
        except subprocess.TimeoutExpired:
            pass
        self.kill(signal.SIGKILL)
        self.process.wait()
        self.connection.close()
        with self._output:
            return self._last_words()

    def _last_words(self) -> str:
        code = self.process.returncode
        if code >= 0:
            how = f"the worker left with exit status {code}"
        else:
            how = f"the worker was ended by {signal.Signals(-code).name}"
            how += ", as when memory runs out" if -code == signal.SIGKILL else ""
        self._output.seek(max(0, self._output.seek(0, os.SEEK_END) - 2000))
        lines = self._output.read().decode("utf-8", "replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return f"{how}; it said last: {said[-1][:300]}" if said else how

    def _send(self, message: object) -> None:
        try:
            self.connection.send(message)
        except OSError:
            pass  # it is dead, which shows when its outcome is waited for


def default_num_workers(memory_per_worker_gb: float) -> int:
    """As many as this process may use cores, and as memory suffices for; at least 1."""
    return max(1, min(_num_cores(), int(_memory_gb() / memory_per_worker_gb)))


def _num_cores() -> int:
    """Cores that this process may use: of the machine, or of the container it is."""
    number = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Microseconds of work in so many of the clock, or "max" for no limit.
    quota, *period = _limit("cpu.max").split()
    return min(number, max(1, int(quota) // int(period[0]))) if quota.isdigit() else number


def _memory_gb() -> float:
    """Memory of this machine, or of the container it is, GB."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _limit("memory.max")
    return min(total, int(limit) if limit.isdigit() else total) / 1e9


def _limit(name: str) -> str:
    file = _CONTAINER / name
    return file.read_text().strip() if file.is_file() else "max"
