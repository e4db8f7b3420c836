"""One migration's record and journal as the controller uses them, over any ``StateStore``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from daybreak.errors import StateConflict
from daybreak.model import MigrationRecord, Step
from daybreak.ports import StateStore

# What others may change while a controller works.
_BESIDE = ("intent", "last_error", "postponed_until", "told", "rollbacks_at", "rollbacks_then")


@dataclass(frozen=True)
class Keeping:
    """The record of migration ``name``; ``clock`` dates what is written."""

    name: str
    store: StateStore
    clock: Callable[[], datetime]

    def record(self) -> MigrationRecord:
        """The stored record, or a fresh one (version 0) where there is none yet."""
        return self.store.load(self.name) or MigrationRecord(name=self.name)

    def swap(self, old: MigrationRecord, new: MigrationRecord, event: str, step: Step | None = None) -> MigrationRecord:
        """Store ``new`` in place of ``old``; returns what is stored then.

        Where meanwhile only an operator changed their mind (intent, postponement; what failed before is over then),
        or people were told and failed reads counted, both hold. Raises StateConflict where anybody changed anything
        else."""
        try:
            return self.store.compare_and_swap(new, old.version, event, step, self.clock(), "")
        except StateConflict:
            now = self.record()
            as_before = replace(now, version=old.version, **{name: getattr(old, name) for name in _BESIDE})
            if now.version == old.version or as_before != old:
                raise
            changed = {name: getattr(now, name) for name in _BESIDE if getattr(now, name) != getattr(old, name)}
            if new.last_error != old.last_error:
                changed.pop("last_error", None)
            return self.swap(now, replace(new, **changed), event, step)

    def measured_seconds(self) -> dict[Step, float]:
        """Seconds from "intend" to "done" of each step, the latest that was measured."""
        began: dict[Step, datetime] = {}
        seconds: dict[Step, float] = {}
        for entry in self.store.journal(self.name):
            if entry.step is not None and entry.event == "intend":
                began[entry.step] = entry.at
            elif entry.step is not None and entry.event == "done" and entry.step in began:
                seconds[entry.step] = (entry.at - began.pop(entry.step)).total_seconds()
        return seconds
