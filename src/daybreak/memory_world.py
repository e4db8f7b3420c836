"""Two imaginary databases with the streams between them, clients that write to them, and processes that
can be killed or stopped at every point: what the in-memory ``Replicator`` and ``Switch``
(``memory_switch``) act on. It keeps only what the invariants speak of: rows, the guard, control rows, who
captures changes. ``violations`` fills with whatever must never happen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from daybreak.errors import StateConflict, TransientError
from daybreak.model import GuardState, Side


class Killed(BaseException):
    """This process was killed: nothing of it runs any more, ``except Exception`` included."""


class Outcome(StrEnum):
    """What a client was told about its write."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    WAITING = "waiting"


@dataclass
class Process:
    """One controller as the operating system sees it. ``hook`` is called at every point of its way and
    may ``kill`` it, let another one run meanwhile (this one is stopped then), or break something."""

    world: World
    hook: Callable[[str], None] = lambda _name: None
    dead: bool = False

    def point(self, name: str) -> None:
        """Between two effects. Raises Killed once the process is dead."""
        if not self.dead:
            self.hook(name)
        if self.dead:
            raise Killed(name)

    def kill(self) -> None:
        """As SIGKILL does: its sessions end, and with them what they hold but not what they did."""
        self.dead = True
        self.world.disconnect(self)

    def close(self) -> None:
        """The end of a command: its sessions end."""
        self.world.disconnect(self)


@dataclass
class Control:
    """A control row; see ``daybreak.control`` in the real databases."""

    generation: int = 0
    owner: str = ""
    closed_by: int = 0
    opened_by: int = 0


@dataclass
class Database:
    """One side. ``rows`` maps ids to tables; ``slot`` captures what is written here into ``backlog`` for
    the other side; ``subscription`` is what arrives here: None where there is none, False disabled."""

    side: Side
    tables: set[int] = field(default_factory=set)
    rows: dict[int, int] = field(default_factory=dict)
    last_id: int = 0
    up: bool = True
    control: Control | None = None
    guard: bool = False
    guarded: set[int] = field(default_factory=set)
    closed: bool = False
    read_only_hint: bool = False
    held_by: Process | None = None
    held_until: datetime | None = None
    published: set[int] = field(default_factory=set)
    slot: bool = False
    backlog: list[int] = field(default_factory=list)
    subscription: bool | None = None
    prepared_transactions: int = 0
    longest_transaction_seconds: float = 0.0
    rollbacks: int = 0
    ddl: int = 0

    @property
    def guard_state(self) -> GuardState:
        """What the flag says."""
        if not self.guard:
            return GuardState.ABSENT
        return GuardState.CLOSED if self.closed else GuardState.OPEN

    @property
    def accepts(self) -> bool:
        """Whether an application could write to some table here, now or as soon as the server is up."""
        stopped = self.closed or self.held_by is not None
        return bool(self.tables - self.guarded if stopped else self.tables)

    def footprint(self, publications: bool = True) -> tuple[object, ...]:
        """Everything that Daybreak may leave here and that is no row of the application."""
        guard = self.guard, frozenset(self.guarded), self.closed if self.guard else None
        streams = frozenset(self.published if publications else ()), self.slot, self.subscription
        return guard, self.read_only_hint, streams, self.control is None


@dataclass
class Engine:
    """Another engine that loads and streams from source to target, as AWS DMS does: its own slot captures into
    ``backlog``, ``running`` it applies, as long as its role may log in to the target (``login``)."""

    slot: bool = False
    backlog: list[int] = field(default_factory=list)
    running: bool = False
    login: bool = True

    @property
    def streams(self) -> bool:
        """Whether what it captures arrives."""
        return self.slot and self.running and self.login


