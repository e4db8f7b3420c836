"""An in-memory ``Switch`` over a ``memory_world.World``; see ``memory_replicator``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

from daybreak.errors import ControllerAtWork, DaybreakError, InvariantViolated, StateConflict, TransientError
from daybreak.memory_world import Control, Database, Process, World
from daybreak.model import (
    MigrationRecord,
    Policy,
    Progress,
    Side,
    SideStatus,
    Switchover,
    SwitchTimings,
    Verification,
)
from daybreak.ports import AtFencePoint, Report


class _GaveUp(Exception):
    """Before the commit point; ``str()`` is the reason."""


@dataclass
class MemorySwitch:
    """See ``ports.Switch``. The fence-point snapshots live and die with this object."""

    world: World
    process: Process
    policy: Policy
    generation: int = 0
    _snapshots: list[dict[int, int]] | None = field(default=None)

    # --- looking and claiming

    def observe(self, side: Side) -> SideStatus:
        """See ``Switch.observe``."""
        self.process.point(f"observe {side}")
        database = self.world[side]
        if not database.up:
            return SideStatus(side, problem="connection refused")
        control = database.control or Control()
        return SideStatus(
            side=side,
            version_num=170000 if self.world.bidirectional else 150000,
            generation=control.generation,
            owner=control.owner,
            guard=database.guard_state,
            guarded_tables=len(database.guarded),
            tables=len(database.tables),
            closed_by=control.closed_by,
            opened_by=control.opened_by,
            accepts_writes=not database.read_only_hint,
            prepared_transactions=database.prepared_transactions,
            longest_transaction_seconds=database.longest_transaction_seconds,
            rollbacks=database.rollbacks,
            fingerprint=f"{sorted(database.tables)} {database.ddl}",
        )

    def claim(self, owner: str, generation: int, take_over: bool, sides: tuple[Side, ...] = tuple(Side)) -> int:
        """See ``Switch.claim``."""
        databases = [self.world.reach(side) for side in sides]
        if not take_over and any(other is not self.process for other in self.world.connected):
            raise ControllerAtWork("Another Daybreak is at work.", "Wait for it or stop it.")
        for database in databases:
            database.control = database.control or Control()
            self.process.point(f"claim: control row on {database.side}")
        wanted = max([generation, *(d.control.generation for d in databases if d.control is not None)]) + 1
        for database in databases:
            self._raise(database, owner, wanted)
            self.process.point(f"claim: generation raised on {database.side}")
        self.world.connected = [self.process]
        self.generation = wanted
        return wanted

    def _raise(self, database: Database, owner: str, wanted: int) -> None:
        """The older generations' sessions end first, as the control row is locked by whoever holds."""
        database.held_by = None
        control = database.control
        if control is None or control.generation >= wanted:
            raise StateConflict("Another Daybreak took charge at the same moment.", "Run the command again.")
        control.generation, control.owner = wanted, owner

    # --- the switch

    def arm(self, record: MigrationRecord) -> None:
        """See ``Switch.arm``."""
        old = self._fenced(record.primary)
        if record.switchover is not None and not self.world.bidirectional:
            self._prepare_the_way_back(old, self.world.reach(record.primary.other))
        # Last, because a guard on every table is what shows that all of this is done.
        if not old.guard:
            old.guard, old.closed = True, False
        self._pass("arm: function made")
        for table in sorted(old.tables - old.guarded):
            old.guarded.add(table)
            self._pass("arm: a table guarded")

    def _prepare_the_way_back(self, old: Database, new: Database) -> None:
        new.subscription = True
        if not new.slot:
            new.slot, new.backlog, new.published = True, [], set(old.published)
        self._pass("arm: slot of the stream back")
        old.subscription = bool(old.subscription)

    def switch(self, record: MigrationRecord, mark: Callable[[str], None]) -> Switchover:
        """See ``Switch.switch``."""
        under_way = _under_way(record)
        old, new, number = under_way.to.other, under_way.to, under_way.number
        began = self.world.now

        def passed(name: str) -> float:
            self.process.point(f"switch: {name}")
            mark(name)
            return (self.world.now - began).total_seconds() * 1000

        try:
            passed("ready")
            times = [*self._hold(old, passed), self._ready_the_new(old, new, passed)]
            times.append(self._commit(old, number, passed))
        except (_GaveUp, DaybreakError) as error:
            if isinstance(error, StateConflict):
                raise
            self._release(old)
            return replace(under_way, backed_out=str(error))
        self._open(new, number)
        times.append(passed("opened"))
        return replace(under_way, timings=SwitchTimings(*times))

    def _hold(
        self, side: Side, passed: Callable[[str], float], act: AtFencePoint = lambda _check_held: None
    ) -> list[float]:
        """Hold, drain, ``act``, snapshot; raises _GaveUp with nothing held."""
        old, new = self._fenced(side), self.world.reach(side.other)
        if old.prepared_transactions:
            raise _GaveUp("the hold could not be taken: a prepared transaction")
        old.held_by = self.process
        old.held_until = self.world.now + timedelta(seconds=self.policy.max_write_pause_seconds)
        times = [passed("held")]
        self.world.flow()
        if not self.world.streams(side) or self.world.behind(side):
            raise _GaveUp("the standby had not applied everything")
        times.append(passed("drained"))
        act(lambda: self._check_held(side))
        self._snapshots = [dict(old.rows), dict(new.rows)]
        return [*times, passed("snapshot")]

    def _ready_the_new(self, side: Side, to: Side, passed: Callable[[str], float]) -> float:
        new = self._fenced(to)
        if not self.world.bidirectional:
            if not new.slot:
                raise _GaveUp("there is no slot for the stream back")
            new.subscription = False
            self.process.point("switch: stream disabled")
            self._fenced(to).backlog = []
        new.last_id = max(new.last_id, self.world[side].last_id + self.policy.sequence_margin)
        return passed("sequences")

    def _commit(self, side: Side, number: int, passed: Callable[[str], float]) -> float:
        """The flag is closed at once, the rest at COMMIT: a session that ends between leaves only the flag."""
        old = self._held(side)
        old.closed = True
        self.process.point("switch: flag closed")
        old = self._held(side)
        assert old.control is not None
        old.control.closed_by, old.read_only_hint = number, True
        old.held_by = None
        return passed("committed")

    def _check_held(self, side: Side) -> None:
        self._held(side)

    def _held(self, side: Side) -> Database:
        self.world.flow()
        database = self.world.reach(side)
        if database.held_by is not self.process:
            raise _GaveUp("the holding session was ended before its commit")
        return database

    def _release(self, side: Side) -> None:
        if self.world[side].held_by is self.process:
            self.world[side].held_by = None

    def _open(self, side: Side, number: int) -> None:
        new = self._fenced(side)
        assert new.control is not None
        if self.world[side.other].up and not new.slot:
            self.world.violations.append(f"I3: {side} opens and no slot captures its changes")
        new.control.opened_by, new.read_only_hint = number, False
        self.process.point("open: committed")
        self._fenced(side).closed = False

    def open(self, record: MigrationRecord) -> None:
        """See ``Switch.open``."""
        switch = _under_way(record)
        old = self.world.reach(switch.to.other)
        if old.control is None or old.control.closed_by != switch.number:
            raise InvariantViolated(f"{old.side} is not closed; {switch.to} stays closed.", "Run `daybreak adopt`.")
        self._open(switch.to, switch.number)
        self.process.point("open: done")

    def reopen(self, record: MigrationRecord) -> None:
        """See ``Switch.reopen``."""
        old = self._fenced(record.primary)
        if old.control is not None and old.control.closed_by == _under_way(record).number:
            raise StateConflict(f"{old.side} was closed meanwhile.", "Run the command again.")
        old.closed = False
        self.process.point("reopen: done")

    def settle(self, record: MigrationRecord) -> None:
        """See ``Switch.settle``."""
        to = _under_way(record).to
        old, new = self._fenced(to.other), self._fenced(to)
        new.last_id = max(new.last_id, old.last_id)
        self._pass("settle: sequences")
        if not self.world.bidirectional:
            new.subscription = None
            self._pass("settle: stream dropped")
            old.slot, old.backlog = False, []
            self._pass("settle: slot dropped")
            old.subscription = True
        self.process.point("settle: done")

    def disarm(self, record: MigrationRecord) -> None:
        """See ``Switch.disarm``."""
        switch = record.switchover
        side = record.primary if switch is None or switch.backed_out else switch.to
        if switch is not None and switch.backed_out and not self.world.bidirectional:
            here, there = self.world.reach(side), self.world.reach(side.other)
            here.subscription = None
            self._pass("disarm: stream back dropped")
            there.slot, there.backlog = False, []
            there.subscription = True
        for table in sorted(self._fenced(side).guarded):
            self._fenced(side).guarded.discard(table)
            self.process.point("disarm: a table unguarded")

    # --- comparing

    def at_fence_point(self, record: MigrationRecord, act: AtFencePoint) -> None:
        """See ``Switch.at_fence_point``."""

        def passed(name: str) -> float:
            self.process.point(f"fence point: {name}")
            return 0.0

        try:
            self._hold(record.primary, passed, act)
        except _GaveUp as error:
            raise TransientError(
                f"Writers were not stopped: {error}.", "Nothing was changed. Run the command again."
            ) from error
        finally:
            self._release(record.primary)

    def verify(self, record: MigrationRecord, report: Report) -> Verification:
        """See ``Switch.verify``."""
        self.at_fence_point(record, lambda _check_held: None)
        found = self.compare(record, report)
        assert found is not None, "the snapshots were just taken"
        return found

    def compare(self, record: MigrationRecord, report: Report) -> Verification | None:
        """See ``Switch.compare``."""
        snapshots, self._snapshots = self._snapshots, None
        if snapshots is None:
            return None
        for side in Side:
            self.world.reach(side)
        report(Progress("comparing", tables_total=len(self.world[record.primary].tables)))
        self.process.point("compare: done")
        there, here = snapshots
        differences = tuple(f"row {row}" for row in sorted(there.keys() ^ here.keys()))
        return Verification(self.world.now, len(self.world[record.primary].tables), len(there), 0.0, differences)

    # --- the end

    def clean_up(self, record: MigrationRecord, unfence: bool) -> None:
        """See ``Switch.clean_up``."""
        for side in (record.primary.other, record.primary):
            database = self._fenced(side)
            if side is record.primary or unfence:
                self._remove(database)
            elif database.control is not None:
                database.control.generation, database.control.owner = 0, ""
            self.process.point(f"clean_up: {side} cleaned")

    def unfence(self, side: Side) -> None:
        """See ``Switch.unfence``."""
        self._remove(self.world.reach(side))

    def _remove(self, database: Database) -> None:
        database.read_only_hint = False
        for table in sorted(database.guarded):
            database.guarded.discard(table)
            self.process.point("clean_up: a table unguarded")
        database.guard, database.closed, database.control = False, False, None
        if database.side is Side.TARGET:
            self.world.done, self.world.copied, self.world.to_join = set(), set(), set()

    def _pass(self, name: str) -> None:
        """A point; whoever was stopped there finds its sessions ended by a newer generation."""
        self.process.point(name)
        for side in Side:
            self._fenced(side)

    def _fenced(self, side: Side) -> Database:
        return self.world.fenced(side, self.generation)


def _under_way(record: MigrationRecord) -> Switchover:
    assert record.switchover is not None, "only called in phase switching"
    return record.switchover
