"""The application's own book of what it was told: which writes the server acknowledged, when, and
what went wrong. Held against the database at the end, it shows a lost or doubled write, whatever
Daybreak believes. No I/O here.

Every write has an idempotency key, and a client goes on to the next only when the last one is
acknowledged: so each client has at most one key whose fate it doesn't know.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from uuid import UUID

import psycopg


class Outcome(StrEnum):
    """What an attempt to write came to, as the client sees it."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    AMBIGUOUS = "ambiguous"


def classify(error: psycopg.Error, committing: bool) -> Outcome:
    """The outcome of an attempt that ended with ``error``.

    Before COMMIT was sent nothing can have been committed: refused. After that, an answer from the
    server (constraint, cancel, read-only) means that it rolled back; no answer, a connection
    exception (class 08) or a session that was ended (57P01 to 57P05) leaves it open: ambiguous."""
    if not committing:
        return Outcome.REFUSED
    state = error.sqlstate
    if state is None or state.startswith(("08", "57P")):
        return Outcome.AMBIGUOUS
    return Outcome.REFUSED


def has_document(key: UUID) -> bool:
    """Whether the write with this key brings a document along (one in ten does)."""
    return key.int % 10 == 0


def has_event(key: UUID) -> bool:
    """Whether the write with this key brings an event along (one in ten does)."""
    return key.int % 10 == 1


@dataclass(frozen=True, slots=True)
class Failure:
    """One error that a client saw. ``at`` is ``time.monotonic()``, in seconds."""

    at: float
    client: int
    outcome: Outcome
    sqlstate: str
    message: str


@dataclass(slots=True)
class ClientLog:
    """What one client was told; written by its thread only."""

    client: int
    keys: list[UUID] = field(default_factory=list)
    acknowledged_at: array[float] = field(default_factory=lambda: array("d"))
    failures: list[Failure] = field(default_factory=list)
    open_key: UUID | None = None
    in_doubt: bool = False

    def attempt(self, key: UUID) -> None:
        """A new write begins; its fate is open until ``acknowledge``."""
        self.open_key, self.in_doubt = key, False

    def fail(self, error: psycopg.Error, committing: bool, at: float) -> None:
        """An attempt at the open key failed; it may be tried again."""
        outcome = classify(error, committing)
        self.in_doubt |= outcome is Outcome.AMBIGUOUS
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        self.failures.append(Failure(at, self.client, outcome, error.sqlstate or "", text))

    def acknowledge(self, at: float) -> None:
        """The server confirmed the COMMIT of the open key."""
        assert self.open_key is not None
        self.keys.append(self.open_key)
        self.acknowledged_at.append(at)
        self.open_key, self.in_doubt = None, False


@dataclass(frozen=True, slots=True)
class Row:
    """What a database holds under one key: numbers of ledger entries, events and log lines of
    events, the sum of the entries, and whether the document is there in full, or rightly not."""

    key: UUID
    entries: int
    total_cents: int
    document_intact: bool
    events: int
    logged: int


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """The ledger held against a database. All are numbers of writes (keys), except ``ambiguous`` and
    ``refused`` (attempts, most of them repeated with success) and ``unbalanced`` (accounts).

    ``lost``: acknowledged, but missing or incomplete, or never acknowledged and there by half.
    ``unknown``: there, though every attempt was refused or none was made."""

    acknowledged: int
    lost: int
    duplicated: int
    ambiguous: int
    refused: int
    unknown: int
    unbalanced: int

    @property
    def errors(self) -> int:
        """Errors that clients saw."""
        return self.ambiguous + self.refused

    @property
    def clean(self) -> bool:
        """No write was lost, doubled or invented, and no money came or went."""
        return not (self.lost or self.duplicated or self.unknown or self.unbalanced)


class Ledger:
    """All clients' logs together. May be read while clients write."""

    def __init__(self, logs: Iterable[ClientLog]) -> None:
        self._logs = tuple(logs)

    @property
    def acknowledged(self) -> int:
        """Number of acknowledged writes so far."""
        return sum(len(log.acknowledged_at) for log in self._logs)

    def failures(self, since: float = 0.0, until: float = float("inf")) -> tuple[Failure, ...]:
        """Errors that clients saw in that window of ``time.monotonic()``, oldest first."""
        found = [failure for log in self._logs for failure in tuple(log.failures) if since <= failure.at <= until]
        return tuple(sorted(found, key=lambda failure: failure.at))

    def gap_ms(self, since: float, until: float) -> float:
        """The longest time between two consecutive acknowledged writes of all clients together, in
        milliseconds, of those intervals that touch the window (``time.monotonic()``, seconds)."""
        times = sorted(at for log in self._logs for at in log.acknowledged_at[:])
        first, last = bisect_right(times, since), bisect_left(times, until)
        before = times[first - 1] if first > 0 else since
        after = times[last] if last < len(times) else until
        points = [before, *times[first:last], after]
        return max(b - a for a, b in pairwise(points)) * 1000

    def judge(self, rows: Iterable[Row], unbalanced: int) -> LedgerReport:
        """Hold the logs against what a database holds of this run. Call when the clients stopped."""
        found: dict[UUID, Row] = {}
        copies: Counter[UUID] = Counter()
        for row in rows:
            found[row.key] = row
            copies[row.key] += 1
        acknowledged = {key for log in self._logs for key in log.keys}
        in_doubt = {log.open_key for log in self._logs if log.open_key is not None and log.in_doubt}
        outcomes = Counter(failure.outcome for failure in self.failures())
        missing = sum(key not in found for key in acknowledged)
        return LedgerReport(
            acknowledged=len(acknowledged),
            lost=missing + sum(_incomplete(row) for row in found.values()),
            duplicated=sum(copies[key] > 1 or _repeated(row) for key, row in found.items()),
            ambiguous=outcomes[Outcome.AMBIGUOUS],
            refused=outcomes[Outcome.REFUSED],
            unknown=len(found.keys() - acknowledged - in_doubt),
            unbalanced=unbalanced,
        )


def _incomplete(row: Row) -> bool:
    expected = has_event(row.key)
    return row.entries < 2 or not row.document_intact or row.events < expected or row.logged < expected


def _repeated(row: Row) -> bool:
    expected = has_event(row.key)
    return row.entries > 2 or row.events > expected or row.logged > expected
