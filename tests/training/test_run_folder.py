"""The files of a run's folder are read as they are left, by a kill in the middle of a line too."""

from pathlib import Path

import pytest

from wnv.training.run_folder import FAILED, FINISHED, last_metrics, note_end, read_lines, read_metrics


def test_metrics_are_read_by_name(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("step,val/psnr,train/loss\n1,2.5,0.5\n3,,0.25\n4,3.5\n")
    assert read_metrics(file) == {"val/psnr": [(1, 2.5)], "train/loss": [(1, 0.5), (3, 0.25)]}
    assert last_metrics(file) == {"val/psnr": 2.5, "train/loss": 0.25}
    assert read_metrics(tmp_path / "other.csv") == last_metrics(tmp_path / "other.csv") == {}


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "step,a\n1,x\n", "step,a\nx,1\n"])
def test_what_is_no_table_of_metrics_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(ValueError, match=r"metrics\.csv, line 2 is not a row of metrics"):
        read_metrics(tmp_path / "metrics.csv")


def test_ends_are_lines(tmp_path: Path) -> None:
    note_end(tmp_path, FAILED, step=3, message="ValueError: no")
    note_end(tmp_path, FINISHED, step=8)
    with (tmp_path / "ends.jsonl").open("a") as file:
        file.write('{"date": "2026-')  # the disk was full
    ends = read_lines(tmp_path / "ends.jsonl")
    assert [(end["how"], end["step"], end["message"]) for end in ends] == [
        ("failed", 3, "ValueError: no"),
        ("finished", 8, None),
    ]
    assert read_lines(tmp_path / "starts.jsonl") == []


@pytest.mark.parametrize("text", ["half a li\n", "[1]\n", "x\n{}\n"])
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "starts.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"starts\.jsonl, line 1 cannot be read"):
        read_lines(tmp_path / "starts.jsonl")
