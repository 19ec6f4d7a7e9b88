"""Cost of the bookkeeping of ingest: cleaning a list and updating the ledger, against minimal baselines."""

import csv
import io
import sqlite3
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

from wnv.benchmarks.tables import Table
from wnv.benchmarks.timing import measure_in_turns, seconds_of
from wnv.ingest.driver import children_of
from wnv.ingest.ledger import Ledger
from wnv.ingest.manifest.bilibili_id import av_to_bv
from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.manifest.manifest import make_manifest
from wnv.ingest.tasks import Outcome


def run(*, num_rows: int = 10_000, num_videos: int = 2_000, repeats: int = 3) -> Table:
    """Time the bookkeeping and its baselines in turns, on the wall clock, with files in the temporary folder.

    The baseline of a list is parsing its CSV; that of the ledger is as many transactions of one small row in an SQLite
    table with the same journal (WAL, synchronous NORMAL). A finished video is two updates: started, and done with its
    follow-up tasks. The time includes creating the ledger and adding the videos.

    Args:
        num_rows: Rows of the list; some need repair, some are duplicates.
        num_videos: Videos started and finished.
        repeats: Timed runs per case; the table shows the median.

    Raises:
        ValueError: If a number is below 1.
    """
    for setting, value in (("num_rows", num_rows), ("num_videos", num_videos), ("repeats", repeats)):
        if value < 1:
            raise ValueError(f"{setting} must be at least 1, got {value}")
    with tempfile.TemporaryDirectory() as folder:
        text = _list(num_rows)
        source = Path(folder) / "static.csv"
        source.write_text(text, encoding="utf-8-sig")
        numbers = count()

        def new_path() -> Path:
            return Path(folder) / f"{next(numbers)}.jsonl"

        cases: dict[str, tuple[int, Callable[[], object]]] = {
            "rows parsed": (num_rows, lambda: sum(1 for _ in csv.reader(io.StringIO(text)))),
            "rows repaired, merged and written": (num_rows, lambda: make_manifest([source], out=new_path())),
            "bare updates of a table": (2 * num_videos, lambda: _update_table(new_path(), 2 * num_videos)),
            "updates of the ledger": (2 * num_videos, lambda: _update_ledger(new_path(), num_videos)),
        }
        seconds = measure_in_turns(
            {name: partial(seconds_of, call) for name, (_, call) in cases.items()}, repeats=repeats
        )
    figures = {name: number / statistics.median(seconds[name]) for name, (number, _) in cases.items()}
    names = list(cases)
    rows = [
        (name, f"{figures[name]:,.0f}", f"{figures[bare] / figures[name]:.1f}")
        for name, bare in zip(names, (names[0], names[0], names[2], names[2]), strict=True)
    ]
    title = f"A list of {num_rows} rows; {num_videos} videos started and finished"
    return Table(title=title, columns=("what", "per second", "times the bare work"), rows=rows, figures=figures)


def _list(num_rows: int) -> str:
    """A list in the published format; every tenth row repeats an earlier one with different times."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["序号", "URL", "标题", "开始时间1", "结束时间1", "开始时间2", "结束时间2"])
    for row in range(num_rows):
        bv = av_to_bv(170_001 + (row if row % 10 else row // 2))
        url = f"https://www.bilibili.com/video/{bv}/?spm_id_from=333.337&vd_source={row:032x}"
        writer.writerow([row + 1, url, f"【4K】一镜到底 {row}", f"{row % 50:02d}05", f"{row % 50:02d}47", "", ""])
    return out.getvalue()


def _update_table(path: Path, num_updates: int) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; CREATE TABLE t (k PRIMARY KEY, v);")
    for number in range(num_updates):
        connection.execute("INSERT INTO t VALUES (?, ?)", (number, "running"))
    connection.close()


def _update_ledger(root: Path, num_videos: int) -> None:
    with Ledger.open(root, val_fraction=0.02, test_fraction=0.02) as ledger:
        ledger.add_videos(
            ManifestLine(key=f"url:{number:05d}", url=f"https://x.example/{number}", title="北京", kind="static")
            for number in range(num_videos)
        )
        for number in range(num_videos):
            task = ledger.start("fetch", f"url:{number:05d}")
            result = {"parts": [{"file": f"videos/{number}/00.mp4", "start_s": 0.0, "end_s": 9.0}], "segments": []}
            outcome = Outcome(state="done", result=result)
            ledger.finish(task, outcome, versions={"tool": "1"}, children=children_of(task, result))
