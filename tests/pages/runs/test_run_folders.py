"""Search for runs and evaluations, and matching of evaluations with runs."""

import json
from pathlib import Path

import pytest

from wnv.pages.runs.run_folders import find_runs

SCORES = {"a": 20.0, "b": 21.0}


def test_evaluations_of_a_sweep_belong_to_its_jobs(folders):
    for job in (0, 1, 2, 10):
        folders.run(f"sweep/{job}", seed=job)
        folders.evaluation(f"evals/{job}", SCORES, weights=f"sweep/{job}", fingerprint=str(job))
    runs = find_runs(["sweep", "evals"]).runs
    assert [run.name for run in runs] == ["sweep/0", "sweep/1", "sweep/2", "sweep/10"]  # in numerical order
    assert [[evaluation.folder for evaluation in run.evaluations] for run in runs] == [
        [Path(f"evals/{job}")] for job in (0, 1, 2, 10)
    ]
    assert [run.config["seed"] for run in runs] == [0, 1, 2, 10]
    assert runs[0].training.num_steps == 40
    assert runs[0].training.max_steps == 40
    assert runs[0].training.last("val/psnr") == 20.0
    assert runs[0].training.last("no such") is None


def test_the_run_of_an_evaluation_is_read(folders):
    folders.run("runs/mine", seed=7)
    folders.evaluation("eval", SCORES, weights="runs/mine")
    (run,) = find_runs(["eval"]).runs
    assert run.training.folder == Path("runs/mine").resolve()
    assert run.config["seed"] == 7
    Path("runs/mine/metrics.csv").write_text("no table\n1\n")
    findings = find_runs(["eval"])
    assert [(run.name, run.training) for run in findings.runs] == [("runs/mine", None)]
    assert "metrics.csv, line 2" in findings.unreadable[Path("runs/mine").resolve()]


def test_weights_without_a_run(folders):
    folders.evaluation("shipped", SCORES, weights="konet_tiny", fingerprint="1")
    folders.evaluation("again", SCORES, weights="konet_tiny", fingerprint="1", protocol="zoom")
    folders.evaluation("gone", SCORES, weights="runs/gone", fingerprint="2")
    tiny, gone = find_runs(["shipped", "again", "gone"]).runs
    assert tiny.training is gone.training is None
    assert (tiny.name, len(tiny.evaluations), tiny.config["model"]["camera_encoding"]) == ("konet_tiny", 2, "geope")
    assert tiny.config["model"]["qk_norm_eps"] == 1e-6  # defaults of the model are filled in
    assert (gone.name, gone.config) == ("runs/gone", {})


def test_checkpoints_of_a_run_are_separate_rows(folders):
    folders.run("mine")
    folders.evaluation("best", SCORES, weights="mine/best.ckpt", fingerprint="1")
    folders.evaluation("last", SCORES, weights="mine", fingerprint="2")
    folders.evaluation("zoom", SCORES, weights="mine", fingerprint="2", protocol="zoom")
    folders.evaluation("again", SCORES, weights="mine", fingerprint="2")
    runs = find_runs(["mine", "best", "last", "zoom", "again"]).runs
    assert [run.name for run in runs] == ["mine (best)", "mine (last)", "mine (again)"]
    assert [[str(e.folder) for e in run.evaluations] for run in runs] == [["best"], ["last", "zoom"], ["again"]]
    assert len({id(run.training) for run in runs}) == 1


def test_runs_keep_the_order_of_the_folders(folders):
    folders.run("r")
    folders.evaluation("er", SCORES, weights="r")
    folders.evaluation("es", SCORES, weights="konet_tiny")
    first, second = find_runs(["es", "er", "r"]).runs
    assert (first.name, len(second.evaluations)) == ("konet_tiny", 1)
    assert [run.name for run in find_runs(["r", "es", "er"]).runs] == ["r", "konet_tiny"]


def test_an_evaluation_finds_its_run_from_another_folder_and_no_other_of_the_same_name(folders, tmp_path, monkeypatch):
    (tmp_path / "p").mkdir()
    monkeypatch.chdir(tmp_path / "p")
    folders.run("r", seed=1)
    folders.evaluation("e", SCORES, weights="r")
    monkeypatch.chdir(tmp_path)
    folders.run("r", seed=99)  # unrelated
    (run,) = find_runs(["p/e"]).runs
    assert (run.training.folder, run.config["seed"]) == (tmp_path / "p" / "r", 1)


