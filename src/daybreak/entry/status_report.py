"""The object that ``status --json`` prints, and that the commands which change a migration print at their
end; docs/commands.md describes every field. Units and null are as in ``reports``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from daybreak.entry.reports import SwitchoverReport, VerificationReport
from daybreak.gates import gates
from daybreak.model import (
    Gate,
    JournalEntry,
    MigrationRecord,
    Observation,
    Phase,
    Policy,
    Side,
    SideStatus,
    Step,
)

_COPIED = frozenset({Phase.STREAMING, Phase.SWITCHING})
_BEFORE_STREAMING = frozenset({"servers reachable", "replication healthy"})
_ADOPT = "Correct state.url, or run `daybreak adopt` to rebuild the record."


@dataclass(frozen=True, slots=True)
class ServerReport:
    """One server as it is now. All but ``side`` and ``problem`` are null where it does not answer."""

    side: Side
    problem: str
    version: str | None = None
    guard: str | None = None
    guarded_tables: int | None = None
    tables: int | None = None
    generation: int | None = None
    owner: str | None = None
    longest_transaction_seconds: float | None = None
    prepared_transactions: int | None = None

    @classmethod
    def of(cls, status: SideStatus) -> ServerReport:
        """``status`` in this form."""
        if status.problem:
            return cls(status.side, status.problem)
        return cls(
            side=status.side,
            problem="",
            version=f"{status.version_num // 10000}.{status.version_num % 10000}",
            guard=status.guard,
            guarded_tables=status.guarded_tables,
            tables=status.tables,
            generation=status.generation,
            owner=status.owner,
            longest_transaction_seconds=status.longest_transaction_seconds,
            prepared_transactions=status.prepared_transactions,
        )


@dataclass(frozen=True, slots=True)
class StreamsReport:
    """Both streams as they are now: null where a server does not answer."""

    problem: str
    forward: bool | None = None
    reverse: bool | None = None
    apply_errors: int | None = None


@dataclass(frozen=True, slots=True)
class RouterReport:
    """Where applications are sent now."""

    writer: Side | None
    read_weight: int
    paused: bool
    problem: str


@dataclass(frozen=True, slots=True)
class BlockerReport:
    """Something that keeps the migration from going on, and what mends it."""

    name: str
    value: str
    fix: str


@dataclass(frozen=True, slots=True)
class StatusReport:
    """Everything about a migration now."""

    at: datetime
    name: str
    phase: Phase
    primary: Side
    read_weight: int
    asked: str | None
    postponed_until: datetime | None
    tables_total: int | None
    tables_copied: int | None
    bytes_total: int | None
    bytes_copied: int | None
    rows_copied: int | None
    eta_seconds: float | None
    lag_seconds: float | None
    lag_bytes: int | None
    retained_wal_bytes: int | None
    switchover: SwitchoverReport | None
    last_switchover: SwitchoverReport | None
    verification: VerificationReport | None
    servers: tuple[ServerReport, ...]
    streams: StreamsReport
    router: RouterReport
    blockers: tuple[BlockerReport, ...]
    last_error: str
    owner: str
    generation: int

    @classmethod
    def of(
        cls, record: MigrationRecord, seen: Observation, policy: Policy, journal: Sequence[JournalEntry]
    ) -> StatusReport:
        """The status of ``record`` and what was ``seen``."""
        streams = seen.replication
        known = not streams.problem or streams.tables_total > 0
        switch, last, checked = record.switchover, record.last_switchover, record.verification
        return cls(
            at=seen.at,
            name=record.name,
            phase=record.phase,
            primary=record.primary,
            read_weight=record.read_weight,
            asked=None if record.intent is None else str(record.intent.verb),
            postponed_until=record.postponed_until,
            tables_total=streams.tables_total if known else None,
            tables_copied=_tables_copied(record, seen) if known else None,
            bytes_total=streams.bytes_total if known else None,
            bytes_copied=_bytes_copied(record, seen) if known else None,
            rows_copied=streams.rows_copied if known else None,
            eta_seconds=_eta_seconds(record, seen, journal),
            lag_seconds=streams.lag_seconds,
            lag_bytes=streams.lag_bytes,
            retained_wal_bytes=streams.retained_wal_bytes,
            switchover=None if switch is None else SwitchoverReport.of(switch),
            last_switchover=None if last is None else SwitchoverReport.of(last),
            verification=None if checked is None else VerificationReport.of(checked),
            servers=(ServerReport.of(seen.source), ServerReport.of(seen.target)),
            streams=StreamsReport(
                streams.problem,
                streams.forward if known else None,
                streams.reverse if known else None,
                streams.apply_errors if known else None,
            ),
            router=RouterReport(
                seen.routing.writer, seen.routing.read_weight, seen.routing.paused, seen.routing.problem
            ),
            blockers=_blockers(record, seen, policy),
            last_error=record.last_error,
            owner=record.owner,
            generation=record.generation,
        )


def _tables_copied(record: MigrationRecord, seen: Observation) -> int:
    """After the load also those that PostgreSQL itself copied when they joined."""
    streams = seen.replication
    return streams.tables_total - len(streams.tables_unready) if record.phase in _COPIED else streams.tables_copied


def _bytes_copied(record: MigrationRecord, seen: Observation) -> int:
    streams = seen.replication
    return streams.bytes_total if record.phase in _COPIED and not streams.tables_unready else streams.bytes_copied


def _eta_seconds(record: MigrationRecord, seen: Observation, journal: Sequence[JournalEntry]) -> float | None:
    """Seconds until the rows are copied, at the pace since the load began (tables that are finished count)."""
    streams = seen.replication
    if streams.eta_seconds is not None or record.phase is not Phase.LOADING or streams.load_done:
        return streams.eta_seconds
    begun = [entry.at for entry in journal if entry.step is Step.LOAD and entry.event == "intend"]
    if not begun or not streams.bytes_copied or not streams.bytes_total:
        return None
    elapsed = (seen.at - begun[-1]).total_seconds()
    return max(0.0, elapsed * (streams.bytes_total / streams.bytes_copied - 1))


def _blockers(record: MigrationRecord, seen: Observation, policy: Policy) -> tuple[BlockerReport, ...]:
    """Once streaming, the red gates of a switchover; before that, what keeps ``start`` from going on."""
    if record.phase.ended:
        return ()
    if record.version == 0 and max(seen.source.generation, seen.target.generation) > 0:
        return (BlockerReport("record", "the databases know this migration, this state does not", _ADOPT),)
    red: list[Gate] = [gate for gate in gates(record, seen, policy) if not gate.ok]
    if record.phase in {Phase.PLANNED, Phase.LOADING}:
        red = [gate for gate in red if gate.name in _BEFORE_STREAMING]
    return tuple(BlockerReport(gate.name, gate.value, gate.fix) for gate in red)
