"""Every decision of the controller, pure: a transition table and the engine that reads it.

``TABLE`` is what a person reads; the diagram in docs/ is generated from it. A row says: in this
phase, for this verb, take this step as long as it is needed. ``decide`` takes the first row that is
needed, after the gates; ``plan`` lists what would be taken. No I/O and no clock: time is
``observation.at``.

Invariant kept by the order of the rows: a side is opened only when the other one was seen closed
by the same switchover (I1), and it is opened forward only, never reopened, once the commit point
was seen (DESIGN: the switchover protocol).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from daybreak.model import (
    Advance,
    Decision,
    Done,
    Gate,
    GuardState,
    Intent,
    MigrationRecord,
    Observation,
    Phase,
    Plan,
    PlannedStep,
    Policy,
    Refuse,
    Side,
    SideStatus,
    Step,
    Verb,
    Wait,
)

Needed = Callable[[MigrationRecord, Observation], bool]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table. ``enters`` is the phase that the step leads to, where it leads to one.

    ``recovery`` rows are taken after a crash only and are no part of a plan; rows that are not
    ``foreseen`` become needed by the rows before them, so a plan always names them."""

    phase: Phase
    verbs: tuple[Verb, ...]
    step: Step
    needed: Needed
    what: str
    enters: Phase | None = None
    pauses_writes: bool = False
    recovery: bool = False
    foreseen: bool = True


def destination(record: MigrationRecord, verb: Verb) -> Side:
    """The side that ``verb`` wants to be primary."""
    return {Verb.CUTOVER: Side.TARGET, Verb.ROLLBACK: Side.SOURCE}.get(verb, record.primary)


def _always(_record: MigrationRecord, _seen: Observation) -> bool:
    return True


def _old_closed(record: MigrationRecord, seen: Observation) -> bool:
    """The commit point of the present switchover was passed on the old primary."""
    switch = record.switchover
    return switch is not None and seen.side(switch.to.other).closed_by == switch.number


def _new_opened(record: MigrationRecord, seen: Observation) -> bool:
    switch = record.switchover
    return switch is not None and seen.side(switch.to).opened_by == switch.number


def _gave_up(record: MigrationRecord, _seen: Observation) -> bool:
    return record.switchover is not None and bool(record.switchover.backed_out)


def _flag_left_closed(record: MigrationRecord, seen: Observation) -> bool:
    """The flag is closed but the closing never committed: the old primary is still the primary."""
    switch = record.switchover
    if switch is None or _old_closed(record, seen) or _new_opened(record, seen):
        return False
    return seen.side(switch.to.other).guard is GuardState.CLOSED


def _unguarded(record: MigrationRecord, seen: Observation) -> bool:
    primary = seen.side(record.primary)
    return primary.guard is not GuardState.OPEN or primary.guarded_tables < primary.tables


def _unverified(record: MigrationRecord, _seen: Observation) -> bool:
    intent = record.intent
    return intent is not None and (record.verification is None or record.verification.at < intent.asked_at)


def _guard_left(record: MigrationRecord, seen: Observation) -> bool:
    switch = record.switchover
    opened = switch is not None and _new_opened(record, seen)
    primary = seen.side(switch.to if switch is not None and opened else record.primary)
    return primary.guarded_tables > 0


def _open(record: MigrationRecord, seen: Observation) -> bool:
    return _old_closed(record, seen) and not _new_opened(record, seen)


def _before_commit(record: MigrationRecord, seen: Observation) -> bool:
    return not (_old_closed(record, seen) or _new_opened(record, seen) or _gave_up(record, seen))


def _unrouted(record: MigrationRecord, seen: Observation) -> bool:
    return _new_opened(record, seen) and record.switchover is not None and not record.switchover.routed


def _unsettled(record: MigrationRecord, seen: Observation) -> bool:
    return _new_opened(record, seen) and record.switchover is not None and not record.switchover.settled


def _uncertified(record: MigrationRecord, seen: Observation) -> bool:
    return _new_opened(record, seen) and record.switchover is not None and not record.switchover.certified


_START = (Verb.START,)
_MOVE = (Verb.CUTOVER, Verb.ROLLBACK)
_SWITCHING = (Verb.CUTOVER, Verb.ROLLBACK, Verb.ABORT)
_END = (Verb.ABORT, Verb.FINISH)

