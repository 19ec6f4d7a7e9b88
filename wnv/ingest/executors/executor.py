"""The interface between the driver and executors."""

from typing import Protocol, runtime_checkable

from wnv.ingest.tasks import Outcome, Stage, StageName, Task


@runtime_checkable
class Executor(Protocol):
    """Runs tasks in other processes. If a worker dies, its task is `failed` with reason `crashed`."""

    def room(self, stage: StageName) -> int:
        """Return how many more tasks of a stage can be submitted."""
        ...

    def submit(self, stage: Stage, task: Task) -> None:
        """Start a task; there must be room."""
        ...

    def wait(self, timeout_s: float) -> list[tuple[Task, Outcome]]:
        """Return tasks that have ended, or none after `timeout_s`."""
        ...

    def cancel(self) -> None:
        """Stop the running tasks without reporting them. New tasks may follow."""
        ...

    def close(self) -> None:
        """Stop the workers."""
        ...
