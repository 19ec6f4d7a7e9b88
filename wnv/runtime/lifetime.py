"""Tie the lifetime of a process to that of its parent."""

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(number: signal.Signals) -> None:
    """Send this process a signal when the thread that started it ends (Linux only; no effect elsewhere).

    No signal is sent if the parent ended before the call: compare `os.getppid` afterwards.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
