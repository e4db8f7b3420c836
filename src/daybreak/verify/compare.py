"""The comparison of two servers, table by table, each under a snapshot that somebody exported.

Both sides are read at the same time by ``jobs`` sessions each; large tables go in ranges of blocks, so
that one table keeps several sessions busy, progress is even and a limit in time is kept. Nothing is
written, and no lock outlives the range it was taken for: an ALTER TABLE of the application never waits
longer than that.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime

import psycopg
from psycopg import errors, sql

from daybreak.model import Progress, Side, TableName, Verification
from daybreak.ports import Report
from daybreak.postgres.server import Connection, Server
from daybreak.verify.digest import Digest, Table, digest_query, pin, read_digest, read_tables

# 256 MiB of 8 KiB blocks: seconds of work.
_RANGE_BLOCKS = 32_768
_POLL_SECONDS = 0.2


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class _Task:
    """A range of one table on one side, and its share of the bytes."""

    table: TableName
    query: sql.Composed
    size_bytes: int


@dataclass
class _Work:
    """What is left to do and what was found; shared by the sessions under ``lock``."""

    queues: dict[Side, deque[_Task]]
    left: dict[tuple[Side, TableName], int]
    bytes_total: int
    bytes_done: int = 0
    digests: dict[tuple[Side, TableName], Digest] = field(default_factory=dict)
    failures: dict[TableName, str] = field(default_factory=dict)
    running: set[Connection] = field(default_factory=set)
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, side: Side) -> _Task | None:
        """The next task of ``side``; None where there is none or all shall stop."""
        with self.lock:
            return self.queues[side].popleft() if self.queues[side] and not self.stop.is_set() else None

    def done(self, side: Side, task: _Task, digest: Digest) -> None:
        """Add one range to its table."""
        with self.lock:
            key = (side, task.table)
            self.digests[key] = self.digests.get(key, Digest(0, 0)) + digest
            self.left[key] -= 1
            self.bytes_done += task.size_bytes

    def failed(self, side: Side, task: _Task, message: str) -> None:
        """Note that a table can't be compared."""
        with self.lock:
            self.failures.setdefault(task.table, f"cannot be compared, {side} says: {message}")
            self.left[side, task.table] -= 1

    def compared(self) -> list[TableName]:
        """The tables of which both sides are complete, in order of their names."""
        with self.lock:
            return sorted(t for s, t in self.left if s is Side.SOURCE and not any(self.left[x, t] for x in Side))


def compare_snapshots(
    source: Server,
    target: Server,
    source_snapshot: str,
    target_snapshot: str,
    tables: Sequence[TableName],
    *,
    jobs: int,
    generation: int,
    deadline_seconds: float,
    report: Report,
    at: datetime,
    cancelled: Callable[[], bool] = _never,
) -> Verification:
    """Compare count and content of ``tables`` under two exported snapshots (``pg_export_snapshot``),
    whose sessions must stay open; ``at`` is when they were taken.

    A table differs as a whole: ``public.t: 120 rows on source, 119 on target``. One that can't be
    compared (missing, other columns, unreadable) is a difference too. After ``deadline_seconds``, or
    once ``cancelled()``, running queries are cancelled within a second and the result has
    ``complete=False`` with what was compared until then. ``report`` is called from this thread, a few
    times a second. Raises TransientError or PermanentError where a server fails or a snapshot is gone.
    """
    began = time.monotonic()
    pinned = {Side.SOURCE: (source, source_snapshot), Side.TARGET: (target, target_snapshot)}
    read = {side: _read(server, generation, tables) for side, (server, _) in pinned.items()}
    comparable, differences = _match(tables, read)
    work = _plan(comparable, read)
    with ThreadPoolExecutor(2 * jobs, thread_name_prefix="verify") as pool:
        futures = [pool.submit(_run, side, *pinned[side], generation, work) for side in Side for _ in range(jobs)]
        try:
            complete = _watch(futures, work, began, deadline_seconds, report, cancelled)
        finally:
            _stop(futures, work)
    done = work.compared()
    differences += [line for table in done for line in _difference(table, work)]
    return Verification(
        at=at,
        tables=len(done),
        rows=sum(work.digests.get((Side.SOURCE, table), Digest(0, 0)).rows for table in done),
        seconds=time.monotonic() - began,
        differences=tuple(sorted(differences)),
        complete=complete,
    )


def _read(server: Server, generation: int, tables: Sequence[TableName]) -> dict[TableName, Table]:
    with server.session("verify", generation) as connection:
        return read_tables(connection, tables)


