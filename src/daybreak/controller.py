"""The loop: load, observe, decide, journal, execute, observe again.

One action per turn. The intended action is journalled before its effect and the result after it, both
by compare-and-swap, so that a second controller notices at once and a crash between any two statements
is mended by observing again. The controller decides nothing (``machine`` does) and speaks no SQL (the
ports do).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from daybreak import machine
from daybreak.effects import Effects
from daybreak.errors import AdapterError, Finding, PreflightFailed, Refused, StateConflict, TransientError
from daybreak.events import Event, Listener, outcome, utc_now
from daybreak.keeping import Keeping
from daybreak.model import (
    Advance,
    Done,
    Intent,
    MigrationRecord,
    Observation,
    Phase,
    Plan,
    Policy,
    Progress,
    Refuse,
    Side,
    Step,
    Verb,
    Wait,
)
from daybreak.patience import Patience
from daybreak.ports import Replicator, Router, StateStore, Switch

# Were one of these cut off, a server might still carry it out: see Controller._unsure.
_FENCING = frozenset({Step.SWITCH, Step.OPEN, Step.REOPEN})


class Controller:
    """Runs one migration towards what its record asks for.

    ``seen`` is what was observed last. ``owner`` names this process for people. ``take_over`` lets it replace
    a controller that is still connected; without it such a rival raises StateConflict before anything is touched.
    """

    def __init__(
        self,
        name: str,
        store: StateStore,
        replicator: Replicator,
        router: Router,
        switch: Switch,
        policy: Policy,
        owner: str,
        listener: Listener = lambda _event: None,
        preflight: Callable[[], tuple[Finding, ...]] = tuple,
        clock: Callable[[], datetime] = utc_now,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self.seen: Observation | None = None
        self._kept = Keeping(name, store, clock)
        self._replicator = replicator
        self._router = router
        self._switch = switch
        self._effects = Effects(replicator, router, switch, policy, clock, self._report, self._mark, self._failed)
        self._policy = policy
        self._owner = owner
        self._tell = listener
        self._preflight = preflight
        self._clock = clock
        self._generation = 0
        self._patience = Patience(policy.gate_patience_seconds, listener, clock, sleep)
        # A step that opens or closes was cut off, and its server session may live on: judge by what is
        # seen only under a new generation, for claiming one waits for that session's end and fences it.
        self._unsure = False

    def record(self) -> MigrationRecord:
        """The stored record, or a fresh one (version 0) where there is none yet."""
        return self._kept.record()

    @property
    def lag_seconds(self) -> float | None:
        """The lag that was observed last; None where none was."""
        return None if self.seen is None else self.seen.replication.lag_seconds

    def observe(self, record: MigrationRecord | None = None) -> Observation:
        """Both servers, the streams and the router as they are now. Never raises for what is down."""
        record = record or self.record()
        self.seen = Observation(
            at=self._clock(),
            source=self._switch.observe(Side.SOURCE),
            target=self._switch.observe(Side.TARGET),
            replication=self._replicator.observe(record.primary),
            routing=self._router.observe(),
        )
        return self.seen

    def plan(self, verb: Verb) -> Plan:
        """What ``verb`` would do now, with every gate; does nothing. Raises Refused where it can't be asked."""
        record = self.record()
        if (refused := machine.refusal(record, verb)) is not None:
            raise Refused(refused.reason, refused.hint)
        return machine.plan(record, self.observe(record), self._policy, verb, self._kept.measured_seconds())

    def run(self, verb: Verb, percent: int | None = None, take_over: bool = False) -> MigrationRecord:
        """Ask for ``verb`` and act until it is done; returns the record then.

        Raises Refused where the machine says no or the switchover backed out, PreflightFailed,
        StateConflict where another controller is at work, TransientError where waiting did not
        help. After any of them, and after Ctrl-C, the same call goes on where this one stopped."""
        record = self.record()
        self._refuse_early(record, verb, percent)
        if record.phase.ended:
            return record
        if record.phase is Phase.PLANNED and verb is Verb.START and (blockers := _blockers(self._preflight())):
            raise PreflightFailed(blockers)
        seen = self.observe(record)
        self._stop_if_outdated(record, seen)
        sides = machine.to_claim(record, Intent(verb, seen.at, percent), seen)
        before, record = record, self._claim(take_over, sides)
        if record.phase.ended:
            return record
        if record.intent is not None and record.intent != before.intent:  # from elsewhere, just now
            return outcome(self._until_done(record), verb)
        self._refuse_early(record, verb, percent)
        left = record.switchover.number if record.switchover is not None and record.switchover.backed_out else 0
        record = self._pursue(record, Intent(verb, self._clock(), percent))
        if left and record.last_error and record.last_switchover is not None and record.last_switchover.number == left:
            # That only tidied up after a switchover that an earlier run gave up; now for this one's own.
            record = self._pursue(record, Intent(verb, self._clock(), percent))
        return outcome(record, verb)

    def serve(self, take_over: bool) -> MigrationRecord:
        """Act until nothing is asked for any more; what is asked for is in the record already.

        Raises like ``run``, but says in the record's ``last_error`` what was refused, and also what failed:
        whoever asked sees nothing else."""
        try:
            return self._serve(take_over)
        except AdapterError as error:
            self._note(error)
            raise

    def _serve(self, take_over: bool) -> MigrationRecord:
        record = self.record()
        if record.intent is None or record.phase.ended:
            return record
        seen = self.observe(record)
        self._stop_if_outdated(record, seen)
        record = self._claim(take_over, machine.to_claim(record, record.intent, seen))
        if record.intent is None or record.phase.ended:
            return record
        # By this clock, which dates all that the intent is judged by; the asker's may be wrong.
        taken_up = replace(record.intent, asked_at=self._clock())
        return self._until_done(self._kept.swap(record, replace(record, intent=taken_up), "taken up"))

    def _note(self, error: AdapterError) -> None:
        """Once for each kind of failure: what is asked for stays asked for, and may fail every minute."""
        record = self.record()
        if record.intent is not None and record.last_error != str(error):
            with suppress(StateConflict):
                self._kept.swap(record, replace(record, last_error=str(error)), f"failed: {error.message}")

    def _pursue(self, record: MigrationRecord, intent: Intent) -> MigrationRecord:
        """Write ``intent`` into the record and act until nothing is asked for any more."""
        return self._until_done(
            self._kept.swap(record, replace(record, intent=intent, last_error=""), f"asked: {intent.verb}")
        )

    def _until_done(self, record: MigrationRecord) -> MigrationRecord:
        while record.intent is not None:
            try:
                record = self._patience.retrying()(self._turn)
            except AdapterError as error:
                record = self._give_up(error)
        return record

    def adopt(self, rebuild: Callable[[Observation], MigrationRecord]) -> MigrationRecord:
        """Take charge from whoever holds the migration, and drop what it was asked for.

        Where the record is lost, or older than what the databases went through, ``rebuild`` makes
        it anew from them, once nobody else can move them any more; what only the old one knew is kept.
        Raises Refused where neither database knows the migration."""
        stored = self._kept.store.load(self.name)
        if stored is not None and stored.phase.ended:
            return stored
        found = rebuild(self.observe(stored))
        generation = max(found.generation, 0 if stored is None else stored.generation)
        if not found.phase.ended:
            generation = self._patience.retrying()(self._switch.claim, self._owner, generation, True)
            stored = self._kept.store.load(self.name)
        record = stored or MigrationRecord(name=self.name)
        seen = self.observe(record)
        found = rebuild(seen)
        # Somebody acted since: the databases had a higher generation than this record before the claim.
        acted = record.generation < generation - 1 or bool(machine.contradiction(record, seen))
        if acted or found.phase.ended:
            record = replace(
                record,
                phase=found.phase,
                primary=found.primary,
                read_weight=found.read_weight,
                switchover=found.switchover,
                switchovers=found.switchovers,
            )
        changed = replace(record, owner=self._owner, generation=generation, intent=None, last_error="")
        return self._kept.swap(record, changed, "adopted")

    def unfence(self) -> MigrationRecord:
        """After ``finish``: remove the fence from the old primary, which then takes writes of its own.

        Raises Refused in any other phase."""
        record = self.record()
        if record.phase is not Phase.FINISHED:
            raise Refused(
                f"Migration {record.name} is {record.phase}, not finished.",
                "The fence keeps two primaries from being; run `daybreak finish` first.",
            )
        self._patience.retrying()(self._switch.unfence, record.primary.other)
        return self._kept.swap(record, record, "unfenced")

    def _refuse_early(self, record: MigrationRecord, verb: Verb, percent: int | None) -> None:
        if (refused := machine.refusal(record, verb)) is not None:
            raise Refused(refused.reason, refused.hint)
        if verb is Verb.SHIFT:
            why = "no share was named" if percent is None else self._router.refuse_shift(percent)
            if why:
                raise Refused(f"Reads can't be shifted to {percent} percent: {why}", "Choose another share.")

    def _stop_if_outdated(self, record: MigrationRecord, seen: Observation) -> None:
        if why := machine.contradiction(record, seen):
            raise StateConflict(
                f"This record of {self.name} is not the newest: {why}.",
                "It was led on from another state file. Use that one, or run `daybreak adopt` to go on from here.",
            )

    def _claim(self, take_over: bool, sides: tuple[Side, ...] = tuple(Side)) -> MigrationRecord:
        """Raise the generation in the databases, then in the record, as it is once nobody else can act."""
        generation = self._patience.retrying()(
            self._switch.claim, self._owner, self.record().generation, take_over, sides
        )
        record = self.record()
        if record.phase.ended:  # by another process, just now: leave no trace of having claimed it
            self._switch.clean_up(record, unfence=record.phase is Phase.ABORTED)
            return record
        if record.generation >= generation:
            raise self._taken_over(record)
        changed = replace(record, owner=self._owner, generation=generation)
        record = self._kept.swap(record, changed, f"generation {generation} is ours")
        self._generation, self._unsure = generation, False
        return record

    def _taken_over(self, record: MigrationRecord) -> StateConflict:
        return StateConflict(
            f"{record.owner or 'Somebody'} has taken over this migration (generation {record.generation}).",
            "Nothing more was done here. See `daybreak status`.",
        )

    def _turn(self) -> MigrationRecord:
        record = self.record()
        if record.generation != self._generation:
            raise self._taken_over(record)
        if self._unsure:
            return self._make_sure(record)
        seen = self.observe(record)
        self._stop_if_outdated(record, seen)
        decision = machine.decide(record, seen, self._policy)
        self._patience.decided(decision)
        match decision:
            case Done(summary=summary):
                given_up = "" if record.intent is None else record.intent.given_up
                return self._kept.swap(record, replace(record, intent=None, last_error=given_up), summary)
            case Wait():
                self._patience.wait(decision)
                return record
            case Refuse(reason=reason, hint=hint):
                return self._refuse(record, seen, f"{reason} {hint}".strip())
            case Advance(step=step):
                self._patience.expect_progress(step)
                return self._advance(record, step)

    def _make_sure(self, record: MigrationRecord) -> MigrationRecord:
        """Not limited: perhaps nobody can write until the servers are back and this is known."""
        try:
            return self._claim(take_over=True)
        except TransientError as error:
            self._patience.wait(Wait(f"it is not known how far the switchover came: {error.message}", urgent=True))
            return record

    def _refuse(self, record: MigrationRecord, seen: Observation, reason: str) -> MigrationRecord:
        """Before the commit point a refusal backs out; elsewhere it just ends the intent."""
        if (given_up := machine.give_up(record, seen, reason)) is not None:
            return self._kept.swap(record, given_up, f"backing out: {reason}")
        return self._kept.swap(record, replace(record, intent=None, last_error=reason), f"refused: {reason}")

    def _give_up(self, error: AdapterError) -> MigrationRecord:
        """Where retrying did not help, undo what was begun if that is possible; raises ``error`` if not."""
        record = self.record()
        if record.generation != self._generation or self._unsure:
            raise error
        given_up = machine.give_up(record, self.observe(record), str(error))
        if given_up is None:
            raise error
        return self._kept.swap(record, given_up, f"giving up: {error.message}")

    def _advance(self, record: MigrationRecord, step: Step) -> MigrationRecord:
        self._tell(Event("intend", step))  # first: whoever hears it may have no time for it
        asked, record = record.intent, self._kept.swap(record, record, "intend", step)
        if record.intent != asked:
            return record  # somebody asked for something else: decide again
        self._unsure = step in _FENCING
        changed = self._effects.execute(record, step)
        self._unsure = False
        record = self._kept.swap(record, changed, "done", step)
        self._tell(Event("done", step))
        self._patience.done(step)
        return record

    def _mark(self, name: str) -> None:
        self._tell(Event("mark", Step.SWITCH, name))

    def _failed(self, step: Step, why: str) -> None:
        self._tell(Event("retry", step, why))

    def _report(self, progress: Progress) -> None:
        self._tell(Event("progress", progress=progress))


def _blockers(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    return tuple(finding for finding in findings if finding.severity == "blocker")
