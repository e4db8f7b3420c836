"""Every decision of the controller, pure: what may be asked for, and which step of ``table`` comes next.

``decide`` takes the first row of the table that is needed, unless something keeps it from being taken;
``plan`` lists what would be taken. No I/O and no clock: time is ``observation.at``. What can't be seen is
never taken for absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from daybreak.gates import feeding, gates, judge
from daybreak.model import (
    Advance,
    Decision,
    Done,
    Intent,
    MigrationRecord,
    Observation,
    Phase,
    Plan,
    PlannedStep,
    Policy,
    Refuse,
    Side,
    Step,
    Verb,
    Wait,
)
from daybreak.table import MOVE, TABLE, before_commit, guard_left, new_opened, old_closed

# --- what may be asked for


def refusal(record: MigrationRecord, verb: Verb) -> Refuse | None:
    """Why ``verb`` can't be asked for in the record's phase, whatever the servers say; None if it can."""
    phase = record.phase
    if phase.ended:
        if (phase, verb) in {(Phase.FINISHED, Verb.FINISH), (Phase.ABORTED, Verb.ABORT)}:
            return None
        return Refuse(f"Migration {record.name} is {phase}.", "Begin a new one under another name.")
    if phase is Phase.SWITCHING:
        return _refused_while_switching(record, verb)
    begun = None if record.intent is None else record.intent.verb
    if begun in {Verb.ABORT, Verb.FINISH} and verb is not begun:
        return Refuse(f"`{begun}` was begun and may have removed things.", f"Run `daybreak {begun}` to its end.")
    if phase is Phase.PLANNED and verb not in {Verb.START, Verb.ABORT}:
        return Refuse("Nothing has been started yet.", "Run `daybreak start` first.")
    if phase is Phase.LOADING and verb not in {Verb.START, Verb.ABORT}:
        return Refuse("The full load is not finished.", "Run `daybreak start` again: it goes on where it stopped.")
    if verb is Verb.ABORT and record.primary is Side.TARGET:
        return Refuse("The target is the primary: aborting would lose its writes.", "Run `daybreak rollback` first.")
    if verb is Verb.FINISH and record.primary is Side.SOURCE:
        return Refuse(
            "The source is still the primary.",
            "Run `daybreak cutover` first, or `daybreak abort` to stay on the source.",
        )
    return None


def _refused_while_switching(record: MigrationRecord, verb: Verb) -> Refuse | None:
    to = record.primary.other if record.switchover is None else record.switchover.to
    under_way = Verb.CUTOVER if to is Side.TARGET else Verb.ROLLBACK
    if verb in {under_way, Verb.ABORT}:
        return None
    end = " and end the migration" if to is Side.TARGET else ""
    return Refuse(
        f"A switchover to {to} is under way.",
        f"Run `daybreak {under_way}` to go on with it, or `daybreak abort` to back out of it{end}.",
    )


def contradiction(record: MigrationRecord, seen: Observation) -> str:
    """What the databases say against the record, or the empty string.

    A record may be a stale copy or a second file, and acting on one that names the wrong primary would
    close or drop the side that applications write to. Both databases know who closed and opened them."""
    under_way = 0 if record.switchover is None else record.switchover.number
    for status in (seen.source, seen.target):
        if (number := max(status.closed_by, status.opened_by)) > record.switchovers:
            return f"{status.side} took part in switchover {number}, of which this record knows nothing"
    primary, standby = seen.side(record.primary), seen.side(record.primary.other)
    if primary.closed_by > primary.opened_by and primary.closed_by != under_way:
        return f"{primary.side} is the primary in this record, but switchover {primary.closed_by} closed it"
    if standby.opened_by > standby.closed_by and standby.opened_by != under_way:
        return f"{standby.side} is the standby in this record, but switchover {standby.opened_by} opened it"
    return ""


def to_claim(record: MigrationRecord, intent: Intent, seen: Observation) -> tuple[Side, ...]:
    """On which sides to take charge for ``intent``: on both, but that reads may leave a standby which does not
    answer. Nothing is done there then, and whoever acts there later takes charge of it anew."""
    standby = seen.side(record.primary.other)
    leaving = intent.verb is Verb.SHIFT and not _towards_standby(replace(record, intent=intent), seen)
    if leaving and record.phase is Phase.STREAMING and not standby.reachable:
        return (record.primary,)
    return tuple(Side)


def give_up(record: MigrationRecord, seen: Observation, reason: str) -> MigrationRecord | None:
    """``record`` with what is asked for given up, so that the loop undoes what was begun for it.

    None where there is nothing to undo, and where it must not or can't be known to be right."""
    switch, intent = record.switchover, record.intent
    if record.phase is Phase.SWITCHING and switch is not None:
        if seen.side(switch.to.other).reachable and before_commit(record, seen):
            return replace(record, switchover=replace(switch, backed_out=reason))
        return None
    if record.phase is Phase.STREAMING and intent is not None and not intent.given_up:
        # What a hand-over was begun with before it failed.
        guarded = intent.verb is Verb.CUTOVER and guard_left(record, seen)
        if intent.verb is Verb.VERIFY or guarded:
            return replace(record, intent=replace(intent, given_up=reason))
    return None


