"""The hot part of a switchover: hold, drain, snapshot, sequences, commit point, open.

Everything it needs is connected before the hold. Until the commit point every failure ends the holding
transaction, so that waiting writers go on without an error; after it there is only forward (DESIGN: the
switchover protocol; I2: what was acknowledged on the old primary is on the new one before it opens,
because the token that was seen there was committed after the last of it).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from daybreak.model import GuardState, Side, SwitchTimings
from daybreak.ports import AtFencePoint
from daybreak.postgres import control, guard, sequences, settings, tokens
from daybreak.postgres.server import Connection
from daybreak.postgres.sessions import Sessions
from daybreak.replication.streams import Stream
from daybreak.switchover.hold import GaveUp, Hold

_POLL_SECONDS = 0.001


@dataclass(frozen=True)
class Snapshots:
    """Two open transactions that see both sides at the same point of the stream, and their names."""

    source: Connection
    target: Connection
    source_id: str
    target_id: str

    def close(self) -> None:
        """Let both go."""
        self.source.close()
        self.target.close()


@dataclass
class HotPath:
    """One run of the hot part from ``old`` to the other side; connects in ``prepared``.

    ``forward`` streams from old to new. ``backward`` is given only where both can't run at once (below
    PostgreSQL 16): then its slot must exist on the new primary and its subscription, disabled, on the
    old one. ``judged_stamp`` is the old primary's when the gates were judged; by default, from the start."""

    sessions: Sessions
    migration: str
    old: Side
    budget_seconds: float
    forward: Stream
    backward: Stream | None = None
    judged_stamp: str = ""
    _marks: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def prepared(self) -> Iterator[HotPath]:
        """Open every connection that the hot part uses, and close those it does not hand on."""
        with contextlib.ExitStack() as stack:

            def connect(side: Side, purpose: str) -> Connection:
                connection = self.sessions.connect(side, purpose)
                stack.callback(connection.close)
                return connection

            self._hold_connection = connect(self.old, "hold")
            self._old = connect(self.old, "switch")
            self._new = connect(self.old.other, "switch")
            self._snapshots = {side: self.sessions.connect(side, "snapshot") for side in Side}
            self._hand_over = False
            self._hint_closed = settings.hint_statement(self._old, True, self.migration)
            self._hint_open = settings.hint_statement(self._new, False, self.migration)
            try:
                yield self
            finally:
                if not self._hand_over:
                    for connection in self._snapshots.values():
                        connection.close()

    @contextlib.contextmanager
    def held(self, mark: Callable[[str], None], act: AtFencePoint | None = None) -> Iterator[Hold]:
        """Hold writers, drain, ``act`` and snapshot; the hold is released at the end unless it was committed."""
        self._mark = mark
        self.judged_stamp = self.judged_stamp or guard.stamp(self._old)
        mark("ready")
        hold = Hold(self._hold_connection, self.migration, self.sessions.generation, self.budget_seconds)
        hold.acquire(self.judged_stamp)
        try:
            self._passed(hold, "held")
            self._drain(hold)
            self._passed(hold, "drained")
            if act is not None:
                act(hold.check_held)
            self._snapshot()
            self._passed(hold, "snapshot")
            yield hold
        finally:
            hold.release()

    def snapshots(self) -> Snapshots:
        """Hand the snapshots on; the caller closes them."""
        self._hand_over = True
        return Snapshots(self._snapshots[Side.SOURCE], self._snapshots[Side.TARGET], *self._snapshot_ids)

    def ready_the_new(self, hold: Hold, margin: int) -> None:
        """Below 16 turn the stream round; then set the sequences of the new primary."""
        if self.backward is not None:
            self.forward.disable(self._new)
            self.backward.advance_slot(self._new)
        with control.fenced(self._new, self.migration, self.sessions.generation):
            sequences.set_ahead(self._new, sequences.read(self._old), margin)
        self._passed(hold, "sequences")
        # DDL that was open when the hold was taken may have committed since; the guard does not stop it.
        hold.check_stamp(self.judged_stamp)
        hold.check_deadline("preparing the new primary")

    def commit(self, hold: Hold, number: int) -> None:
        """The commit point: one message closes the flag, sets the routing hint and commits.

        Raises psycopg.Error where the answer was lost: then only looking tells (``was_committed``)."""
        update = sql.SQL(
            "UPDATE daybreak.control SET closed_by = {}, closed_at = clock_timestamp() WHERE migration = {}"
        )
        hold.connection.execute(
            sql.SQL("; ").join(
                [
                    sql.SQL("SET LOCAL synchronous_commit = on"),
                    update.format(sql.Literal(number), sql.Literal(self.migration)),
                    self._hint_closed,
                    guard.flag_statement(GuardState.CLOSED),
                    sql.SQL("COMMIT"),
                ]
            )
        )
        self._passed(hold, "committed")

    def was_committed(self, hold: Hold, number: int) -> bool:
        """After a lost answer: end the holding session for good, then look. Raises psycopg.Error
        where the old primary can't be asked: nothing may be decided then."""
        pid = hold.connection.info.backend_pid
        self._old.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        if self._old.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone() is not None:
            raise psycopg.OperationalError("the holding session has not ended, so its commit may still come")
        found = control.read_control(self._old, self.migration)
        return found is not None and found.closed_by == number

    def open(self, hold: Hold, number: int) -> SwitchTimings:
        """Open the new primary, end the application's sessions on the old one."""
        open_side(self._new, self.migration, self.sessions.generation, number, self._hint_open)
        self._passed(hold, "opened")
        with contextlib.suppress(psycopg.Error):  # SETTLE does it again until none is left
            # By now everybody can see the commit: who comes later knows that this side is closed.
            self._old.execute(
                "UPDATE daybreak.control SET closed_at = clock_timestamp() WHERE migration = %s AND generation = %s",
                [self.migration, self.sessions.generation],
            )
            end_application_sessions(self._old, self.migration)
        return SwitchTimings(**{f"{name}_ms": round(ms, 3) for name, ms in self._marks.items()})

    def undo(self) -> None:
        """Below 16, after backing out: let the stream to the standby go on."""
        if self.backward is not None:
            self.forward.enable(self._new)

    def _drain(self, hold: Hold) -> None:
        token = tokens.write(self._old, self.old, "drain")
        while tokens.seen(self._new, self.old, "drain") != token:
            if hold.remaining_seconds() <= 0:
                raise GaveUp(
                    f"the standby had not applied everything within cutover.max_write_pause_seconds"
                    f" ({self.budget_seconds:g} s)"
                )
            time.sleep(_POLL_SECONDS)

    def _snapshot(self) -> None:
        ids = []
        for side in Side:
            self._snapshots[side].execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            row = self._snapshots[side].execute("SELECT pg_export_snapshot()").fetchone()
            ids.append("" if row is None else str(row[0]))
        self._snapshot_ids = tuple(ids)

    def _passed(self, hold: Hold, name: str) -> None:
        self._marks[name] = hold.elapsed_ms()
        self._mark(name)


