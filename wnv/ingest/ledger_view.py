"""Read access to a ledger, also while a run writes to it."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from wnv.ingest.database import connect_to_read
from wnv.ingest.layout import LEDGER_FILE
from wnv.ingest.outputs import has_files
from wnv.ingest.records import Row, Tally, Video
from wnv.ingest.tasks import STAGES, TOOL, StageName, State

COLUMNS = "stage, item, key, state, tries, reason, message, seconds, num_bytes, versions, payload, result, updated"

_QUALIFIED = ", ".join(f"items.{column}" for column in COLUMNS.split(", "))


class LedgerView:
    """Queries on the ledger of an output root. A context manager, opened by `LedgerView.read`."""

    def __init__(self, *, root: Path, connection: sqlite3.Connection, lock: IO[str] | None = None) -> None:
        self.root = root
        self._connection = connection
        self._lock = lock

    @classmethod
    def read(cls, root: str | Path) -> "LedgerView":
        """Open the ledger of a root to read, as it is at the first query. Takes no lock.

        Raises:
            FileNotFoundError: If the root has no ledger, or an empty one.
            ValueError: If the file is not a ledger, is corrupt, or has a newer version.
        """
        root = Path(root).absolute()
        view = LedgerView(root=root, connection=connect_to_read(root / LEDGER_FILE))
        view._connection.execute("BEGIN")
        return view

    def __enter__(self) -> "LedgerView":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and release the root."""
        self._connection.close()
        if self._lock is not None:
            self._lock.close()

    def fractions(self) -> dict[str, float]:
        """Return `val_fraction` and `test_fraction` of the root."""
        rows = self._connection.execute("SELECT name, value FROM meta WHERE name LIKE '%_fraction'")
        return {name: float(value) for name, value in rows}

    def videos_folder(self) -> str | None:
        """Return the folder of local videos that the root was last given, if any."""
        row = self._connection.execute("SELECT value FROM meta WHERE name = 'videos_folder'").fetchone()
        return None if row is None else row[0]

    def num_videos(self) -> int:
        """Return the number of videos."""
        return self._connection.execute("SELECT count(*) FROM videos").fetchone()[0]

    def videos(self) -> Iterator[Video]:
        """Iterate over the videos in the order in which they were added."""
        for position, key, split, line in self._connection.execute("SELECT * FROM videos ORDER BY position"):
            yield Video(position=position, key=key, split=split, line=json.loads(line))

    def states(self) -> list[tuple[StageName, str, str, State, str]]:
        """Return stage, item, key, state and reason of every item, in the order of the videos."""
        return self._connection.execute(
            "SELECT stage, item, items.key, state, reason FROM items LEFT JOIN videos ON videos.key = items.key "
            "ORDER BY position, item"
        ).fetchall()

    def pending(self, stage: StageName) -> list[str]:
        """Return the pending items of a stage, in the order of the videos."""
        return [item for found, item, _, state, _ in self.states() if found == stage and state == "pending"]

    def counts(self) -> dict[StageName, dict[State, int]]:
        """Return the number of items per stage and state, without zeros."""
        counts: dict[StageName, dict[State, int]] = {}
        for found in self.tally():
            states = counts.setdefault(found.stage, {})
            states[found.state] = states.get(found.state, 0) + found.number
        return counts

    def tally(self) -> list[Tally]:
        """Return the number of items per stage, state and reason, in the order of the stages."""
        rows = self._connection.execute(
            # SQLite takes item and message from the row with the maximum.
            "SELECT stage, state, reason, count(*), sum(seconds), sum(num_bytes), item, message, max(updated) "
            "FROM items GROUP BY stage, state, reason"
        )
        return sorted((Tally(*row[:-1]) for row in rows), key=lambda found: STAGES.index(found.stage))

    def mean_seconds(self) -> dict[StageName, float]:
        """Return the mean duration of the items that ended, per stage with such items."""
        rows = self._connection.execute(
            "SELECT stage, avg(seconds) FROM items WHERE state IN ('done', 'failed', 'refused') GROUP BY stage"
        )
        return dict(rows)

    def num_scenes(self) -> list[tuple[str, str, int, int]]:
        """Return kind, split, and number of scenes and of their frames."""
        return self._connection.execute(
            "SELECT json_extract(payload, '$.kind') AS kind, json_extract(payload, '$.split') AS split, count(*), "
            "sum(json_extract(result, '$.num_frames')) FROM items WHERE stage = 'pack' AND state = 'done' "
            "GROUP BY kind, split ORDER BY kind, split"
        ).fetchall()

    def rows(
        self,
        stage: StageName | None = None,
        *,
        state: State | None = None,
        form: str | None = None,
        key: str | None = None,
    ) -> Iterator[Row]:
        """Iterate over items in the order of the videos.

        Args:
            stage: Only this stage.
            state: Only items in this state.
            form: Only videos whose key has this form, such as `b23` for `b23:...`.
            key: Only this video.
        """
        rows = self._connection.execute(
            f"SELECT {_QUALIFIED} FROM items LEFT JOIN videos ON videos.key = items.key WHERE (?1 IS NULL OR "
            "stage = ?1) AND (?2 IS NULL OR state = ?2) AND (?3 IS NULL OR items.key GLOB ?3 || ':*') "
            "AND (?4 IS NULL OR items.key = ?4) ORDER BY position, item",
            (stage, state, form, key),
        )
        for row in rows:
            yield to_row(row)

    def has_outputs(self, stage: StageName, item: str) -> bool:
        """Return whether an item was done at some time and its files exist, however its last attempt ended."""
        row, _ = self._row(stage, item)
        return bool(row.result) and has_files(self.root, row.result)

    def num_other_versions(self, stage: StageName, versions: Mapping[str, str]) -> int:
        """Return how many items of a stage were done with settings or tools different from these."""
        rows = self._connection.execute(
            "SELECT versions, count(*) FROM items WHERE stage = ? AND state = 'done' GROUP BY versions", (stage,)
        )
        return sum(number for text, number in rows if differ(json.loads(text), versions))

    def _row(self, stage: StageName, item: str) -> tuple[Row, bool]:
        """Return an item, and whether its children have to be redone with it."""
        *row, redo = self._connection.execute(
            f"SELECT {COLUMNS}, anew FROM items WHERE stage = ? AND item = ?", (stage, item)
        ).fetchone()
        return to_row(row), bool(redo)


def to_row(values: Iterable[Any]) -> Row:
    """Make a `Row` of the values of `COLUMNS`."""
    row = dict(zip(COLUMNS.split(", "), values, strict=True))
    return Row(**{**row, **{name: json.loads(row[name]) for name in ("versions", "payload", "result")}})


def differ(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Return whether two sets of versions differ in more than the tools that are recorded only (`TOOL`)."""
    a, b = ({name: value for name, value in side.items() if not name.startswith(TOOL)} for side in (one, other))
    return a != b
