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
# Mistakes that are answered without torch, and what the answer names.
REFUSED = {
    "wnv-train trainer.max_stepz=3": r"trainer\.max_stepz .*trainer\.max_steps\?",
    "wnv-train experiment=konet": r"data\.root .*data\.val_root .*data\.root=\.\.\.",
    "wnv-train experiment=smoke optimized_metric=val/psn": "optimized_metric .*'val/psn'.*val/psnr[?]",
    "wnv-train callbacks.checkpoints.monitor=psnr": r"callbacks\.checkpoints\.monitor .*val/psnr.*'psnr'",
    "wnv-train optimized_metric=val/lpips": r"optimized_metric.*module\.lpips_backbone",
    "wnv-train precision=fp16 device=cpu": "precision=fp16.*CPU",
    "wnv-train seed=abc": "seed .*integer.*'abc'",
    "wnv-train loss=null": "loss .*null",
    "wnv-eval protocol=re10k_context": r"'protocol\.indices=\{4: .*\}'",
    "wnv-data run": "root .*root=",
    "wnv-train foo": "'foo' .*KEY=VALUE.*--help",
    "wnv-train -m hydra/launcher=slurm seed=1,2": "hydra/launcher=slurm .*srun",
    "wnv-train -m hydra/sweeper=optuna seed=1,2": r"hydra/sweeper=optuna .*wnv\.train",
    "wnv-train device=gpu": "device=gpu .*device=cuda[?]",
}

Answer = tuple[int, set[str], str, str]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """Exit code, imported modules, stdout and stderr of each command, which must leave nothing behind."""
    place = tmp_path_factory.mktemp("place")
    lines = [*(f"{command} --help" for command in COMMANDS), *REFUSED]
    calls = [[*SCRIPTS[line.split()[0]], *line.split()] for line in lines]
    program = [sys.executable, "-c", PROGRAM, json.dumps(calls)]
    done = subprocess.run(program, cwd=place, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert list(place.iterdir()) == []
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


@pytest.mark.parametrize("line", REFUSED)
def test_mistakes_are_answered_before_heavy_imports(answers: dict[str, Answer], line: str) -> None:
    code, modules, _, err = answers[line]
    assert code == 2
    assert re.match(f"wnv-\\w+( run)?: error: .*{REFUSED[line]}.*\n$", err), err
    assert modules.isdisjoint(HEAVY)
