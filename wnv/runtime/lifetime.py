"""What ties a process to the one that started it."""

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(number: signal.Signals) -> None:
    """Have this process sent a signal when the thread that started it ends, however it ends (Linux; elsewhere nothing).

    One whose parent has ended before the call is sent nothing: compare `os.getppid` afterwards.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
