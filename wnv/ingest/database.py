"""The SQLite file under the ledger: its tables and version, and what can be wrong with it, in words."""

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
  anew INTEGER NOT NULL, -- 1 where what was made before counts no more, so that its children are made anew too
  PRIMARY KEY (stage, item)
) WITHOUT ROWID;
CREATE INDEX items_key ON items (key, stage);
"""

# Trouble with the disk under the file, by the start of SQLite's name for it.
_ROOT_TROUBLE = ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_PERM")


class RootError(ValueError):
    """The output root gave way: no space, read-only, no access. Nothing is wrong with the items."""


def connect_to_write(path: Path, *, meta: Mapping[str, str]) -> sqlite3.Connection:
    """Open a ledger file; one that is not there is made, with this meta.

    Raises:
        ValueError: If the file is damaged, no ledger, or of a newer version.
        RootError: If it cannot be written.
    """
    with in_words(path):
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
            # In one transaction: once the version is there, everything is.
            connection.executescript(f"BEGIN; {SCHEMA} {rows} PRAGMA user_version = {LEDGER_VERSION}; COMMIT;")
        return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open a ledger file that is there, without a way to change it.

    Raises:
        FileNotFoundError: If there is none, or nothing in it yet.
        ValueError: If the file is damaged, no ledger, or of a newer version.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; name the root that wnv-data run or fetch wrote to")
    with in_words(path):
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            version = _checked_version(connection, path)
        except sqlite3.OperationalError as error:
            # SQLite makes files beside a ledger even to read it. Where it may not, nobody else writes either.
            if not error.sqlite_errorname.startswith(_ROOT_TROUBLE):
                raise
            connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
            version = _checked_version(connection, path)
    if version == 0:
        raise FileNotFoundError(f"{path} is empty: the run that made it was ended at once; start it again")
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """All that the block changes, or nothing.

    Raises:
        RootError: If the file cannot be written.
    """
    with in_words(path):
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Turn what SQLite finds wrong with the file, or with the disk under it, into what a person can do about it."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        # What quick_check finds has no code.
        code = getattr(error, "sqlite_errorname", "SQLITE_CORRUPT")
        if code.startswith(_ROOT_TROUBLE):
            # SQLite's "disk I/O error" may be a full disk, too.
            free_mb = shutil.disk_usage(path.parent).free / 1e6
            raise RootError(
                f"{path} cannot be written: {error}; mend the disk ({free_mb:.1f} MB are free on it) and run again"
            ) from error
        if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT")):
            raise ValueError(
                f"{path} is damaged or no ledger ({error}); move it away and run again: the account starts anew, and "
                "what was made is made once more"
            ) from error
        raise


def dump(value: Mapping[str, Any]) -> str:
    """One JSON text for equal values, readable where it can be stored so."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if text == storable(text) else json.dumps(value, sort_keys=True)


def storable(text: str) -> str:
    """Text without halves of characters, which names of files can hold and SQLite cannot store."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _checked_version(connection: sqlite3.Connection, path: Path) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > LEDGER_VERSION:
        raise ValueError(
            f"{path} has version {version}, this wnv knows versions up to {LEDGER_VERSION}; use the wnv that made it"
        )
    return version