def test_moved_runs_are_found_by_the_end_of_their_path(folders):
    folders.run("runs/a/0")
    folders.run("runs/b/0")
    folders.evaluation("e", SCORES, weights="runs/a/0", is_noted=False)
    folders.evaluation("f", SCORES, weights="0", is_noted=False)
    Path("runs").rename("moved")
    Path("moved").mkdir(exist_ok=True)
    Path("other").mkdir()
    Path("moved").rename("other/runs")
    runs = find_runs(["other", "e", "f"]).runs
    found = {run.name: [str(evaluation.folder) for evaluation in run.evaluations] for run in runs}
    assert found == {"other/runs/a/0": ["e"], "other/runs/b/0": [], "0": ["f"]}  # ambiguous: two runs end in 0


def test_links_are_followed_and_each_folder_is_read_once(folders):
    folders.run("store/r")
    folders.evaluation("store/r/eval", SCORES, weights="store/r/best.ckpt")
    Path("compared").mkdir()
    Path("compared/r").symlink_to(Path("store/r").resolve())
    Path("compared/again").symlink_to(Path("compared").resolve())
    (run,) = find_runs(["compared", "store", "store/r/eval"]).runs
    assert (run.name, len(run.evaluations)) == ("compared/r", 1)


def test_a_summary_of_a_previous_evaluation_is_ignored(folders):
    folders.evaluation("e", SCORES, weights="old")
    settings = json.loads(Path("e/evaluation.json").read_text())
    Path("e/evaluation.json").write_text(json.dumps(settings | {"weights": "new"}))
    assert find_runs(["e"]).runs[0].evaluations[0].summary is None


def test_empty_jobs_of_a_sweep_are_reported(folders):
    folders.run("sweep/0")
    (folders.root / "sweep" / "multirun.yaml").write_text("")
    for job in ("10", "2"):
        (folders.root / "sweep" / job).mkdir()
    assert find_runs(["sweep", "sweep"]).empty_jobs == [Path("sweep/2"), Path("sweep/10")]
    Path("typo").mkdir()
    with pytest.raises(FileNotFoundError, match=r"^typo"):
        find_runs(["sweep", "typo"])


def test_active_runs_and_evaluations_are_read(folders):
    folders.run("mine", end=None)
    with Path("mine/metrics.csv").open("a") as file:
        file.write("49,")
    folders.evaluation("eval", SCORES, weights="mine", finish=False)
    (run,) = find_runs(["mine", "eval"]).runs
    assert run.training.num_steps == 40
    assert run.training.last_end is None
    assert run.evaluations[0].summary is None
    assert len(run.evaluations[0].records) == 2


def test_folders_without_runs_are_rejected(folders):
    with pytest.raises(ValueError, match="runs is empty"):
        find_runs([])
    with pytest.raises(FileNotFoundError, match=r"^nowhere"):
        find_runs(["nowhere"])
    folders.run("mine")
    Path("empty/below").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"^empty.*wnv-train.*wnv-eval"):
        find_runs(["mine", "empty"])


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("mine/config.yaml", "a: [1"),
        ("mine/config.yaml", "- 1"),
        ("mine/metrics.csv", "step,a\n1,x\n"),
        ("mine/starts.jsonl", "{\n"),
        ("eval/evaluation.json", "{"),
        ("eval/records.jsonl", "{}\n"),
        ("eval/summary.json", "[]"),
    ],
)
def test_an_unreadable_file_is_named(folders, file: str, text: str):
    folders.run("mine")
    folders.evaluation("eval", SCORES)
    Path(file).write_text(text)
    with pytest.raises(ValueError, match=file.replace(".", r"\.")):
        find_runs(["mine", "eval"])
    Path("both").mkdir()
    for name in ("mine", "eval"):
        Path(name).rename(f"both/{name}")
    findings = find_runs(["both"])  # in a subfolder, a bad file affects nothing else
    assert len(findings.runs) == 1
    ((path, message),) = findings.unreadable.items()
    assert str(path / Path(file).name) in message
