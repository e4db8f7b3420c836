"""The protocols between the controller and the world. Each has an in-memory implementation in
``memory`` and real ones; one contract suite (tests/contract) holds them all to the same behaviour.

Everything here may raise TransientError (worth retrying), PermanentError (needs a person) or
StateConflict (a newer generation acts; stop). Effects are idempotent: each may be run again after a
crash at any point inside it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from daybreak.model import (
    JournalEntry,
    MigrationRecord,
    Progress,
    ReplicationStatus,
    RoutingStatus,
    Side,
    SideStatus,
    Step,
    Switchover,
    Verification,
)

Report = Callable[[Progress], None]
# What is done while writers are held. It gets a function that raises once they are not held any more.
AtFencePoint = Callable[[Callable[[], None]], None]


class StateStore(Protocol):
    """Keeps the record and the append-only journal."""

    def load(self, name: str) -> MigrationRecord | None:
        """The record of migration ``name``, or None where there is none."""

    def compare_and_swap(
        self, record: MigrationRecord, expected_version: int, event: str, step: Step | None, at: datetime, detail: str
    ) -> MigrationRecord:
        """Store ``record`` with version ``expected_version + 1`` and append one journal row, atomically.

        ``expected_version`` 0 creates. Where the journal went further (the record was lost, or is an older
        copy) the version is the one after its last row: no row is ever written over. Returns the stored
        record. Raises StateConflict where the stored version is another one; then nothing is written, the
        journal included.
        """

    def journal(self, name: str) -> tuple[JournalEntry, ...]:
        """All journal rows of ``name``, oldest first."""


class Replicator(Protocol):
    """Copies the data and keeps the streams."""

    def observe(self, primary: Side) -> ReplicationStatus:
        """What the catalogs say now; never raises for an unreachable server (``problem`` says so)."""

    def perform(self, step: Step, generation: int, report: Report) -> None:
        """Take one of the loading steps (PREPARE .. REVERSE); long ones call ``report``."""

    def hand_over(
        self, generation: int, hold: Callable[[AtFencePoint], None], compare: Callable[[], None], report: Report
    ) -> None:
        """Let PostgreSQL's own streams take over from another engine, for good; nothing to do where they run.

        ``hold`` is ``Switch.at_fence_point``; ``compare`` is called once the streams run, with writers running,
        and may take long. May return without it: then the other engine goes on and this has to be done again."""

    def clean_up(self, generation: int, keep_target_data: bool) -> None:
        """Remove every stream, slot, publication and role; with ``keep_target_data`` False also
        what the load created on the target."""


class Router(Protocol):
    """Sends applications to a side."""

    def observe(self) -> RoutingStatus:
        """Where clients are sent now; never raises (``problem`` says so)."""

    def refuse_shift(self, percent: int) -> str:
        """Why ``shift_reads(percent)`` can't be done here, or the empty string."""

    def shift_reads(self, percent: int) -> None:
        """Send ``percent`` of new read sessions to the target."""

    def lower_ttl(self) -> float:
        """Lower the time for which clients keep the writer's address to ``SWITCH_TTL_SECONDS``, where names
        route. Returns the seconds after which the last of them has forgotten the old answer: those of the
        configured TTL even where it is low already, for nobody knows since when. 0 where no name is moved."""

    def pause(self, seconds: float) -> None:
        """Hold clients back before the fence, where the router can; ended by itself after
        ``seconds`` even if this process dies. Does nothing where it can't."""

    def resume(self) -> None:
        """End ``pause``. Does nothing where there was none."""

    def point_writer(self, side: Side) -> None:
        """Send writers to ``side`` and end any pause."""

    def clean_up(self) -> None:
        """Remove what the router published and put back a TTL that was lowered, leaving clients where they are."""


class Switch(Protocol):
    """The two databases as a switchover needs them: control rows, guard, fence, comparison."""

    def observe(self, side: Side) -> SideStatus:
        """One server as it is now; never raises (``problem`` says what failed)."""

    def claim(self, owner: str, generation: int, take_over: bool, sides: tuple[Side, ...] = tuple(Side)) -> int:
        """Become the one who may act on ``sides``; returns the new generation, above ``generation`` and above
        that of their control rows (which are created where there are none).

        Ends the sessions of older generations. Raises StateConflict where the controller of an older
        one is still connected, unless ``take_over``; then nothing was changed."""

    def arm(self, record: MigrationRecord) -> None:
        """Guard every table of the primary (open) and make ready what the switch needs. No pause."""

    def switch(self, record: MigrationRecord, mark: Callable[[str], None]) -> Switchover:
        """The hot part: hold, drain, snapshot, sequences, commit point, open.

        Calls ``mark`` with ``ready`` just before it holds (a DaybreakError raised there backs out), and
        after each of these. Returns the switchover with its timings, or with
        ``backed_out`` set where it gave up before the commit point: then writers simply went on."""

    def open(self, record: MigrationRecord) -> None:
        """Go forward after a crash between commit point and opening: open ``switchover.to``."""

    def reopen(self, record: MigrationRecord) -> None:
        """Go back after a crash that left the old primary's flag closed without a commit point."""

    def settle(self, record: MigrationRecord) -> None:
        """After opening: end sessions on the old side that predate the commit point, advance
        sequences past anything they drew meanwhile, drop what only the switch needed, and write
        through the new primary once (canary)."""

    def compare(self, record: MigrationRecord, report: Report) -> Verification | None:
        """Compare the snapshots that ``switch`` took; None where they died with their process."""

    def at_fence_point(self, record: MigrationRecord, act: AtFencePoint) -> None:
        """Hold writers for an instant, drain, ``act``, snapshot both sides for ``compare``, let go.

        Raises TransientError where that did not come about, and whatever ``act`` raises."""

    def verify(self, record: MigrationRecord, report: Report) -> Verification:
        """Hold writers for an instant, drain, snapshot both sides, let go, compare."""

    def disarm(self, record: MigrationRecord) -> None:
        """Drop the guard from the primary, with short lock timeouts and retries."""

    def clean_up(self, record: MigrationRecord, unfence: bool) -> None:
        """Remove control rows, schema, settings and guard; the fence of the standby stays unless
        ``unfence``."""

    def unfence(self, side: Side) -> None:
        """After the end of a migration: remove the fence that ``clean_up`` left on ``side``."""
