"""Commands answer at once: what the work needs is imported when there is work."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

HEAVY = ("torch", "lightning", "numpy", "cv2", "av", "yt_dlp", "wandb")
# A fork for each command: each begins with Python, Hydra and nothing else, and no more than one has to start.
PROGRAM = """
import contextlib, importlib, io, json, multiprocessing, sys
import wnv.cli.app

def run(call):
    module, function, *sys.argv = call
    shown, told, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(told):
        try:
            getattr(importlib.import_module(module), function)()
        except SystemExit as stop:
            code = stop.code or 0
    return code, sorted(sys.modules), shown.getvalue(), told.getvalue()

with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
    json.dump(pool.map(run, json.loads(sys.argv[1]), chunksize=1), sys.stdout)
"""
PYPROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
SCRIPTS = {name: target.split(":") for name, target in PYPROJECT["project"]["scripts"].items()}
COMMANDS = (*SCRIPTS, "wnv-bench attention", "wnv-data run", "wnv-data import")
MISTYPED = "wnv-train trainer.max_stepz=3"

Answer = tuple[int, set[str], str, str]


@pytest.fixture(scope="module")
def answers() -> dict[str, Answer]:
    """Exit code, imported modules, stdout and stderr of each command."""
    lines = [*(f"{command} --help" for command in COMMANDS), MISTYPED]
    calls = [[*SCRIPTS[line.split()[0]], *line.split()] for line in lines]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(calls)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return {line: (code, set(modules), *texts) for line, (code, modules, *texts) in zip(lines, found, strict=True)}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_waits_for_nothing_heavy(answers: dict[str, Answer], command: str) -> None:
    code, modules, shown, _ = answers[f"{command} --help"]
    assert code == 0
    assert command.split()[0] in shown
    assert modules.isdisjoint(HEAVY)


def test_a_mistyped_setting_is_told_before_anything_heavy_is_imported(answers: dict[str, Answer]) -> None:
    code, modules, _, told = answers[MISTYPED]
    assert code == 2
    assert re.match(r"wnv-train: error: trainer\.max_stepz .*trainer\.max_steps", told)
    assert modules.isdisjoint(HEAVY)
