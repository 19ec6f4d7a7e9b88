"""Mistyped and misplaced settings are answered in one line, before anything is built or written."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from wnv.cli import bench, commands, data
from wnv.cli.settings import check_setting, fits

SMOKE = ("experiment=smoke", "device=cpu")


@pytest.fixture
def answer(run_in_process: Callable, tmp_path: Path) -> Callable[..., str]:
    """Run a command that must fail with code 2 and one line, and leave no file; return the line."""

    def run(main: Callable[[], None], *arguments: str) -> str:
        code, _, err = run_in_process(main, *arguments)
        assert code == 2, err
        assert len(err.splitlines()) == 1, err
        assert os.listdir(tmp_path) == []
        assert "Config search path" not in err
        assert "append to your" not in err
        return err

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainer.max_step=3"], r"trainer\.max_step .*trainer\.max_steps\?"),
        (["image_size=[16,24]"], r"image_size .*data\.image_size\?"),
        (["+experimnt=smoke"], r"experimnt .*experiment\?"),
        (["experiment=smok"], r"experiment=smok .*experiment=smoke\?"),
        (["device=gpu"], "device=gpu .*cuda"),
        (["loss=null"], "loss .*null"),
        (["data.root=x"], r"data\.root .*data=scenes"),
        (["callbacks.ema.decay=0.9"], r"callbacks\.ema\.decay .*callbacks=\[default,ema\]"),
        (["+trainer.gradient_clip_val=1"], r"trainer\.gradient_clip_val .*optim\.clip_norm"),
        (["+seed=3"], "seed .*without [+]"),
        (["+trainer.max_stepz=3"], r"trainer\.max_stepz.*trainer\.max_steps\?"),
        (["+callbacks.mine.word=hi"], r"callbacks\.mine has no _target_"),
        (["+foo=1"], "foo .*--help"),
        (["data=scenes", "data/sampler=holdout", "data.sampler.min_gap=3"], r"sampler\.min_gap .*data/sampler=bounded"),
        (
            ["data=scenes", "data.root=x", "data.val_root=x"],
            r"data\.num_context.*experiment=smoke.*data\.sampler\.num_context",
        ),
    ],
)
def test_wnv_train(answer: Callable[..., str], arguments: list[str], message: str) -> None:
    assert re.search(message, answer(commands.train, *SMOKE, *arguments))


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (data.main, ["packk"], "'packk'.*pack[?]"),
        (data.main, ["run", "executor=rayy", "root=x"], "executor=rayy .*executor=ray[?]"),
        (data.main, ["run", "soruce=x", "root=x"], "soruce .*source[?]"),
        (data.main, ["run", "+soruce=x", "root=x"], "soruce .*source[?]"),
        (bench.main, ["loder"], "'loder'.*loader[?]"),
        (commands.evaluate, ["model=konet"], "model .*groups are data, device, protocol"),
        (commands.render, ["num_view=3"], "num_view .*num_views[?]"),
    ],
)
def test_other_commands(
    answer: Callable[..., str], main: Callable[[], None], arguments: list[str], message: str
) -> None:
    assert re.search(message, answer(main, *arguments))


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        *((3, int, True), (3.0, int, True), (1.5, int, False), (True, int, False), ("3", int, False)),
        *((1, float, True), (float("inf"), int, False), (1, bool, False), (None, int | None, True), (None, int, False)),
        *((["a"], list[int], False), ([1, 2], tuple[float, float], True), ([1], tuple[float, float], False)),
        *(([1, 2, 3], tuple[int, ...], True), ({"a": 1}, dict[str, int], True), ({"a": "b"}, dict[str, int], False)),
        *(("x", str | Path, True), (3, str, False), ("x", torch.nn.Module, False), ("cpu", torch.device, True)),
        *(({"_target_": "x"}, torch.nn.Module, True), ("a", Literal["a", "b"], True), ("c", Literal["a", "b"], False)),
        *(("x", Any, True), ([1], Callable[[], int], True), ("auto", int | str, True)),
    ],
)
def test_values_are_checked_against_annotations(value: object, kind: object, expected: bool) -> None:
    assert fits(value, kind) is expected
    if not expected:
        with pytest.raises(ValueError, match=r"name must be .*got"):
            check_setting("name", value, kind)


def test_a_closed_pipe_ends_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "wnv.cli.data", "index", "--help"]
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=100)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