def open_side(connection: Connection, migration: str, generation: int, number: int, hint: sql.Composed) -> None:
    """Let applications write on this side. The decision is committed before the flag opens: a crash
    between leaves a side that is known as opened and opens again, never one that is open unknown.

    Raises StateConflict where a newer generation acts."""
    name, acting = sql.Literal(migration), sql.Literal(generation)
    opened = sql.SQL("UPDATE daybreak.control SET opened_by = {} WHERE migration = {}")
    with control.stale_is_conflict(), _rolled_back_on_error(connection):
        connection.execute(
            sql.SQL("; ").join(
                [
                    sql.SQL("BEGIN"),
                    sql.SQL("SET LOCAL synchronous_commit = on"),
                    sql.SQL("SELECT daybreak.check_generation({}, {})").format(name, acting),
                    opened.format(sql.Literal(number), name),
                    hint,
                    sql.SQL("COMMIT"),
                    sql.SQL("BEGIN"),
                    sql.SQL("SELECT daybreak.check_generation({}, {})").format(name, acting),
                    guard.flag_statement(GuardState.OPEN),
                    sql.SQL("COMMIT"),
                ]
            )
        )


@contextlib.contextmanager
def _rolled_back_on_error(connection: Connection) -> Iterator[None]:
    try:
        yield
    except psycopg.Error:
        with contextlib.suppress(psycopg.Error):
            connection.execute("ROLLBACK")
        raise


def end_application_sessions(connection: Connection, migration: str, grace_seconds: float = 0.0) -> int:
    """End the clients' sessions that began before this side was seen closed; returns how many there were.

    Such a session does not know the routing hint and would stay on the closed side for ever. Where only
    the moment just before the commit is known, ``grace_seconds`` are added: a session that began a little
    later may have read its settings before the commit was visible. Those of superusers can be ended by
    superusers only and are left where that is not so."""
    rows = connection.execute(
        "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN pg_roles r ON r.rolname = a.usename"
        " WHERE a.datname = current_database() AND a.backend_type = 'client backend' "
        " AND NOT (a.usename = session_user AND a.application_name LIKE 'daybreak:%%')"
        " AND a.backend_start < make_interval(secs => %s)"
        " + (SELECT closed_at FROM daybreak.control WHERE migration = %s)"
        " AND (NOT r.rolsuper OR (SELECT rolsuper FROM pg_roles WHERE rolname = session_user))",
        [grace_seconds, migration],
    ).fetchall()
    return len(rows)
