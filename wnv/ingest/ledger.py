"""The ledger: the state of every item in every stage, in one SQLite file in the output root.

One process writes (`Ledger.open`), any number read (`Ledger.read`), also during a run. Every change is one transaction,
so a killed writer never leaves a half-made change. Outputs are renamed into place before they are recorded, and deleted
before their records are.
"""

import json
import secrets
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from wnv.ingest.database import RootError, compact, connect_to_write, dump, storable, transaction
from wnv.ingest.layout import LEDGER_FILE, REPORT_FILE, ROOT_ID_FILE, split_of
from wnv.ingest.ledger_view import COLUMNS, LedgerView, differ
from wnv.ingest.lock import take_lock
from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.outputs import delete_files, delete_video, files_of, has_files, sweep_leftovers
from wnv.ingest.records import Child, Row
from wnv.ingest.tasks import Outcome, StageName, Task
from wnv.runtime.atomic import atomic_file

TAKEN_OUT = "taken_out"
"""Reason code of a video that was removed by `wnv-data forget`."""

# Parts of a payload whose change does not require the item to be redone.
_DESCRIPTION = ("rows", "codes", "title")


class Ledger(LedgerView):
    """State database of an output root. A context manager, opened by `Ledger.open`."""

    _root_id: str

    @classmethod
    def open(cls, root: str | Path, *, val_fraction: float, test_fraction: float) -> "Ledger":
        """Open the ledger of a root to write; create root and ledger if needed.

        Items that a killed run left `running` become `pending`.

        Args:
            root: The output root.
            val_fraction: Share of the videos for validation, 0..1; fixed once the root exists.
            test_fraction: Share of the videos for testing, 0..1; fixed once the root exists.

        Raises:
            ValueError: If another run uses the root, the root has other fractions, or the file is not a ledger, is
                corrupt, or has a newer version.
            RootError: If the root cannot be written to.
        """
        split_of("", val_fraction=val_fraction, test_fraction=test_fraction)  # checks the fractions
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
            ledger._identify_root()
            sweep_leftovers(root)
            with ledger._transaction():
                ledger._connection.execute(
                    "UPDATE items SET state = 'pending', reason = 'interrupted' WHERE state = 'running'"
                )
        except BaseException:
            lock.close()
            raise
        return ledger

    def __enter__(self) -> "Ledger":
        return self

    def add_videos(self, lines: Iterable[ManifestLine]) -> dict[str, int]:
        """Add videos, and their fetch items.

        A known video whose line changed (in more than title, rows and codes) is redone. A video known as static stays
        static when a list of dynamic ones names it too.

        Returns:
            Number of lines that were `new`, `changed`, `known`, `static_kept`, `taken_out` (and stay so), or without
            a key (`no_key`).

        Raises:
            ValueError: If a key is not valid Unicode.
        """
        counts: dict[str, int] = dict.fromkeys(("new", "changed", "known", "static_kept", "taken_out", "no_key"), 0)
        taken_out = {row.key for row in self.rows("fetch", state="refused") if row.reason == TAKEN_OUT}
        fractions = self.fractions()
        with self._transaction():
            (position,) = self._connection.execute("SELECT ifnull(max(position) + 1, 0) FROM videos").fetchone()
            for line in lines:
                if line.key is None:
                    counts["no_key"] += 1
                    continue
                if line.key != storable(line.key):
                    raise ValueError(f"manifest key {line.key!r} is not valid Unicode; fix the manifest")
                if line.key in taken_out:
                    counts["taken_out"] += 1
                    continue
                content = line.to_json()
                split = split_of(line.key, **fractions)
                known = self._connection.execute("SELECT line FROM videos WHERE key = ?", (line.key,)).fetchone()
                if known is None:
                    self._connection.execute(
                        "INSERT INTO videos VALUES (?, ?, ?, ?)", (position, line.key, split, dump(content))
                    )
                    position += 1
                elif json.loads(known[0])["kind"] == "static" and line.kind == "dynamic":
                    counts["static_kept"] += 1
                    continue
                else:
                    self._connection.execute("UPDATE videos SET line = ? WHERE key = ?", (dump(content), line.key))
                queued = self.enqueue("fetch", line.key, line.key, {**content, "split": split})
                counts["new" if known is None else "changed" if queued else "known"] += 1
        return counts

    def set_videos_folder(self, folder: str) -> None:
        """Remember the folder of local videos, so that later runs find them without `source`."""
        with self._transaction():
            self._connection.execute("INSERT OR REPLACE INTO meta VALUES ('videos_folder', ?)", (storable(folder),))

    def enqueue(self, stage: StageName, item: str, key: str, payload: Mapping[str, Any], *, redo: bool = False) -> bool:
        """Add an item as pending, or redo it if it exists and its payload changed or `redo` is set.

        Returns:
            Whether the item was added or is redone.
        """
        text = dump(payload)
        row = self._connection.execute(
            "SELECT payload FROM items WHERE stage = ? AND item = ?", (stage, item)
        ).fetchone()
        if row is None:
            self._connection.execute(
                f"INSERT INTO items ({COLUMNS}, anew) "
                "VALUES (?, ?, ?, 'pending', 0, '', '', 0, 0, '{}', ?, '{}', ?, 0)",
                (stage, item, key, text, time.time()),
            )
            return True
        changed = text != row[0] and _essence(text) != _essence(row[0])
        if not changed and not redo:
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
        """Mark an item as running and return its task."""
        with self._transaction():
            tries, payload = self._connection.execute(
                "UPDATE items SET state = 'running', tries = tries + 1, updated = ? WHERE stage = ? AND item = ? "
                "RETURNING tries, payload",
                (time.time(), stage, item),
            ).fetchone()
        about = {"payload": json.loads(payload), "attempt": tries - 1, "root_id": self._root_id}
        return Task(stage=stage, item=item, root=self.root, **about)

    def release(self, task: Task) -> None:
        """Return a started item to `pending` without counting the attempt."""
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
        """Record the outcome of a task, queue its children, and delete outputs that it replaced.

        An item that is done, or that a stage after fetch rejected, has exactly these children from now on. Other
        children are removed with everything made from them, as are files that the item no longer has. Children are
        redone if their payload changed, or if the item was redone on request or with other versions. A rejected fetch
        deletes nothing: scenes survive when a video disappears from its site.

        Returns:
            The children that are pending now.
        """
        done = outcome.state == "done"
        settled = done or (outcome.state == "refused" and task.stage != "fetch")
        with self._transaction():
            old, redo = self._row(task.stage, task.item)
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
                    0 if settled else int(redo),
                    task.stage,
                    task.item,
                ),
            )
            redo = redo or (bool(old.versions) and differ(old.versions, made))
            return [child for child in children if self._enqueue_child(child, old.key, redo=redo)]

    def forget(self, keys: Iterable[str]) -> list[Path]:
        """Delete everything made from videos, and reject the videos from now on. A user's own files are kept.

        The ledger keeps key, address and segments, so that `retry=[taken_out]` can undo it, but no title. The report
        is deleted, since it shows scenes. Deleted rows are erased from the file.

        Returns:
            The deleted files, relative to the root.

        Raises:
            ValueError: If the root does not know a key; then nothing is deleted.
        """
        keys = list(keys)
        lines = {video.key: video.line for video in self.videos()}
        if unknown := [key for key in keys if key not in lines]:
            raise ValueError(f"keys: {', '.join(unknown[:5])}: not known in {self.root}; wnv-data report shows keys")
        deleted: list[Path] = []
        for key in keys:
            line = {**lines[key], "rows": [], "codes": [], "title": ""}
            with self._transaction():
                row, _ = self._row("fetch", key)
                deleted += delete_video(self.root, key)
                self._connection.execute("DELETE FROM items WHERE key = ? AND stage != 'fetch'", (key,))
                self._connection.execute("UPDATE videos SET line = ? WHERE key = ?", (dump(line), key))
                self._connection.execute(
                    "UPDATE items SET state = 'refused', reason = ?, message = '', versions = '{}', result = '{}', "
                    "payload = ?, updated = ? WHERE stage = 'fetch' AND item = ?",
                    (TAKEN_OUT, dump({**line, "split": row.payload["split"]}), time.time(), key),
                )
        report = self.root / REPORT_FILE
        if report.is_file():
            report.unlink()
            deleted.append(Path(REPORT_FILE))
        compact(self._connection, self.root / LEDGER_FILE)
        return deleted

    def requeue(self, items: Iterable[tuple[StageName, str]], *, reason: str, redo: bool = False) -> None:
        """Return items to `pending`. With `redo`, everything made from them is redone as well."""
        with self._transaction():
            self._requeue(items, reason=reason, redo=redo)

    def _identify_root(self) -> None:
        """Give the root an identity, by which other machines see whether it is mounted there."""
        with self._transaction():
            self._connection.execute("INSERT OR IGNORE INTO meta VALUES ('root_id', ?)", (secrets.token_hex(8),))
            (self._root_id,) = self._connection.execute("SELECT value FROM meta WHERE name = 'root_id'").fetchone()
        file = self.root / ROOT_ID_FILE
        try:
            if not file.is_file() or file.read_text(encoding="ascii").strip() != self._root_id:
                with atomic_file(file, overwrite=True) as output:
                    output.write(f"{self._root_id}\n".encode())
        except OSError as error:
            raise RootError(f"{file} cannot be written: {error}; fix the disk and run again") from error

    def _check_fractions(self, fractions: Mapping[str, float]) -> None:
        found = self.fractions()
        if found != fractions:
            raise ValueError(
                f"{self.root} was created with val_fraction={found['val_fraction']} and test_fraction="
                f"{found['test_fraction']}, got {fractions['val_fraction']} and {fractions['test_fraction']}; a video "
                "must stay in its split, so use the same fractions or another root"
            )

    def _transaction(self) -> AbstractContextManager[None]:
        return transaction(self._connection, self.root / LEDGER_FILE)

    def _enqueue_child(self, child: Child, key: str, *, redo: bool) -> bool:
        """Queue a child; return whether it is pending."""
        self.enqueue(child.stage, child.item, key, child.payload, redo=redo)
        row, _ = self._row(child.stage, child.item)
        if row.state == "done" and not has_files(self.root, row.result):
            # A stage may delete what was made from the files that it replaces.
            self._requeue([(child.stage, child.item)], reason="missing", redo=False)
            return True
        return row.state == "pending"

    def _requeue(self, items: Iterable[tuple[StageName, str]], *, reason: str, redo: bool) -> None:
        self._connection.executemany(
            "UPDATE items SET state = 'pending', tries = 0, reason = ?, updated = ?, anew = max(anew, ?) "
            "WHERE stage = ? AND item = ?",
            [(reason, time.time(), int(redo), stage, item) for stage, item in items],
        )

    def _remove_stale(self, old: Row, result: Mapping[str, Any], children: Collection[str]) -> None:
        """Delete the children that an item no longer has, with everything made from them, and its replaced files."""
        if old.stage == "clip":
            rows = self._connection.execute("SELECT item FROM items WHERE stage = 'pose' AND key = ?", (old.key,))
            for (item,) in rows.fetchall():
                if item not in children:
                    self._remove("pose", item)
                    self._remove("pack", item)
        elif old.stage == "pose" and not children:
            self._remove("pack", old.item)
        delete_files(self.root, files_of(old.result) - files_of(result))

    def _remove(self, stage: StageName, item: str) -> None:
        row = self._connection.execute(
            "SELECT payload, result FROM items WHERE stage = ? AND item = ?", (stage, item)
        ).fetchone()
        if row is None:
            return
        payload, result = (json.loads(text) for text in row)
        files = files_of(result)
        if stage == "pose" and "file" in payload:
            # The writer may have been killed between writing the file and recording it.
            files |= {payload["file"], str(Path(payload["file"]).with_suffix(".json"))}
        delete_files(self.root, files)
        self._connection.execute("DELETE FROM items WHERE stage = ? AND item = ?", (stage, item))


def _essence(payload: str) -> dict[str, Any]:
    return {name: value for name, value in json.loads(payload).items() if name not in _DESCRIPTION}
