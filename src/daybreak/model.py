"""The frozen types that every part shares. Standard library only, no I/O, no clock.

``MigrationRecord`` is what is stored; ``Observation`` is everything that a decision may look
at, time included; ``Decision`` is what ``machine.decide`` makes of the two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import total_ordering

# Around a switchover clients shall not keep the writer's address for longer, seconds.
SWITCH_TTL_SECONDS = 5


class Side(StrEnum):
    """One of the two servers of a migration. Their names never change, whoever is primary."""

    SOURCE = "source"
    TARGET = "target"

    @property
    def other(self) -> Side:
        """The opposite side."""
        return Side.TARGET if self is Side.SOURCE else Side.SOURCE


class Phase(StrEnum):
    """Where a migration stands. A failure is not a phase: the record keeps ``last_error``."""

    PLANNED = "planned"
    LOADING = "loading"
    STREAMING = "streaming"
    SWITCHING = "switching"
    FINISHED = "finished"
    ABORTED = "aborted"

    @property
    def ended(self) -> bool:
        """Whether nothing of the migration goes on."""
        return self in {Phase.FINISHED, Phase.ABORTED}


class Verb(StrEnum):
    """What an operator can ask for; written into the record, acted on by whoever runs the loop."""

    START = "start"
    VERIFY = "verify"
    SHIFT = "shift"
    CUTOVER = "cutover"
    ROLLBACK = "rollback"
    ABORT = "abort"
    FINISH = "finish"


class Step(StrEnum):
    """One journalled, idempotent action. ``table.TABLE`` says when each is taken."""

    BEGIN = "begin"
    PREPARE = "prepare"
    TRANSFER_SCHEMA = "transfer_schema"
    CLOSE_TARGET = "close_target"
    LOAD = "load"
    BUILD_INDEXES = "build_indexes"
    SUBSCRIBE = "subscribe"
    JOIN_TABLES = "join_tables"
    ADD_FOREIGN_KEYS = "add_foreign_keys"
    SYNC_SEQUENCES = "sync_sequences"
    REVERSE = "reverse"
    ENTER_STREAMING = "enter_streaming"
    VERIFY = "verify"
    HAND_OVER = "hand_over"
    SHIFT_READS = "shift_reads"
    LOWER_TTL = "lower_ttl"
    ENTER_SWITCHING = "enter_switching"
    ARM = "arm"
    SWITCH = "switch"
    OPEN = "open"
    REOPEN = "reopen"
    ROUTE = "route"
    SETTLE = "settle"
    CERTIFY = "certify"
    DISARM = "disarm"
    END_SWITCH = "end_switch"
    CLEAN_UP = "clean_up"
    END = "end"


@total_ordering
@dataclass(frozen=True, slots=True)
class Lsn:
    """A position in one server's write-ahead log, in bytes (PostgreSQL docs, pg_lsn type).

    Comparable and subtractable (the difference is bytes of WAL); positions of different servers
    must never be compared.
    """

    bytes: int

    @classmethod
    def parse(cls, text: str) -> Lsn:
        """Read PostgreSQL's ``16/B374D848`` form; raises ValueError on anything else."""
        high, _, low = text.partition("/")
        return cls((int(high, 16) << 32) + int(low, 16))

    def __str__(self) -> str:
        return f"{self.bytes >> 32:X}/{self.bytes & 0xFFFFFFFF:X}"

    def __lt__(self, other: Lsn) -> bool:
        return self.bytes < other.bytes

    def __sub__(self, other: Lsn) -> int:
        return self.bytes - other.bytes