TABLE: tuple[Row, ...] = (
    # start: from nothing to two servers in step
    Row(Phase.PLANNED, _START, Step.BEGIN, _always, "check both servers and take charge of them", Phase.LOADING),
    Row(
        Phase.LOADING,
        _START,
        Step.PREPARE,
        lambda r, o: not o.replication.prepared,
        "create publication, replication role and bookkeeping",
    ),
    Row(
        Phase.LOADING,
        _START,
        Step.TRANSFER_SCHEMA,
        lambda r, o: not o.replication.schema_transferred,
        "copy the schema (tables, types, functions)",
    ),
    Row(
        Phase.LOADING,
        _START,
        Step.CLOSE_TARGET,
        lambda r, o: o.target.guard is not GuardState.CLOSED or o.target.guarded_tables < o.target.tables,
        "close the target to application writes",
    ),
    Row(
        Phase.LOADING,
        _START,
        Step.LOAD,
        lambda r, o: not o.replication.load_done or o.replication.slot_lost,
        "copy all rows under one snapshot",
    ),
    Row(
        Phase.LOADING,
        _START,
        Step.BUILD_INDEXES,
        lambda r, o: not o.replication.indexes_built,
        "build indexes, constraints and triggers",
    ),
    Row(
        Phase.LOADING,
        _START,
        Step.SUBSCRIBE,
        lambda r, o: not o.replication.subscribed,
        "stream changes since the snapshot",
    ),
    Row(
        Phase.LOADING,
        _START,
        Step.JOIN_TABLES,
        lambda r, o: o.replication.tables_to_join > 0,
        "join tables that the load did not finish",
    ),
    Row(
        Phase.LOADING,
        _START,
        Step.ADD_FOREIGN_KEYS,
        lambda r, o: not o.replication.foreign_keys_added,
        "add and validate foreign keys",
    ),
    Row(
        Phase.LOADING,
        _START,
        Step.SYNC_SEQUENCES,
        lambda r, o: not o.replication.sequences_synced,
        "set sequences, analyze the target",
    ),
    Row(
        Phase.LOADING,
        _START,
        Step.REVERSE,
        lambda r, o: o.replication.bidirectional and not o.replication.reverse,
        "create the stream back",
    ),
    Row(Phase.LOADING, _START, Step.ENTER_STREAMING, _always, "record that both sides are in step", Phase.STREAMING),
    # streaming: what an operator may ask for
    Row(
        Phase.STREAMING,
        (Verb.VERIFY,),
        Step.ARM,
        lambda r, o: _unverified(r, o) and _unguarded(r, o),
        "guard every table of the primary (open)",
    ),
    Row(
        Phase.STREAMING,
        (Verb.VERIFY,),
        Step.VERIFY,
        _unverified,
        "hold writers for an instant, snapshot both sides, compare",
        pauses_writes=True,
    ),
    Row(Phase.STREAMING, (Verb.VERIFY,), Step.DISARM, _guard_left, "drop the guard from the primary", foreseen=False),
    Row(
        Phase.STREAMING,
        (Verb.SHIFT,),
        Step.SHIFT_READS,
        lambda r, o: (
            (r.intent is not None and r.intent.percent not in {None, o.routing.read_weight}) or _shift_unrecorded(r)
        ),
        "move the share of reads",
    ),
    Row(
        Phase.STREAMING,
        _MOVE,
        Step.ENTER_SWITCHING,
        lambda r, o: r.intent is not None and destination(r, r.intent.verb) is not r.primary,
        "judge the gates and begin the switchover",
        Phase.SWITCHING,
    ),
    # switching: crash recovery first, so that a restarted controller ends a pause before anything else
    Row(
        Phase.SWITCHING,
        _SWITCHING,
        Step.OPEN,
        _open,
        "open the new primary (the old one is closed for good)",
        recovery=True,
    ),
    Row(Phase.SWITCHING, _SWITCHING, Step.REOPEN, _flag_left_closed, "let the old primary go on", recovery=True),
    Row(
        Phase.SWITCHING,
        _MOVE,
        Step.ARM,
        lambda r, o: _before_commit(r, o) and _unguarded(r, o),
        "guard every table of the primary (open), connect everything the switch needs",
    ),
    Row(
        Phase.SWITCHING,
        _MOVE,
        Step.SWITCH,
        _before_commit,
        "hold, drain, snapshot, sequences, commit, open",
        pauses_writes=True,
    ),
    Row(Phase.SWITCHING, _SWITCHING, Step.ROUTE, _unrouted, "send writers to the new primary", foreseen=False),
    Row(
        Phase.SWITCHING,
        _SWITCHING,
        Step.SETTLE,
        _unsettled,
        "end sessions that predate the commit point, write a canary",
        foreseen=False,
    ),
    Row(
        Phase.SWITCHING,
        _SWITCHING,
        Step.CERTIFY,
        _uncertified,
        "compare both sides as they were at the fence",
        foreseen=False,
    ),
    Row(Phase.SWITCHING, _SWITCHING, Step.DISARM, _guard_left, "drop the guard from the primary", foreseen=False),
    Row(Phase.SWITCHING, _SWITCHING, Step.END_SWITCH, _always, "record the outcome", Phase.STREAMING),
    # the end, from both sides
    Row(Phase.PLANNED, (Verb.ABORT,), Step.CLEAN_UP, lambda r, o: _traces(o), "remove every trace"),
    Row(Phase.LOADING, (Verb.ABORT,), Step.CLEAN_UP, lambda r, o: _traces(o), "remove every trace"),
    Row(Phase.LOADING, (Verb.ABORT,), Step.END, _always, "record the end", Phase.ABORTED),
    Row(Phase.PLANNED, (Verb.ABORT,), Step.END, _always, "record the end", Phase.ABORTED),
    Row(
        Phase.STREAMING,
        _END,
        Step.CLEAN_UP,
        lambda r, o: _traces(o),
        "end the streams and remove every trace (finish keeps the old primary fenced)",
    ),
    Row(Phase.STREAMING, (Verb.ABORT,), Step.END, _always, "record the end", Phase.ABORTED),
    Row(Phase.STREAMING, (Verb.FINISH,), Step.END, _always, "record the end", Phase.FINISHED),
)


