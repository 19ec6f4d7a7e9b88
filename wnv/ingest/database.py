"""The SQLite file of a ledger: tables, version, and errors that say what to do."""

import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LEDGER_VERSION = 1

SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE videos (position INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, split TEXT NOT NULL, line TEXT NOT NULL);
CREATE TABLE items (
  stage TEXT NOT NULL, item TEXT NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL, tries INTEGER NOT NULL,
  reason TEXT NOT NULL, message TEXT NOT NULL, seconds REAL NOT NULL, num_bytes INTEGER NOT NULL,
  versions TEXT NOT NULL, payload TEXT NOT NULL, result TEXT NOT NULL, updated REAL NOT NULL,
  anew INTEGER NOT NULL, -- 1 if the item's children have to be redone with it
  PRIMARY KEY (stage, item)
) WITHOUT ROWID;
CREATE INDEX items_key ON items (key, stage);
"""

# Prefixes of SQLite's error names for problems of the disk below the file.
_DISK_ERRORS = ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_PERM")


class RootError(ValueError):
    """The output root cannot be written: disk full, read-only or access denied. The items are not at fault."""


def connect_to_write(path: Path, *, meta: Mapping[str, str]) -> sqlite3.Connection:
    """Open a ledger file; create it with these rows of `meta` if it does not exist.

    Raises:
        ValueError: If the file is corrupt, not a ledger, or has a newer version.
        RootError: If it cannot be written.
    """
    with _explain_errors(path):
        connection = sqlite3.connect(path, isolation_level=None)
        version = _checked_version(connection, path)
        if version:
            (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if finding != "ok":
                raise sqlite3.DatabaseError(" ".join(finding.split()))
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if version == 0:
            rows = "".join(f"INSERT INTO meta VALUES ('{name}', '{value}');" for name, value in meta.items())
            # In one transaction: once the version is set, everything exists.
            connection.executescript(f"BEGIN; {SCHEMA} {rows} PRAGMA user_version = {LEDGER_VERSION}; COMMIT;")
        return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open an existing ledger file read-only.

    Raises:
        FileNotFoundError: If the file does not exist or is empty.
        ValueError: If the file is corrupt, not a ledger, or has a newer version.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; root must be a folder that wnv-data run or fetch wrote to")
    with _explain_errors(path):
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            version = _checked_version(connection, path)
        except sqlite3.OperationalError as error:
            # SQLite creates files beside a ledger to read it. If it may not, no process writes: it is immutable.
            if not error.sqlite_errorname.startswith(_DISK_ERRORS):
                raise
            connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
            version = _checked_version(connection, path)
    if version == 0:
        raise FileNotFoundError(f"{path} is empty, its run was killed at the start; run the same command again")
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Commit all changes of the block, or none.

    Raises:
        RootError: If the file cannot be written.
    """
    with _explain_errors(path):
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def compact(connection: sqlite3.Connection, path: Path) -> None:
    """Rewrite the file without deleted rows, of which SQLite otherwise keeps the bytes."""
    with _explain_errors(path):
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def dump(value: Mapping[str, Any]) -> str:
    """Return the same JSON text for equal values, with readable characters where SQLite can store them."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if text == storable(text) else json.dumps(value, sort_keys=True)


def storable(text: str) -> str:
    """Escape lone surrogates, which file names can contain and SQLite cannot store."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@contextmanager
def _explain_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors about the file, or the disk below it, into errors that say what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorname", "SQLITE_CORRUPT")  # findings of quick_check have no code
        if code.startswith(_DISK_ERRORS):
            # SQLite's "disk I/O error" may also mean a full disk.
            free_mb = shutil.disk_usage(path.parent).free / 1e6
            raise RootError(
                f"{path} cannot be written: {error}; fix the disk ({free_mb:.1f} MB free) and run again"
            ) from error
        if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT")):
            raise ValueError(
                f"{path} is corrupt or not a ledger ({error}); move it away and run again, which redoes all work"
            ) from error
        raise


def _checked_version(connection: sqlite3.Connection, path: Path) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > LEDGER_VERSION:
        raise ValueError(f"{path} has version {version}, this wnv reads versions up to {LEDGER_VERSION}; update wnv")
    return version
