"""What the driver asks of whatever runs tasks."""

from typing import Protocol, runtime_checkable

from wnv.ingest.tasks import Outcome, Stage, StageName, Task


@runtime_checkable
class Executor(Protocol):
    """Runs tasks elsewhere. A worker that dies ends its task as `failed`, reason `crashed`; the driver tries again."""

    def room(self, stage: StageName) -> int:
        """How many more tasks of a stage can be taken now."""
        ...

    def submit(self, stage: Stage, task: Task) -> None:
        """Begin a task; there must be room."""
        ...

    def wait(self, timeout_s: float) -> list[tuple[Task, Outcome]]:
        """Tasks that have ended; after a while perhaps none."""
        ...

    def cancel(self) -> None:
        """End what is under way; nothing of it is reported any more. New tasks may follow."""
        ...

    def close(self) -> None:
        """End the workers."""
        ...
