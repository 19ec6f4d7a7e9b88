"""Commands start quickly: heavy imports happen only when there is work."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

HEAVY = ("torch", "lightning", "numpy", "cv2", "av", "yt_dlp", "wandb")
# One fork per command, from a single process that has imported Python and Hydra alone.
PROGRAM = """
import contextlib, importlib, io, json, multiprocessing, sys
import wnv.cli.app

def run(call):
    module, function, *sys.argv = call
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            getattr(importlib.import_module(module), function)()
        except SystemExit as stop:
            code = stop.code or 0
    return code, sorted(sys.modules), out.getvalue(), err.getvalue()

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
def test_help_imports_nothing_heavy(answers: dict[str, Answer], command: str) -> None:
    code, modules, shown, _ = answers[f"{command} --help"]
    assert code == 0
    assert command.split()[0] in shown
    assert modules.isdisjoint(HEAVY)


def test_help_has_the_groups_of_its_command_and_the_comments(answers: dict[str, Answer]) -> None:
    train, evaluate, pose = (answers[f"{name} --help"][2] for name in ("wnv-train", "wnv-eval", "wnv-data run"))
    assert re.search(r"num_context: 2 +# views per scene", train)
    assert re.search(r"model=konet_tiny .*\n +konet, konet_large, konet_tiny\n", train)
    assert not re.search(r"\n  (protocol|bench|executor)=", train)
    assert re.search(r"\n  protocol=default", evaluate)
    assert not re.search(r"\n  (model|optim)=|trainer:", evaluate)
    assert re.search(r"root: \?\?\? +#", pose)
    assert re.search(r"\n  executor=local *.*\n +local, ray\n", pose)
    for shown in (train, evaluate, pose):
        assert "_target_" not in shown


def test_a_mistyped_setting_is_answered_before_heavy_imports(answers: dict[str, Answer]) -> None:
    code, modules, _, err = answers[MISTYPED]
    assert code == 2
    assert re.match(r"wnv-train: error: trainer\.max_stepz .*trainer\.max_steps", err)
    assert modules.isdisjoint(HEAVY)
