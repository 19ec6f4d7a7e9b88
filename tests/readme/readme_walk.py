"""The README's commands, the step that each of them is in a table, and a walk through them in one folder."""

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
README = (ROOT / "README.md").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def read_commands(text: str) -> list[str]:
    """The commands of a text in its order, each once: lines of bash blocks, Python blocks, and those in sentences."""
    commands = []
    for language, block, span in re.findall(r"^```(\w*)\n(.*?)^```$|`([^`]+)`", text, re.DOTALL | re.MULTILINE):
        if language == "bash":
            lines = block.replace("\\\n", " ").splitlines()
            commands += [line for line in lines if line.strip() and not line.startswith("#")]
        elif language == "python":
            commands.append(block)
        elif language:
            raise ValueError(f"a block of {language} is neither run nor a drawing")
        elif re.match(r"(make|pip|python|wnv-\w+)\s", span):
            commands.append(" ".join(span.split()))
    return list(dict.fromkeys(commands))


COMMANDS = read_commands(README)


@dataclass(frozen=True)
class Step:
    """How commands of a pattern are run: with which words after them, and what must have come of it.

    Attributes:
        pattern: Regular expression of the whole command.
        words: Added to the command; PLACE stands for the folder in which all are run.
        check: Called with that folder and what the command printed, after it has ended with exit code 0.
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
        pytest.fail(f"README has a command that no test runs: {command}\nGive it a @step in test_commands.py.")
    assert len(found) == 1, f"{command!r} matches {[entry.pattern for entry in found]}"
    return found[0]


class Walk:
    """Runs the README's commands in its order, each once, as far as they are asked for."""

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
            result = "print(drawn.min(), drawn.max(), *drawn.shape)"
            arguments = [sys.executable, "-c", f"{command}\n{result}"]
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
    """This environment without what an outer `make` or launcher has told."""
    told = "MAKEFLAGS MAKELEVEL MFLAGS PYTHON ARGS FROM_SCRATCH LOCAL_RANK WORLD_SIZE WNV_DEBUG".split()
    return {name: value for name, value in os.environ.items() if name not in told}