def _match(names: Sequence[TableName], read: dict[Side, dict[TableName, Table]]) -> tuple[list[TableName], list[str]]:
    """The tables that are alike on both sides, largest first, and what is wrong with the others."""
    good, bad = [], []
    for name in names:
        missing = [str(side) for side in Side if name not in read[side]]
        if missing:
            bad.append(f"{name}: missing on {' and '.join(missing)}")
            continue
        shapes = [{(c.name, c.declared) for c in read[side][name].columns} for side in Side]
        if shapes[0] != shapes[1]:
            odd = ", ".join(sorted(f"{column} {declared}" for column, declared in shapes[0] ^ shapes[1]))
            bad.append(f"{name}: columns differ: {odd}")
            continue
        good.append(name)
    good.sort(key=lambda name: read[Side.SOURCE][name].size_bytes, reverse=True)
    return good, bad


def _plan(names: list[TableName], read: dict[Side, dict[TableName, Table]]) -> _Work:
    tasks = {side: {name: list(_ranges(read[side][name])) for name in names} for side in Side}
    return _Work(
        queues={side: deque(task for name in names for task in tasks[side][name]) for side in Side},
        left={(side, name): len(tasks[side][name]) for side in Side for name in names},
        bytes_total=sum(read[side][name].size_bytes for side in Side for name in names),
    )


def _ranges(table: Table) -> Iterator[_Task]:
    count = max(1, -(-table.blocks // _RANGE_BLOCKS))
    for number in range(count):
        first = number * _RANGE_BLOCKS if number else None
        # The last range has no end: what was added since the size was read belongs to it.
        end = (number + 1) * _RANGE_BLOCKS if number + 1 < count else None
        yield _Task(table.name, digest_query(table, first, end), table.size_bytes // count)


def _run(side: Side, server: Server, snapshot: str, generation: int, work: _Work) -> None:
    """One session: import the snapshot and work off ``side``'s queue."""
    with server.session("verify", generation) as connection:
        pin(connection)
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
        work.running.add(connection)
        try:
            while (task := work.take(side)) is not None:
                try:
                    # Rolling back to the savepoint gives up the table's lock.
                    with connection.transaction(force_rollback=True):
                        digest = read_digest(connection, task.query)
                except errors.QueryCanceled:
                    if work.stop.is_set():
                        return
                    raise
                except (errors.ProgrammingError, errors.DataError, errors.InternalError) as error:
                    work.failed(side, task, error.diag.message_primary or type(error).__name__)
                else:
                    work.done(side, task, digest)
        finally:
            work.running.discard(connection)


def _watch(
    futures: list[Future[None]],
    work: _Work,
    began: float,
    deadline_seconds: float,
    report: Report,
    cancelled: Callable[[], bool],
) -> bool:
    """Report until all sessions are through (True) or the limit is (False); raises what one raised."""
    left = set(futures)
    while left:
        finished, left = wait(left, timeout=_POLL_SECONDS, return_when=FIRST_EXCEPTION)
        for future in finished:
            future.result()
        report(_progress(work, began))
        if left and (cancelled() or time.monotonic() - began >= deadline_seconds):
            return False
    return True


def _progress(work: _Work, began: float) -> Progress:
    compared = work.compared()
    with work.lock:
        rows = sum(digest.rows for (side, _), digest in work.digests.items() if side is Side.SOURCE)
        done, total = work.bytes_done, work.bytes_total
    eta = (time.monotonic() - began) * (total - done) / done if done else None
    return Progress(
        "verify",
        tables_done=len(compared),
        tables_total=len(work.left) // 2,
        bytes_done=done,
        bytes_total=total,
        rows_done=rows,
        eta_seconds=eta,
    )


def _stop(futures: list[Future[None]], work: _Work) -> None:
    """Cancel what runs until every session has ended; a cancel that meets an idle session is lost."""
    work.stop.set()
    while wait(futures, timeout=0).not_done:
        for connection in tuple(work.running):
            try:
                connection.cancel_safe(timeout=1.0)
            except psycopg.Error:
                # Its server is gone; its own query will say so.
                continue
        wait(futures, timeout=_POLL_SECONDS)


def _difference(table: TableName, work: _Work) -> Iterator[str]:
    if table in work.failures:
        yield f"{table}: {work.failures[table]}"
        return
    source, target = (work.digests[side, table] for side in Side)
    if source.rows != target.rows:
        yield f"{table}: {source.rows} rows on source, {target.rows} on target"
    elif source != target:
        yield f"{table}: same count ({source.rows}), different content"
