"""Differing settings and labels of runs."""

import pytest

from wnv.models.konet import KoNet
from wnv.pages.runs.differences import ABSENT, config_differences, labels, short_names
from wnv.pages.runs.run import Run
from wnv.pages.runs.run_folders import find_runs


def test_only_differing_settings_without_paths(folders):
    folders.run("sweep/0", model_camera_encoding="none", optim_lr=1e-4)
    folders.run("sweep/1", model_camera_encoding="gta", optim_lr=1e-4)
    folders.run("sweep/2", model_camera_encoding="geope", optim_lr=1e-4, model_new=True)
    runs = find_runs(["sweep"]).runs
    assert config_differences(runs) == {
        "model.camera_encoding": ["none", "gta", "geope"],
        "model.new": [ABSENT, ABSENT, "true"],
    }
    assert labels(runs, config_differences(runs)) == [
        "0 · camera_encoding=none",
        "1 · camera_encoding=gta",
        "2 · camera_encoding=geope, new=true",
    ]


def test_weights_without_a_run_are_compared_by_their_model(folders):
    folders.run("mine", model=KoNet.from_pretrained("konet_tiny").config | {"camera_encoding": "gta"})
    folders.evaluation("eval", {"a": 20.0}, weights="konet_tiny")
    found = config_differences(find_runs(["mine", "eval"]).runs)
    assert found == {"model.camera_encoding": ["gta", "geope"]}


def test_short_names_are_distinct():
    names = ["data.seed", "seed", "model.dim", "data.val.dim", "optim.lr"]
    assert short_names(names) == {
        **{"data.seed": "data.seed", "seed": "seed", "model.dim": "model.dim", "data.val.dim": "val.dim"},
        "optim.lr": "lr",
    }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["runs/a/0", "runs/b/0"], ["a/0", "b/0"]),
        (["runs/a", "konet_tiny"], ["runs/a", "konet_tiny"]),
        (["runs/a", "runs/a (best)"], ["a", "a (best)"]),
        (["a", "a/b"], ["a", "a/b"]),
        (["runs/a", "runs/a"], ["a", "a"]),
    ],
)
def test_labels_are_the_ends_of_names(names: list[str], expected: list[str]):
    assert labels([Run(name=name) for name in names], {}) == expected


def test_long_labels_lose_their_settings():
    runs = [Run(name="runs/a"), Run(name="runs/b")]
    assert labels(runs, {"x": ["1" * 50, "2"], "y": ["3", ABSENT]}) == ["a", "b · x=2"]
