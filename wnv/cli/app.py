"""Run a command: Hydra composes its configuration, and a user's mistake ends in one line."""

import functools
import importlib
import logging
import os
import re
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from wnv import __version__
from wnv.cli.overrides import did_you_mean, nearest, readable
from wnv.cli.sweep import Sweep, swept_overrides
from wnv.cli.tidy import is_fresh, remove_start
from wnv.cli.torchvision_fit import broken_torchvision
from wnv.runtime.errors import RunFailed

CONFIG_PATH = "pkg://wnv.conf"
DEBUG_VARIABLE = "WNV_DEBUG"
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: run it again

# Exceptions of wnv for a user's mistake, and of Hydra and OmegaConf for one in the configuration.
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
    """A command stopped on request and can be resumed.

    Args:
        message: What stopped it, where, and how to resume.
        is_silent: Whether another process reports it, and this one exits with code 0.
    """

    def __init__(self, message: str, *, is_silent: bool = False) -> None:
        super().__init__(message)
        self.is_silent = is_silent


class JobFailed(RunFailed):
    """A process that a command started failed and has reported why."""


def hydra_command(
    task: str, *, config_name: str, prog: str, config_path: str = CONFIG_PATH, complete: str | None = None
) -> Callable[[], None]:
    """Make a console command that calls a function with the composed configuration.

    The function's module is imported after the configuration is composed, so `--help` and mistyped settings do not
    wait for it. A user's mistake prints `PROG: error: ...` and exits with code 2, and `RunFailed` likewise with its own
    code, with a traceback if `WNV_DEBUG=1`; Ctrl-C exits with 130, `Stopped` with 75; other exceptions keep their
    traceback and exit with 1. In a sweep, a failed job is reported and the remaining ones run.

    Args:
        task: The function, `module:name`.
        config_name: Primary configuration.
        prog: Name of the command.
        config_path: Package of the primary configuration.
        complete: A function, `module:name`, that completes the command line before the configuration is composed.
    """
    sweep = Sweep()
    started_ns = 0

    def call(cfg: DictConfig) -> Any:
        from wnv.cli.schema import check_config

        check_config(cfg)
        return import_function(task)(cfg)

    def guarded(cfg: DictConfig) -> Any:
        # Inside Hydra, which prints its own line before it re-raises an exception.
        job = functools.partial(call, cfg)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            sweep.metric = cfg.get("optimized_metric")
            return _run_job(job, sweep, prog=prog)
        return report_errors(functools.partial(_call_tidily, job, since_ns=started_ns), prog=prog)

    run = hydra.main(config_path=config_path, config_name=config_name, version_base="1.3")(guarded)

    def start() -> None:
        arguments = sys.argv[1:]
        if "--version" in arguments:
            print(f"{prog} {__version__}")
        elif {"-h", "--help"} & {*arguments}:
            from wnv.cli.help import help_text

            print(help_text(arguments, prog=prog, config_path=config_path, config_name=config_name))
        else:
            if complete is not None:
                arguments = sys.argv[1:] = import_function(complete)(arguments)
            if any(word.startswith("hydra/launcher=") for word in arguments):
                from wnv.cli.explain import check_launcher

                check_launcher(arguments)
            try:
                _run_sweep(run, sweep)
            except (HydraException, ValueError) as error:
                from wnv.cli.explain import explain

                message = explain(error, arguments, config_path=config_path, config_name=config_name)
                if message is None:
                    raise
                raise ValueError(message) from error

    def main() -> None:
        nonlocal started_ns, sweep
        started_ns, sweep = time.time_ns(), Sweep()
        os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra reports errors itself and exits with code 1
        sys.argv[1:] = [readable(argument) for argument in sys.argv[1:]]
        report_errors(start, prog=prog)

    return main


def choose(options: dict[str, Any], *, prog: str, word: str, usage: Callable[[], str]) -> str | None:
    """Return the subcommand that the first argument names; None after `--help` or `--version`.

    Raises:
        ValueError: If it names none.
    """
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    if first in ("-h", "--help", "--version"):
        print(f"{prog} {__version__}" if first == "--version" else usage())
        return None
    if first not in options:
        near = did_you_mean(nearest(first, options))
        raise ValueError(f"the first argument must be a {word} ({', '.join(options)}), got {first!r}{near}")
    return first


def import_function(path: str) -> Callable[[Any], Any]:
    """Import the function `module:name`."""
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)


