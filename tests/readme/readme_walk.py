"""The commands of all READMEs, the table of steps that run and check them, and a walk through them in one folder."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# In the order in which their commands are run.
ROOMS = ("conf", "wnv/training", "wnv/evaluation", "wnv/ingest", "wnv/scenes", "wnv/viewer")
DOCUMENTS = ("README.md", *(f"{room}/README.md" for room in ROOMS))
TEXTS = {name: (ROOT / name).read_text() for name in DOCUMENTS}
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def read_commands(text: str) -> list[str]:
    """The commands of a text, each once: lines of bash blocks, Python blocks, and commands in sentences."""
    commands = []
    for language, block, span in re.findall(r"^```(\w*)\n(.*?)^```$|`([^`]+)`", text, re.DOTALL | re.MULTILINE):
        if language == "bash":
            lines = block.replace("\\\n", " ").splitlines()
            commands += [line for line in lines if line.strip() and not line.startswith("#")]
        elif language == "python":
            commands.append(block)
        elif language not in ("", "text", "yaml"):
            raise ValueError(f"a block of {language} is neither run nor shown as text")
        elif re.match(r"(make|pip|python)\s|wnv-\w+\s.*=", span, re.DOTALL):
            commands.append(" ".join(span.split()))
    return list(dict.fromkeys(commands))


COMMANDS = list(dict.fromkeys(command for text in TEXTS.values() for command in read_commands(text)))


@dataclass(frozen=True)
class Step:
    """Instructions to run and check the commands that match a pattern.

    Attributes:
        pattern: Regular expression of the whole command.
        words: Appended to the command; PLACE stands for the working folder.
        check: Called with that folder and the command's output after it has ended with exit code 0.
    """

    pattern: str
    words: tuple[str, ...]
    check: Callable[[Path, str], None]


TABLE: list[Step] = []


def step(pattern: str, *words: str) -> Callable[[Callable[[Path, str], None]], Callable[[Path, str], None]]:
    def add(check: Callable[[Path, str], None]) -> Callable[[Path, str], None]:
        TABLE.append(Step(pattern, words, check))
        return check

    return add


def step_of(command: str) -> Step:
    found = [entry for entry in TABLE if re.fullmatch(entry.pattern, command, re.DOTALL)]
    if not found:
        pytest.fail(f"a README has a command that no test runs: {command}\nGive it a @step in test_commands.py.")
    assert len(found) == 1, f"{command!r} matches {[entry.pattern for entry in found]}"
    return found[0]


class Walk:
    """Run the commands of the READMEs in order, each once, up to the given one."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.ended: dict[str, subprocess.CompletedProcess[str]] = {}

    def through(self, command: str) -> subprocess.CompletedProcess[str]:
        for earlier in COMMANDS[: COMMANDS.index(command) + 1]:
            if earlier not in self.ended:
                words = [word.replace("PLACE", str(self.place)) for word in step_of(earlier).words]
                self.ended[earlier] = self.run(earlier, words)
        return self.ended[command]

    def run(self, command: str, words: list[str]) -> subprocess.CompletedProcess[str]:
        folder = self.place
        if "\n" in command:
            arguments = [sys.executable, "-c", "\n".join([command, *words])]
        else:
            program, *rest = shlex.split(command, comments=True)
            if program == "make":
                folder, started = ROOT, ["make", f"PYTHON={sys.executable}"]
            elif program == "torchrun":
                started = [sys.executable, "-m", "torch.distributed.run"]
            elif program == "pip":
                folder, started = self.place / "source", [sys.executable, "-m", "pip", "--disable-pip-version-check"]
            else:
                assert program in PYPROJECT["scripts"]
                started = [sys.executable, "-m", f"wnv.cli.{program.removeprefix('wnv-')}"]
            arguments = [*started, *rest, *words]
        return subprocess.run(arguments, cwd=folder, env=plain_environment(), capture_output=True, text=True)


def plain_environment() -> dict[str, str]:
    """Return this environment without the variables of an outer `make` or launcher."""
    inherited = "MAKEFLAGS MAKELEVEL MFLAGS PYTHON ARGS FROM_SCRATCH LOCAL_RANK WORLD_SIZE WNV_DEBUG".split()
    return {name: value for name, value in os.environ.items() if name not in inherited}
