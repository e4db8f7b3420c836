"""The full load: many tables at once under one snapshot of the source, largest first.

A table counts as copied when a row in ``daybreak.table_load`` says so, written after both ends of its
copy ended well and only by the acting generation. Whatever else a killed load left is emptied by the
next one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property

from daybreak.model import Progress, TableName
from daybreak.ports import Report
from daybreak.postgres.catalog import Table
from daybreak.postgres.control import stale_is_conflict
from daybreak.postgres.installations import Installation
from daybreak.postgres.rate import Rate
from daybreak.postgres.server import Connection, Server, translated
from daybreak.postgres.workers import Stop, in_parallel
from daybreak.replication.pump import Pump

# Above this, two processes are cheaper than rows passing through Python (ADR 0003).
_SMALL_BYTES = 8 << 20
_LZ4 = "SELECT 'lz4' = ANY(enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
_MARK = "INSERT INTO daybreak.table_load VALUES (%s, %s, 'copied', %s, %s, %s)"
# Only a table whose two ends are known to have ended well is wholly done.
_ALMOST = 0.99
# docs, "COPY Progress Reporting".
_PROGRESS = """
SELECT n.nspname, c.relname, p.tuples_processed, p.bytes_processed
FROM pg_stat_progress_copy p JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.datname = current_database() AND p.command = 'COPY FROM'
  AND p.pid IN (SELECT pid FROM pg_stat_activity WHERE application_name = %s)
"""


def copy_tables(
    source: Server,
    target: Server,
    tools: Installation,
    tables: Sequence[Table],
    snapshot: str,
    *,
    jobs: int,
    generation: int,
    report: Report,
) -> None:
    """Copy ``tables`` as ``snapshot`` (exported on the source by a session that stays open) sees them,
    ``jobs`` at a time, and mark each in ``daybreak.table_load`` when it is done.

    After an error the other copies are stopped and finished tables stay marked. Raises TransientError
    (a server or the snapshot gone), PermanentError (a full disk, a value that does not fit) with
    PostgreSQL's message, or StateConflict."""
    if not tables:
        return
    with target.session("copy progress", generation) as monitor, source.session("copy", generation) as asked:
        loading = [("synchronous_commit", "off")]
        row = monitor.execute(_LZ4).fetchone()
        if row is not None and row[0]:
            loading.append(("default_toast_compression", "lz4"))
        pump = Pump(source, target, tools, snapshot, generation, _encoding(asked), tuple(loading))
        loader = _Loader(pump, tables, report)
        in_parallel(min(jobs, len(tables)), loader.work, lambda: loader.tell(monitor))


class _Loader:
    """What the workers of one load share. Methods are safe between threads."""

    def __init__(self, pump: Pump, tables: Sequence[Table], report: Report) -> None:
        self._pump, self._report = pump, report
        self._waiting = deque(sorted(tables, key=lambda table: table.bytes, reverse=True))
        self._unfinished = {table.name: table for table in tables}
        self._lock = threading.Lock()
        self._tables_total, self._bytes_total = len(tables), sum(table.bytes for table in tables)
        self._rows = 0
        self._seen: dict[TableName, tuple[int, int]] = {}
        self._rate = Rate(self._bytes_total)

    def work(self, stop: Stop) -> None:
        """Copy table after table until none is waiting."""
        with ExitStack() as stack:
            worker = _Worker(self._pump, stop, stack)
            while not stop.asked and (table := self._next()) is not None:
                self._finished(table, worker.copy(table))

    def tell(self, monitor: Connection) -> None:
        """Report how far all of it is; ``monitor`` is a session on the target."""
        name = self._pump.target.application_name(self._pump.generation, "copy")
        rows_of_progress = monitor.execute(_PROGRESS, [name]).fetchall()
        running = {TableName(str(a), str(b)): (int(str(c)), int(str(d))) for a, b, c, d in rows_of_progress}
        with self._lock:
            left, rows = dict(self._unfinished), self._rows
        # PostgreSQL forgets a COPY when it ends, which is a moment before the table is marked.
        self._seen.update(running)
        parts = {left[name]: moved for name, moved in self._seen.items() if name in left}
        done = self._bytes_total - sum(table.bytes for table in left.values())
        done += sum(bytes_done(table, *moved) for table, moved in parts.items())
        self._report(
            Progress(
                "copying tables",
                tables_done=self._tables_total - len(left),
                tables_total=self._tables_total,
                bytes_done=done,
                bytes_total=self._bytes_total,
                rows_done=rows + sum(moved[0] for moved in parts.values()),
                eta_seconds=self._rate.eta_seconds(time.monotonic(), done),
            )
        )

    def _next(self) -> Table | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def _finished(self, table: Table, rows: int) -> None:
        with self._lock:
            del self._unfinished[table.name]
            self._rows += rows


class _Worker:
    """One thread's sessions, opened when first needed and closed with ``stack``."""

    def __init__(self, pump: Pump, stop: Stop, stack: ExitStack) -> None:
        self._pump, self._stop, self._stack = pump, stop, stack

    def copy(self, table: Table) -> int:
        """Copy and mark ``table``; returns the number of its rows."""
        began = time.monotonic()
        with translated(f"copying {table.name}"), stale_is_conflict():
            if table.bytes > _SMALL_BYTES:
                rows = self._pump.through_pipe(table, self._stop)
                with self._target.transaction():
                    self._mark(table, rows, began)
            else:
                with self._target.transaction():
                    rows = self._pump.through_python(self._source, self._target, table)
                    self._mark(table, rows, began)
        return rows

    def _mark(self, table: Table, rows: int, began: float) -> None:
        pump = self._pump
        self._target.execute("SELECT daybreak.check_generation(%s, %s)", [pump.target.migration, pump.generation])
        seconds = time.monotonic() - began
        self._target.execute(_MARK, [table.name.schema, table.name.name, rows, table.bytes, seconds])

    @cached_property
    def _source(self) -> Connection:
        connection = self._open(self._pump.source)
        self._pump.begin_reading(connection)
        return connection

    @cached_property
    def _target(self) -> Connection:
        connection = self._open(self._pump.target)
        self._pump.begin_writing(connection)
        return connection

    def _open(self, server: Server) -> Connection:
        connection = self._stack.enter_context(server.session("copy", self._pump.generation))
        return self._stack.enter_context(self._stop.interrupting(connection))


def bytes_done(table: Table, rows: int, received: int) -> int:
    """How much of ``table.bytes`` is copied, when so many rows and bytes of COPY data have arrived: by
    rows where the planner knows how many there are, for COPY's bytes are not those on disk."""
    share = rows / table.estimated_rows if table.estimated_rows else received / max(table.bytes, 1)
    return int(table.bytes * min(share, _ALMOST))


def _encoding(connection: Connection) -> str:
    """Both ends must speak the same; what SQL_ASCII holds can't be converted."""
    row = connection.execute("SHOW server_encoding").fetchone()
    return "SQL_ASCII" if row == ("SQL_ASCII",) else "UTF8"
