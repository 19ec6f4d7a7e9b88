"""How every command starts: Hydra composes, the task runs, and a user's mistake is answered with one line."""

import contextlib
import errno
import functools
import importlib
import logging
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

CONFIG_PATH = "pkg://wnv.conf"
DEBUG_VARIABLE = "WNV_DEBUG"
# What a user names a folder of results by: those that it lies in are then the user's.
_FOLDER_SETTINGS = ("out=", "run_dir=", "hydra.run.dir=")
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: not done, to be tried again

# What the rooms raise for a user's mistake, and what Hydra and OmegaConf raise for a mistake in the configuration.
# OmegaConf's errors also inherit from KeyError, AttributeError and the like; theirs are named by their common base.
USER_ERRORS: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    ImportError,
    HydraException,
    OmegaConfBaseException,
)


class Stopped(BaseException):
    """A command was asked to stop, and did so in a way that it can go on from.

    Args:
        message: By what, where, and how to go on.
        is_silent: Whether this process leaves the answer to another one, and ends with code 0.
    """

    def __init__(self, message: str, *, is_silent: bool = False) -> None:
        super().__init__(message)
        self.is_silent = is_silent


class JobFailed(Exception):
    """Something that a command started ended with an error that it has told itself.

    Args:
        message: What it was.
        code: The exit code to end with.
    """

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), code=self.code), self.args


def hydra_command(task: str, *, config_name: str, prog: str, config_path: str = CONFIG_PATH) -> Callable[[], None]:
    """A console command that calls a function with the composed configuration.

    The function's module is imported when the configuration has been composed: `--help`, `--cfg` and settings that do
    not exist are answered without waiting for what the work needs.

    A user's mistake ends as the one line `PROG: error: ...` on stderr with exit code 2, and shows its traceback only
    when the environment variable `WNV_DEBUG` is 1; the folder that Hydra made for the results is taken away again if
    nothing but its log is in it. Ctrl-C ends in one line as well, with exit code 130, and so does
    a stop that can be resumed (`Stopped`), with exit code 75. Every other exception keeps its traceback and exits with
    code 1.
    In a sweep (`-m`) a job that fails is answered with a line of its own, and the remaining ones run; which failed is
    said in the end.

    Args:
        task: The function, `module:name`.
        config_name: Primary configuration file in `conf/`, without its ending.
        prog: The command's name, as the user typed it.
        config_path: The package of configuration files that this name and the groups of the command are found in.
    """
    failed: dict[int, int] = {}  # jobs of a sweep, and the exit code of each
    begun_ns = 0

    def guarded(cfg: DictConfig) -> Any:
        def call() -> Any:
            return import_function(task)(cfg)

        # Answered here rather than around Hydra: Hydra writes a line of its own before it hands an exception on.
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return _note_failure(call, failed, prog=prog)  # the empty folder of a job tells that it failed
        return _answer_user_errors(functools.partial(_call_tidily, call, since_ns=begun_ns), prog=prog)

    run = hydra.main(config_path=config_path, config_name=config_name, version_base="1.3")(guarded)

    def main() -> None:
        nonlocal begun_ns
        begun_ns = time.time_ns()
        os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints its own report and exits with code 1
        sys.argv[1:] = [as_text(argument) for argument in sys.argv[1:]]
        failed.clear()
        _answer_user_errors(lambda: _name_failures(run, failed), prog=prog)

    return main


def import_function(path: str) -> Callable[[DictConfig], Any]:
    """The function `module:name`, its module imported now."""
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)


def _call_tidily(call: Callable[[], Any], *, since_ns: int) -> Any:
    """Call, and after a user's mistake leave no folder that Hydra made since then and nothing was written to."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    is_new = folder.is_dir() and folder.stat().st_mtime_ns >= since_ns
    try:
        return call()
    except Exception as error:
        if is_new and isinstance(describe_error(error)[0], USER_ERRORS):
            remove_log(folder)
        raise


def remove_log(folder: Path) -> None:
    """Take away the folder that Hydra made for results, of which there are none: it holds a log, if anything."""
    log = folder / f"{HydraConfig.get().job.name}.log"
    with contextlib.suppress(OSError):  # another process of the same run may have been faster, or still write
        if folder == Path.cwd() or {*folder.iterdir()} - {log}:
            return
        log.unlink(missing_ok=True)
        folder.rmdir()
        given = [*HydraConfig.get().overrides.task, *HydraConfig.get().overrides.hydra]
        if folder.is_relative_to(Path.cwd()) and not any(item.startswith(_FOLDER_SETTINGS) for item in given):
            os.removedirs(folder.relative_to(Path.cwd()).parent)  # outputs/eval, where nothing else is in it


def as_text(argument: str) -> str:
    """An argument `key=value` as Hydra can read it: a value that its grammar has no reading for is a text.

    Names of files hold anything: letters of all languages, brackets, apostrophes. What looks like a list of such texts
    is one. A value that begins with a quote or a brace is left to Hydra, which says what is wrong with it.
    """
    match = re.fullmatch(r"([~+]{0,2}[A-Za-z_][\w.@/]*)=(.+)", argument, re.DOTALL)
    if match is None or _is_readable(argument):
        return argument
    name, value = match.groups()
    if re.fullmatch(r"\[[^\[\]\"']*\]", value, re.DOTALL):
        entries = (as_text(f"x={entry.strip()}").removeprefix("x=") for entry in value[1:-1].split(","))
        return f"{name}=[{','.join(entries)}]"
    if value[0] in "\"'[{":
        return argument
    return f"{name}={quote(value)}"


def quote(text: str) -> str:
    """A text as Hydra's grammar writes one, whatever is in it."""
    # Hydra takes a backslash for one unless a quote follows.
    inside = re.sub(r'(\\*)("|$)', lambda found: 2 * found[1] + ('\\"' if found[2] else ""), text)
    return f'"{inside}"'


