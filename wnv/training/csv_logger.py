"""Metrics of a run as one table, which goes on where it was when the run is resumed."""

import csv
import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from typing_extensions import override

from wnv.training.run_folder import METRICS_FILE


class CsvTable(Logger):
    """Writes `metrics.csv`: a row a step, a column a metric, empty where a metric was not logged at that step.

    When a run is resumed, the rows before are kept and those that it repeats are replaced. (Lightning's own CSV logger
    deletes them.)

    Args:
        folder: Where to write.
        flush_every_n_rows: Rows that may be lost when the process is killed.

    Raises:
        ValueError: If `flush_every_n_rows` is not positive.
    """

    def __init__(self, *, folder: str | os.PathLike, flush_every_n_rows: int = 1) -> None:
        super().__init__()
        if flush_every_n_rows < 1:
            raise ValueError(f"flush_every_n_rows must be at least 1, got {flush_every_n_rows}")
        self.file = Path(folder) / METRICS_FILE
        self.flush_every_n_rows = flush_every_n_rows
        self._columns: list[str] | None = None
        self._rows: list[dict[str, str]] = []
        self._num_written = 0
        self._num_changes = 0  # rows added or changed since the last writing
        self._is_stale = False  # the file's head or an already written row has changed

    @property
    @override
    def name(self) -> str:
        return "csv"

    @property
    @override
    def version(self) -> str:
        return ""

    @override
    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run's folder holds its configuration."""

    @override
    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float | int], step: int | None = None) -> None:
        """Add values to the row of `step`."""
        values = {name: repr(float(value)) for name, value in metrics.items() if name != "epoch"}  # epochs never end
        if not values:
            return
        if self._columns is None:
            self._read(first_step=step)
            assert self._columns is not None
        new = [name for name in values if name not in self._columns]
        self._columns += new
        self._is_stale |= bool(new)
        if self._rows and self._rows[-1]["step"] == str(step):
            self._rows[-1] |= values
            is_written = self._num_written == len(self._rows)
            self._is_stale |= is_written
            self._num_changes += is_written
        else:
            self._rows.append({"step": str(step), **values})
            self._num_changes += 1
        if self._num_changes >= self.flush_every_n_rows:
            self.save()

    @override
    @rank_zero_only
    def save(self) -> None:
        """Write what has not been written."""
        if self._columns is None:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if not self._is_stale:
            with self.file.open("a", newline="") as file:
                csv.DictWriter(file, self._columns).writerows(self._rows[self._num_written :])
        else:
            temporary = self.file.with_name(f".{self.file.name}.tmp")
            with temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, self._columns)
                writer.writeheader()
                writer.writerows(self._rows)
            os.replace(temporary, self.file)
        self._num_written = len(self._rows)
        self._num_changes = 0
        self._is_stale = False

    @override
    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()

    def _read(self, *, first_step: int | None) -> None:
        self._columns, self._rows = ["step"], []
        self._is_stale = True
        if not self.file.exists():
            return
        with self.file.open(newline="") as file:
            reader = csv.DictReader(file)
            self._columns = list(reader.fieldnames or ["step"])
            # A row cut short by a kill has no value for its last columns, or no whole step.
            rows = [row for row in reader if row["step"].isdigit() and None not in row.values()]
        self._rows = [row for row in rows if first_step is None or int(row["step"]) <= first_step]
        self._num_written = len(self._rows)
