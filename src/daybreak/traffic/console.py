"""PgBouncer's admin console (PgBouncer docs, "Admin console"): the five commands that routing needs,
each with a bound on time. It speaks the simple query protocol only and knows no transactions.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import conninfo, errors, sql
from psycopg.pq import ExecStatus

from daybreak.errors import PermanentError, TransientError
from daybreak.postgres.server import translated

_WHERE = "PgBouncer's console"


@dataclass(frozen=True, slots=True)
class Entry:
    """One database entry as PgBouncer uses it now; ``paused`` also while a PAUSE still waits."""

    host: str
    port: int
    database: str
    paused: bool


class Console:
    """A session on the console; raises TransientError where it can't be had. Every command connects
    anew where the session was lost, for each may be given twice."""

    def __init__(self, dsn: str) -> None:
        """Connect by ``console_dsn(...)``."""
        self._dsn = dsn
        self._connection = self._connect()

    def close(self) -> None:
        """End the session. An entry that is paused stays so."""
        self._connection.close()

    def databases(self) -> dict[str, Entry]:
        """All entries by name (SHOW DATABASES)."""
        cursor = self._run(sql.SQL("SHOW DATABASES"))
        names = [column.name for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor]
        return {
            str(row["name"]): Entry(
                str(row["host"] or ""), int(str(row["port"])), str(row["database"]), bool(int(str(row["paused"])))
            )
            for row in rows
        }

    def reload(self) -> None:
        """Read the configuration again. PgBouncer logs what is wrong with it and answers nothing of
        that: look at ``databases`` afterwards."""
        self._run(sql.SQL("RELOAD"))

    def resume(self, names: Iterable[str]) -> None:
        """End the pause of those of ``names`` that are paused, also of one whose PAUSE still waits."""
        entries = self.databases()
        for name in names:
            if name in entries and entries[name].paused:
                self._run(sql.SQL("RESUME {}").format(sql.Identifier(name)))

    def pause(self, name: str, seconds: float) -> None:
        """Hold new transactions of entry ``name`` back and wait until the running ones have ended.

        Raises TransientError where they have not after ``seconds``; the pause is undone then."""
        if self._finishes(sql.SQL("PAUSE {}").format(sql.Identifier(name)), seconds):
            return
        # A console that waits for its PAUSE takes no other command: leave it, and undo from a new one.
        self._connection.close()
        self._connection = self._connect()
        self.resume([name])
        raise TransientError(
            f"PgBouncer could not pause {name} within {seconds:.1f} s: transactions kept running.",
            "End the long ones, or wait. With pool_mode=session every connected client counts as one: use transaction.",
        )

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        with translated(_WHERE):
            # The console has no prepared statements, and parameters only where the client fills them in.
            return psycopg.connect(
                self._dsn, autocommit=True, prepare_threshold=None, cursor_factory=psycopg.ClientCursor
            )

    def _run(self, command: sql.Composed | sql.SQL) -> psycopg.Cursor[tuple[object, ...]]:
        with _refusals():
            try:
                return self._connection.execute(command)
            except psycopg.OperationalError:
                if not self._connection.closed:
                    raise
            self._connection = self._connect()
            return self._connection.execute(command)

    def _finishes(self, command: sql.Composed, seconds: float) -> bool:
        """Whether ``command`` was answered within ``seconds``; raises what it was refused for."""
        deadline = time.monotonic() + seconds
        self.databases()  # connects anew where the session was lost
        with _refusals():
            pgconn = self._connection.pgconn
            pgconn.send_query(command.as_bytes(self._connection))
            while pgconn.is_busy():
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not select.select([pgconn.socket], [], [], remaining)[0]:
                    return False
                pgconn.consume_input()
            results = list(iter(pgconn.get_result, None))  # all, or the session can't be used any more
            for result in results:
                if result.status == ExecStatus.FATAL_ERROR:
                    raise errors.error_from_result(result, self._connection.info.encoding)
        return True


def console_dsn(dsn: str, password: str = "") -> str:
    """``dsn`` with what the console needs where it lacks that: database name, password, and a limit
    to connecting. Holds the password."""
    defaults = {"dbname": "pgbouncer", "connect_timeout": "5", "application_name": "daybreak"}
    given = conninfo.conninfo_to_dict(dsn)
    if password:
        given["password"] = password
    return conninfo.make_conninfo("", **(defaults | given))


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what psycopg raises into Daybreak's errors; PgBouncer gives all its refusals SQLSTATE 08P01."""
    with translated(_WHERE):
        try:
            yield
        except errors.ProtocolViolation as error:
            raise PermanentError(
                f"{_WHERE} refused: {error.diag.message_primary}.",
                "Check that traffic.pgbouncer.admin_dsn names a user in admin_users, that both entries exist,"
                " and that nobody else has paused PgBouncer.",
            ) from error
