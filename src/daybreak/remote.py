"""Asking for what another process does: the intent is written into the record, and its journal is followed.

So ``daybreak abort`` reaches a command that runs elsewhere, and every command a controller that runs on AWS.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from daybreak import machine
from daybreak.controller import Event, Listener, outcome, utc_now
from daybreak.errors import ControllerAtWork, Refused, StateConflict
from daybreak.model import Intent, MigrationRecord, Verb
from daybreak.ports import StateStore

_POLL_SECONDS = 0.5
_SILENT_SECONDS = 120.0


@dataclass
class Remote:
    """One migration that somebody else leads on. ``wake`` makes them look, where they can be made to.

    ``act`` does what is asked for here, should they be gone: it raises ControllerAtWork while they are not.
    ``refuse_shift`` is the router's (``ports.Router``)."""

    name: str
    store: StateStore
    listener: Listener
    refuse_shift: Callable[[int], str]
    wake: Callable[[], None] = lambda: None
    act: Callable[[Verb], MigrationRecord] | None = None
    clock: Callable[[], datetime] = utc_now
    sleep: Callable[[float], None] = time.sleep

    def run(self, verb: Verb, percent: int | None = None) -> MigrationRecord:
        """Ask for ``verb``, wait until it was acted on, and return the record then.

        Raises Refused where it can't be asked for or was not done, StateConflict where something else was
        asked for and is not done yet. Ctrl-C ends the waiting, not what was asked for."""
        record = self.ask(verb, percent)
        return record if record.phase.ended else outcome(self._follow(record, verb), verb)

    def ask(self, verb: Verb, percent: int | None = None, request: str = "") -> MigrationRecord:
        """Write the intent; returns the record with it. ``abort`` takes the place of what was asked for before.

        A ``request`` that has a name is written into the journal with it, and asked for once only: AWS may
        deliver it again, even much later. Raises as ``run`` does."""
        while True:
            record = self.store.load(self.name) or MigrationRecord(self.name)
            if request and any(entry.detail == request for entry in self.store.journal(self.name)):
                return record
            if (refused := machine.refusal(record, verb)) is not None:
                raise Refused(refused.reason, refused.hint)
            if verb is Verb.SHIFT and (why := self._no_share(percent)):
                raise Refused(f"Reads can't be shifted to {percent} percent: {why}", "Choose another share.")
            if record.phase.ended or _asks_for(record, verb, percent):
                return record
            if record.intent is not None and verb is not Verb.ABORT:
                raise StateConflict(
                    f"`{record.intent.verb}` was asked for and is not done yet.",
                    "Wait for it (`daybreak status --watch`), or end it with `daybreak abort`.",
                )
            asked = replace(record, intent=Intent(verb, self.clock(), percent))
            try:
                return self.store.compare_and_swap(asked, record.version, f"asked: {verb}", None, self.clock(), request)
            except StateConflict:
                continue  # the controller moved meanwhile; what it did may change the answer

    def postpone(self, until: datetime | None) -> MigrationRecord:
        """Let nothing begin by itself before ``until`` (None: let it begin again); returns the record.

        What is under way goes on: `abort` ends that. Raises Refused before ``start`` and after the end."""
        while True:
            record = self.store.load(self.name)
            if record is None or record.phase.ended:
                raise Refused(f"There is no migration {self.name} under way.", "See `daybreak status`.")
            at = self.clock()
            event = "no longer postponed" if until is None else f"postponed until {until.isoformat(timespec='seconds')}"
            with suppress(StateConflict):
                return self.store.compare_and_swap(
                    replace(record, postponed_until=until), record.version, event, None, at, ""
                )

    def _no_share(self, percent: int | None) -> str:
        return "no share was named" if percent is None else self.refuse_shift(percent)

    def _follow(self, record: MigrationRecord, verb: Verb) -> MigrationRecord:
        told, heard = record.version, self.clock()
        self.wake()
        while record.intent is not None:
            self.sleep(_POLL_SECONDS)
            found = self.store.load(self.name)
            if found is None:
                raise StateConflict(f"The record of {self.name} is gone.", "See `daybreak adopt`.")
            record = found
            if record.version > told:
                self._tell_since(told)
                told, heard = record.version, self.clock()
            elif self.act is not None:
                with suppress(ControllerAtWork):
                    return self.act(verb)
            elif (silent := (self.clock() - heard).total_seconds()) > _SILENT_SECONDS:
                self.listener(Event("wait", text=f"nobody has acted for {silent:.0f} s: see the controller's log"))
        return record

    def _tell_since(self, version: int) -> None:
        for entry in self.store.journal(self.name):
            if entry.version > version:
                kind = "intend" if entry.event == "intend" else "done" if entry.step is not None else "mark"
                self.listener(Event(kind, entry.step, entry.event))


def _asks_for(record: MigrationRecord, verb: Verb, percent: int | None) -> bool:
    intent = record.intent
    return intent is not None and (intent.verb, intent.percent) == (verb, percent) and not intent.given_up
