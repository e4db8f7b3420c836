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
from daybreak.errors import ControllerAtWork, Refused, StateConflict
from daybreak.events import Event, Listener, outcome, utc_now
from daybreak.model import Intent, MigrationRecord, Observation, Phase, Step, Told, Verb
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

        A ``request`` that has a name is written into the journal with it, and asked for once only (``known``).
        Raises as ``run`` does."""
        while True:
            record = self.store.load(self.name) or MigrationRecord(self.name)
            if request and self._asked(request):
                return record
            if (refused := machine.refusal(record, verb)) is not None:
                raise Refused(refused.reason, refused.hint)
            if verb is Verb.SHIFT and (why := self._no_share(percent)):
                raise Refused(f"Reads can't be shifted to {percent} percent: {why}", "Choose another share.")
            if record.phase.ended or (_asks_for(record, verb, percent) and not request):
                return record
            if _asks_for(record, verb, percent):  # asked again, by a request that must not be taken for a new one
                asked = record
            else:
                refuse_beside(record, verb)
                asked = replace(record, intent=Intent(verb, self.clock(), percent), last_error="")
            try:
                return self.store.compare_and_swap(asked, record.version, f"asked: {verb}", None, self.clock(), request)
            except StateConflict:
                continue  # the controller moved meanwhile; what it did may change the answer

    def known(self, request: str, verb: Verb) -> MigrationRecord | None:
        """The record, where ``request`` was asked for before: AWS may deliver it again, even much later. None else.

        Raises Refused where it was the last that was asked for, and was refused."""
        if not (asked := self._asked(request)):
            return None
        record = self.store.load(self.name) or MigrationRecord(self.name)
        return outcome(record, verb) if asked[-1] == request and record.intent is None else record

    def begin(self, record: MigrationRecord, intent: Intent, why: str) -> None:
        """Ask for what begins by itself, judged by ``record``. Where anybody changed that meanwhile nothing is asked
        for: a person's wish, postponing included, goes first."""
        began = replace(record, intent=intent, last_error="")
        with suppress(StateConflict):
            self.store.compare_and_swap(began, record.version, f"by itself: {intent.verb}", None, self.clock(), why)

    def recount(self, record: MigrationRecord, seen: Observation) -> MigrationRecord:
        """Count failed reads anew from ``seen`` on; returns the record, which may have been changed by others."""
        changed = replace(record, rollbacks_at=seen.at, rollbacks_then=seen.target.rollbacks)
        try:
            event = "failed reads are counted anew"
            return self.store.compare_and_swap(changed, record.version, event, None, self.clock(), "")
        except StateConflict:  # the next look does it
            return self.store.load(self.name) or record

    def remember(self, record: MigrationRecord, told: Told) -> MigrationRecord:
        """Remember what people were told, where it changed; returns the record, as others may have changed it."""
        before = record.told
        while record.told == before != told:
            changed, at = replace(record, told=told), self.clock()
            try:
                return self.store.compare_and_swap(changed, record.version, "people were told", None, at, "")
            except StateConflict:
                record = self.store.load(self.name) or record
        return record

    def postpone(self, until: datetime | None) -> MigrationRecord:
        """Let nothing begin by itself before ``until`` (None: let it begin again); returns the record.

        What began by itself and still waits is taken back, too. What a person asked for goes on, and so does a
        switchover that is under way: `abort` ends those. Raises Refused before ``start`` and after the end."""
        while True:
            record = self.store.load(self.name)
            if record is None or record.phase.ended:
                raise Refused(f"There is no migration {self.name} under way.", "See `daybreak status`.")
            at = self.clock()
            event = "no longer postponed" if until is None else f"postponed until {until.isoformat(timespec='seconds')}"
            intent = record.intent if until is None else self._taken_back(record, event)
            changed = replace(record, postponed_until=until, intent=intent)
            with suppress(StateConflict):
                return self.store.compare_and_swap(changed, record.version, event, None, at, "")

    def _taken_back(self, record: MigrationRecord, why: str) -> Intent | None:
        """What is asked for, without what began by itself; a comparison's or hand-over's guard is removed first."""
        intent = record.intent
        waits = record.phase is Phase.STREAMING and not self._handing_over()
        if intent is None or not intent.by_itself or intent.given_up or not waits:
            return intent
        return None if intent.verb is Verb.SHIFT else replace(intent, given_up=f"It was {why}.")

    def _handing_over(self) -> bool:
        """One that was begun has to be finished: the stream stands still until then."""
        steps = [entry for entry in self.store.journal(self.name) if entry.step is not None]
        return bool(steps) and steps[-1].step is Step.HAND_OVER and steps[-1].event == "intend"

    def _asked(self, request: str) -> list[str]:
        """The names of all that was asked for so far, by whomever, if ``request`` is among them."""
        kinds = ("asked: ", "by itself: ")
        names = [entry.detail for entry in self.store.journal(self.name) if entry.event.startswith(kinds)]
        return names if request in names else []

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
            if entry.version > version and entry.event.startswith("failed: "):
                self.listener(Event("retry", text=f"it {entry.event}; it is tried again"))
            elif entry.version > version:
                kind = "intend" if entry.event == "intend" else "done" if entry.step is not None else "mark"
                self.listener(Event(kind, entry.step, entry.event))


def refuse_beside(record: MigrationRecord, verb: Verb) -> None:
    """Raise StateConflict where something is asked for already; only ``abort`` takes its place."""
    if record.intent is not None and verb is not Verb.ABORT:
        raise StateConflict(
            f"`{record.intent.verb}` was asked for and is not done yet.",
            "Wait for it (`daybreak status --watch`), or end it with `daybreak abort`.",
        )


def _asks_for(record: MigrationRecord, verb: Verb, percent: int | None) -> bool:
    intent = record.intent
    return intent is not None and (intent.verb, intent.percent) == (verb, percent) and not intent.given_up
