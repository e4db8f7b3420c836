"""In-memory ``StateStore`` and ``Router``: for tests and dry runs, held to the same contract tests
as the real adapters. Thread-safe; gone with their process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from threading import Lock

from daybreak.errors import PermanentError, StateConflict
from daybreak.model import SWITCH_TTL_SECONDS, JournalEntry, MigrationRecord, RoutingStatus, Side, Step


class MemoryStateStore:
    """Records and journals in dictionaries."""

    def __init__(self) -> None:
        self._records: dict[str, MigrationRecord] = {}
        self._journal: list[tuple[str, JournalEntry]] = []
        self._lock = Lock()

    def load(self, name: str) -> MigrationRecord | None:
        """See ``StateStore.load``."""
        with self._lock:
            return self._records.get(name)

    def compare_and_swap(
        self, record: MigrationRecord, expected_version: int, event: str, step: Step | None, at: datetime, detail: str
    ) -> MigrationRecord:
        """See ``StateStore.compare_and_swap``."""
        with self._lock:
            found = self._records[record.name].version if record.name in self._records else 0
            if found != expected_version:
                raise StateConflict(
                    f"Another thread moved {record.name} (version {found}, not {expected_version}).",
                    "Nothing was written. Load the record again.",
                )
            last = max((entry.version for owner, entry in self._journal if owner == record.name), default=0)
            stored = replace(record, version=max(expected_version, last) + 1)
            entry = JournalEntry(at, stored.version, stored.generation, stored.owner, event, step, detail)
            self._records[record.name] = stored
            self._journal.append((record.name, entry))
            return stored

    def journal(self, name: str) -> tuple[JournalEntry, ...]:
        """See ``StateStore.journal``."""
        with self._lock:
            return tuple(entry for owner, entry in self._journal if owner == name)


class MemoryRouter:
    """A router whose clients are imaginary. ``clock`` gives seconds and decides when a pause ends."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._writer: Side = Side.SOURCE
        self._read_weight = 0
        self._paused_until = 0.0
        self._configured_ttl_seconds: int | None = None
        self._ttl_seconds: int | None = None

    def observe(self) -> RoutingStatus:
        """See ``Router.observe``."""
        return RoutingStatus(self._writer, self._read_weight, self._clock() < self._paused_until, self._ttl_seconds)

    def refuse_shift(self, percent: int) -> str:
        """See ``Router.refuse_shift``; any percent can be done."""
        return "" if 0 <= percent <= 100 else f"{percent} is not a percentage (0 to 100)."

    def shift_reads(self, percent: int) -> None:
        """See ``Router.shift_reads``. Raises PermanentError where ``refuse_shift`` has a reason."""
        if reason := self.refuse_shift(percent):
            raise PermanentError(reason, "Ask for another percentage.")
        self._read_weight = percent

    def use_names(self, ttl_seconds: int) -> None:
        """Route by imaginary names whose answers clients keep for ``ttl_seconds``."""
        self._configured_ttl_seconds = self._ttl_seconds = ttl_seconds

    def lower_ttl(self) -> float:
        """See ``Router.lower_ttl``."""
        if self._configured_ttl_seconds is None:
            return 0.0
        self._ttl_seconds = min(self._configured_ttl_seconds, SWITCH_TTL_SECONDS)
        return self._configured_ttl_seconds

    def pause(self, seconds: float) -> None:
        """See ``Router.pause``."""
        self._paused_until = self._clock() + seconds

    def resume(self) -> None:
        """See ``Router.resume``."""
        self._paused_until = 0.0

    def point_writer(self, side: Side) -> None:
        """See ``Router.point_writer``."""
        self._writer = side
        self._paused_until = 0.0

    def clean_up(self) -> None:
        """See ``Router.clean_up``; nothing was published."""
        self._ttl_seconds = self._configured_ttl_seconds
