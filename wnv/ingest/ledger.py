"""The ledger: what has become of every item in every stage, in one SQLite file in the output root.

One process writes (`Ledger.open`), any number read (`Ledger.read`), also while it does. Every change is one
transaction, so that a killed writer leaves the ledger as it was before or after it. Outputs are renamed before they are
recorded, and deleted before they are forgotten.
"""

import json
import os
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, cast

from wnv.ingest.database import RootError, connect_to_read, connect_to_write, dump, storable, transaction
from wnv.ingest.layout import LEDGER_FILE, split_of
from wnv.ingest.lock import take_lock
from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.records import Child, Row, Video, files_of
from wnv.ingest.tasks import STAGES, TOOL, Outcome, StageName, State, Task

_COLUMNS = "stage, item, key, state, tries, reason, message, seconds, num_bytes, versions, payload, result, updated"

_ROW = ", ".join(f"items.{column}" for column in _COLUMNS.split(", "))

TAKEN_OUT = "taken_out"
"""The reason of a video that somebody did not want to be in the root."""

_SETTLED = ("done", "refused")

# What may change in a payload without a reason to do the item again.
_PROVENANCE = ("rows", "codes", "title")


class Ledger:
    """The account of an output root. Made by `Ledger.open` or `Ledger.read`; a context manager."""

    def __init__(self, *, root: Path, connection: sqlite3.Connection, lock: IO[str] | None) -> None:
        self.root = root
        self._connection = connection
        self._lock = lock

    @classmethod
    def open(cls, root: str | Path, *, val_fraction: float, test_fraction: float) -> "Ledger":
        """The ledger of a root, to write; root and ledger are made if they are not there.

        What a killed run was at goes back to `pending`.

        Args:
            root: The output root.
            val_fraction: Share of the videos to validate on, 0..1; fixed once the root has been made.
            test_fraction: Share of the videos to test on, 0..1; likewise.

        Raises:
            ValueError: If another run has the root, the root has other fractions, or the file is no ledger or one of a
                newer version.
            RootError: If the root cannot be written to.
        """
        split_of("", val_fraction=val_fraction, test_fraction=test_fraction)  # refuses impossible fractions
        root = Path(root).absolute()
        try:
            root.mkdir(parents=True, exist_ok=True)
            lock = take_lock(root)
        except OSError as error:
            raise RootError(f"root={root} cannot be written to: {error}; choose another root") from error
        fractions = {"val_fraction": float(val_fraction), "test_fraction": float(test_fraction)}
        try:
            meta = {name: repr(value) for name, value in fractions.items()}
            ledger = cls(root=root, connection=connect_to_write(root / LEDGER_FILE, meta=meta), lock=lock)
            ledger._check_fractions(fractions)
            with ledger._transaction():
                ledger._connection.execute(
                    "UPDATE items SET state = 'pending', reason = 'interrupted' WHERE state = 'running'"
                )
        except BaseException:
            lock.close()
            raise
        return ledger

    @classmethod
    def read(cls, root: str | Path) -> "Ledger":
        """The ledger of a root, to look at: takes no lock and may be used while a run goes on.

        Raises:
            FileNotFoundError: If the root has no ledger, or one with nothing in it.
            ValueError: If the file is no ledger or one of a newer version.
        """
        root = Path(root).absolute()
        return cls(root=root, connection=connect_to_read(root / LEDGER_FILE), lock=None)

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let go of the root."""
        self._connection.close()
        if self._lock is not None:
            self._lock.close()

    # ---------------------------------------------------------------- writing

    def add_videos(self, lines: Iterable[ManifestLine]) -> dict[str, int]:
        """Take videos in, and what there is to fetch.

        A line that differs from the one that is known (in more than title, rows and codes) has its video done again. A
        video that is known as static stays so when a list of dynamic ones names it too.

        Returns:
            How many lines were `new`, `changed`, `known`, `static_kept`, `taken_out` (and stay so), or named no video
            (`no_key`).

        Raises:
            ValueError: If a key is not text that can be stored.
        """
        counts = dict.fromkeys(("new", "changed", "known", "static_kept", "taken_out", "no_key"), 0)
        taken_out = {row.key for row in self.rows("fetch", state="refused") if row.reason == TAKEN_OUT}
        fractions = self.fractions()
        with self._transaction():
            (position,) = self._connection.execute("SELECT ifnull(max(position) + 1, 0) FROM videos").fetchone()
            for line in lines:
                if line.key is None:
                    counts["no_key"] += 1
                    continue
                if line.key != storable(line.key):
                    raise ValueError(f"manifest key {line.key!r} holds half of a character; mend the manifest")
                if line.key in taken_out:
                    counts["taken_out"] += 1
                    continue
                content = line.to_json()
                known = self._connection.execute("SELECT line FROM videos WHERE key = ?", (line.key,)).fetchone()
                if known is None:
                    split = split_of(line.key, **fractions)
                    self._connection.execute(
                        "INSERT INTO videos VALUES (?, ?, ?, ?)", (position, line.key, split, dump(content))
                    )
                    self.enqueue("fetch", line.key, line.key, {**content, "split": split})
                    position += 1
                    counts["new"] += 1
                elif json.loads(known[0])["kind"] == "static" and line.kind == "dynamic":
                    counts["static_kept"] += 1
                else:
                    self._connection.execute("UPDATE videos SET line = ? WHERE key = ?", (dump(content), line.key))
                    split = split_of(line.key, **fractions)
                    again = self.enqueue("fetch", line.key, line.key, {**content, "split": split})
                    counts["changed" if again else "known"] += 1
        return counts

    def enqueue(
        self, stage: StageName, item: str, key: str, payload: Mapping[str, Any], *, fresh: bool = False
    ) -> bool:
        """Have an item done; one that is there already again, if its payload is another or it has to be `fresh`.

        Returns:
            Whether it is new or is to be done again.
        """
        text = dump(payload)
        row = self._connection.execute(
            "SELECT payload, state FROM items WHERE stage = ? AND item = ?", (stage, item)
        ).fetchone()
        if row is None:
            self._connection.execute(
                f"INSERT INTO items ({_COLUMNS}, anew) "
                "VALUES (?, ?, ?, 'pending', 0, '', '', 0, 0, '{}', ?, '{}', ?, 0)",
                (stage, item, key, text, time.time()),
            )
            return True
        changed = text != row[0] and _essence(text) != _essence(row[0])
        if not changed and not fresh:
            if text != row[0]:
                self._connection.execute(
                    "UPDATE items SET payload = ? WHERE stage = ? AND item = ?", (text, stage, item)
                )
            return False
        self._connection.execute(
            "UPDATE items SET key = ?, payload = ?, state = 'pending', tries = 0, reason = ?, message = '', "
            "updated = ?, anew = 1 WHERE stage = ? AND item = ?",
            (key, text, "changed" if changed else "redo", time.time(), stage, item),
        )
        return True

    def start(self, stage: StageName, item: str) -> Task:
        """Begin an item; what has to be done."""
        with self._transaction():
            tries, payload = self._connection.execute(
                "UPDATE items SET state = 'running', tries = tries + 1, updated = ? WHERE stage = ? AND item = ? "
                "RETURNING tries, payload",
                (time.time(), stage, item),
            ).fetchone()
        return Task(stage=stage, item=item, root=self.root, payload=json.loads(payload), attempt=tries - 1)

    def release(self, task: Task) -> None:
        """Put an item back that was begun and given up through no fault of its own; the try does not count."""
        with self._transaction():
            self._connection.execute(
                "UPDATE items SET state = 'pending', tries = tries - 1, updated = ? WHERE stage = ? AND item = ?",
                (time.time(), task.stage, task.item),
            )

    def finish(
        self,
        task: Task,
        outcome: Outcome,
        *,
        versions: Mapping[str, str] | None = None,
        children: Collection[Child] = (),
    ) -> list[Child]:
        """Record how a task ended, what follows from it, and clear away what no longer does.

        An item that is done, or that a stage after fetch refused, has exactly these children from now on: others,
        and what was made of them, are removed, like files of the item that it does not have any more. They are done
        again if their payload changed, or if the item itself was made anew by order or with other versions.
        A fetch that is refused takes nothing away: that a video has gone is no reason to lose its scenes.

        Returns:
            The children that are pending now.
        """
        done = outcome.state == "done"
        settled = done or (outcome.state == "refused" and task.stage != "fetch")
        with self._transaction():
            old, anew = self._row(task.stage, task.item)
            made = dict(versions or {})
            if settled:
                self._remove_stale(old, outcome.result if done else {}, {child.item for child in children})
            self._connection.execute(
                "UPDATE items SET state = ?, reason = ?, message = ?, seconds = ?, num_bytes = ?, versions = ?, "
                "result = ?, updated = ?, anew = ? WHERE stage = ? AND item = ?",
                (
                    outcome.state,
                    outcome.reason,
                    storable(outcome.message),
                    outcome.seconds,
                    outcome.num_bytes,
                    dump(made if done else {} if settled else old.versions),
                    dump(outcome.result if done else {} if settled else old.result),
                    time.time(),
                    0 if settled else anew,
                    task.stage,
                    task.item,
                ),
            )
            fresh = bool(anew) or (bool(old.versions) and _differ(old.versions, made))
            return [child for child in children if self._enqueue_child(child, old.key, fresh=fresh)]

    def discard(self, result: Mapping[str, Any]) -> None:
        """Delete the files of a result that is not going to be recorded; a user's own file is left alone."""
        self._delete(files_of(result))

    def take_out(self, keys: Iterable[str]) -> list[str]:
        """Delete all that was made of videos, and remember that they are not wanted; a user's own files are left alone.

        Returns:
            The files that are gone, relative to the root.

        Raises:
            ValueError: If the root does not know a key; then nothing is taken out.
        """
        keys = list(keys)
        known = {video.key for video in self.videos()}
        if unknown := [key for key in keys if key not in known]:
            raise ValueError(f"keys: {', '.join(unknown[:5])}: not known in {self.root}; wnv-data report shows keys")
        gone: list[str] = []
        for key in keys:
            with self._transaction():
                rows = [row for row in self.rows(key=key) if row.result or row.stage == "fetch"]
                files = {file for row in rows for file in files_of(row.result) if not Path(file).is_absolute()}
                self._delete(files)
                gone += sorted(files)
                for stage, item in [(row.stage, row.item) for row in self.rows(key=key) if row.stage != "fetch"]:
                    self._forget(stage, item)
                self._connection.execute(
                    "UPDATE items SET state = 'refused', reason = ?, message = 'taken out by order', versions = '{}', "
                    "result = '{}', updated = ? WHERE stage = 'fetch' AND item = ?",
                    (TAKEN_OUT, time.time(), key),
                )
        return gone

    def requeue(self, items: Iterable[tuple[StageName, str]], *, reason: str, anew: bool = False) -> None:
        """Send items back to `pending`; `anew` if what is made from them has to be made anew as well."""
        with self._transaction():
            self._requeue(items, reason=reason, anew=anew)

    def requeue_missing(self) -> dict[StageName, int]:
        """Send items back to `pending` that are `done` while a file they made is gone (or empty).

        A fetched video is missed only until its clips are cut, and a clip only until its scene is packed or refused:
        after that they may be deleted to save space.

        Returns:
            How many, by stage; stages without any are left out.
        """
        states = {(stage, item): (state, key) for stage, item, key, state, _ in self.standing()}
        missing: list[tuple[StageName, str]] = []
        for stage in reversed(STAGES):
            through = {item for (name, item), (state, _) in states.items() if name == "pack" and state in _SETTLED}
            through |= {item for (name, item), (state, _) in states.items() if name == "pose" and state == "refused"}
            wanting = {key for (name, item), (_, key) in states.items() if name == "pose" and item not in through}
            for row in self.rows(stage, state="done"):
                spent = {
                    "fetch": states.get(("clip", row.item), ("", ""))[0] in _SETTLED,
                    "clip": row.item not in wanting,
                    "pose": row.item in through,
                    "pack": False,
                }[stage]
                if not spent and not self._has_files(row):
                    missing.append((stage, row.item))
                    states[stage, row.item] = ("pending", row.key)
        self.requeue(missing, reason="missing")
        return {stage: n for stage in STAGES if (n := sum(found == stage for found, _ in missing))}

    # ---------------------------------------------------------------- reading

    def fractions(self) -> dict[str, float]:
        """`val_fraction` and `test_fraction` of the root."""
        rows = self._connection.execute("SELECT name, value FROM meta WHERE name LIKE '%_fraction'")
        return {name: float(value) for name, value in rows}

    def num_videos(self) -> int:
        """How many videos the root knows."""
        return self._connection.execute("SELECT count(*) FROM videos").fetchone()[0]

    def videos(self) -> Iterator[Video]:
        """The videos, in the order in which they came."""
        for position, key, split, line in self._connection.execute("SELECT * FROM videos ORDER BY position"):
            yield Video(position=position, key=key, split=split, line=json.loads(line))

    def standing(self) -> list[tuple[StageName, str, str, State, str]]:
        """Stage, item, key, state and reason of every item, in the order of the videos."""
        return self._connection.execute(
            "SELECT stage, item, items.key, state, reason FROM items LEFT JOIN videos ON videos.key = items.key "
            "ORDER BY position, item"
        ).fetchall()

    def has_outputs(self, stage: StageName, item: str) -> bool:
        """Whether an item was done once and its files are there, however its last try ended."""
        row, _ = self._row(stage, item)
        return bool(row.result) and self._has_files(row)

    def num_other_versions(self, stage: StageName, versions: Mapping[str, str]) -> int:
        """How many items of a stage were done with other settings or tools than these."""
        rows = self._connection.execute(
            "SELECT versions, count(*) FROM items WHERE stage = ? AND state = 'done' GROUP BY versions", (stage,)
        )
        return sum(number for text, number in rows if _differ(json.loads(text), versions))

    def pending(self, stage: StageName) -> list[str]:
        """Items of a stage that are to be done, in the order of their videos."""
        return [item for found, item, _, state, _ in self.standing() if found == stage and state == "pending"]

    def counts(self) -> dict[StageName, dict[State, int]]:
        """How many items stand how, by stage and state; what is zero is left out."""
        counts: dict[StageName, dict[State, int]] = {}
        rows = self._connection.execute("SELECT stage, state, count(*) FROM items GROUP BY stage, state").fetchall()
        for stage in STAGES:
            found = {cast(State, state): n for name, state, n in rows if name == stage}
            if found:
                counts[stage] = found
        return counts

    def rows(
        self,
        stage: StageName | None = None,
        *,
        state: State | None = None,
        form: str | None = None,
        key: str | None = None,
    ) -> Iterator[Row]:
        """Items of a stage, or of all, in the order of the videos.

        Args:
            stage: Which stage; None for all.
            state: Only those that stand so.
            form: Only those of videos with such keys: `b23` for `b23:...`.
            key: Only those of this video.
        """
        rows = self._connection.execute(
            f"SELECT {_ROW} FROM items LEFT JOIN videos ON videos.key = items.key WHERE (?1 IS NULL OR stage = ?1) "
            "AND (?2 IS NULL OR state = ?2) AND (?3 IS NULL OR items.key GLOB ?3 || ':*') "
            "AND (?4 IS NULL OR items.key = ?4) ORDER BY position, item",
            (stage, state, form, key),
        )
        for row in rows:
            yield _to_row(row)

    # ---------------------------------------------------------------- inside

    def _check_fractions(self, fractions: Mapping[str, float]) -> None:
        found = self.fractions()
        if found != fractions:
            raise ValueError(
                f"{self.root} was begun with val_fraction={found['val_fraction']} and test_fraction="
                f"{found['test_fraction']}, got {fractions['val_fraction']} and {fractions['test_fraction']}: no video "
                "may change sides; use these again, or another root"
            )

    def _transaction(self) -> AbstractContextManager[None]:
        return transaction(self._connection, self.root / LEDGER_FILE)

    def _enqueue_child(self, child: Child, key: str, *, fresh: bool) -> bool:
        """Whether the child is pending then."""
        self.enqueue(child.stage, child.item, key, child.payload, fresh=fresh)
        row, _ = self._row(child.stage, child.item)
        if row.state == "done" and not self._has_files(row):
            # A stage may clear away what was made from the files that it replaces.
            self._requeue([(child.stage, child.item)], reason="missing", anew=False)
            return True
        return row.state == "pending"

    def _requeue(self, items: Iterable[tuple[StageName, str]], *, reason: str, anew: bool) -> None:
        self._connection.executemany(
            "UPDATE items SET state = 'pending', tries = 0, reason = ?, updated = ?, anew = max(anew, ?) "
            "WHERE stage = ? AND item = ?",
            [(reason, time.time(), int(anew), stage, item) for stage, item in items],
        )

    def _has_files(self, row: Row) -> bool:
        return all(_is_there(self.root / file) for file in files_of(row.result))

    def _row(self, stage: StageName, item: str) -> tuple[Row, int]:
        *row, anew = self._connection.execute(
            f"SELECT {_COLUMNS}, anew FROM items WHERE stage = ? AND item = ?", (stage, item)
        ).fetchone()
        return _to_row(row), anew

    def _remove_stale(self, old: Row, result: Mapping[str, Any], children: Collection[str]) -> None:
        """Clear away what an item had and has no more: children with all that comes from them, and files."""
        if old.stage == "clip":
            rows = self._connection.execute("SELECT item FROM items WHERE stage = 'pose' AND key = ?", (old.key,))
            for (item,) in rows.fetchall():
                if item not in children:
                    self._forget("pose", item)
                    self._forget("pack", item)
        elif old.stage == "pose" and not children:
            self._forget("pack", old.item)
        self._delete(files_of(old.result) - files_of(result))

    def _forget(self, stage: StageName, item: str) -> None:
        row = self._connection.execute(
            "SELECT payload, result FROM items WHERE stage = ? AND item = ?", (stage, item)
        ).fetchone()
        if row is None:
            return
        payload, result = (json.loads(text) for text in row)
        files = files_of(result)
        if stage == "pose" and "file" in payload:
            # The writer may have been killed between the file and its record.
            files |= {payload["file"], str(Path(payload["file"]).with_suffix(".json"))}
        self._delete(files)
        self._connection.execute("DELETE FROM items WHERE stage = ? AND item = ?", (stage, item))

    def _delete(self, files: Iterable[str]) -> None:
        for file in files:
            # An absolute path is a user's own file; nothing outside the root was ever made by us.
            path = self.root / file
            if not Path(file).is_absolute() and path.resolve().is_relative_to(self.root.resolve()):
                path.unlink(missing_ok=True)


def _differ(then: Mapping[str, str], now: Mapping[str, str]) -> bool:
    a, b = ({name: value for name, value in side.items() if not name.startswith(TOOL)} for side in (then, now))
    return a != b


def _is_there(path: Path) -> bool:
    try:
        return os.stat(path).st_size > 0
    except FileNotFoundError:
        return False


def _to_row(row: Iterable[Any]) -> Row:
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    return Row(**{**values, **{name: json.loads(values[name]) for name in ("versions", "payload", "result")}})


def _essence(payload: str) -> dict[str, Any]:
    return {name: value for name, value in json.loads(payload).items() if name not in _PROVENANCE}