# --- the engine


def decide(record: MigrationRecord, seen: Observation, policy: Policy) -> Decision:
    """The one next action for ``record`` given ``seen``.

    Returns Done where nothing is asked for or all of it holds. Never advances past an unreachable
    server: what can't be seen is not assumed."""
    intent = record.intent
    if intent is None:
        return Done("nothing is asked for")
    if (refused := refusal(record, intent.verb)) is not None:
        return refused
    if unseen := _unseen(record, intent, seen):
        return unseen
    if record.phase is Phase.SWITCHING and before_commit(record, seen):
        if intent.verb is Verb.ABORT:
            return Refuse("The operator aborted it.", "")
        if intent.given_up:  # taken back in the very moment in which the switchover was entered
            return Refuse(intent.given_up, "")
    for row in TABLE:
        if row.phase is record.phase and intent.verb in row.verbs and row.needed(record, seen):
            return _blocked(record, seen, policy, row.step) or Advance(row.step)
    return Done(f"{intent.verb}: done")


def _unseen(record: MigrationRecord, intent: Intent, seen: Observation) -> Wait | None:
    """Wait where what the rows judge by can't be seen now."""
    if record.phase is Phase.SWITCHING:
        return _blind(record, seen)
    if intent.verb in {*MOVE, Verb.SHIFT}:
        return None  # judged by gates, and by the health of the side that reads go to
    for status in (seen.source, seen.target):
        if not status.reachable:
            return Wait(f"{status.side} is not reachable: {status.problem}", limited=True)
    if intent.verb is Verb.START and seen.replication.problem:
        return Wait(seen.replication.problem, limited=True)
    return None


def _blind(record: MigrationRecord, seen: Observation) -> Wait | None:
    """Wait where the rows of a switchover can't be told apart.

    A side that passed its commit point, or may have, must be seen together with the other: were a
    silent side taken for unopened, reopening the other would make two primaries (I1). An old primary
    that is seen unclosed proves the other one unopened, for nothing is opened before."""
    switch = record.switchover
    if switch is None or new_opened(record, seen):
        return None
    old, new = seen.side(switch.to.other), seen.side(switch.to)
    if not old.reachable:
        return Wait(
            f"{old.side} is not reachable, so it is not known whether it was closed: {old.problem}", limited=True
        )
    if not new.reachable and old_closed(record, seen):
        # Not limited: nobody can write until this one is back and opened.
        return Wait(
            f"{old.side} is closed and {new.side}, which must open, is not reachable: {new.problem}", urgent=True
        )
    return None


# These touch one server, or none, and must not wait for the other. A certificate that can't be had any
# more is no reason to keep the guard.
_ONE_SIDED = frozenset({Step.REOPEN, Step.ROUTE, Step.CERTIFY, Step.DISARM, Step.END_SWITCH})