@dataclass(frozen=True, slots=True, order=True)
class TableName:
    """A schema-qualified table, exactly as the catalog spells it (never quoted)."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


class GuardState(StrEnum):
    """What the guard of one side does to writes of the application."""

    ABSENT = "absent"
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class SideStatus:
    """One server as last seen. ``problem`` (and nothing else) is set where it could not be asked.

    ``closed_by`` / ``opened_by`` are the numbers of the switchovers that committed the closing or
    opening of this side (0 = never); they decide how a half-done switchover is finished. ``rollbacks``
    counts transactions that failed since the server's statistics began (pg_stat_database.xact_rollback).
    """

    side: Side
    problem: str = ""
    version_num: int = 0
    generation: int = 0
    owner: str = ""
    guard: GuardState = GuardState.ABSENT
    guarded_tables: int = 0
    tables: int = 0
    closed_by: int = 0
    opened_by: int = 0
    accepts_writes: bool = False
    prepared_transactions: int = 0
    longest_transaction_seconds: float = 0.0
    longest_transaction: str = ""
    fingerprint: str = ""
    rollbacks: int = 0

    @property
    def reachable(self) -> bool:
        """Whether the server answered."""
        return not self.problem


@dataclass(frozen=True, slots=True)
class ReplicationStatus:
    """The streams and the load, as last seen; sizes in bytes, times in seconds.

    ``lag_seconds`` and ``lag_bytes`` are None where they could not be measured: missing is bad,
    never "no lag". ``forward`` and ``reverse`` say whether that stream exists, is enabled and has
    a live apply worker. ``tables_unready`` are published but not yet in state ``r``;
    ``tables_unreplicated`` exist on the primary and are in no publication.

    While another engine (AWS DMS) carries load and stream, ``handed_over`` is False and ``bidirectional``
    too; then ``loading`` says what it is busy with, ``unvalidated`` names tables that its own validation
    has not finished, and ``handing_over`` tells that it was cut off and PostgreSQL's streams do not run yet.
    ``handed_over_at`` is when they did, None where there was nothing to hand over.
    """

    prepared: bool = False
    schema_transferred: bool = False
    slot_present: bool = False
    slot_lost: bool = False
    tables_total: int = 0
    tables_copied: int = 0
    tables_to_join: int = 0
    bytes_total: int = 0
    bytes_copied: int = 0
    rows_copied: int = 0
    eta_seconds: float | None = None
    load_done: bool = False
    indexes_built: bool = False
    foreign_keys_added: bool = False
    sequences_synced: bool = False
    subscribed: bool = False
    forward: bool = False
    reverse: bool = False
    bidirectional: bool = True
    tables_unready: tuple[str, ...] = ()
    tables_unreplicated: tuple[str, ...] = ()
    lag_seconds: float | None = None
    lag_bytes: int | None = None
    retained_wal_bytes: int | None = None
    apply_errors: int = 0
    apply_error: str = ""
    problem: str = ""
    loading: str = ""
    unvalidated: tuple[str, ...] = ()
    handing_over: bool = False
    handed_over: bool = True
    handed_over_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RoutingStatus:
    """Where a router sends clients now; ``writer`` is None where it can't tell.

    ``ttl_seconds`` is how long clients keep the writer's address; None where no name is moved."""

    writer: Side | None = None
    read_weight: int = 0
    paused: bool = False
    ttl_seconds: int | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything a decision may look at, in one object, time included."""

    at: datetime
    source: SideStatus
    target: SideStatus
    replication: ReplicationStatus = field(default_factory=ReplicationStatus)
    routing: RoutingStatus = field(default_factory=RoutingStatus)

    def side(self, side: Side) -> SideStatus:
        """The status of ``side``."""
        return self.source if side is Side.SOURCE else self.target


@dataclass(frozen=True, slots=True)
class Intent:
    """What was asked for and when; ``percent`` only for ``shift``. ``by_itself``: by no person.

    ``given_up`` is the reason why it is not followed any more: what was begun for it is being undone. With a
    ``shift`` it is why reads go back, whatever was asked for before."""

    verb: Verb
    asked_at: datetime
    percent: int | None = None
    given_up: str = ""
    by_itself: bool = False


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of one comparison of both sides at a common point of the stream."""

    at: datetime
    tables: int
    rows: int
    seconds: float
    differences: tuple[str, ...] = ()
    complete: bool = True

    @property
    def clean(self) -> bool:
        """Everything was compared and nothing differs."""
        return self.complete and not self.differences


@dataclass(frozen=True, slots=True)
class SwitchTimings:
    """Milliseconds from the moment the hold was taken to the end of each hot step."""

    held_ms: float
    drained_ms: float
    snapshot_ms: float
    sequences_ms: float
    committed_ms: float
    opened_ms: float

    @property
    def write_pause_ms(self) -> float:
        """How long writers were stopped: from the first wait for the hold to the opening."""
        return self.opened_ms