def _is_readable(argument: str) -> bool:
    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return False
    return True


def describe_error(error: Exception) -> tuple[Exception, str]:
    """Root cause and one-line message of an error, with Hydra's wrapping taken off.

    Returns:
        The exception that the message is about (of which the type says whether the user can mend it), and the line.
    """
    key = None
    while isinstance(error, InstantiationException):
        # Hydra writes the config key under its message; the innermost one is where the mistake is.
        found = re.search(r"full_key: (\S+)", str(error))
        key = found.group(1) if found else key
        if not isinstance(error.__cause__, Exception):
            break
        error = error.__cause__
    if isinstance(error, MissingMandatoryValue):
        missing = error.full_key or _one_line(str(error))
        return error, f"{missing} has no default; set {missing}=..."
    message = _one_line(_system_message(error) or _without_traceback(str(error))) or type(error).__name__
    if isinstance(error, HydraException) and isinstance(error.__cause__, OmegaConfBaseException):
        message = f"{message} ({_one_line(str(error.__cause__))})"
    return error, f"{message} (config key {key})" if key and f"full_key: {key}" not in message else message


def _without_traceback(text: str) -> str:
    """The message of an error that torch hands on from a loader process, where it puts the traceback into the text."""
    if re.match(r"Caught \w+ in DataLoader worker process \d+\.\n", text) is None:
        return text
    # Of several errors, one the cause of the next, the last; its frames are indented, its message is not.
    last = text.rpartition("Traceback (most recent call last):")[2]
    found = re.search(r"^[\w.]+: (.*)", last, re.DOTALL | re.MULTILINE)
    return text if found is None else found.group(1)


def _system_message(error: Exception) -> str | None:
    """What the operating system has refused, in words; None of an error that has a message of its own."""
    if not isinstance(error, OSError) or error.errno is None or error.filename is None:
        return None
    what = {
        errno.EEXIST: "is there already, and is no folder; name another one",
        errno.ENOTDIR: "cannot be made or read, since a part of its path is a file; name another path",
        errno.EISDIR: "is a folder, and a file is needed; name a file",
        errno.ENOENT: "is not there; check the path",
        errno.EACCES: "may not be read or written by this user; change its permissions, or name another path",
        errno.EROFS: "lies on a disk that is read-only; name another path",
    }.get(error.errno)
    return None if what is None else f"{error.filename} {what}"


def _note_failure(call: Callable[[], Any], failed: dict[int, int], *, prog: str) -> Any:
    """Run a job of a sweep, and say how it failed: Hydra hands on the first failure only, and when all is done."""
    try:
        return call()
    except Exception as error:
        cause, message = describe_error(error)
        number = HydraConfig.get().job.num
        failed[number] = cause.code if isinstance(cause, JobFailed) else 2 if isinstance(cause, USER_ERRORS) else 1
        if not isinstance(cause, (JobFailed, *USER_ERRORS)) or os.environ.get(DEBUG_VARIABLE) == "1":
            traceback.print_exception(error)
        sys.stderr.write(f"{prog}: job {number} failed: {message}\n")
        raise


def _name_failures(run: Callable[[], None], failed: dict[int, int]) -> None:
    try:
        run()
    except Exception:
        if not failed:
            raise
        numbers = ", ".join(map(str, failed))
        codes = {*failed.values()}
        raise JobFailed(
            f"job{'s' if len(failed) > 1 else ''} {numbers} of the sweep failed, as told above; the others ended well",
            code=codes.pop() if len(codes) == 1 else 1,
        ) from None


def _answer_user_errors(call: Callable[[], Any], *, prog: str) -> Any:
    try:
        return call()
    except KeyboardInterrupt as interrupt:
        sys.stderr.write(f"\n{prog}: interrupted{f' {interrupt}' if interrupt.args else ''}\n")
        raise SystemExit(128 + signal.SIGINT) from None
    except Stopped as stop:
        if stop.is_silent:
            raise SystemExit(0) from None
        if _rank() == "0":
            sys.stderr.write(f"{prog}: stopped {stop}\n")
        raise SystemExit(EXIT_STOPPED) from None
    except Exception as error:
        cause, message = describe_error(error)
        if not isinstance(cause, (JobFailed, *USER_ERRORS)):
            raise
        if os.environ.get(DEBUG_VARIABLE) == "1":
            traceback.print_exception(error)
        for handler in logging.getLogger().handlers:
            handler.flush()  # so that the answer is the last line
        rank = _rank()
        sys.stderr.write(f"{prog}: error: {message}{f' (rank {rank})' if rank != '0' else ''}\n")
        raise SystemExit(cause.code if isinstance(cause, JobFailed) else 2) from None


def _rank() -> str:
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
    return next((os.environ[name] for name in names if name in os.environ), "0")


def _one_line(text: str) -> str:
    return " ".join(text.split())
