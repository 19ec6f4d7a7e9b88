"""Call a function in a separate process with limited time and memory."""

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
# Messages of C++ and the kernel when memory runs out outside Python.
_OUT_OF_MEMORY = ("bad_alloc", "Cannot allocate memory", "std::length_error", "Resource temporarily unavailable")


def run_limited(
    function: Callable[..., Result],
    *,
    folder: Path,
    time_limit_s: float | int,
    memory_limit_gb: float | int,
    **arguments: Any,
) -> Result:
    """Call `function(**arguments)` in a new process; return what it returns, or raise what it raises.

    The process is not forked and uses the caller's import path. Function, arguments and result are pickled. It ends
    with the calling thread, and its children are killed with it. Its output is written to `folder/log.txt`.

    Args:
        function: An importable function, or a method of an importable class.
        folder: Folder for temporary files; existing ones are replaced.
        time_limit_s: Wall clock seconds after which it is killed.
        memory_limit_gb: Maximum memory, in 2^30 bytes.
        arguments: Arguments of the function.

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
            # Each thread of OpenBLAS reserves memory, which exceeds the limit on machines with many cores.
            env={"OPENBLAS_NUM_THREADS": "1", **os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,  # its own process group, so that its children can be killed with it
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
    if any(text in tail for text in _OUT_OF_MEMORY) or code == -signal.SIGKILL:
        raise _out_of_memory(memory_limit_gb, log)
    how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    raise StageError("failed", "crashed", f"{how}{tail}")


def answer_call() -> None:
    """Run the call in the new process."""
    folder, parent, num_bytes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    _die_with(parent)
    # Data, not address space, of which libraries and GPU drivers reserve more than they use.
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
    """Return the end of the output, as the end of a message."""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
        text = " ".join(file.read().decode("utf-8", "replace").split())
    return f": ...{text[-_MESSAGE_LENGTH:]}" if len(text) > _MESSAGE_LENGTH else f": {text}" if text else ""


def _die_with(parent: int) -> None:
    die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # the caller ended before the call above


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # no process is left
    process.wait()


def _pickled(error: BaseException | None, result: Any) -> bytes:
    try:
        data = pickle.dumps((error, result))
        pickle.loads(data)  # some exceptions can be pickled but not unpickled
    except Exception as pickling:
        cause = error if error is not None else pickling
        return pickle.dumps((RuntimeError(f"{type(cause).__name__}: {cause}"), None))
    return data


def _out_of_memory(memory_limit_gb: float | int, log: Path) -> StageError:
    message = f"more than memory_limit_gb={memory_limit_gb:g} used, or killed by the system{log_tail(log)}"
    return StageError("failed", "out_of_memory", message)
