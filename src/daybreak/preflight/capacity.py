"""Checks of the room that the streams and Daybreak's own sessions need, on both sides, because streams
go both ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from daybreak.model import Side
from daybreak.postgres.server import Connection
from daybreak.preflight.context import Context, Found, set_parameter, statement

# Standing and hot-part sessions of the controller, apart from two for each job.
_OWN_SESSIONS = 10

# Kinds of process that take no slot of max_worker_processes (docs: pg_stat_activity.backend_type),
# parallel query workers, which make way, and the launcher, which is counted as one: it may not run yet.
_NO_WORKER = """
'client backend', 'walsender', 'walreceiver', 'startup', 'checkpointer', 'background writer', 'walwriter',
'archiver', 'autovacuum launcher', 'autovacuum worker', 'walsummarizer', 'slotsync worker', 'io worker',
'logger', 'parallel worker', 'logical replication launcher'
"""
_USE = """
SELECT current_setting('max_replication_slots')::int,
  (SELECT count(*) FROM pg_replication_slots WHERE NOT starts_with(slot_name, {ours})),
  current_setting('max_wal_senders')::int,
  (SELECT count(*) FROM pg_stat_replication WHERE NOT starts_with(coalesce(application_name, ''), {ours})),
  coalesce(current_setting('max_active_replication_origins', true), current_setting('max_replication_slots'))::int,
  (SELECT count(*) FROM pg_replication_origin)
    - (SELECT count(*) FROM pg_subscription WHERE starts_with(subname, {ours})),
  current_setting('max_logical_replication_workers')::int,
  (SELECT count(*) FROM pg_stat_subscription WHERE pid IS NOT NULL AND NOT starts_with(subname, {ours})),
  current_setting('max_worker_processes')::int,
  1 + (SELECT count(*) FROM pg_stat_activity WHERE coalesce(backend_type, '') NOT IN ('', {no_worker}))
    - (SELECT count(*) FROM pg_stat_subscription WHERE pid IS NOT NULL AND starts_with(subname, {ours})),
  current_setting('max_sync_workers_per_subscription')::int
"""


@dataclass(frozen=True, slots=True)
class _Room:
    limit: int
    used: int

    @property
    def free(self) -> int:
        return self.limit - self.used


@dataclass(frozen=True, slots=True)
class _Capacity:
    """Limits and what others use of them; ``joiners`` tables may be joined at a time."""

    slots: _Room
    senders: _Room
    origins: _Room
    appliers: _Room
    workers: _Room
    joiners: int


def _capacity(context: Context, connection: Connection) -> _Capacity:
    query = sql.SQL(_USE).format(ours=f"daybreak_{context.settings.name}_", no_worker=sql.SQL(_NO_WORKER.strip()))
    row = connection.execute(query).fetchone()
    assert row is not None
    numbers = [int(str(number)) for number in row]
    slots, senders, origins, appliers, workers = (_Room(*numbers[at : at + 2]) for at in range(0, 10, 2))
    return _Capacity(slots, senders, origins, appliers, workers, joiners=numbers[10])


def _room(side: Side, connection: Connection, name: str, room: _Room, joiners: int) -> Iterator[Found]:
    """One is needed for the stream, and one more for each table that joins it later."""
    if room.free > joiners:
        return
    enough = set_parameter(connection, name, str(room.used + 1 + joiners))
    message = f"{name} is {room.limit}, of which others use {room.used}"
    if room.free < 1:
        yield Found("blocker", str(side), f"{message}: none is free for the stream.", enough)
    else:
        message += f": {room.free} left for the stream and up to {joiners} tables that join it at a time."
        yield Found("warning", str(side), message, enough)


def replication_slots(context: Context) -> Iterator[Found]:
    """A replication slot is free for the stream, and some for tables that join it."""
    for side, connection in context.each():
        capacity = _capacity(context, connection)
        yield from _room(side, connection, "max_replication_slots", capacity.slots, capacity.joiners)


def replication_origins(context: Context) -> Iterator[Found]:
    """A replication origin is free for the subscription, and some for tables that join it; before
    PostgreSQL 18 max_replication_slots limits these, too."""
    for side, connection in context.each():
        capacity = _capacity(context, connection)
        own = connection.info.server_version >= 180000
        name = "max_active_replication_origins" if own else "max_replication_slots"
        yield from _room(side, connection, name, capacity.origins, capacity.joiners)


def wal_senders(context: Context) -> Iterator[Found]:
    """A WAL sender is free for the stream, and some for tables that join it."""
    for side, connection in context.each():
        capacity = _capacity(context, connection)
        yield from _room(side, connection, "max_wal_senders", capacity.senders, capacity.joiners)


def replication_workers(context: Context) -> Iterator[Found]:
    """A logical replication worker is free for the subscription, and some for tables that join it."""
    for side, connection in context.each():
        capacity = _capacity(context, connection)
        yield from _room(side, connection, "max_logical_replication_workers", capacity.appliers, capacity.joiners)


def worker_processes(context: Context) -> Iterator[Found]:
    """A background worker process is free for each of those."""
    for side, connection in context.each():
        capacity = _capacity(context, connection)
        yield from _room(side, connection, "max_worker_processes", capacity.workers, capacity.joiners)


def connection_room(context: Context) -> Iterator[Found]:
    """There is room for Daybreak's sessions: two for each job and some for the controller."""
    query = """
        SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
          - coalesce(current_setting('reserved_connections', true), '0')::int
          - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), rolconnlimit
        FROM pg_roles WHERE rolname = current_user"""
    needed = 2 * context.settings.replication.jobs + _OWN_SESSIONS
    for side, connection in context.each():
        row = connection.execute(query).fetchone()
        assert row is not None
        free, limit = int(str(row[0])), int(str(row[1]))
        if free < needed:
            message = f"{free} connections are free; Daybreak opens up to {needed}."
            fix = f"Lower replication.jobs, end idle sessions, or raise max_connections of the {side}."
            yield Found("warning", str(side), message, fix)
        if 0 <= limit < needed:
            role = connection.info.user
            message = f"The role {role} may open {limit} connections; Daybreak opens up to {needed}."
            yield Found("warning", str(side), message, statement("ALTER ROLE {} CONNECTION LIMIT -1;", role))


def slot_retention(context: Context) -> Iterator[Found]:
    """What happens to a slot while a stream stands still: it fills the disk, or it is lost."""
    query = "SELECT setting::int, unit FROM pg_settings WHERE name = 'max_slot_wal_keep_size'"
    idle = "SELECT current_setting('idle_replication_slot_timeout', true)"
    for side, connection in context.each():
        row = connection.execute(query).fetchone()
        assert row is not None
        if row[0] == -1:
            message = (
                "max_slot_wal_keep_size is unlimited: a stream that stands still fills this server's disk with WAL."
            )
            fix = "Watch retained_wal_bytes in `daybreak status`, and keep disk space for the length of an outage."
        else:
            message = f"max_slot_wal_keep_size is {row[0]} {row[1]}: a stream that falls behind further loses its slot,"
            message += " and everything has to be copied again."
            fix = "Make it larger than the WAL that is written during the full load."
        yield Found("info", str(side), message, fix)
        found = connection.execute(idle).fetchone()
        if found is not None and found[0] not in (None, "0"):
            message = f"idle_replication_slot_timeout is {found[0]}: a stream that stands still so long loses its slot."
            fix = "ALTER SYSTEM SET idle_replication_slot_timeout = 0; then reload."
            yield Found("warning", str(side), message, fix)
