"""One table's rows from one server to another, by either of two ways.

Large tables go through an operating-system pipe between two ``psql`` processes: no row passes through
Python, and TLS and error handling are libpq's. Small ones, for which two processes cost more than
their rows, go through this process. docs/adr/0003-copy-pump.md has the measurements.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import sql

from daybreak.errors import PermanentError, TransientError
from daybreak.postgres.catalog import Table
from daybreak.postgres.installations import Installation
from daybreak.postgres.processes import Child, started
from daybreak.postgres.server import Connection, Server, translated
from daybreak.postgres.workers import Stop

# libpq has no environment variables for these; without them a silent network would block for hours.
_KEEPALIVES = "keepalives_idle=5 keepalives_interval=2 keepalives_count=3 tcp_user_timeout=15000"
_POLL_SECONDS = 0.1
# The other end of a broken pipe notices when it next reads or writes; an idle server may keep it waiting.
_PARTING_SECONDS = 1.0
_ROWS = re.compile(rb"^COPY (\d+)$", re.MULTILINE)
_BEGIN_READING = sql.SQL("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")


@dataclass(frozen=True)
class Pump:
    """From whom to whom rows are moved, under which snapshot of the source and in whose name.

    ``encoding`` is the client encoding on both ends, ``loading`` the settings of a loading transaction."""

    source: Server
    target: Server
    tools: Installation
    snapshot: str
    generation: int
    encoding: str
    loading: tuple[tuple[str, str], ...]

    def begin_reading(self, connection: Connection) -> None:
        """Open the transaction on the source that ``through_python`` reads in.

        Raises TransientError where the snapshot is gone."""
        connection.execute(sql.SQL("SET client_encoding = {}").format(self.encoding))
        connection.execute(_BEGIN_READING)
        with _snapshot_may_be_gone(), translated("source: reading under the snapshot of the load"):
            connection.execute(self._take_snapshot())

    def begin_writing(self, connection: Connection) -> None:
        """Make a session on the target fit for ``through_python``."""
        connection.execute(sql.SQL("SET client_encoding = {}").format(self.encoding))

    def through_python(self, source: Connection, target: Connection, table: Table) -> int:
        """Copy inside the caller's transaction on ``target``; returns the number of rows."""
        for statement in self._before_rows(table):
            target.execute(statement)
        with source.cursor() as reader, target.cursor() as writer:
            with reader.copy(_copy_out(table)) as rows, writer.copy(_copy_in(table)) as copied:
                while data := rows.read():
                    copied.write(data)
            return writer.rowcount

    def through_pipe(self, table: Table, stop: Stop) -> int:
        """Copy with two ``psql`` and commit; returns the number of rows, and only if both ended well.

        Where it raises, the target may hold some of the rows: COPY's text format can't tell a broken
        pipe from the end. Raises TransientError, PermanentError or StateConflict with PostgreSQL's
        message. Has to be called and left in one thread (``processes``)."""
        reading_end, writing_end = os.pipe()
        with (
            os.fdopen(reading_end, "rb") as reading,
            os.fdopen(writing_end, "wb") as writing,
            started(self._producer(table), self._environment(self.source), stdout=writing_end) as producer,
            started(self._consumer(table), self._environment(self.target), stdin=reading_end) as consumer,
        ):
            # Held by the two alone, so that each sees the other's end.
            reading.close()
            writing.close()
            _wait_for_both(table, producer, consumer, stop)
            found = _ROWS.search(consumer.output())
            return int(found.group(1)) if found else 0

    def _producer(self, table: Table) -> list[str]:
        end = sql.SQL("COMMIT")
        return self._psql(["--quiet"], _BEGIN_READING, self._take_snapshot(), _copy_out(table), end)

    def _consumer(self, table: Table) -> list[str]:
        # Checked last, so that nobody who takes over waits for this transaction.
        check = sql.SQL("SELECT daybreak.check_generation({}, {})").format(self.target.migration, self.generation)
        begin, end = sql.SQL("BEGIN"), sql.SQL("COMMIT")
        return self._psql([], begin, *self._before_rows(table), _copy_in(table), check, end)

    def _psql(self, options: list[str], *statements: sql.Composable) -> list[str]:
        commands = [f"--command={statement.as_string(None)}" for statement in statements]
        return [
            self.tools.program("psql"),
            "--no-psqlrc",
            "--no-password",
            "--set=ON_ERROR_STOP=1",
            "--set=VERBOSITY=verbose",
            f"--dbname={_KEEPALIVES}",
            *options,
            *commands,
        ]

    def _environment(self, server: Server) -> dict[str, str]:
        return {**server.tool_environment(self.generation, "copy"), "PGCLIENTENCODING": self.encoding}

    def _take_snapshot(self) -> sql.Composed:
        return sql.SQL("SET TRANSACTION SNAPSHOT {}").format(self.snapshot)

    def _before_rows(self, table: Table) -> Iterator[sql.Composed]:
        for name, value in self.loading:
            yield sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), value)
        # Whatever a killed attempt left; and FREEZE wants a table that is new to the transaction.
        yield sql.SQL("TRUNCATE ONLY {}").format(sql.Identifier(table.name.schema, table.name.name))


def _copy_out(table: Table) -> sql.Composed:
    format_ = sql.SQL("binary" if table.binary_safe else "text")
    return sql.SQL("COPY {}{} TO STDOUT (FORMAT {})").format(*_what(table), format_)


def _copy_in(table: Table) -> sql.Composed:
    # Frozen rows need no vacuum later to become so (docs, COPY, FREEZE).
    format_ = sql.SQL("binary" if table.binary_safe else "text")
    return sql.SQL("COPY {}{} FROM STDIN (FORMAT {}, FREEZE)").format(*_what(table), format_)


def _what(table: Table) -> tuple[sql.Composable, sql.Composable]:
    """Without a list, COPY takes all columns but generated ones; an empty list is no syntax."""
    name = sql.Identifier(table.name.schema, table.name.name)
    if not table.columns:
        return name, sql.SQL("")
    return name, sql.SQL(" ({})").format(sql.SQL(", ").join(map(sql.Identifier, table.columns)))


def _wait_for_both(table: Table, producer: Child, consumer: Child, stop: Stop) -> None:
    """Return when both ended well; otherwise raise what the one said that failed of itself: the other
    one only lost its partner."""
    while not consumer.finished(_POLL_SECONDS) or (not consumer.failed and not producer.finished(_POLL_SECONDS)):
        if stop.asked:
            raise TransientError(f"Copying {table.name} was interrupted.", "Run the same command again.")
        if producer.failed and producer.complaint():
            consumer.end()
    if not producer.finished(_PARTING_SECONDS):
        producer.end()
    if producer.failed and producer.complaint():
        with _snapshot_may_be_gone():
            producer.raise_failure(f"copying {table.name} from the source")
    consumer.raise_failure(f"copying {table.name} to the target")
    producer.raise_failure(f"copying {table.name} from the source")


@contextmanager
def _snapshot_may_be_gone() -> Iterator[None]:
    """A lost snapshot is nothing that a person has to mend: the tables that miss it join later."""
    try:
        yield
    except PermanentError as error:
        if "snapshot" in error.message.lower():
            raise TransientError(
                error.message, "The session that held the snapshot is gone. Run the same command again."
            ) from error
        raise
