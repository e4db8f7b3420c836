"""The port ``Switch`` on two real PostgreSQL servers: looking, claiming, arming, switching, cleaning up.

The hot part itself is in ``hot``; this module prepares it, judges how it ended and tidies up after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import psycopg

from daybreak.errors import ControllerAtWork, DaybreakError, InvariantViolated, StateConflict, TransientError
from daybreak.model import (
    GuardState,
    MigrationRecord,
    Policy,
    Side,
    SideStatus,
    Switchover,
    SwitchTimings,
    TableName,
    Verification,
)
from daybreak.ports import AtFencePoint, Report
from daybreak.postgres import catalog, control, guard, sequences, settings, tokens
from daybreak.postgres.inspect import owners
from daybreak.postgres.server import Connection, translated
from daybreak.postgres.sessions import Sessions
from daybreak.replication.streams import ORIGIN_FILTER_VERSION, Stream
from daybreak.switchover.hold import GaveUp, Hold
from daybreak.switchover.hot import HotPath, Snapshots, end_application_sessions, open_side
from daybreak.verify.compare import compare_snapshots

_GRACE_SECONDS = 1.0


@dataclass
class PostgresSwitch:
    """Implements ``ports.Switch``; holds fence-point snapshots between ``switch`` and ``compare``."""

    migration: str
    sessions: Sessions
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    jobs: int
    policy: Policy
    _snapshots: Snapshots | None = None
    _stamps: dict[Side, str] = field(default_factory=dict)

    # --- looking and claiming

    def observe(self, side: Side) -> SideStatus:
        """See ``ports.Switch``."""
        try:
            with translated(str(side)):
                return self._look(side, self.sessions.look(side))
        except DaybreakError as error:
            return SideStatus(side, problem=error.message)

    def _look(self, side: Side, connection: Connection) -> SideStatus:
        row = control.read_control(connection, self.migration)
        flag = guard.state(connection)
        if flag is GuardState.OPEN:
            # Before all else that is looked at: what is judged by it must not have changed under the hold.
            self._stamps[side] = guard.stamp(connection)
        tables = self._guardable(connection)
        age, who = guard.longest_transaction(connection)
        return SideStatus(
            side=side,
            version_num=connection.info.server_version,
            generation=0 if row is None else row.generation,
            owner="" if row is None else row.owner,
            guard=flag,
            guarded_tables=len(guard.guarded(connection) & tables),
            tables=len(tables),
            closed_by=0 if row is None else row.closed_by,
            opened_by=0 if row is None else row.opened_by,
            accepts_writes=settings.database_default(connection) != "on",
            prepared_transactions=guard.prepared_transactions(connection),
            longest_transaction_seconds=age,
            longest_transaction=who,
            fingerprint=catalog.fingerprint(connection, self.include, self.exclude),
            rollbacks=guard.rollbacks(connection),
        )

    def claim(self, owner: str, generation: int, take_over: bool, sides: tuple[Side, ...] = tuple(Side)) -> int:
        """See ``ports.Switch``."""
        connections = {}
        for side in sides:
            connections[side] = self.sessions.look(side)
            with translated(str(side)):
                control.install(connections[side], self.migration, side)
        found = [name for side in sides for name in control.rivals(connections[side], self.migration)]
        if found and not take_over:
            raise ControllerAtWork(
                f"Another Daybreak is at work on {self.migration} ({found[0]} in pg_stat_activity).",
                "Wait for it or stop it. If it hangs, `daybreak adopt` takes over from it.",
            )
        rows = [control.read_control(connections[side], self.migration) for side in sides]
        wanted = max([generation, *(row.generation for row in rows if row is not None)]) + 1
        for side in sides:
            with translated(str(side)):
                # Before as well: a stopped controller may hold the row that is to be raised.
                control.end_sessions(connections[side], self.migration, wanted)
                control.raise_generation(connections[side], self.migration, owner, wanted)
                control.end_sessions(connections[side], self.migration, wanted)
        self.sessions.rename(wanted)
        return wanted

    # --- the switch

    def arm(self, record: MigrationRecord) -> None:
        """See ``ports.Switch``."""
        primary = record.primary
        connection = self.sessions.get(primary)
        with translated(f"{primary}: arming"):
            # The stream back first: a crash between the two then leaves no guard without it.
            if record.switchover is not None and not self._bidirectional():
                self._prepare_backward(primary)
            self._attach(connection)

    def _attach(self, connection: Connection) -> None:
        generation, patience = self.sessions.generation, self.policy.gate_patience_seconds
        with control.fenced(connection, self.migration, generation):
            guard.install_function(connection, self.migration, connection.info.user)
        guard.attach(connection, sorted(self._guardable(connection)), self.migration, generation, patience)

    def switch(self, record: MigrationRecord, mark: Callable[[str], None]) -> Switchover:
        """See ``ports.Switch``."""
        under_way = _under_way(record)
        try:
            with self._hot(record).prepared() as hot:
                return self._run(hot, under_way, mark)
        except (GaveUp, DaybreakError) as error:
            if isinstance(error, StateConflict | _Unknown):
                raise
            return replace(under_way, backed_out=str(error).splitlines()[0])

    def _run(self, hot: HotPath, under_way: Switchover, mark: Callable[[str], None]) -> Switchover:
        """Raises GaveUp or a DaybreakError before the commit point, ``_Unknown`` after it."""
        number = under_way.number
        try:
            with translated(f"switch to {under_way.to}"), hot.held(mark) as hold:
                hot.ready_the_new(hold, self.policy.sequence_margin)
                if not self._commit(hot, hold, number):
                    raise GaveUp("the holding session was ended before its commit")
                timings = self._open(hot, hold, number)
        except (GaveUp, DaybreakError) as error:
            if not isinstance(error, _Unknown):
                with translated(f"backing out of the switch to {under_way.to}"):
                    hot.undo()
            raise
        self._keep(hot.snapshots())
        return replace(under_way, timings=timings)

    def _commit(self, hot: HotPath, hold: Hold, number: int) -> bool:
        try:
            hot.commit(hold, number)
        except psycopg.Error:
            try:
                return hot.was_committed(hold, number)
            except psycopg.Error as error:
                raise _Unknown(f"{hot.old}: lost at the commit point: {error}", _FORWARD) from error
        return True

    def _open(self, hot: HotPath, hold: Hold, number: int) -> SwitchTimings:
        try:
            return hot.open(hold, number)
        except psycopg.Error as error:
            raise _Unknown(f"{hot.old.other}: lost while it was opened: {error}", _FORWARD) from error

    def open(self, record: MigrationRecord) -> None:
        """See ``ports.Switch``."""
        switch = _under_way(record)
        old, new = self.sessions.get(switch.to.other), self.sessions.get(switch.to)
        with translated(f"{switch.to}: opening"):
            closed = control.read_control(old, self.migration)
            if closed is None or closed.closed_by != switch.number:
                raise InvariantViolated(
                    f"{switch.to.other} is not closed by switchover {switch.number}; {switch.to} stays closed.",
                    "This should not happen. Run `daybreak adopt` and look at `daybreak status`.",
                )
            hint = settings.hint_statement(new, False, self.migration)
            open_side(new, self.migration, self.sessions.generation, switch.number, hint)

    def reopen(self, record: MigrationRecord) -> None:
        """See ``ports.Switch``."""
        side = record.primary
        connection = self.sessions.get(side)
        with translated(f"{side}: reopening"), control.fenced(connection, self.migration, self.sessions.generation):
            # The row is locked now: a commit that was under way when this was decided has ended.
            row = control.read_control(connection, self.migration)
            number = 0 if record.switchover is None else record.switchover.number
            if row is not None and row.closed_by == number:
                raise TransientError(f"{side} was closed by switchover {number} after all.", _FORWARD)
            guard.set_flag(connection, GuardState.OPEN)

    def settle(self, record: MigrationRecord) -> None:
        """See ``ports.Switch``."""
        switch = _under_way(record)
        to = switch.to
        old, new = self.sessions.get(to.other), self.sessions.get(to)
        # After a crash only the moment before the commit is known.
        grace_seconds = _GRACE_SECONDS if switch.timings is None else 0.0
        with translated("after opening"):
            deadline = time.monotonic() + self.policy.gate_patience_seconds
            while end_application_sessions(old, self.migration, grace_seconds) and time.monotonic() < deadline:
                time.sleep(0.05)
            self._advance_sequences(old, new)
            if not self._bidirectional():
                self._turn_round(to)
            self._canary(to)

    def _advance_sequences(self, old: Connection, new: Connection) -> None:
        """Clients may have drawn from the old side until their sessions ended: nothing stops nextval."""
        there = {(value.schema, value.name): value for value in sequences.read(new)}
        late = [v for v in sequences.read(old) if (n := there.get((v.schema, v.name))) is None or v.is_past(n)]
        with control.fenced(new, self.migration, self.sessions.generation):
            sequences.set_ahead(new, late, self.policy.sequence_margin)

    def _canary(self, to: Side) -> None:
        """A write on the new primary that arrives on the standby proves opening and reverse stream."""
        new, old = self.sessions.get(to), self.sessions.get(to.other)
        token = tokens.write(new, to, "canary")
        deadline = time.monotonic() + self.policy.gate_patience_seconds
        while tokens.seen(old, to, "canary") != token:
            if time.monotonic() > deadline:
                raise TransientError(
                    f"A write on {to} does not arrive on {to.other}: the stream back is not working.",
                    f"{to} is the primary and works. See pg_stat_subscription and the log of {to.other}.",
                )
            time.sleep(0.005)

    def disarm(self, record: MigrationRecord) -> None:
        """See ``ports.Switch``."""
        switch = record.switchover
        primary = record.primary if switch is None or switch.backed_out else switch.to
        with translated(f"{primary}: disarming"):
            if switch is not None and switch.backed_out and not self._bidirectional():
                self._drop_backward(primary)
            guard.detach(
                self.sessions.get(primary),
                self.migration,
                self.sessions.generation,
                self.policy.gate_patience_seconds,
            )

    # --- comparing

    def at_fence_point(self, record: MigrationRecord, act: AtFencePoint) -> None:
        """See ``ports.Switch``."""
        with translated("fence point"):
            try:
                with self._hot(record).prepared() as hot:
                    with hot.held(lambda _name: None, act):
                        pass
                    self._keep(hot.snapshots())
            except GaveUp as error:
                raise TransientError(
                    f"Writers were not stopped: {error}.", "Nothing was changed. Run the command again."
                ) from error

    def verify(self, record: MigrationRecord, report: Report) -> Verification:
        """See ``ports.Switch``."""
        self.at_fence_point(record, lambda _check_held: None)
        with translated("verify"):
            found = self.compare(record, report)
        assert found is not None, "the snapshots were just taken"
        return found

    def compare(self, record: MigrationRecord, report: Report) -> Verification | None:
        """See ``ports.Switch``."""
        snapshots, self._snapshots = self._snapshots, None
        if snapshots is None:
            return None
        source, target = self.sessions.server(Side.SOURCE), self.sessions.server(Side.TARGET)
        found = catalog.user_tables(self.sessions.get(record.primary), self.include, self.exclude)
        tables = [table.name for table in found]
        try:
            return compare_snapshots(
                source,
                target,
                snapshots.source_id,
                snapshots.target_id,
                tables,
                jobs=self.jobs,
                generation=self.sessions.generation,
                deadline_seconds=self.policy.certificate_seconds,
                report=report,
                at=datetime.now(UTC),
            )
        finally:
            snapshots.close()

    def _keep(self, snapshots: Snapshots) -> None:
        self.close()
        self._snapshots = snapshots

    def close(self) -> None:
        """Let go of snapshots that were not compared, if there are any. May be called again."""
        if self._snapshots is not None:
            self._snapshots.close()
        self._snapshots = None

    # --- the end

    def clean_up(self, record: MigrationRecord, unfence: bool) -> None:
        """See ``ports.Switch``."""
        for side in (record.primary.other, record.primary):
            connection = self.sessions.get(side)
            with translated(f"{side}: cleaning up"):
                self._clean_side(connection, fenced=side is not record.primary and not unfence)

    def _clean_side(self, connection: Connection, fenced: bool) -> None:
        if control.read_control(connection, self.migration) is None:
            return
        settings.restore(connection, self.migration, keep_hint=fenced)
        if fenced:
            control.retire(connection)
            return
        guard.detach(connection, self.migration, self.sessions.generation, self.policy.gate_patience_seconds)
        control.drop_schema(connection)

    def unfence(self, side: Side) -> None:
        """After ``finish``: remove the fence that it left on ``side``."""
        self.sessions.rename(0)  # what a finished migration left belongs to generation 0
        with translated(f"{side}: unfencing"):
            self._clean_side(self.sessions.get(side), fenced=False)

    # --- below PostgreSQL 16: one stream at a time

    def _bidirectional(self) -> bool:
        return all(self.sessions.look(side).info.server_version >= ORIGIN_FILTER_VERSION for side in Side)

    def stream(self, publisher: Side) -> Stream:
        """The stream that ``publisher`` feeds."""
        server = self.sessions.server
        return Stream(self.migration, server(publisher), server(publisher.other))

    def _hot(self, record: MigrationRecord) -> HotPath:
        backward = self.stream(record.primary.other)
        switching = record.switchover is not None and not self._bidirectional()
        return HotPath(
            self.sessions,
            self.migration,
            record.primary,
            self.policy.max_write_pause_seconds,
            self.stream(record.primary),
            backward if switching else None,
            self._stamps.get(record.primary, ""),
        )

    def _prepare_backward(self, primary: Side) -> None:
        """Everything of the stream back but its running; idempotent."""
        old, new = self.sessions.get(primary), self.sessions.get(primary.other)
        backward = self.stream(primary.other)
        self.stream(primary).enable(new)
        tables = [table.name for table in catalog.user_tables(new, self.include, self.exclude)]
        backward.ensure_publication(new, tables)
        backward.ensure_role(new, owners(new))
        backward.ensure_slot(new)
        backward.subscribe(new, old, enabled=False, origin_filter=False)

    def _turn_round(self, to: Side) -> None:
        """After opening: the old stream goes, the new one runs."""
        old, new = self.sessions.get(to.other), self.sessions.get(to)
        gone, backward = self.stream(to.other), self.stream(to)
        gone.unsubscribe(new)
        gone.drop_slot(old)
        backward.enable(old)

    def _drop_backward(self, primary: Side) -> None:
        backward = self.stream(primary.other)
        backward.unsubscribe(self.sessions.get(primary))
        backward.drop_slot(self.sessions.get(primary.other))
        self.stream(primary).enable(self.sessions.get(primary.other))

    def _guardable(self, connection: Connection) -> frozenset[TableName]:
        return frozenset(catalog.guardable_tables(connection, self.include, self.exclude))


class _Unknown(TransientError):
    """The switch was lost at or after its commit point; the loop looks again and goes forward."""


_FORWARD = "Daybreak looks again and goes on from what it finds."


def _under_way(record: MigrationRecord) -> Switchover:
    assert record.switchover is not None, "only called in phase switching"
    return record.switchover