def _blocked(record: MigrationRecord, seen: Observation, policy: Policy, step: Step) -> Decision | None:
    """What keeps ``step`` from being taken now, if anything does."""
    if step is Step.ENTER_SWITCHING and record.old_ttl_until is not None and seen.at < record.old_ttl_until:
        left = (record.old_ttl_until - seen.at).total_seconds()
        return Wait(f"clients may still hold the writer's address under its old TTL: {left:.0f} s")
    if step in {Step.ENTER_SWITCHING, Step.SWITCH} or _begins_hand_over(record, seen, step):
        return judge(record, seen, policy)
    if step is Step.SHIFT_READS and not _towards_standby(record, seen):
        return None
    for status in (seen.source, seen.target):
        if not status.reachable and step not in _ONE_SIDED:
            return Wait(f"{status.side} is not reachable: {status.problem}", limited=True)
    if step in {Step.LOAD, Step.SUBSCRIBE} and seen.replication.loading:
        return Wait(seen.replication.loading)
    if step in {Step.ADD_FOREIGN_KEYS, Step.REVERSE, Step.ENTER_STREAMING}:
        return _catching_up(seen, policy)
    if record.phase is Phase.STREAMING and step in {Step.SHIFT_READS, Step.ARM, Step.VERIFY}:
        streams = seen.replication
        if streams.problem or not feeding(streams, record.primary):
            return Wait(streams.problem or f"the stream is down {streams.apply_error}".rstrip(), limited=True)
        if streams.tables_unready:
            return Wait(f"{len(streams.tables_unready)} table(s) are still being copied")
    return None


def _begins_hand_over(record: MigrationRecord, seen: Observation, step: Step) -> bool:
    """One that was begun is finished whatever the gates say: the stream stands still until then."""
    streams = seen.replication
    if record.phase is not Phase.STREAMING or streams.handed_over or streams.handing_over:
        return False
    cutover = record.intent is not None and record.intent.verb is Verb.CUTOVER
    return step is Step.HAND_OVER or (step is Step.ARM and cutover)


def _towards_standby(record: MigrationRecord, seen: Observation) -> bool:
    """Whether reads are to leave the primary: only then does the standby have to be well."""
    wanted = 0 if record.intent is None or record.intent.percent is None else record.intent.percent
    now = seen.routing.read_weight
    return wanted > now if record.primary is Side.SOURCE else wanted < now


def _catching_up(seen: Observation, policy: Policy) -> Wait | None:
    streams = seen.replication
    error = f" ({streams.apply_error})" if streams.apply_error else ""
    if streams.loading:
        return Wait(streams.loading)
    if not streams.forward:
        return Wait(f"the stream from source to target is down{error}", limited=True)
    if streams.tables_unready:
        return Wait(f"{len(streams.tables_unready)} table(s) are still being copied{error}")
    if streams.lag_seconds is None or streams.lag_seconds > policy.max_lag_seconds:
        lag = "unknown" if streams.lag_seconds is None else f"{streams.lag_seconds:.1f} s"
        return Wait(f"catching up: lag {lag}{error}")
    return None


def plan(
    record: MigrationRecord, seen: Observation, policy: Policy, verb: Verb, measured: Mapping[Step, float]
) -> Plan:
    """What ``verb`` would do from here. ``measured`` holds seconds that steps took before."""
    asked = replace(record, intent=Intent(verb, seen.at))
    steps: list[PlannedStep] = []
    phases = {record.phase}
    for row in TABLE:
        if row.phase not in phases or verb not in row.verbs:
            continue
        # What the first steps bring about makes later ones needed: only those of the phase that the
        # record is in now can be known to be fulfilled.
        needed = row.phase is record.phase and row.needed(asked, seen)
        if not needed and (row.recovery or (row.foreseen and row.phase is record.phase)):
            continue
        steps.append(PlannedStep(row.step, row.what, measured.get(row.step), row.pauses_writes))
        if row.enters is not None:
            phases.add(row.enters)
    return Plan(verb, tuple(steps), gates(record, seen, policy) if verb in MOVE else ())
