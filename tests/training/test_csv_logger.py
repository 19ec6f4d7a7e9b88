import csv
from pathlib import Path

from wnv.training.csv_logger import CsvTable


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_one_row_per_step_and_one_column_per_metric(tmp_path: Path) -> None:
    table = CsvTable(folder=tmp_path)
    table.log_metrics({"train/loss": 0.5, "epoch": 0}, step=1)
    table.log_metrics({"train/loss": 0.25}, step=2)
    table.log_metrics({"val/psnr": 20.0}, step=2)
    assert rows(tmp_path) == [
        {"step": "1", "train/loss": "0.5", "val/psnr": ""},
        {"step": "2", "train/loss": "0.25", "val/psnr": "20.0"},
    ]


def test_a_resumed_run_replaces_the_rows_it_repeats(tmp_path: Path) -> None:
    first = CsvTable(folder=tmp_path)
    for step in (10, 20, 30):
        first.log_metrics({"loss": float(step)}, step=step)
    second = CsvTable(folder=tmp_path)
    second.log_metrics({"loss": 0.2, "new": 1.0}, step=20)
    second.log_metrics({"loss": 0.3}, step=30)
    assert [(row["step"], row["loss"], row["new"]) for row in rows(tmp_path)] == [
        ("10", "10.0", ""),
        ("20", "0.2", "1.0"),
        ("30", "0.3", ""),
    ]


def test_a_run_resumed_at_its_end_adds_to_its_last_row(tmp_path: Path) -> None:
    CsvTable(folder=tmp_path).log_metrics({"loss": 0.5}, step=10)
    CsvTable(folder=tmp_path).log_metrics({"psnr": 20.0}, step=10)
    assert rows(tmp_path) == [{"step": "10", "loss": "0.5", "psnr": "20.0"}]


def test_a_row_cut_short_by_a_kill_is_dropped(tmp_path: Path) -> None:
    table = CsvTable(folder=tmp_path)
    table.log_metrics({"loss": 1.0, "psnr": 2.0}, step=10)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("20,0.")
    CsvTable(folder=tmp_path).log_metrics({"loss": 3.0, "psnr": 4.0}, step=30)
    assert [row["step"] for row in rows(tmp_path)] == ["10", "30"]


def test_rows_are_appended_to_the_file(tmp_path: Path) -> None:
    table = CsvTable(folder=tmp_path)
    table.log_metrics({"loss": 1.0, "val": 0.0}, step=1)
    inode = (tmp_path / "metrics.csv").stat().st_ino
    table.log_metrics({"loss": 1 / 3}, step=2)
    table.log_metrics({"val": 5.0}, step=2)
    assert rows(tmp_path)[1] == {"step": "2", "loss": repr(1 / 3), "val": "5.0"}
    assert (tmp_path / "metrics.csv").stat().st_ino == inode, "the table was rewritten"


def test_nothing_logged_writes_nothing(tmp_path: Path) -> None:
    CsvTable(folder=tmp_path).log_metrics({"epoch": 1}, step=1)
    assert not list(tmp_path.iterdir())
