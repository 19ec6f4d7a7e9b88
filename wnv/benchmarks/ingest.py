"""What the bookkeeping of ingest costs: rows of a list repaired, and updates of the ledger, beside the bare work."""

import csv
import io
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from wnv.benchmarks.tables import Table
from wnv.ingest.driver import children_of
from wnv.ingest.ledger import Ledger
from wnv.ingest.manifest.bilibili_id import av_to_bv
from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.manifest.manifest import make_manifest
from wnv.ingest.tasks import Outcome


def run(*, num_rows: int = 10_000, num_videos: int = 2_000, repeats: int = 3) -> Table:
    """Time both sides in turns, on the wall clock, with files on the disk of the temporary folder.

    Bare work: of a list, parsing its CSV; of the ledger, as many transactions of one small row in a table of SQLite
    with the same journal (WAL, synchronous NORMAL). A finished video is two updates: begun, and done with what follows;
    that the ledger is made and takes the videos in counts as well.

    Args:
        num_rows: Rows of the list; some are repaired, some given twice.
        num_videos: Videos begun and finished.
        repeats: Timed runs of each side; the median counts.

    Raises:
        ValueError: If a number is below 1.
    """
    if min(num_rows, num_videos, repeats) < 1:
        raise ValueError(f"all numbers must be at least 1, got {num_rows}, {num_videos} and {repeats}")
    with tempfile.TemporaryDirectory() as folder:
        text = _list(num_rows)
        source = Path(folder) / "static.csv"
        source.write_text(text, encoding="utf-8-sig")
        sides: dict[str, tuple[int, Callable[[int], None]]] = {
            "rows parsed": (num_rows, lambda turn: sum(1 for _ in csv.reader(io.StringIO(text)))),
            "rows repaired, merged and written": (
                num_rows,
                lambda turn: make_manifest([source], out=Path(folder) / f"{turn}.jsonl") and None,
            ),
            "bare updates of a table": (
                2 * num_videos,
                lambda turn: _update_table(Path(folder) / f"bare{turn}", 2 * num_videos),
            ),
            "updates of the ledger": (
                2 * num_videos,
                lambda turn: _update_ledger(Path(folder) / str(turn), num_videos),
            ),
        }
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(repeats):
            for name, (_, side) in sides.items():
                began = time.perf_counter()
                side(turn)
                seconds[name].append(time.perf_counter() - began)
    figures = {name: count / statistics.median(seconds[name]) for name, (count, _) in sides.items()}
    names = list(sides)
    rows = [
        (name, f"{figures[name]:,.0f}", f"{figures[bare] / figures[name]:.1f}")
        for name, bare in zip(names, (names[0], names[0], names[2], names[2]), strict=True)
    ]
    title = f"A list of {num_rows} rows; {num_videos} videos begun and finished"
    return Table(title=title, columns=("what", "a second", "times the bare work"), rows=rows, figures=figures)


def _list(num_rows: int) -> str:
    """A list in the published form; every tenth row repeats an earlier one, with other times."""
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