def _shift_unrecorded(record: MigrationRecord) -> bool:
    return record.intent is not None and record.intent.percent != record.read_weight


def _traces(seen: Observation) -> bool:
    return seen.source.generation > 0 or seen.target.generation > 0


def refusal(record: MigrationRecord, verb: Verb) -> Refuse | None:
    """Why ``verb`` can't be asked for in the record's phase, whatever the servers say; None if it can."""
    phase, primary = record.phase, record.primary
    if phase in {Phase.FINISHED, Phase.ABORTED}:
        if (phase, verb) in {(Phase.FINISHED, Verb.FINISH), (Phase.ABORTED, Verb.ABORT)}:
            return None
        return Refuse(f"Migration {record.name} is {phase}.", "Begin a new one under another name.")
    if phase is Phase.PLANNED and verb not in {Verb.START, Verb.ABORT}:
        return Refuse("Nothing has been started yet.", "Run `daybreak start` first.")
    if phase is Phase.LOADING and verb not in {Verb.START, Verb.ABORT}:
        return Refuse("The full load is not finished.", "Run `daybreak start` again: it goes on where it stopped.")
    if phase is Phase.SWITCHING and record.switchover is not None:
        under_way = Verb.CUTOVER if record.switchover.to is Side.TARGET else Verb.ROLLBACK
        if verb not in {under_way, Verb.ABORT}:
            return Refuse(
                f"A switchover to {record.switchover.to} is under way.",
                f"Run `daybreak {under_way}` to go on with it, or `daybreak abort` to back out of it.",
            )
    if verb is Verb.ABORT and primary is Side.TARGET and phase is not Phase.SWITCHING:
        return Refuse("The target is the primary: aborting would lose its writes.", "Run `daybreak rollback` first.")
    if verb is Verb.FINISH and primary is Side.SOURCE:
        return Refuse(
            "The source is still the primary.",
            "Run `daybreak cutover` first, or `daybreak abort` to stay on the source.",
        )
    return None


def outdated(record: MigrationRecord, source: SideStatus, target: SideStatus) -> bool:
    """Whether the databases have seen switchovers that ``record`` can't know: then it is somebody's old copy.

    A switchover is recorded before it touches a database, so a record never lags behind by a crash. A
    side that was closed and not opened since is no primary, whatever the record says."""
    seen = max(source.closed_by, source.opened_by, target.closed_by, target.opened_by)
    primary = source if record.primary is Side.SOURCE else target
    under_way = 0 if record.switchover is None else record.switchover.number
    return seen > record.switchovers or primary.closed_by > max(primary.opened_by, under_way)


