"""Metrics of a run as one table, which a resumed run continues."""

import csv
import io
import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from typing_extensions import override

from wnv.runtime.atomic import atomic_file
from wnv.training.run_folder import METRICS_FILE


class CsvTable(Logger):
    """Write `metrics.csv`: one row per step, one column per metric, empty where a metric was not logged.

    A resumed run keeps the previous rows and replaces those that it repeats. (Lightning's CSV logger deletes them.)

    Args:
        folder: Folder of the table.
    """

    def __init__(self, *, folder: str | os.PathLike) -> None:
        super().__init__()
        self.file = Path(folder) / METRICS_FILE
        self._columns: list[str] = []
        self._row: dict[str, str] = {}
        self._row_start = 0  # where the last row begins in the file

    @property
    @override
    def name(self) -> str:
        return "csv"

    @property
    @override
    def version(self) -> str:
        return ""

    @override
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run's folder holds its configuration."""

    @override
    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float | int], step: int | None = None) -> None:
        """Add values to the row of `step`, on disk when this returns."""
        values = {name: repr(float(value)) for name, value in metrics.items() if name != "epoch"}  # epochs never end
        if not values:
            return
        if not values.keys() <= {*self._columns}:
            self._rewrite(values, step or 0)
            return
        if self._row["step"] != str(step):
            self._row, self._row_start = {"step": str(step)}, self.file.stat().st_size
        self._row |= values
        with self.file.open("rb+") as file:
            file.seek(self._row_start)
            file.write((",".join(self._row.get(name, "") for name in self._columns) + "\r\n").encode())
            file.truncate()

    def _rewrite(self, values: dict[str, str], step: int) -> None:
        """Write the table with the rows up to `step`, which takes these values and new columns for them."""
        self._columns, rows = ["step"], []
        if self.file.exists():
            with self.file.open(newline="") as file:
                reader = csv.DictReader(file)
                self._columns = list(reader.fieldnames or self._columns)
                # A row cut short by a kill lacks its last columns, or a whole step.
                rows = [row for row in reader if row["step"].isdigit() and None not in row.values()]
        self._columns += [name for name in values if name not in self._columns]
        rows = [row for row in rows if int(row["step"]) <= step]
        self._row = (rows.pop() if rows and rows[-1]["step"] == str(step) else {"step": str(step)}) | values
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, self._columns)
        writer.writeheader()
        writer.writerows(rows)
        self._row_start = len(table.getvalue().encode())
        writer.writerow(self._row)
        with atomic_file(self.file, overwrite=True) as file:
            file.write(table.getvalue().encode())
