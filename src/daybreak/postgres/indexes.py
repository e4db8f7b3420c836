"""Indexes and the constraints that rest on them, built by several sessions at once, dearest first.

The order matters more than anything else here: a long build that begins last keeps one core busy
while the others idle. CREATE INDEX takes SHARE on its table and goes beside others of its kind;
ALTER TABLE takes ACCESS EXCLUSIVE and waits, so the queue gives out only what will not wait.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from daybreak.model import Progress
from daybreak.ports import Report
from daybreak.postgres.dump import Entry
from daybreak.postgres.rate import Rate
from daybreak.postgres.server import Connection, Server
from daybreak.postgres.statements import digest, done_digests, prepare_session, run_once
from daybreak.postgres.workers import Stop, in_parallel

KINDS = frozenset({"INDEX", "CONSTRAINT"})

# Of each index: its table, size, rows, method, and whether its first key is text of few values, for
# which every comparison of the sort goes the whole length (docs, pg_stats.n_distinct).
_FACTS = """
SELECT w.class_oid::int8, w.oid::int8, i.indrelid::int8, pg_relation_size(i.indexrelid),
    greatest(c.reltuples, 0)::float8, m.amname::text, (
        SELECT count(*) FROM unnest(i.indkey) k JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k
        JOIN pg_type t ON t.oid = a.atttypid WHERE t.typcategory = 'S'
    ) + (0 = ANY(i.indkey))::int, EXISTS (
        SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid AND t.typcategory = 'S'
        JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname
        WHERE a.attrelid = c.oid AND a.attnum = i.indkey[0] AND s.n_distinct BETWEEN 1 AND 1000)
FROM unnest(%s::oid[], %s::oid[]) w (class_oid, oid)
LEFT JOIN pg_constraint k ON w.class_oid = 'pg_constraint'::regclass AND k.oid = w.oid
JOIN pg_index i ON i.indexrelid = coalesce(k.conindid, w.oid)
JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_am m ON m.oid = x.relam
JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
"""
_METHOD_COST = {"btree": 1.0, "hash": 1.0, "brin": 0.2, "gin": 10.0, "gist": 8.0, "spgist": 6.0}
_OTHER_METHOD_COST = 5.0
_TEXT_KEY_COST = 3.0
_FEW_VALUES_COST = 3.0

# docs, "CREATE INDEX Progress Reporting": a scan counted in blocks, then loading counted in tuples.
_PROGRESS = """
SELECT pid, (CASE
    WHEN tuples_total > 0 AND phase LIKE '%%loading%%' THEN 0.5 + 0.5 * tuples_done / tuples_total
    WHEN blocks_total > 0 THEN 0.5 * blocks_done / blocks_total
    ELSE 0 END)::float8
FROM pg_stat_progress_create_index WHERE pid = ANY(%s)
"""
_MEMORY = """
SELECT setting::int8 FROM pg_settings WHERE name IN ('shared_buffers', 'maintenance_work_mem') ORDER BY name
"""
_BLOCK_KB = 8
_MAX_MEMORY_KB = 1 << 20


@dataclass(frozen=True, slots=True)
class Build:
    """One index to build. ``table`` is an oid of the source; ``bytes`` the index's size there."""

    entry: Entry
    table: int
    exclusive: bool
    bytes: int
    cost: float