def gates(record: MigrationRecord, seen: Observation, policy: Policy) -> tuple[Gate, ...]:
    """Every condition of a switchover with its value now, in the order a person would ask."""
    primary, standby, streams = seen.side(record.primary), seen.side(record.primary.other), seen.replication
    lag = streams.lag_seconds
    checked = record.verification
    age = None if checked is None else (seen.at - checked.at).total_seconds()
    fresh = checked is not None and age is not None and checked.clean and age <= policy.max_verification_age_seconds
    age_text = "never verified" if checked is None else f"{age:.0f} s old, {'clean' if checked.clean else 'not clean'}"
    long_for = primary.longest_transaction_seconds
    ready = streams.forward and streams.reverse if streams.bidirectional else streams.forward or streams.reverse
    unready = ", ".join(streams.tables_unready[:5]) or "all ready"
    missing = ", ".join(streams.tables_unreplicated[:5]) or "all replicated"
    return (
        Gate(
            "servers reachable",
            not (primary.problem or standby.problem),
            primary.problem or standby.problem or "both",
            "Start the server or mend the network.",
            True,
        ),
        Gate(
            "replication healthy",
            not (streams.problem or streams.slot_lost),
            streams.problem or ("slot lost" if streams.slot_lost else "yes"),
            "See `daybreak status`; the server's log names the row that could not be applied.",
            True,
        ),
        Gate(
            "streams ready",
            ready,
            f"forward {_up(streams.forward)}, reverse {_up(streams.reverse)}",
            "See pg_stat_subscription on both servers.",
            True,
        ),
        Gate(
            "lag",
            lag is not None and lag <= policy.max_lag_seconds,
            "not measurable" if lag is None else f"{lag:.3f} s (limit {policy.max_lag_seconds:g} s)",
            "Wait, or raise cutover.max_lag_seconds.",
            True,
        ),
        Gate("tables in step", not streams.tables_unready, unready, "Wait until their initial copy is done.", True),
        Gate(
            "tables replicated",
            not streams.tables_unreplicated,
            missing,
            "Create them on the target and run `daybreak start` again, or exclude them.",
        ),
        Gate(
            "same structure",
            bool(primary.fingerprint) and primary.fingerprint == standby.fingerprint,
            "equal" if primary.fingerprint == standby.fingerprint else "different",
            "Apply the same DDL on both sides (compare `pg_dump --schema-only`).",
        ),
        Gate(
            "verified", fresh, f"{age_text} (limit {policy.max_verification_age_seconds:g} s)", "Run `daybreak verify`."
        ),
        Gate(
            "no prepared transactions",
            primary.prepared_transactions == 0,
            str(primary.prepared_transactions),
            "COMMIT PREPARED or ROLLBACK PREPARED them (pg_prepared_xacts).",
            True,
        ),
        Gate(
            "no long transaction",
            long_for <= policy.max_transaction_seconds,
            f"{long_for:.1f} s {primary.longest_transaction}".rstrip(),
            "End that session, or raise cutover.max_transaction_seconds.",
            True,
        ),
        Gate(
            "router",
            not seen.routing.problem,
            seen.routing.problem or "answers",
            "See the [traffic] section and the router's log.",
            True,
        ),
        Gate(
            "standby closed",
            standby.guard is GuardState.CLOSED and standby.guarded_tables >= standby.tables,
            f"{standby.guard}, {standby.guarded_tables} of {standby.tables} tables guarded",
            "Run `daybreak start` again: it closes new tables.",
        ),
    )


def _up(there: bool) -> str:
    return "up" if there else "down"


def _judge(record: MigrationRecord, seen: Observation, policy: Policy) -> Decision | None:
    """None where every gate is green; Wait while only transient ones are red and patience lasts."""
    red = [gate for gate in gates(record, seen, policy) if not gate.ok]
    if not red or record.intent is None:
        return None
    text = "; ".join(f"{gate.name}: {gate.value}" for gate in red)
    waited = (seen.at - record.intent.asked_at).total_seconds()
    if all(gate.transient for gate in red) and waited < policy.gate_patience_seconds:
        return Wait(f"waiting for gates: {text}")
    return Refuse(f"Not switched, nothing was changed. {text}.", " ".join(gate.fix for gate in red))