class World:
    """The two databases, their streams, and the clients' ledger.

    ``bidirectional`` False behaves like PostgreSQL below 16. With ``dms`` the load and the first stream are
    those of another engine, which ``memory_dms`` starts. ``stalled`` keeps the streams from applying. Time
    passes in ``sleep`` only."""

    def __init__(self, bidirectional: bool = True, tables: int = 3, dms: bool = False) -> None:
        self.bidirectional = bidirectional
        self.engine = Engine() if dms else None
        self.stalled = False
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.databases = {side: Database(side) for side in Side}
        self.databases[Side.SOURCE].tables = set(range(tables))
        self.done: set[str] = set()
        self.copied: set[int] = set()
        self.to_join: set[int] = set()
        self.connected: list[Process] = []
        self.acknowledged: set[int] = set()
        self.violations: list[str] = []
        self._attempts = 0

    def __getitem__(self, side: Side) -> Database:
        return self.databases[side]

    def clock(self) -> datetime:
        """The time, for a Controller."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass: streams flow, and holds whose time is over end by themselves."""
        self.now += timedelta(seconds=seconds)
        self.flow()

    # --- servers and processes

    def process(self, hook: Callable[[str], None] = lambda _name: None) -> Process:
        """A new controller's process."""
        return Process(self, hook)

    def disconnect(self, process: Process) -> None:
        """All sessions of ``process`` end; an uncommitted hold is undone, what it set in the flag stays."""
        self.connected = [other for other in self.connected if other is not process]
        for database in self.databases.values():
            if database.held_by is process:
                database.held_by = None

    def stop(self, side: Side) -> None:
        """The server of ``side`` goes down, and every session on it ends."""
        self[side].up = False
        self[side].held_by = None

    def start(self, side: Side) -> None:
        """It comes back with all that was committed."""
        self[side].up = True

    def reach(self, side: Side) -> Database:
        """The database, or TransientError where its server is down."""
        if not self[side].up:
            raise TransientError(f"{side}: connection refused", "Check that the server runs and can be reached.")
        return self[side]

    def fenced(self, side: Side, generation: int) -> Database:
        """The database for a transaction of ``generation``; raises StateConflict where another one acts."""
        database = self.reach(side)
        if database.control is None or database.control.generation != generation:
            raise StateConflict(f"A newer Daybreak took charge of {side}.", "This one changed nothing more.")
        return database

    # --- clients and streams

    def client_write(self, side: Side) -> Outcome:
        """An application writes one row to the next table of ``side``."""
        database = self[side]
        self._attempts += 1
        if not database.up or not database.tables:
            return Outcome.REFUSED
        self._expire(database)
        tables = sorted(database.tables)
        table = tables[self._attempts % len(tables)]
        if table in database.guarded and database.held_by is not None:
            return Outcome.WAITING
        if table in database.guarded and database.closed:
            return Outcome.REFUSED
        database.last_id += 1
        self._store(database, database.last_id, table)
        self.acknowledged.add(database.last_id)
        if database.slot:
            database.backlog.append(database.last_id)
        if self.engine is not None and self.engine.slot and side is Side.SOURCE:
            self.engine.backlog.append(database.last_id)
        return Outcome.ACKNOWLEDGED

    def flow(self) -> None:
        """Let the streams apply what they captured, where both ends are up and enabled."""
        for database in self.databases.values():
            self._expire(database)
        if self.stalled:
            return
        source, target = self[Side.SOURCE], self[Side.TARGET]
        if self.engine is not None and self.engine.streams and source.up and target.up:
            captured, self.engine.backlog = self.engine.backlog, []
            for row in captured:
                self._store(target, row, source.rows[row])
                if target.slot:
                    target.backlog.append(row)  # what it applies bears no origin: it echoes
        for side in Side:
            publisher, subscriber = self[side], self[side.other]
            if publisher.up and subscriber.up and publisher.slot and subscriber.subscription:
                self._apply(publisher, subscriber)

    def streams(self, publisher: Side) -> bool:
        """Whether the stream that ``publisher`` feeds runs, whoever carries it."""
        if self.engine is not None and self.engine.streams and publisher is Side.SOURCE:
            return self[publisher].up and self[publisher.other].up
        both_up = self[publisher].up and self[publisher.other].up
        return both_up and self[publisher].slot and bool(self[publisher.other].subscription)

    def check(self) -> None:
        """Note a violation where applications could write on both sides (I1), or where the side that
        takes writes lacks an acknowledged one (I2)."""
        takers = [database for database in self.databases.values() if database.accepts]
        if len(takers) > 1:
            self.violations.append("I1: both sides take writes")
        for database in takers:
            if not self.acknowledged <= database.rows.keys():
                lacking = sorted(self.acknowledged - database.rows.keys())
                self.violations.append(f"I2: {database.side} takes writes and lacks {lacking[:5]}")

    def behind(self, publisher: Side) -> int:
        """How many rows of ``publisher`` have not arrived on the other side."""
        if self.engine is not None and self.engine.streams and publisher is Side.SOURCE:
            return len(self.engine.backlog)
        return len(self[publisher].backlog)

    def _apply(self, publisher: Database, subscriber: Database) -> None:
        captured, publisher.backlog = publisher.backlog, []
        for row in captured:
            table = publisher.rows[row]
            joins_later = subscriber.side is Side.TARGET and table in self.to_join
            if joins_later or table not in publisher.published:
                continue
            self._store(subscriber, row, table)
            if not self.bidirectional and subscriber.slot:
                subscriber.backlog.append(row)  # no origin filter: it echoes

    def _store(self, database: Database, row: int, table: int) -> None:
        if row in database.rows:
            self.violations.append(f"{database.side}: id {row} was given twice, or applied twice")
        database.rows[row] = table

    def _expire(self, database: Database) -> None:
        if database.held_until is not None and self.now >= database.held_until:
            database.held_by, database.held_until = None, None
