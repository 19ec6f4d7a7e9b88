"""The tables of the report as CSV, Markdown and LaTeX files."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from wnv.evaluation.confidence import Mean
from wnv.pages.runs.tables import COPIED, Column, Table
from wnv.runtime.atomic import atomic_folder

SUFFIXES = ("csv", "md", "tex")
_LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
}


def write_tables(folder: Path, tables: Mapping[str, Table], labels: Sequence[str]) -> None:
    """Write each table as `NAME.csv`, `NAME.md` and `NAME.tex`, replacing the tables of an earlier page.

    Args:
        folder: The folder.
        tables: Name -> table.
        labels: Names of the runs.

    Raises:
        FileExistsError: If the folder holds other files.
    """
    write = {"csv": _csv, "md": _markdown, "tex": _latex}
    files = {f"{name}.{s}": write[s](table, labels) for name, table in tables.items() for s in SUFFIXES}
    earlier = {path.name for s in SUFFIXES for path in folder.glob(f"*.{s}")}
    with atomic_folder(folder, entries=earlier | {*files}, overwrite=True) as temporary:
        for name, text in files.items():
            (temporary / name).write_text(text, encoding="utf-8", newline="")


def file_name(title: str) -> str:
    """Make a file name of a title: lower case, with hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "table"


def _csv(table: Table, labels: Sequence[str]) -> str:
    """Numbers in full; a mean has columns for half the width of its interval and its number of examples."""
    columns = [("run", _names(table, labels))]
    for column in table.columns:
        columns += _csv_columns(column)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([name for name, _ in columns])
    writer.writerows(zip(*(cells for _, cells in columns), strict=True))
    return text.getvalue()


def _csv_columns(column: Column) -> list[tuple[str, Sequence[object]]]:
    means = [value if isinstance(value, Mean) else None for value in column.values]
    if not any(means):
        return [(column.name, [*column.values] if column.values else column.cells)]
    return [
        (column.name, [None if mean is None else mean.mean for mean in means]),
        (f"{column.name} ±", [None if mean is None else mean.half_width for mean in means]),
        (f"{column.name} n", [None if mean is None else mean.count for mean in means]),
    ]


def _markdown(table: Table, labels: Sequence[str]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"

    rule = ["---", *("---:" if column.style else "---" for column in table.columns)]
    header, *rows = _rows(table, labels)
    return line(header) + "| " + " | ".join(rule) + " |\n" + "".join(map(line, rows))


def _latex(table: Table, labels: Sequence[str]) -> str:
    """A `tabular` for the package booktabs."""
    align = "l" + "".join("r" if column.style else "l" for column in table.columns)
    header, *rows = (
        " & ".join("".join(_LATEX.get(c, c) for c in cell) for cell in cells) + r" \\" for cells in _rows(table, labels)
    )
    lines = [rf"\begin{{tabular}}{{{align}}}", r"\toprule", header, r"\midrule", *rows, r"\bottomrule"]
    return "\n".join([*lines, r"\end{tabular}", ""])


def _rows(table: Table, labels: Sequence[str]) -> list[list[str]]:
    names = _names(table, labels)
    rows = [[names[i], *(column.cells[i] for column in table.columns)] for i in range(len(names))]
    return [["run", *(column.name for column in table.columns)], *rows]


def _names(table: Table, labels: Sequence[str]) -> list[str]:
    return [COPIED if run is None else labels[run] for run in table.runs]
