"""Problems of runs and evaluations are reported, without false alarms."""

import re

import pytest

from wnv.pages.runs.failures import failures
from wnv.pages.runs.run_folders import find_runs
from wnv.training.run_folder import FINISHED, note_end, note_start


def check(folders: list[str], *patterns: str) -> None:
    """Check that the failures of the only run in `folders` match the patterns, in order."""
    (run,) = find_runs(folders).runs
    found = failures(run)
    assert len(found) == len(patterns), found
    for text, pattern in zip(found, patterns, strict=True):
        assert re.search(pattern, text), (text, pattern)


def test_a_finished_run_that_is_ahead_everywhere_has_none(folders):
    folders.run("mine")
    folders.evaluation("eval", {"a": 20.0, "b": 21.0}, weights="mine", pictures=[0, 1])
    check(["mine", "eval"])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"end": None}, "running, or was killed.*step 30 of 40"),
        ({"end": ("failed", "RuntimeError: out of memory")}, "failed at step 30 of 40: RuntimeError: out of memory"),
        ({"end": ("stopped", "SIGTERM")}, "SIGTERM at step 30 of 40; resume=last"),
        ({}, "step 30 of 40.*max_time"),
        ({"trainer_max_steps": 30, "metrics": {"train/skipped_steps": [0, 1, 2]}}, "2 steps skipped"),
        (
            {"trainer_max_steps": 30, "metrics": {"train/grad_norm": [1.0, float("inf"), float("nan")]}},
            "Not finite.*train/grad_norm",
        ),
    ],
)
def test_how_a_run_ended(folders, options, expected):
    folders.run("mine", steps=30, **options)
    check(["mine"], expected)


def test_a_run_that_was_killed_and_then_finished_has_none(folders):
    folder = folders.run("mine", end=None)
    note_end(folder, FINISHED, start=note_start(folder, {}), step=40)
    check(["mine"])


def test_a_run_of_a_version_that_logged_no_ends(folders):
    folder = folders.run("mine", steps=30, end=None)
    (folder / "starts.jsonl").write_text('{"date": "2026-01-04"}\n')
    (folder / "metrics.csv").rename(folder / "gone.csv")
    check(["mine"], "step 0 of 40.*did not log", "no metrics.csv")


def test_an_evaluation_with_every_problem(folders):
    scores = {"a": 20.0, "b": 16.0, "c": 12.5, "d": 17.0}
    folders.evaluation(
        "eval", scores, missing=["x", "y"], num_capped=3, pictures=[0], lpips_note="LPIPS (vgg) needs torchvision"
    )
    behind = "3 of 4: c by 4.5 dB, b by 1.0 dB, d by 0.0 dB"
    check(["eval"], "PARTIAL: 4 of 6", r"2 scenes \(x, y", "3 views", "needs torchvision", behind)


def test_variants_are_named(folders):
    folders.evaluation("eval", {"zoom=1": {"a": 20.0}, "zoom=3": {"a": 10.0}}, protocol="zoom")
    check(["eval"], "^eval: zoom=3: .* 1 of 1: a by 7.0 dB", "num_sheet_scenes")
