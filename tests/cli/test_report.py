"""`wnv-report` as people type it."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from wnv.cli import report
from wnv.cli.report import with_runs
from wnv.training.run_folder import FINISHED, note_end, note_start


@pytest.fixture
def command(run_in_process: Callable) -> Callable:
    return partial(run_in_process, report.main, "hydra/job_logging=none")


def write_run(folder: str) -> None:
    Path(folder).mkdir(parents=True)
    (Path(folder) / "config.yaml").write_text(json.dumps({"name": folder, "trainer": {"max_steps": 2}}))
    (Path(folder) / "metrics.csv").write_text("step,val/psnr\n1,20.5\n")
    note_end(Path(folder), FINISHED, start=note_start(Path(folder), {"date": "2026-01-02"}), step=2)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["a", "b/c", "out=x.html"], ['runs=["a","b/c"]', "out=x.html"]),
        (["out=x.html", "a"], ['runs=["a"]', "out=x.html"]),
        (["runs=[a,b]"], ["runs=[a,b]"]),
        (["--help"], ["--help"]),
        (["--cfg", "job", "a", "-cd", "conf"], ['runs=["a"]', "--cfg", "job", "-cd", "conf"]),
        (['it\'s [a], "b"\\'], [r'runs=["it' + "'" + r's [a], \"b\"\\"]']),
        (["hydra/job_logging=none"], ["hydra/job_logging=none"]),
    ],
)
def test_folders_among_the_arguments_are_runs(typed: list[str], meant: list[str]) -> None:
    assert with_runs(typed) == meant


def test_folders_named_like_settings_are_found(command: Callable) -> None:
    write_run("lr=0.001,seed=[1]")
    write_run('it\'s "mine"')
    code, out, err = command("lr=0.001,seed=[1]", 'it\'s "mine"', "out=page one.html")
    assert (code, out, err) == (0, "page one.html\n", "")
    text = Path("page one.html").read_text()
    assert "lr=0.001,seed=[1]" in text
    assert "20.50" in text


def test_without_out_each_page_gets_a_name_of_its_own_and_nothing_else_is_left(command: Callable) -> None:
    write_run("runs/mine")
    code, out, _ = command("runs/mine", "title=Mine")
    assert code == 0
    page = Path(out.strip())
    assert page.parent == Path("outputs/report")
    assert "<h1>" in page.read_text()
    assert sorted(path.name for path in Path().iterdir()) == ["outputs", "runs"]
