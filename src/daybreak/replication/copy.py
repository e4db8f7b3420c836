"""The pump of the full load: tables are copied in parallel under one exported snapshot, largest first.

A large table goes through an operating system pipe between two ``psql``: no byte passes through Python,
TLS and libpq's error handling stay. Small ones go through two standing connections per worker, because
starting two programs costs more than they do (numbers: docs/adr/0003). A table counts as copied only
after *both* ends succeeded, for COPY in text format takes a broken pipe for the end of the data.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from daybreak.errors import TransientError
from daybreak.model import Progress, TableName
from daybreak.ports import Report
from daybreak.postgres.catalog import Table
from daybreak.postgres.installations import Installation
from daybreak.postgres.server import Connection, Server, translated
from daybreak.replication import processes
from daybreak.replication.progress import Estimator

# From here on a pipe of its own is worth two processes.
_LARGE_BYTES = 4 * 1024 * 1024
_POLL_SECONDS = 0.3
_PURPOSE = "copy"

Mark = Callable[[TableName, int, int, float], None]


@dataclass
class _Run:
    """What the workers share."""

    source: Server
    target: Server
    tools: Installation
    snapshot: str
    generation: int
    mark: Mark
    queue: list[Table]
    compression: str
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    running: dict[TableName, Table] = field(default_factory=dict)
    bytes_done: int = 0
    rows_done: int = 0
    tables_done: int = 0

    def take(self) -> Table | None:
        """The largest table left, or None."""
        with self.lock:
            if self.stop.is_set() or not self.queue:
                return None
            table = self.queue.pop()
            self.running[table.name] = table
            return table

    def finished(self, table: Table, rows: int, seconds: float) -> None:
        """Mark ``table`` as copied; both ends have succeeded."""
        self.mark(table.name, rows, table.bytes, seconds)
        with self.lock:
            del self.running[table.name]
            self.bytes_done += table.bytes
            self.rows_done += rows
            self.tables_done += 1


def copy_tables(
    source: Server,
    target: Server,
    tools: Installation,
    tables: Sequence[Table],
    snapshot: str,
    *,
    jobs: int,
    generation: int,
    mark: Mark,
    report: Report,
) -> None:
    """Copy ``tables`` as ``snapshot`` (of the source) shows them into the empty or half-filled tables of
    the same names on the target, ``jobs`` at a time.

    ``mark(table, rows, bytes, seconds)`` is called from a worker as each is complete. ``report`` gets
    tables, bytes (sizes on the source) and rows a few times a second, from this thread. On the first
    failure the other copies are ended and TransientError or PermanentError is raised; what was marked
    stays copied. Returns when all are marked."""
    with target.session("copy settings", generation) as connection:
        run = _Run(
            source, target, tools, snapshot, generation, mark, sorted(tables, key=lambda t: t.bytes), _lz4(connection)
        )
    with (
        target.session("copy progress", generation) as watching,
        ThreadPoolExecutor(jobs, thread_name_prefix="copy") as pool,
    ):
        futures = [pool.submit(_work, run) for _ in range(min(jobs, max(1, len(tables))))]
        total = (len(tables), sum(table.bytes for table in tables))
        estimator = Estimator(total[1])
        try:
            while _going_on(futures):
                report(_progress(run, total, estimator, watching))
        finally:
            run.stop.set()
        for future in futures:
            future.result()
        report(_progress(run, total, estimator, watching))


def _going_on(futures: list[Future[None]]) -> bool:
    """Wait a moment; whether all workers are still well and some are at work."""
    done, at_work = wait(futures, _POLL_SECONDS, FIRST_EXCEPTION)
    return bool(at_work) and all(future.exception() is None for future in done)


def _lz4(connection: Connection) -> str:
    """The compression of TOASTed values while loading: lz4 where the server was built with it (a
    table of documents loads in less than half the time)."""
    row = connection.execute(
        "SELECT 1 FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals)"
    ).fetchone()
    return "pglz" if row is None else "lz4"


def _work(run: _Run) -> None:
    """One worker: takes tables until none is left or somebody failed."""
    try:
        with contextlib.ExitStack() as stack:
            ends: tuple[Connection, Connection] | None = None
            while (table := run.take()) is not None:
                began = time.monotonic()
                if table.bytes >= _LARGE_BYTES:
                    rows = _pipe(run, table)
                else:
                    ends = ends or stack.enter_context(_standing(run))
                    rows = _stream(table, *ends)
                run.finished(table, rows, time.monotonic() - began)
    except BaseException:
        run.stop.set()
        raise


# --- large tables: psql | psql


def _pipe(run: _Run, table: Table) -> int:
    """Copy through a pipe between two psql; returns the rows that the target took."""
    out, take_in = _statements(table)
    begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    snapshot = sql.SQL("SET TRANSACTION SNAPSHOT {}").format(run.snapshot).as_string(None)
    truncate = sql.SQL("TRUNCATE ONLY {}").format(_identifier(table.name)).as_string(None)
    environments = [server.tool_environment(run.generation, _PURPOSE) for server in (run.source, run.target)]
    environments[1]["PGOPTIONS"] += f" -c default_toast_compression={run.compression}"
    sender = processes.start(_psql(run, begin, snapshot, out), environments[0])
    try:
        assert sender.stdout is not None
        receiver = processes.start(
            _psql(run, "BEGIN", truncate, take_in, "COMMIT"), environments[1], stdin=sender.stdout
        )
        sender.stdout.close()  # else the sender would not notice that the receiver died
        try:
            return _await(run, table, sender, receiver)
        finally:
            processes.stop(receiver)
    finally:
        processes.stop(sender)


def _psql(run: _Run, *statements: str) -> list[str]:
    command = [run.tools.program("psql"), "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--set=VERBOSITY=verbose"]
    # The sender's standard output is the data: no command tags there.
    quiet = ["--quiet"] if statements[-1] != "COMMIT" else []
    return [*command, *quiet, *(f"--command={statement}" for statement in statements)]


def _await(run: _Run, table: Table, sender: subprocess.Popen[bytes], receiver: subprocess.Popen[bytes]) -> int:
    while receiver.poll() is None:
        if run.stop.wait(0.05):
            raise TransientError(f"copying {table.name} was stopped", "Run the same command again.")
    told, errors = receiver.communicate()
    if receiver.returncode != 0:
        processes.stop(sender)
        raise _blame(run, table, sender, errors)
    if sender.wait() != 0:
        raise _blame(run, table, sender, b"")
    count = re.search(rb"^COPY (\d+)$", told, re.MULTILINE)
    return int(count[1]) if count else 0


def _blame(run: _Run, table: Table, sender: subprocess.Popen[bytes], receiver_errors: bytes) -> Exception:
    """Whichever end failed by itself; the other one only lost its partner."""
    assert sender.stderr is not None
    sender_errors = sender.stderr.read()
    own_fault = sender_errors.strip() and b"Broken pipe" not in sender_errors and sender.returncode != -15
    if own_fault or not receiver_errors.strip():
        return processes.failure(f"{run.source.side}: copying {table.name} out", sender_errors)
    return processes.failure(f"{run.target.side}: copying {table.name} in", receiver_errors)


# --- small tables: two standing connections


@contextlib.contextmanager
def _standing(run: _Run) -> Iterator[tuple[Connection, Connection]]:
    """A source session under the snapshot and a target session."""
    with run.source.session(_PURPOSE, run.generation) as out, run.target.session(_PURPOSE, run.generation) as into:
        out.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        out.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(run.snapshot))
        into.execute(sql.SQL("SET default_toast_compression = {}").format(run.compression))
        yield out, into


def _stream(table: Table, out: Connection, into: Connection) -> int:
    statement_out, statement_in = (sql.SQL(text) for text in _statements(table))
    with translated(f"copying {table.name}"), into.transaction(), into.cursor() as writing:
        writing.execute(sql.SQL("TRUNCATE ONLY {}").format(_identifier(table.name)))
        with out.cursor() as reading, reading.copy(statement_out) as rows, writing.copy(statement_in) as sink:
            for chunk in rows:
                sink.write(chunk)
        return writing.rowcount


# --- what both share


def _identifier(name: TableName) -> sql.Identifier:
    return sql.Identifier(name.schema, name.name)


def _statements(table: Table) -> tuple[str, str]:
    """COPY out and in, generated columns left out; binary where its bytes mean the same on both sides."""
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    what = sql.SQL("{} ({})" if table.columns else "{}").format(_identifier(table.name), columns)
    form = sql.SQL("(FORMAT {})").format(sql.SQL("binary" if table.binary_safe and table.columns else "text"))
    return (
        sql.SQL("COPY {} TO STDOUT {}").format(what, form).as_string(None),
        sql.SQL("COPY {} FROM STDIN {}").format(what, form).as_string(None),
    )


def _progress(run: _Run, total: tuple[int, int], estimator: Estimator, watching: Connection) -> Progress:
    """Finished tables count with their size, running ones with what went through, at most their size."""
    through = _running_bytes(watching, run.target.application_name(run.generation, _PURPOSE))
    with run.lock:
        done, rows, tables = run.bytes_done, run.rows_done, run.tables_done
        sizes = {table.name: table.bytes for table in run.running.values()}
    under_way = sum(min(sizes[name], size) for name, (size, _) in through.items() if name in sizes)
    estimator.sample(time.monotonic(), done + under_way)
    return Progress(
        "copying rows",
        tables_done=tables,
        tables_total=total[0],
        bytes_done=done + under_way,
        bytes_total=total[1],
        rows_done=rows + sum(count for name, (_, count) in through.items() if name in sizes),
        eta_seconds=estimator.eta_seconds(),
    )


def _running_bytes(watching: Connection, application: str) -> dict[TableName, tuple[int, int]]:
    """Bytes and rows that went into each table being copied now (PostgreSQL docs, COPY progress)."""
    try:
        rows = watching.execute(
            "SELECT n.nspname, c.relname, p.bytes_processed, p.tuples_processed FROM pg_stat_progress_copy p"
            " JOIN pg_stat_activity a ON a.pid = p.pid AND a.application_name = %s"
            " JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace",
            [application],
        ).fetchall()
    except psycopg.OperationalError:
        return {}  # the copies themselves will say what happened to the server
    return {TableName(str(a), str(b)): (int(str(size)), int(str(count))) for a, b, size, count in rows}