class Queue:
    """Gives out builds, dearest first, so that none waits for another's lock. Safe between threads.

    Invariant: of the builds given out and not yet returned, an exclusive one is alone on its table,
    and no build is given out before those that its entry needs have returned."""

    def __init__(self, builds: Sequence[Build]) -> None:
        self._waiting = sorted(builds, key=lambda build: build.cost, reverse=True)
        self._unfinished = {build.entry.dump_id for build in builds}
        self._running: list[Build] = []
        self._changed = threading.Condition()
        self._closed = False

    def take(self) -> Build | None:
        """The next build, or None when there is none left. Waits while every one would have to."""
        with self._changed:
            while self._waiting and not self._closed:
                for build in self._waiting:
                    if self._may_run(build):
                        self._waiting.remove(build)
                        self._running.append(build)
                        return build
                self._changed.wait()
            return None

    def give_back(self, build: Build) -> None:
        """``build`` has ended well."""
        with self._changed:
            self._running.remove(build)
            self._unfinished.remove(build.entry.dump_id)
            self._changed.notify_all()

    def close(self) -> None:
        """Give out nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def left(self) -> int:
        """How many are waiting or running."""
        return len(self._unfinished)

    def _may_run(self, build: Build) -> bool:
        beside = [other for other in self._running if other.table == build.table]
        alone = not any(other.exclusive or build.exclusive for other in beside)
        return alone and self._unfinished.isdisjoint(build.entry.needs)


class IndexBuilder:
    """Builds indexes on the target with several sessions, each build in a transaction of its own."""

    def __init__(self, target: Server, generation: int, jobs: int, report: Report) -> None:
        self._target, self._generation, self._jobs, self._report = target, generation, jobs, report
        self._building: dict[int, Build] = {}  # by the backend's pid

    def run(self, source: Connection, entries: Sequence[Entry]) -> None:
        """Build what is not built yet. Raises TransientError or PermanentError with PostgreSQL's own
        message; what was built until then stays, and the next run goes on."""
        with self._target.session("index progress", self._generation) as monitor:
            done = done_digests(monitor)
            builds = builds_of(source, [entry for entry in entries if digest(entry) not in done])
            self._total, self._bytes_total = len(builds), sum(build.bytes for build in builds)
            self._left = {build.entry.dump_id: build for build in builds}
            self._queue = Queue(builds)
            self._rate = Rate(self._bytes_total)
            if builds:
                in_parallel(min(self._jobs, len(builds)), self._work, lambda: self._watch(monitor))

    def _work(self, stop: Stop) -> None:
        try:
            with self._target.session("index", self._generation) as connection, stop.interrupting(connection):
                prepare_session(connection)
                _set_memory(connection, self._jobs)
                while not stop.asked and (build := self._queue.take()) is not None:
                    self._build(connection, build)
        except BaseException:
            self._queue.close()
            raise

    def _build(self, connection: Connection, build: Build) -> None:
        # Helpers for one build only where sessions are idle.
        helpers = "DEFAULT" if self._queue.left < self._jobs else "0"
        connection.execute(sql.SQL("SET max_parallel_maintenance_workers = {}").format(sql.SQL(helpers)))
        pid = connection.info.backend_pid
        self._building[pid] = build
        try:
            run_once(connection, self._target.migration, self._generation, build.entry)
        finally:
            del self._building[pid]
        del self._left[build.entry.dump_id]
        self._queue.give_back(build)

    def _watch(self, monitor: Connection) -> None:
        building = dict(self._building)
        rows = monitor.execute(_PROGRESS, [list(building)]).fetchall()
        parts = sum(float(str(done)) * building[int(str(pid))].bytes for pid, done in rows)
        left = list(self._left.values())
        done = self._bytes_total - sum(build.bytes for build in left) + int(parts)
        names = ", ".join(build.entry.name for build in building.values())
        self._report(
            Progress(
                f"building indexes, {self._total - len(left)} of {self._total} done" + (f": {names}" if names else ""),
                bytes_done=done,
                bytes_total=self._bytes_total,
                eta_seconds=self._rate.eta_seconds(time.monotonic(), done),
            )
        )


def builds_of(source: Connection, entries: Sequence[Entry]) -> list[Build]:
    """What the source knows about the indexes of ``entries``."""
    keys = [entry.class_oid for entry in entries], [entry.oid for entry in entries]
    known = {}
    for class_oid, oid, table, size, rows, method, text_keys, few_values in source.execute(_FACTS, list(keys)):
        cost = index_cost(float(str(rows)), str(method), int(str(text_keys)), bool(few_values))
        known[(class_oid, oid)] = int(str(table)), int(str(size)), cost
    builds = []
    for entry in entries:
        # An index dropped on the source a moment ago is still built: the next check will say so.
        table, size, cost = known.get((entry.class_oid, entry.oid), (entry.oid, 0, 0.0))
        builds.append(Build(entry, table, entry.kind != "INDEX" or "\nALTER " in entry.sql, size, cost))
    return builds


def index_cost(rows: float, method: str, text_keys: int, few_values: bool) -> float:
    """How long a build takes compared with others. By kind of key rather than by size: comparing text
    costs several times as much as comparing numbers, most of all where few values repeat."""
    cost = rows * _METHOD_COST.get(method, _OTHER_METHOD_COST)
    if method == "btree":
        cost *= (_TEXT_KEY_COST if text_keys else 1.0) * (_FEW_VALUES_COST if few_values else 1.0)
    return cost


def maintenance_memory_kb(shared_buffers_kb: int, present_kb: int, jobs: int) -> int:
    """Memory for each of ``jobs`` builds. A server tells nobody how much memory it has, but
    shared_buffers is a quarter of it or more (docs, shared_buffers), so half of that for all builds
    together is safe; never less than its own setting, never more than 1 GB each."""
    return max(present_kb, min(shared_buffers_kb // 2 // jobs, _MAX_MEMORY_KB))


def _set_memory(connection: Connection, jobs: int) -> None:
    (present,), (blocks,) = connection.execute(_MEMORY).fetchall()
    memory_kb = maintenance_memory_kb(int(str(blocks)) * _BLOCK_KB, int(str(present)), jobs)
    connection.execute(sql.SQL("SET maintenance_work_mem = {}").format(memory_kb))
