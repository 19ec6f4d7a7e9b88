"""Commands answer at once: what the work needs is imported when there is work."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

HEAVY = ("torch", "lightning", "numpy", "cv2", "av", "yt_dlp", "wandb")
PROGRAM = """
import importlib, json, sys
module, function, *sys.argv = json.loads(sys.argv[1])
try:
    getattr(importlib.import_module(module), function)()
except SystemExit as stop:
    code = stop.code or 0
else:
    code = 0
print()
print(json.dumps([code, sorted(sys.modules)]))
"""
PYPROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
SCRIPTS = {name: target.split(":") for name, target in PYPROJECT["project"]["scripts"].items()}
COMMANDS = (*SCRIPTS, "wnv-bench attention", "wnv-data run", "wnv-data import")


def call(*command: str) -> tuple[int, set[str], str, str]:
    """Exit code, imported modules, stdout and stderr of a command in a process of its own."""
    script, *_ = command
    given = json.dumps([*SCRIPTS[script], *command])
    done = subprocess.run([sys.executable, "-c", PROGRAM, given], capture_output=True, text=True, check=True)
    shown, _, last = done.stdout.rstrip().rpartition("\n")
    code, modules = json.loads(last)
    return code, set(modules), shown, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_waits_for_nothing_heavy(command: str) -> None:
    code, modules, shown, _ = call(*command.split(), "--help")
    assert code == 0
    assert command.split()[0] in shown
    assert modules.isdisjoint(HEAVY)


def test_a_mistyped_setting_is_told_before_anything_heavy_is_imported() -> None:
    code, modules, _, told = call("wnv-train", "trainer.max_stepz=3")
    assert code == 2
    assert told.startswith("wnv-train: error: Could not override 'trainer.max_stepz'")
    assert modules.isdisjoint(HEAVY)
