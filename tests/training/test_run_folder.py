"""The files of a run's folder are readable in every state, including a last line cut short by a kill."""

from pathlib import Path

import pytest

from wnv.training.run_folder import (
    FAILED,
    FINISHED,
    add_line,
    flatten_config,
    is_run,
    last_metrics,
    note_end,
    note_start,
    read_lines,
    read_metrics,
)


def test_metrics_are_read_by_name(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("step,val/psnr,train/loss\n1,2.5,0.5\n3,,0.25\n4,3.5\n")
    assert read_metrics(file) == {"val/psnr": [(1, 2.5)], "train/loss": [(1, 0.5), (3, 0.25)]}
    assert last_metrics(file) == {"val/psnr": 2.5, "train/loss": 0.25}
    assert read_metrics(tmp_path / "other.csv") == last_metrics(tmp_path / "other.csv") == {}


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "step,a\n1,x\n", "step,a\nx,1\n", "step,a\n1,2,3\n"])
def test_invalid_tables_are_reported_with_their_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(ValueError, match=r"metrics\.csv, line 2"):
        read_metrics(tmp_path / "metrics.csv")


def test_starts_and_ends_are_lines_that_belong_together(tmp_path: Path) -> None:
    assert not is_run(tmp_path)
    first, second = (note_start(tmp_path, {"version": "1"}) for _ in range(2))
    note_end(tmp_path, FAILED, start=first, step=3, message="ValueError: no")
    note_end(tmp_path, FINISHED, start=second, step=8)
    assert is_run(tmp_path)
    starts, ends = (read_lines(tmp_path / name) for name in ("starts.jsonl", "ends.jsonl"))
    assert [start["id"] for start in starts] == [end["start"] for end in ends] == [first, second]
    assert [(end["how"], end["step"], end["message"]) for end in ends] == [
        ("failed", 3, "ValueError: no"),
        ("finished", 8, None),
    ]


def test_a_line_that_was_cut_off_is_left_out_and_does_not_spoil_the_next(tmp_path: Path) -> None:
    file = tmp_path / "starts.jsonl"
    add_line(file, {"a": 1})
    with file.open("ab") as lines:
        lines.write(b'{"a": "half a l\xc3')
    assert read_lines(file) == [{"a": 1}]
    add_line(file, {"a": 2})
    assert read_lines(file) == [{"a": 1}, {"a": 2}]
    assert read_lines(tmp_path / "other.jsonl") == []


def test_settings_within_settings_are_one_table() -> None:
    assert flatten_config({"a": {"b": 1, "c": {"d": [1, 2]}}, "e": None}) == {"a.b": 1, "a.c.d": [1, 2], "e": None}


@pytest.mark.parametrize("text", ["half a li\n", "[1]\n", "x\n{}\n"])
def test_invalid_lines_are_reported(tmp_path: Path, text: str) -> None:
    (tmp_path / "starts.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"starts\.jsonl, line 1"):
        read_lines(tmp_path / "starts.jsonl")