def report_errors(call: Callable[[], Any], *, prog: str) -> Any:
    """Call, and turn a user's mistake, a stop, Ctrl-C or a closed pipe into its exit code."""
    try:
        result = call()
        sys.stdout.flush()
        return result
    except BrokenPipeError:
        stdout = select.poll()
        stdout.register(sys.stdout.fileno(), 0)
        if not stdout.poll(0):
            raise
        # The reader of stdout, such as `head`, has gone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None
    except KeyboardInterrupt as interrupt:
        sys.stderr.write(f"\n{prog}: interrupted{f' {interrupt}' if interrupt.args else ''}\n")
        raise SystemExit(128 + signal.SIGINT) from None
    except Stopped as stop:
        if not stop.is_silent and _rank() == "0":
            sys.stderr.write(f"{prog}: stopped {stop}\n")
        raise SystemExit(0 if stop.is_silent else EXIT_STOPPED) from None
    except Exception as error:
        cause, message = describe_error(error)
        if not isinstance(cause, (RunFailed, *USER_ERRORS)):
            raise
        if os.environ.get(DEBUG_VARIABLE) == "1":
            traceback.print_exception(error)
        for handler in logging.getLogger().handlers:
            handler.flush()  # so that the error is the last line
        rank = _rank()
        sys.stderr.write(f"{prog}: error: {message}{f' (rank {rank})' if rank != '0' else ''}\n")
        raise SystemExit(_exit_code(cause)) from None


def describe_error(error: Exception) -> tuple[Exception, str]:
    """Return the root cause of an error, without Hydra's wrapping, and its message on one line."""
    if (broken := broken_torchvision(error)) is not None:
        return ImportError(_one_line(broken)), _one_line(broken)
    key = None
    while isinstance(error, InstantiationException):
        # Hydra writes the key below its message; the innermost one is where the mistake is.
        found = re.search(r"full_key: (\S+)", str(error))
        key = found.group(1) if found else key
        if not isinstance(error.__cause__, Exception):
            break
        error = error.__cause__
    if isinstance(error, MissingMandatoryValue):
        missing = error.full_key or _one_line(str(error))
        return error, f"{missing} has no default; set {missing}=..."
    text = _without_traceback(str(error))
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.filename}: {error.strerror.lower()}; check the path and its permissions, or choose another one"
    message = _one_line(text) or type(error).__name__
    if isinstance(error, HydraException) and isinstance(error.__cause__, OmegaConfBaseException):
        message = f"{message} ({_one_line(str(error.__cause__))})"
    return error, f"{message} (config key {key})" if key and f"full_key: {key}" not in message else message


def _call_tidily(call: Callable[[], Any], *, since_ns: int) -> Any:
    """Call, and after a user's mistake remove the folder of results if this start has made it."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    was_fresh = is_fresh(folder, since_ns=since_ns)
    try:
        return call()
    except Exception as error:
        if was_fresh and isinstance(describe_error(error)[0], USER_ERRORS):
            remove_start(folder)
        raise


def _without_traceback(text: str) -> str:
    """Return the message of an error from a loader process; torch puts the traceback into the text."""
    if re.match(r"Caught \w+ in DataLoader worker process \d+\.\n", text) is None:
        return text
    # The last of a chain of errors; its frames are indented, its message is not.
    last = text.rpartition("Traceback (most recent call last):")[2]
    found = re.search(r"^[\w.]+: (.*)", last, re.DOTALL | re.MULTILINE)
    return text if found is None else found.group(1)


def _run_job(call: Callable[[], Any], sweep: Sweep, *, prog: str) -> Any:
    """Run a job of a sweep and report its failure at once: Hydra passes on only the first, at the end."""
    number = HydraConfig.get().job.num
    sweep.overrides[number] = ",".join(swept_overrides(HydraConfig.get().overrides.task))
    try:
        sweep.results[number] = result = call()
        return result
    except Exception as error:
        cause, message = describe_error(error)
        sweep.results[number], sweep.codes[number] = None, _exit_code(cause)
        if not isinstance(cause, (RunFailed, *USER_ERRORS)) or os.environ.get(DEBUG_VARIABLE) == "1":
            traceback.print_exception(error)
        sys.stderr.write(f"{prog}: job {number} failed: {message}\n")
        raise


def _run_sweep(run: Callable[[], None], sweep: Sweep) -> None:
    """Run a command; after a sweep, print the jobs' metrics and name those that failed."""
    try:
        run()
    except Exception:
        if not sweep.codes:
            raise
        codes = {*sweep.codes.values()}
        raise JobFailed(sweep.describe_failures(), code=codes.pop() if len(codes) == 1 else 1) from None
    finally:
        if sweep.metric is not None and len(sweep.results) > 1:
            print(sweep.table())


def _exit_code(cause: Exception) -> int:
    return cause.code if isinstance(cause, RunFailed) else 2 if isinstance(cause, USER_ERRORS) else 1


def _rank() -> str:
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
    return next((os.environ[name] for name in names if name in os.environ), "0")


def _one_line(text: str) -> str:
    return " ".join(text.split())