@dataclass(frozen=True, slots=True)
class Switchover:
    """One move of the primary, from the first arming to its end.

    ``number`` counts from 1 within a migration and is what both databases remember in
    ``closed_by`` and ``opened_by``. ``backed_out`` holds the reason once a switch gave up.
    ``certificate`` is the comparison of the fence-point snapshots.
    """

    number: int
    to: Side
    started_at: datetime
    backed_out: str = ""
    timings: SwitchTimings | None = None
    routed: bool = False
    settled: bool = False
    certificate: Verification | None = None
    certified: bool = False
    disarmed: bool = False
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What people were told last of a migration, so that nothing is left out or said twice.

    ``switchover`` is the number of the last one that they know the outcome of."""

    phase: Phase = Phase.PLANNED
    read_weight: int = 0
    switchover: int = 0
    error: str = ""
    verified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class MigrationRecord:
    """The one record of a migration; every change is a compare-and-swap on ``version``.

    ``generation`` fences effects: both databases hold the highest one that ever acted, and refuse
    an older. ``primary`` is who takes writes, ``read_weight`` the percent of reads on the target.
    ``shifted_at``: when reads were moved last. ``rollbacks_at`` and ``rollbacks_then``: when failed reads were
    counted last, and what the target had counted then. ``postponed_until``: nothing is begun by itself before.
    ``old_ttl_until``: when the last client forgets an address that it was given before the TTL was lowered.
    """

    name: str
    phase: Phase = Phase.PLANNED
    primary: Side = Side.SOURCE
    read_weight: int = 0
    intent: Intent | None = None
    switchover: Switchover | None = None
    last_switchover: Switchover | None = None
    switchovers: int = 0
    verification: Verification | None = None
    shifted_at: datetime | None = None
    rollbacks_at: datetime | None = None
    rollbacks_then: int = 0
    postponed_until: datetime | None = None
    told: Told = Told()
    old_ttl_until: datetime | None = None
    last_error: str = ""
    owner: str = ""
    generation: int = 0
    version: int = 0


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One line of the append-only journal: what was intended or done, by whom, at which version."""

    at: datetime
    version: int
    generation: int
    owner: str
    event: str
    step: Step | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """The operator's limits, from ``daybreak.toml``; seconds and counts as the names say."""

    max_lag_seconds: float = 1.0
    max_write_pause_seconds: float = 10.0
    max_transaction_seconds: float = 30.0
    gate_patience_seconds: float = 30.0
    max_verification_age_seconds: float = 86_400.0
    sequence_margin: int = 1_000
    certificate_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """How reads and then writes move by themselves: ``shares`` in percent, each kept for ``soak_seconds``.

    Reads go back where the standby fails more transactions than ``max_read_errors_per_minute``."""

    automatic: bool = False
    shares: tuple[int, ...] = (20, 50, 80, 100)
    soak_seconds: float = 600.0
    max_read_errors_per_minute: float = 30.0


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition of a switchover with its value now. ``transient`` ones are waited for."""

    name: str
    ok: bool
    value: str
    fix: str = ""
    transient: bool = False


@dataclass(frozen=True, slots=True)
class Advance:
    """Take ``step`` now."""

    step: Step


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do but look again; ``reason`` says what is waited for.

    ``limited`` waits end after ``Policy.gate_patience_seconds``; others may be long by nature
    (catching up) and go on while they are asked for. ``urgent``: perhaps nobody can write meanwhile."""

    reason: str
    limited: bool = False
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Refuse:
    """The intent can't be followed: what is in the way and what to do."""

    reason: str
    hint: str


@dataclass(frozen=True, slots=True)
class Done:
    """The intent is fulfilled, or there is none."""

    summary: str


Decision = Advance | Wait | Refuse | Done


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One line of a plan: the step, what it does in words, and how long it took before.

    ``expected_seconds`` is measured (the median of this migration's journal) or None."""

    step: Step
    what: str
    expected_seconds: float | None
    pauses_writes: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What a verb would do now: its steps and every gate with its value. Nothing is done."""

    verb: Verb
    steps: tuple[PlannedStep, ...]
    gates: tuple[Gate, ...]

    @property
    def ready(self) -> bool:
        """Whether every gate is green."""
        return all(gate.ok for gate in self.gates)


@dataclass(frozen=True, slots=True)
class Progress:
    """One report of long work; counts are None where they mean nothing for that work."""

    what: str
    tables_done: int | None = None
    tables_total: int | None = None
    bytes_done: int | None = None
    bytes_total: int | None = None
    rows_done: int | None = None
    eta_seconds: float | None = None
