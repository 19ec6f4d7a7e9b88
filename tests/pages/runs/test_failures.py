"""What went wrong is told, and nothing else is."""

import pytest

from wnv.pages.runs.failures import failures
from wnv.pages.runs.runs import find_runs
from wnv.training.run_folder import FINISHED, note_end, note_start


def told(*names: str) -> list[str]:
    (run,) = find_runs(names).runs
    return failures(run)


def test_a_run_that_went_well_and_won_everywhere_has_nothing_to_tell(folders):
    folders.run("mine")
    folders.evaluation("eval", {"a": 20.0, "b": 21.0}, weights="mine", pictures=[0, 1])
    assert told("mine", "eval") == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"end": None},
            "Its last start has not ended: it is still running, or was killed at or after step 30 of 40.",
        ),
        ({"end": ("failed", "RuntimeError: out of memory")}, "It failed at step 30 of 40: RuntimeError: out of memory"),
        ({"end": ("stopped", "SIGTERM")}, "It was stopped by SIGTERM at step 30 of 40; resume=last goes on with it."),
        ({}, "It ended at step 30 of 40, as trainer.max_time or a limit of epochs asked."),
        (
            {"trainer_max_steps": 30, "metrics": {"train/skipped_steps": [0, 1, 2]}},
            "2 steps changed nothing, because loss or gradient were not finite or far too long.",
        ),
        (
            {"trainer_max_steps": 30, "metrics": {"train/grad_norm": [1.0, float("inf"), float("nan")]}},
            "Not finite at some steps: train/grad_norm.",
        ),
    ],
)
def test_how_a_run_ended(folders, options, expected):
    folders.run("mine", steps=30, **options)
    assert told("mine") == [expected]


def test_a_run_that_was_killed_and_went_on_to_its_end_has_nothing_to_tell(folders):
    folder = folders.run("mine", end=None)
    note_end(folder, FINISHED, start=note_start(folder, {}), step=40)
    assert told("mine") == []


def test_a_run_of_a_version_that_noted_no_ends(folders):
    folder = folders.run("mine", steps=30, end=None)
    (folder / "starts.jsonl").write_text('{"date": "2026-01-04"}\n')
    assert told("mine") == ["It is at step 30 of 40; how it ended was not noted by its version."]


def test_a_run_without_a_table(folders):
    folder = folders.run("mine")
    (folder / "metrics.csv").unlink()
    assert told("mine") == ["It has no metrics.csv (logger=csv writes it), so no curves are drawn."]


def test_what_an_evaluation_lacks(folders):
    scores = {"a": 20.0, "b": 16.0, "c": 12.5, "d": 17.0}
    folders.evaluation(
        "eval", scores, missing=["x", "y"], num_capped=3, pictures=[0], lpips_note="LPIPS (vgg) needs torchvision"
    )
    parts = ("PARTIAL: 4 of 6", "2 scenes (x, y", "3 views", "needs torchvision", "3 of 4: c by 4.5 dB, b by 1.0")
    for line, part in zip(told("eval"), parts, strict=True):
        assert part in line


def test_an_evaluation_that_was_stopped(folders):
    folders.evaluation("eval", {"a": 20.0}, finish=False)
    assert told("eval") == ["eval: not finished, 1 example scored; resume=true goes on with it."]


def test_variants_are_named(folders):
    folders.evaluation("eval", {"zoom=1": {"a": 20.0}, "zoom=3": {"a": 10.0}}, protocol="zoom")
    assert told("eval") == [
        "eval: zoom=3: no better than the nearest context view in 1 of 1: a by 7.0 dB.",
        "eval: no pictures (num_sheet_scenes=6 makes some).",
    ]
