"""A function called in a process of its own, with a limit of time and of memory: what may crash takes nothing along."""

import os
import pickle
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from wnv.ingest.tasks import StageError
from wnv.runtime.lifetime import die_with_parent

Result = TypeVar("Result")

_LOG_TAIL_BYTES = 65536
_MESSAGE_LENGTH = 400
# How C++ and the kernel put it when memory ran out where Python cannot see it.
_OUT_OF_MEMORY = ("bad_alloc", "Cannot allocate memory", "std::length_error", "Resource temporarily unavailable")


def run_limited(
    function: Callable[..., Result],
    *,
    folder: Path,
    time_limit_s: float | int,
    memory_limit_gb: float | int,
    **arguments: Any,
) -> Result:
    """Call `function(**arguments)` in a new process and give what it returns, or raise what it raises.

    The process starts fresh (nothing is forked, so threads and locks of the caller do no harm), with the caller's
    import path; function, arguments and result are pickled. It dies with the thread that called; its own children die
    with it where it is killed from here.
    What it prints goes into `folder/log.txt`.

    Args:
        function: Something that can be imported by name, or a method of an object that can.
        folder: A folder for the files in between; existing ones are replaced.
        time_limit_s: Seconds of wall clock after which it is killed.
        memory_limit_gb: Most memory it may allocate, in 2^30 bytes.
        arguments: For the function.

    Raises:
        StageError: `failed` with `timeout`, `out_of_memory`, or `crashed` and the name of the signal.
    """
    (folder / "call.pickle").write_bytes(pickle.dumps((function, arguments)))
    answer, log = folder / "answer.pickle", folder / "log.txt"
    answer.unlink(missing_ok=True)
    command = "from wnv.ingest.pose.limits import answer_call; answer_call()"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", command, str(folder), str(os.getpid()), str(int(memory_limit_gb * 2**30))],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Each thread of OpenBLAS sets memory aside, and the limit would meet it on a machine of many cores.
            env={"OPENBLAS_NUM_THREADS": "1", **os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,  # a group of its own, so that its children can be killed with it
        )
        try:
            code = process.wait(timeout=time_limit_s)
        except subprocess.TimeoutExpired:
            raise StageError("failed", "timeout", f"not done after {time_limit_s:g} s{log_tail(log)}") from None
        finally:
            _kill_group(process)
    if code == 0 and answer.is_file():
        error, result = pickle.loads(answer.read_bytes())
        if isinstance(error, MemoryError):
            raise _out_of_memory(memory_limit_gb, log)
        if error is not None:
            raise error
        return result
    tail = log_tail(log)
    if any(words in tail for words in _OUT_OF_MEMORY) or code == -signal.SIGKILL:
        raise _out_of_memory(memory_limit_gb, log)
    how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    raise StageError("failed", "crashed", f"{how}{tail}")


def answer_call() -> None:
    """What the new process does."""
    folder, parent, num_bytes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    _die_with(parent)
    # Data, not address space: libraries and GPU drivers reserve addresses that they never fill.
    resource.setrlimit(resource.RLIMIT_DATA, (num_bytes, num_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    error: BaseException | None = None
    result: Any = None
    try:
        function, arguments = pickle.loads((folder / "call.pickle").read_bytes())
        result = function(**arguments)
    except Exception as raised:
        error = raised
    (folder / "answer.pickle").write_bytes(_pickled(error, result))


def log_tail(log: Path) -> str:
    """The last lines that were printed, for the end of a message; empty if there are none."""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
        text = " ".join(file.read().decode("utf-8", "replace").split())
    return f": ...{text[-_MESSAGE_LENGTH:]}" if len(text) > _MESSAGE_LENGTH else f": {text}" if text else ""


def _die_with(parent: int) -> None:
    die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it was gone before the call above


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has ended and left no children
    process.wait()


def _pickled(error: BaseException | None, result: Any) -> bytes:
    try:
        data = pickle.dumps((error, result))
        pickle.loads(data)  # some exceptions can be written but not read
    except Exception as trouble:
        cause = error if error is not None else trouble
        return pickle.dumps((RuntimeError(f"{type(cause).__name__}: {cause}"), None))
    return data


def _out_of_memory(memory_limit_gb: float | int, log: Path) -> StageError:
    message = f"more than {memory_limit_gb:g} GB wanted, or killed by the system for want of memory{log_tail(log)}"
    return StageError("failed", "out_of_memory", message)
