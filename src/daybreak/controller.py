"""The loop: load, observe, decide, journal, execute, observe again.

One action per turn. The intended action is journalled before its effect and the result after it, both
by compare-and-swap, so that a second controller notices at once and a crash between any two statements
is mended by observing again. The controller decides nothing (``machine`` does) and speaks no SQL (the
ports do).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import tenacity

from daybreak import machine
from daybreak.errors import DaybreakError, Finding, PreflightFailed, Refused, StateConflict, TransientError
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
    Switchover,
    Verb,
    Wait,
)
from daybreak.ports import Replicator, Router, StateStore, Switch

_REPLICATOR_STEPS = frozenset(
    {
        Step.PREPARE,
        Step.TRANSFER_SCHEMA,
        Step.CLOSE_TARGET,
        Step.LOAD,
        Step.BUILD_INDEXES,
        Step.SUBSCRIBE,
        Step.JOIN_TABLES,
        Step.ADD_FOREIGN_KEYS,
        Step.SYNC_SEQUENCES,
        Step.REVERSE,
    }
)
_ENDED = frozenset({Phase.FINISHED, Phase.ABORTED})
_POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Event:
    """What the loop tells whoever watches: ``kind`` is intend, done, wait, retry, mark or progress.

    ``mark`` events come from inside the hot part of a switchover, one after each of its steps."""

    kind: str
    step: Step | None = None
    text: str = ""
    progress: Progress | None = None


Listener = Callable[[Event], None]


def utc_now() -> datetime:
    """The clock of a real run."""
    return datetime.now(UTC)


class Controller:
    """Runs one migration towards what its record asks for.

    ``owner`` names this process for people. ``take_over`` lets it replace a controller that is still
    connected; without it such a rival raises StateConflict before anything is touched.
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
        self._store = store
        self._replicator = replicator
        self._router = router
        self._switch = switch
        self._policy = policy
        self._owner = owner
        self._tell = listener
        self._preflight = preflight
        self._clock = clock
        self._sleep = sleep
        self._waiting_since: datetime | None = None

    def record(self) -> MigrationRecord:
        """The stored record, or a fresh one (version 0) where there is none yet."""
        return self._store.load(self.name) or MigrationRecord(name=self.name)

    def observe(self, record: MigrationRecord | None = None) -> Observation:
        """Both servers, the streams and the router as they are now. Never raises for what is down."""
        record = record or self.record()
        return Observation(
            at=self._clock(),
            source=self._switch.observe(Side.SOURCE),
            target=self._switch.observe(Side.TARGET),
            replication=self._replicator.observe(record.primary),
            routing=self._router.observe(),
        )

    def plan(self, verb: Verb) -> Plan:
        """What ``verb`` would do now, with every gate; does nothing. Raises Refused where it can't be asked."""
        record = self.record()
        if (refused := machine.refusal(record, verb)) is not None:
            raise Refused(refused.reason, refused.hint)
        return machine.plan(record, self.observe(record), self._policy, verb, self._measured())

    def run(self, verb: Verb, percent: int | None = None, take_over: bool = False) -> MigrationRecord:
        """Ask for ``verb`` and act until it is done; returns the record then.

        Raises Refused where the machine says no or the switchover backed out, PreflightFailed,
        StateConflict where another controller is at work, TransientError where waiting did not
        help. After any of them, and after Ctrl-C, the same call goes on where this one stopped."""
        record = self.record()
        self._refuse_early(record, verb, percent)
        record = self._take_charge(record, verb, take_over)
        if record.phase in _ENDED:
            return record
        record = self._swap(record, replace(record, intent=Intent(verb, self._clock(), percent)), f"asked: {verb}")
        while record.intent is not None:
            record = self._retrying()(self._turn)
        if record.last_error:
            raise Refused(record.last_error, "See `daybreak status`; the same command may be run again.")
        return record

    def adopt(self, rebuild: Callable[[Observation], MigrationRecord]) -> MigrationRecord:
        """Take charge from whoever holds the migration, and drop what it was asked for.

        Where the record is lost, or older than what the databases went through, ``rebuild`` makes
        it anew from them, once nobody else can move them any more; what only the old one knew is kept.
        Raises Refused where neither database knows the migration."""
        stored = self._store.load(self.name)
        if stored is not None and stored.phase in _ENDED:
            return stored
        found = rebuild(self.observe(stored))
        generation = max(found.generation, 0 if stored is None else stored.generation)
        if found.phase not in _ENDED:
            generation = self._retrying()(self._switch.claim, self._owner, generation, True)
            stored = self._store.load(self.name)
            found = rebuild(self.observe(stored))
        record = stored or MigrationRecord(name=self.name)
        # Somebody acted since: the databases had a higher generation than this record before the claim.
        if record.generation < generation - 1 or found.phase in _ENDED:
            record = replace(
                record,
                phase=found.phase,
                primary=found.primary,
                read_weight=found.read_weight,
                switchover=found.switchover,
                switchovers=found.switchovers,
            )
        changed = replace(record, owner=self._owner, generation=generation, intent=None, last_error="")
        return self._swap(record, changed, "adopted")

    def unfence(self) -> MigrationRecord:
        """After ``finish``: remove the fence from the old primary, which then takes writes of its own.

        Raises Refused in any other phase."""
        record = self.record()
        if record.phase is not Phase.FINISHED:
            raise Refused(
                f"Migration {record.name} is {record.phase}, not finished.",
                "The fence keeps two primaries from being; run `daybreak finish` first.",
            )
        self._retrying()(self._switch.unfence, record.primary.other)
        return self._swap(record, record, "unfenced")

    def _refuse_early(self, record: MigrationRecord, verb: Verb, percent: int | None) -> None:
        if (refused := machine.refusal(record, verb)) is not None:
            raise Refused(refused.reason, refused.hint)
        if percent is not None and (why := self._router.refuse_shift(percent)):
            raise Refused(f"Reads can't be shifted to {percent} percent: {why}", "Choose another share.")

    def _take_charge(self, record: MigrationRecord, verb: Verb, take_over: bool) -> MigrationRecord:
        """Raise the generation in both databases, then in the record."""
        if record.phase in _ENDED:
            return record
        if record.phase is Phase.PLANNED and verb is Verb.START and (blockers := _blockers(self._preflight())):
            raise PreflightFailed(blockers)
        if self._outdated(record):
            raise StateConflict(
                f"The databases went through switchovers that this record of {self.name} does not know.",
                "It was led on from another state file. Use that one, or run `daybreak adopt` to go on from here.",
            )
        claim = self._retrying()(self._switch.claim, self._owner, record.generation, take_over)
        changed = replace(record, owner=self._owner, generation=claim, last_error="")
        return self._swap(record, changed, f"generation {claim} is ours")

    def _outdated(self, record: MigrationRecord) -> bool:
        """Whether the databases have seen switchovers that ``record`` can't know: then it is an old copy.

        A switchover is recorded before it touches a database, so no crash leaves a record behind. And a
        side that was closed and not opened since is no primary, whatever the record says."""
        sides = [self._switch.observe(side) for side in Side]
        number = 0 if record.switchover is None else record.switchover.number
        primary = next(status for status in sides if status.side is record.primary)
        seen = max(max(status.closed_by, status.opened_by) for status in sides)
        return seen > record.switchovers or primary.closed_by > max(primary.opened_by, number)

    def _turn(self) -> MigrationRecord:
        record = self.record()
        if record.owner != self._owner:
            raise StateConflict(
                f"{record.owner or 'Somebody'} has taken over this migration (generation {record.generation}).",
                "Nothing more was done here. See `daybreak status`.",
            )
        decision = machine.decide(record, self.observe(record), self._policy)
        if not isinstance(decision, Wait):
            self._waiting_since = None
        match decision:
            case Done(summary=summary):
                return self._swap(record, replace(record, intent=None), summary)
            case Wait():
                self._wait(decision)
                return record
            case Refuse(reason=reason, hint=hint):
                return self._refuse(record, f"{reason} {hint}".strip())
            case Advance(step=step):
                return self._advance(record, step)

    def _wait(self, decision: Wait) -> None:
        self._tell(Event("wait", text=decision.reason))
        now = self._clock()
        self._waiting_since = self._waiting_since or now
        if decision.limited and (now - self._waiting_since).total_seconds() > self._policy.gate_patience_seconds:
            self._waiting_since = None
            raise TransientError(
                f"Gave up waiting: {decision.reason}", "Nothing is lost; mend this and run the same command again."
            )
        self._sleep(_POLL_SECONDS)

    def _refuse(self, record: MigrationRecord, reason: str) -> MigrationRecord:
        """Before the commit point a refusal backs out; elsewhere it just ends the intent."""
        if record.phase is Phase.SWITCHING and record.switchover is not None:
            given_up = replace(record.switchover, backed_out=reason)
            return self._swap(record, replace(record, switchover=given_up), f"backing out: {reason}")
        return self._swap(record, replace(record, intent=None, last_error=reason), f"refused: {reason}")

    def _advance(self, record: MigrationRecord, step: Step) -> MigrationRecord:
        record = self._swap(record, record, "intend", step)
        self._tell(Event("intend", step))
        changed = self._execute(record, step)
        record = self._swap(record, changed, "done", step)
        self._tell(Event("done", step))
        return record

    def _execute(self, record: MigrationRecord, step: Step) -> MigrationRecord:
        """Run the effect of ``step``; returns the record as it shall be stored."""
        if step in _REPLICATOR_STEPS:
            self._replicator.perform(step, record.generation, self._report)
            return record
        effects: dict[Step, Callable[[MigrationRecord], MigrationRecord]] = {
            Step.BEGIN: lambda r: replace(r, phase=Phase.LOADING),
            Step.ENTER_STREAMING: lambda r: replace(r, phase=Phase.STREAMING),
            Step.VERIFY: lambda r: replace(r, verification=self._switch.verify(r, self._report)),
            Step.SHIFT_READS: self._shift,
            Step.ENTER_SWITCHING: self._enter_switching,
            Step.ARM: self._doing(self._switch.arm),
            Step.SWITCH: self._hot,
            Step.OPEN: self._doing(self._switch.open),
            Step.REOPEN: self._reopen,
            Step.ROUTE: self._route,
            Step.SETTLE: self._settle,
            Step.CERTIFY: self._certify,
            Step.DISARM: self._doing(self._switch.disarm),
            Step.END_SWITCH: self._end_switch,
            Step.CLEAN_UP: self._clean_up,
            Step.END: self._end,
        }
        return effects[step](record)

    @staticmethod
    def _doing(effect: Callable[[MigrationRecord], None]) -> Callable[[MigrationRecord], MigrationRecord]:
        def run(record: MigrationRecord) -> MigrationRecord:
            effect(record)
            return record

        return run

    def _shift(self, record: MigrationRecord) -> MigrationRecord:
        percent = record.intent.percent if record.intent is not None and record.intent.percent is not None else 0
        self._router.shift_reads(percent)
        return replace(record, read_weight=percent)

    def _enter_switching(self, record: MigrationRecord) -> MigrationRecord:
        number = record.switchovers + 1
        switch = Switchover(number=number, to=record.primary.other, started_at=self._clock())
        return replace(record, phase=Phase.SWITCHING, switchover=switch, switchovers=number)

    def _hot(self, record: MigrationRecord) -> MigrationRecord:
        """Pause where the router can, switch, and route at once: clients wait for the last line."""
        try:
            self._router.pause(self._policy.max_write_pause_seconds)
            switched = self._switch.switch(record, lambda name: self._tell(Event("mark", Step.SWITCH, name)))
        except BaseException:
            self._router.resume()
            raise
        if switched.backed_out:
            self._router.resume()
        else:
            switched = self._try_route(switched)
        return replace(record, switchover=switched)

    def _try_route(self, switched: Switchover) -> Switchover:
        """Opening is never undone for a router: where it fails, the ROUTE step tries again."""
        try:
            self._router.point_writer(switched.to)
        except DaybreakError as error:
            self._tell(Event("retry", Step.ROUTE, error.message))
            return switched
        self._tell(Event("mark", Step.SWITCH, "routed"))
        return replace(switched, routed=True)

    def _reopen(self, record: MigrationRecord) -> MigrationRecord:
        self._switch.reopen(record)
        self._router.resume()
        return record

    def _route(self, record: MigrationRecord) -> MigrationRecord:
        switch = _under_way(record)
        self._router.point_writer(switch.to)
        return replace(record, switchover=replace(switch, routed=True))

    def _settle(self, record: MigrationRecord) -> MigrationRecord:
        self._switch.settle(record)
        return replace(record, switchover=replace(_under_way(record), settled=True))

    def _certify(self, record: MigrationRecord) -> MigrationRecord:
        found = self._switch.compare(record, self._report)
        switch = replace(_under_way(record), certified=True, certificate=found)
        return replace(record, switchover=switch, verification=found or record.verification)

    def _end_switch(self, record: MigrationRecord) -> MigrationRecord:
        switch = _under_way(record)
        switched = not switch.backed_out
        primary = switch.to if switched else record.primary
        aborting = record.intent is not None and record.intent.verb is Verb.ABORT
        if aborting and switched:
            error = f"Not aborted: the commit point had been passed, so {primary} is the primary now."
        else:
            error = "" if switched or aborting else switch.backed_out
        return replace(
            record,
            phase=Phase.STREAMING,
            primary=primary,
            switchover=None,
            last_switchover=replace(switch, outcome="switched" if switched else f"backed out: {switch.backed_out}"),
            intent=record.intent if aborting and not switched and primary is Side.SOURCE else None,
            last_error=error,
        )

    def _clean_up(self, record: MigrationRecord) -> MigrationRecord:
        finishing = record.intent is not None and record.intent.verb is Verb.FINISH
        self._router.clean_up()
        self._replicator.clean_up(record.generation, keep_target_data=finishing)
        self._switch.clean_up(record, unfence=not finishing)
        return record

    def _end(self, record: MigrationRecord) -> MigrationRecord:
        finishing = record.intent is not None and record.intent.verb is Verb.FINISH
        return replace(record, phase=Phase.FINISHED if finishing else Phase.ABORTED, intent=None)

    def _report(self, progress: Progress) -> None:
        self._tell(Event("progress", progress=progress))

    def _swap(
        self, old: MigrationRecord, new: MigrationRecord, event: str, step: Step | None = None
    ) -> MigrationRecord:
        return self._store.compare_and_swap(new, old.version, event, step, self._clock(), "")

    def _retrying(self) -> tenacity.Retrying:
        def tell(state: tenacity.RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome is not None else None
            self._tell(Event("retry", text=str(error)))

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TransientError),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=5.0),
            stop=tenacity.stop_after_delay(self._policy.gate_patience_seconds),
            before_sleep=tell,
            sleep=self._sleep,
            reraise=True,
        )

    def _measured(self) -> dict[Step, float]:
        """Seconds from "intend" to "done" of each step, the latest that was measured."""
        began: dict[Step, datetime] = {}
        seconds: dict[Step, float] = {}
        for entry in self._store.journal(self.name):
            if entry.step is not None and entry.event == "intend":
                began[entry.step] = entry.at
            elif entry.step is not None and entry.event == "done" and entry.step in began:
                seconds[entry.step] = (entry.at - began.pop(entry.step)).total_seconds()
        return seconds


def _blockers(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    return tuple(finding for finding in findings if finding.severity == "blocker")


def _under_way(record: MigrationRecord) -> Switchover:
    assert record.switchover is not None, "only reached in phase switching"
    return record.switchover