# These touch one server, or none, and must not wait for the other.
_ONE_SIDED = frozenset({Step.REOPEN, Step.ROUTE, Step.DISARM, Step.END_SWITCH, Step.END, Step.BEGIN})


def _blocked(record: MigrationRecord, seen: Observation, policy: Policy, step: Step) -> Decision | None:
    """What keeps ``step`` from being taken now, if anything does."""
    if step in {Step.ENTER_SWITCHING, Step.SWITCH}:
        return _judge(record, seen, policy)
    for status in (seen.source, seen.target):
        if status.problem and step not in _ONE_SIDED:
            return Wait(f"{status.side} is not reachable: {status.problem}", limited=True)
    streams = seen.replication
    if step in {Step.ADD_FOREIGN_KEYS, Step.REVERSE, Step.ENTER_STREAMING}:
        if streams.problem:
            return Wait(streams.problem, limited=True)
        if streams.tables_unready:
            return Wait(f"{len(streams.tables_unready)} table(s) are still being copied by PostgreSQL")
        if streams.lag_seconds is None or streams.lag_seconds > policy.max_lag_seconds:
            lag = "unknown" if streams.lag_seconds is None else f"{streams.lag_seconds:.1f} s"
            return Wait(f"catching up: lag {lag}")
    if step in {Step.SHIFT_READS, Step.VERIFY} and (streams.problem or not (streams.forward or streams.reverse)):
        return Wait(streams.problem or "the stream is down", limited=True)
    return None


def decide(record: MigrationRecord, seen: Observation, policy: Policy) -> Decision:
    """The one next action for ``record`` given ``seen``.

    Returns Done where nothing is asked for or all of it holds. Never advances past an unreachable
    server: what can't be seen is not assumed."""
    intent = record.intent
    if intent is None:
        return Done("nothing is asked for")
    if (refused := refusal(record, intent.verb)) is not None:
        return refused
    if record.phase is Phase.SWITCHING and (problem := _blind(record, seen)):
        return Wait(problem, limited=True)
    if record.phase is Phase.SWITCHING and intent.verb is Verb.ABORT and _before_commit(record, seen):
        return Refuse("The operator aborted it.", "")
    for row in TABLE:
        if row.phase is record.phase and intent.verb in row.verbs and row.needed(record, seen):
            return _blocked(record, seen, policy, row.step) or Advance(row.step)
    return Done(f"{intent.verb}: done")


def _blind(record: MigrationRecord, seen: Observation) -> str:
    """Why the rows of a switchover can't be told apart now, or the empty string.

    A side that passed its commit point, or may have, must be seen together with the other: were a
    silent side taken for unopened, reopening the other would make two primaries (I1). An old primary
    that is seen unclosed proves the other one unopened, for nothing is opened before."""
    switch = record.switchover
    if switch is None or _gave_up(record, seen) or _new_opened(record, seen):
        return ""
    old, new = seen.side(switch.to.other), seen.side(switch.to)
    if old.problem:
        return f"{old.side} is not reachable, so it is not known whether it was closed: {old.problem}"
    if new.problem and _old_closed(record, seen):
        return f"{old.side} is closed and {new.side}, which must open, is not reachable: {new.problem}"
    return ""


def plan(
    record: MigrationRecord, seen: Observation, policy: Policy, verb: Verb, measured: Mapping[Step, float]
) -> Plan:
    """What ``verb`` would do from here. ``measured`` holds seconds that steps took before."""
    record = replace(record, intent=Intent(verb, seen.at))
    steps: list[PlannedStep] = []
    phases = {record.phase}
    for row in TABLE:
        if row.phase not in phases or verb not in row.verbs or row.recovery:
            continue
        # What the first steps bring about makes later ones needed: only those that are fulfilled
        # in the phase the record is in now can be left out.
        if row.foreseen and row.phase is record.phase and not row.needed(record, seen):
            continue
        steps.append(PlannedStep(row.step, row.what, measured.get(row.step), row.pauses_writes))
        if row.enters is not None:
            phases.add(row.enters)
    return Plan(verb, tuple(steps), gates(record, seen, policy) if verb in _MOVE else ())
