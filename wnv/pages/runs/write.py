"""Writes the report: one HTML page that compares runs, complete in itself."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from wnv.pages.runs.contents import Contents
from wnv.pages.runs.page import page
from wnv.pages.runs.runs import find_runs
from wnv.runtime.atomic import atomic_file


def write_run_report(
    runs: Sequence[str | Path], out: str | Path, *, title: str | None = None, overwrite: bool = False
) -> Path:
    """Write a page that compares runs, and return its path.

    It needs no other file and no network. Pictures are those that `wnv-eval` and `wnv-train` left in their folders, and
    nothing is drawn anew. A run with one evaluation takes 0.3 MB or so, films besides.

    Args:
        runs: Folders of runs, of sweeps, of evaluations, or with such in them. The first run is what the others are
            compared with, scene by scene.
        out: The page.
        title: Its heading; None makes one of the runs' names.
        overwrite: Whether a page that is there is replaced.

    Raises:
        FileExistsError: If `out` is there and `overwrite` is False; nothing is read then.
        FileNotFoundError: If a folder is not there, or holds neither run nor evaluation.
        ValueError: If no folder is named, or what one holds cannot be read.
    """
    out = Path(out)
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists; choose another out= or pass overwrite=true")
    contents = Contents(findings=find_runs(runs))
    text = page(contents, title=title or " and ".join(_names(runs)), now=datetime.now(UTC))
    with atomic_file(out, overwrite=overwrite) as file:
        file.write(text.encode())
    return out


def _names(runs: Sequence[str | Path]) -> list[str]:
    names = [Path(run).resolve().name for run in runs]
    return names if len(names) <= 3 else [f"{len(names)} folders"]
