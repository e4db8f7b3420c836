"""``StateStore`` in one SQLite file, the default. A compare-and-swap is one ``BEGIN IMMEDIATE``
transaction with ``synchronous=FULL``: of two racing processes one wins, and a process killed in
between leaves all of it or nothing. Triggers refuse every change to a journal row that is written.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from daybreak import __version__
from daybreak.errors import DaybreakError, PermanentError, StateConflict, TransientError
from daybreak.model import JournalEntry, MigrationRecord, Step
from daybreak.store.codec import ADOPT_HINT, decode, encode

_APPLICATION_ID = 0x44415942  # "DAYB": tells this file from other programs' (SQLite docs, PRAGMA application_id)
_LAYOUT = 1
_BUSY_SECONDS = 10.0

_SCHEMA = (
    """CREATE TABLE record (name TEXT PRIMARY KEY, version INTEGER NOT NULL, body TEXT NOT NULL) STRICT""",
    """CREATE TABLE journal (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, version INTEGER NOT NULL, at TEXT NOT NULL,
        generation INTEGER NOT NULL, owner TEXT NOT NULL, event TEXT NOT NULL, step TEXT, detail TEXT NOT NULL,
        UNIQUE (name, version)) STRICT""",
    """CREATE TRIGGER journal_no_update BEFORE UPDATE ON journal
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END""",
    """CREATE TRIGGER journal_no_delete BEFORE DELETE ON journal
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END""",
    # INSERT OR REPLACE deletes the row that is in its way without firing the trigger above.
    """CREATE TRIGGER journal_no_replace BEFORE INSERT ON journal
        WHEN EXISTS (SELECT 1 FROM journal WHERE seq = NEW.seq OR (name = NEW.name AND version = NEW.version))
        BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END""",
)


class SqliteStateStore:
    """The record and journal in the file ``path``; made on the first write with mode 0600, its
    directory with 0700. Safe to use from several processes and threads: every call opens it anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def from_url(cls, url: str) -> SqliteStateStore:
        """The store named by ``sqlite:///PATH`` (the configuration makes it absolute) or ``sqlite:////PATH``."""
        return cls(Path(url.removeprefix("sqlite:///")))

    def load(self, name: str) -> MigrationRecord | None:
        """See ``StateStore.load``. A file that doesn't exist is not made."""
        if not self.path.exists():
            return None
        with self._open() as connection:
            row = connection.execute("SELECT body FROM record WHERE name = ?", (name,)).fetchone()
        return None if row is None else decode(row[0], str(self.path))

    def compare_and_swap(
        self, record: MigrationRecord, expected_version: int, event: str, step: Step | None, at: datetime, detail: str
    ) -> MigrationRecord:
        """See ``StateStore.compare_and_swap``; on disk when it returns."""
        with self._open() as connection, _immediate(connection):
            row = connection.execute("SELECT version FROM record WHERE name = ?", (record.name,)).fetchone()
            found = 0 if row is None else int(row[0])
            if found != expected_version:
                raise StateConflict(
                    f"{self.path}: another process moved {record.name} (version {found}, not {expected_version}).",
                    "Nothing was written. See `daybreak status`, then run the command again.",
                )
            (last,) = connection.execute(
                "SELECT coalesce(max(version), 0) FROM journal WHERE name = ?", (record.name,)
            ).fetchone()
            stored = replace(record, version=max(expected_version, last) + 1)
            connection.execute(
                "INSERT INTO record (name, version, body) VALUES (?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET version = excluded.version, body = excluded.body",
                (stored.name, stored.version, encode(stored)),
            )
            connection.execute(
                "INSERT INTO journal (name, version, at, generation, owner, event, step, detail)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (stored.name, stored.version, at.isoformat(), stored.generation, stored.owner, event, step, detail),
            )
        return stored

    def journal(self, name: str) -> tuple[JournalEntry, ...]:
        """See ``StateStore.journal``."""
        if not self.path.exists():
            return ()
        with self._open() as connection:
            rows = connection.execute(
                "SELECT at, version, generation, owner, event, step, detail FROM journal WHERE name = ? ORDER BY seq",
                (name,),
            ).fetchall()
        return tuple(_entry(*row) for row in rows)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with _translated(self.path):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite would make it readable by everybody; its -wal and -shm files copy these bits.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
            with closing(connection):
                connection.execute("PRAGMA synchronous = FULL")
                _prepare(connection, self.path)
                yield connection


def _entry(
    at: str, version: int, generation: int, owner: str, event: str, step: str | None, detail: str
) -> JournalEntry:
    when = datetime.fromisoformat(at)
    return JournalEntry(when, version, generation, owner, event, None if step is None else Step(step), detail)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables in a new file; refuse a file of another program or of a newer Daybreak."""
    layout = _layout(connection, path)
    if layout > _LAYOUT:
        raise PermanentError(
            f"{path} was made by a newer Daybreak than this one, {__version__} (file layout {layout}, not {_LAYOUT}).",
            "Run that Daybreak or a newer one.",
        )
    if layout == 0:
        with _immediate(connection):
            if _layout(connection, path) == 0:  # another process may have been quicker
                for statement in (
                    *_SCHEMA,
                    f"PRAGMA application_id = {_APPLICATION_ID}",
                    f"PRAGMA user_version = {_LAYOUT}",
                ):
                    connection.execute(statement)
    # Readers (`status --watch`) then never wait for the writer. It stays set in the file. The change
    # needs the file alone and doesn't wait for that: where another process is at it, leave it to that.
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise


def _layout(connection: sqlite3.Connection, path: Path) -> int:
    application, layout, objects = connection.execute(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master)"
        " FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    if application != _APPLICATION_ID and (objects or layout):
        raise PermanentError(f"{path} is a SQLite file of another program.", "Name another file in state.url.")
    return int(layout)


@contextmanager
def _immediate(connection: sqlite3.Connection) -> Iterator[None]:
    """A write transaction, taken at once: a deferred one could read, then fail to become a writer."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


_FULL = "Free disk space, then run the same command again: nothing of this change was written."
_HINTS = {  # primary result codes (SQLite docs, "Result and Error Codes")
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: _FULL + " Use a local disk: network file systems lack SQLite's locks.",
    sqlite3.SQLITE_CORRUPT: ADOPT_HINT,
    sqlite3.SQLITE_NOTADB: ADOPT_HINT,
}
_ACCESS = "Let the user who runs Daybreak write the file and its directory, or name another in state.url."


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn sqlite3's and the system's errors into TransientError (locked) or PermanentError."""
    try:
        yield
    except DaybreakError:
        raise
    except OSError as error:
        hint = _FULL if error.errno == errno.ENOSPC else _ACCESS
        raise PermanentError(f"{path}: {error.strerror}.", hint) from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise TransientError(
                f"{path} is locked by another process for more than {_BUSY_SECONDS:.0f} s.",
                "Look who holds it (`fuser FILE`), and run the command again.",
            ) from error
        raise PermanentError(f"{path}: {error}.", _HINTS.get(code, _ACCESS)) from error
