"""Errors of a run that commands report in one line."""

import functools
from typing import Any


class RunFailed(Exception):
    """A run has failed for a reason that its message explains completely; commands show no traceback.

    Args:
        message: What happened, and how to continue.
        code: Exit code of the command.
    """

    def __init__(self, message: str, *, code: int = 1) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), code=self.code), self.args
