"""Two imaginary servers and the streams between them: the ports ``Switch`` and ``Replicator`` without a
database, for tests of what is above them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from daybreak.errors import ControllerAtWork, TransientError
from daybreak.model import (
    GuardState,
    MigrationRecord,
    Progress,
    ReplicationStatus,
    Side,
    SideStatus,
    Step,
    Switchover,
    SwitchTimings,
    Verification,
)
from daybreak.ports import AtFencePoint, Report

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TABLES = 7
_AFTER = {
    Step.PREPARE: {"prepared": True, "slot_present": True},
    Step.TRANSFER_SCHEMA: {"schema_transferred": True},
    Step.LOAD: {"load_done": True, "tables_copied": TABLES, "bytes_copied": 4096, "rows_copied": 1234},
    Step.BUILD_INDEXES: {"indexes_built": True},
    Step.SUBSCRIBE: {"subscribed": True, "forward": True, "lag_seconds": 0.002, "lag_bytes": 512},
    Step.ADD_FOREIGN_KEYS: {"foreign_keys_added": True},
    Step.SYNC_SEQUENCES: {"sequences_synced": True},
    Step.REVERSE: {"reverse": True},
}


def _empty(side: Side) -> SideStatus:
    return SideStatus(side, version_num=170004, tables=TABLES, fingerprint="f", accepts_writes=True)


@dataclass
class World:
    """``back_out``: why the next switch gives up; ``interrupt``: the step at which Ctrl-C comes;
    ``down``: the server that does not answer; ``rival``: somebody who already acts."""

    sides: dict[Side, SideStatus] = field(default_factory=lambda: {side: _empty(side) for side in Side})
    streams: ReplicationStatus = field(
        default_factory=lambda: ReplicationStatus(tables_total=TABLES, bytes_total=4096, retained_wal_bytes=1024)
    )
    down: Side | None = None
    back_out: str = ""
    rival: str = ""
    interrupt: Step | None = None
    fail: dict[Step, Exception] = field(default_factory=dict)
    differences: tuple[str, ...] = ()
    snapshots_lost: bool = False

    def _at(self, step: Step) -> None:
        if self.interrupt is step:
            self.interrupt = None
            raise KeyboardInterrupt
        if step in self.fail:
            raise self.fail.pop(step)

    def _change(self, side: Side, **changes: object) -> None:
        self.sides[side] = replace(self.sides[side], **changes)  # type: ignore[arg-type]

    # --- Replicator (clean_up serves both ports: see ``AsReplicator``)

    def streams_now(self) -> ReplicationStatus:
        if self.down is not None:
            return ReplicationStatus(problem=f"replication: {self.down} does not answer")
        return self.streams

    def perform(self, step: Step, _generation: int, report: Report) -> None:
        self._at(step)
        if step is Step.CLOSE_TARGET:
            self._change(Side.TARGET, guard=GuardState.CLOSED, guarded_tables=TABLES)
        if step is Step.LOAD:
            report(Progress("copying", 3, TABLES, 2048, 4096, 600, 4.0))
        self.streams = replace(self.streams, **_AFTER.get(step, {}))  # type: ignore[arg-type]

    # --- Switch

    def observe(self, side: Side) -> SideStatus:
        if side is self.down:
            return SideStatus(side, problem="connection refused")
        return self.sides[side]

    def claim(self, owner: str, generation: int, take_over: bool, sides: tuple[Side, ...] = tuple(Side)) -> int:
        if self.down in sides:
            raise TransientError(f"{self.down}: connection refused", "Start it.")
        if self.rival and not take_over:
            raise ControllerAtWork(f"Another Daybreak is at work ({self.rival}).", "Wait for it.")
        wanted = max(generation, *(status.generation for status in self.sides.values())) + 1
        for side in sides:
            self._change(side, generation=wanted, owner=owner)
        return wanted

    def arm(self, record: MigrationRecord) -> None:
        self._at(Step.ARM)
        self._change(record.primary, guard=GuardState.OPEN, guarded_tables=TABLES)

    def switch(self, record: MigrationRecord, mark: Callable[[str], None]) -> Switchover:
        self._at(Step.SWITCH)
        assert record.switchover is not None
        move = record.switchover
        if self.back_out:
            return replace(move, backed_out=self.back_out)
        for name in ("ready", "held", "drained", "snapshot", "sequences", "committed", "opened"):
            mark(name)
        self._change(move.to.other, guard=GuardState.CLOSED, closed_by=move.number, accepts_writes=False)
        self._change(move.to, guard=GuardState.OPEN, opened_by=move.number, accepts_writes=True)
        return replace(move, timings=SwitchTimings(2.0, 9.0, 11.0, 14.0, 19.0, 24.0))

    def open(self, record: MigrationRecord) -> None:
        assert record.switchover is not None
        self._change(record.switchover.to, guard=GuardState.OPEN, opened_by=record.switchover.number)

    def reopen(self, record: MigrationRecord) -> None:
        self._change(record.primary, guard=GuardState.OPEN)

    def settle(self, _record: MigrationRecord) -> None:
        self._at(Step.SETTLE)

    def compare(self, record: MigrationRecord, report: Report) -> Verification | None:
        return None if self.snapshots_lost else self.verify(record, report)

    def at_fence_point(self, _record: MigrationRecord, act: AtFencePoint) -> None:
        act(lambda: None)

    def verify(self, _record: MigrationRecord, _report: Report) -> Verification:
        self._at(Step.VERIFY)
        return Verification(datetime.now(UTC), TABLES, 1234, 0.5, self.differences)

    def disarm(self, record: MigrationRecord) -> None:
        switch = record.switchover
        side = record.primary if switch is None or switch.backed_out else switch.to
        self._change(side, guarded_tables=0)

    def clean_up(self, record: MigrationRecord, unfence: bool) -> None:
        for side in Side:
            fenced = side is not record.primary and not unfence
            self._change(side, generation=0, owner="")
            if not fenced:
                self._change(side, guard=GuardState.ABSENT, guarded_tables=0, closed_by=0, opened_by=0)

    def unfence(self, side: Side) -> None:
        self._change(side, guard=GuardState.ABSENT, guarded_tables=0, closed_by=0, opened_by=0)


@dataclass
class AsReplicator:
    """The streams of a ``World`` as the port ``Replicator``."""

    world: World

    def observe(self, _primary: Side) -> ReplicationStatus:
        return self.world.streams_now()

    def perform(self, step: Step, generation: int, report: Report) -> None:
        self.world.perform(step, generation, report)

    def hand_over(
        self, _generation: int, _hold: Callable[[AtFencePoint], None], _compare: Callable[[], None], _report: Report
    ) -> None:
        """There is nothing to hand over."""

    def clean_up(self, _generation: int, keep_target_data: bool) -> None:
        self.world.streams = ReplicationStatus(tables_total=TABLES if keep_target_data else 0)
