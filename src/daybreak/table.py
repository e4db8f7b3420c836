"""The transition table: in this phase, for these verbs, take this step as long as it is needed.

``TABLE`` is what a person reads; docs/state-machine.md is generated from it, and ``machine.decide`` takes
the first row that is needed. The order of the rows keeps I1: a side is opened only when the other one was
seen closed by the same switchover, and once that was seen there is only forward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from daybreak.gates import feeding, fully_closed
from daybreak.model import SWITCH_TTL_SECONDS, GuardState, MigrationRecord, Observation, Phase, Side, Step, Verb

Needed = Callable[[MigrationRecord, Observation], bool]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table. ``enters`` is the phase that the step leads to, where it leads to one.

    ``recovery`` rows mend what a crash or DDL left behind: a plan names them only where they are needed
    now. Rows that are not ``foreseen`` become needed by the rows before them: a plan always names them."""

    phase: Phase
    verbs: tuple[Verb, ...]
    step: Step
    needed: Needed
    what: str
    enters: Phase | None = None
    pauses_writes: bool = False
    recovery: bool = False
    foreseen: bool = True


# --- what the rows ask


def _always(_record: MigrationRecord, _seen: Observation) -> bool:
    return True


def _unprepared(_record: MigrationRecord, seen: Observation) -> bool:
    return not seen.replication.prepared


def _no_schema(_record: MigrationRecord, seen: Observation) -> bool:
    return not seen.replication.schema_transferred


def _target_unclosed(record: MigrationRecord, seen: Observation) -> bool:
    return record.primary is Side.SOURCE and not fully_closed(seen.target)


def _unloaded(_record: MigrationRecord, seen: Observation) -> bool:
    return not seen.replication.load_done or seen.replication.slot_lost


def _no_indexes(_record: MigrationRecord, seen: Observation) -> bool:
    return not seen.replication.indexes_built


def _unsubscribed(_record: MigrationRecord, seen: Observation) -> bool:
    return not seen.replication.subscribed


def _unjoined(_record: MigrationRecord, seen: Observation) -> bool:
    return seen.replication.tables_to_join > 0


def _new_tables(record: MigrationRecord, seen: Observation) -> bool:
    unclosed = not fully_closed(seen.side(record.primary.other))
    return _unjoined(record, seen) or bool(seen.replication.tables_unreplicated) or unclosed


def _no_foreign_keys(_record: MigrationRecord, seen: Observation) -> bool:
    return not seen.replication.foreign_keys_added


def _sequences_behind(_record: MigrationRecord, seen: Observation) -> bool:
    return not seen.replication.sequences_synced


def _no_way_back(_record: MigrationRecord, seen: Observation) -> bool:
    return seen.replication.bidirectional and not seen.replication.reverse


def _unverified(record: MigrationRecord, _seen: Observation) -> bool:
    intent = record.intent
    if intent is None or intent.given_up:
        return False
    return record.verification is None or record.verification.at < intent.asked_at


def _unguarded(record: MigrationRecord, seen: Observation) -> bool:
    primary = seen.side(record.primary)
    return primary.guard is not GuardState.OPEN or primary.guarded_tables < primary.tables


def _unguarded_for_verify(record: MigrationRecord, seen: Observation) -> bool:
    return _unverified(record, seen) and _unguarded(record, seen)


def guard_left(record: MigrationRecord, seen: Observation) -> bool:
    """Whether the guard is on some table of the primary."""
    switch = record.switchover
    primary = switch.to if switch is not None and new_opened(record, seen) else record.primary
    return seen.side(primary).guarded_tables > 0


def _armed(record: MigrationRecord, seen: Observation) -> bool:
    """Arming may have failed before its first guard, so what is seen does not tell."""
    return guard_left(record, seen) or (record.switchover is not None and not record.switchover.disarmed)


def _unshifted(record: MigrationRecord, seen: Observation) -> bool:
    wanted = None if record.intent is None else record.intent.percent
    return wanted is not None and (wanted != seen.routing.read_weight or wanted != record.read_weight)


def destination(record: MigrationRecord, verb: Verb) -> Side:
    """The side that ``verb`` wants to be primary."""
    return {Verb.CUTOVER: Side.TARGET, Verb.ROLLBACK: Side.SOURCE}.get(verb, record.primary)


def _ttl_high(record: MigrationRecord, seen: Observation) -> bool:
    """Or low already, but not known since when: a controller may have died right after lowering it."""
    ttl_seconds = seen.routing.ttl_seconds
    if ttl_seconds is None or not _elsewhere(record, seen):
        return False
    return ttl_seconds > SWITCH_TTL_SECONDS or record.old_ttl_until is None


def _elsewhere(record: MigrationRecord, _seen: Observation) -> bool:
    intent = record.intent
    return intent is not None and not intent.given_up and destination(record, intent.verb) is not record.primary


def _engine_stopped(_record: MigrationRecord, seen: Observation) -> bool:
    streams = seen.replication
    return not (streams.handed_over or streams.handing_over or streams.subscribed)


def _not_handed_over(record: MigrationRecord, seen: Observation) -> bool:
    return _elsewhere(record, seen) and not seen.replication.handed_over


def _uncompared(record: MigrationRecord, seen: Observation) -> bool:
    """The comparison that belongs to the hand-over was lost with its process."""
    at, checked = seen.replication.handed_over_at, record.verification
    return _elsewhere(record, seen) and at is not None and (checked is None or checked.at < at)


def _unguarded_for_hand_over(record: MigrationRecord, seen: Observation) -> bool:
    begins = _not_handed_over(record, seen) and not seen.replication.handing_over
    return (begins or _uncompared(record, seen)) and _unguarded(record, seen)


def _guard_left_by_hand_over(record: MigrationRecord, seen: Observation) -> bool:
    """A plan names this together with the hand-over; otherwise that comes first."""
    return _not_handed_over(record, seen) or guard_left(record, seen)


def old_closed(record: MigrationRecord, seen: Observation) -> bool:
    """The commit point of the present switchover was passed on the old primary."""
    switch = record.switchover
    return switch is not None and seen.side(switch.to.other).closed_by == switch.number


def new_opened(record: MigrationRecord, seen: Observation) -> bool:
    """The opening was committed; the flag may still be closed (a crash between the two)."""
    switch = record.switchover
    return switch is not None and seen.side(switch.to).opened_by == switch.number


def _must_open(record: MigrationRecord, seen: Observation) -> bool:
    switch = record.switchover
    if switch is None or not new_opened(record, seen):
        return old_closed(record, seen)
    return seen.side(switch.to).guard is GuardState.CLOSED


def _flag_left_closed(record: MigrationRecord, seen: Observation) -> bool:
    """The flag is closed but the closing never committed: the old primary is still the primary."""
    switch = record.switchover
    if switch is None or old_closed(record, seen) or new_opened(record, seen):
        return False
    return seen.side(switch.to.other).guard is GuardState.CLOSED


def before_commit(record: MigrationRecord, seen: Observation) -> bool:
    """Whether the switchover under way is still to be made, and may still be given up."""
    given_up = record.switchover is not None and bool(record.switchover.backed_out)
    return not (old_closed(record, seen) or new_opened(record, seen) or given_up)


def _unarmed(record: MigrationRecord, seen: Observation) -> bool:
    """Below PostgreSQL 16 a crash may also have left the stream to the standby turned off."""
    if not before_commit(record, seen):
        return False
    streams = seen.replication
    return _unguarded(record, seen) or not (streams.bidirectional or feeding(streams, record.primary))


def _unrouted(record: MigrationRecord, seen: Observation) -> bool:
    return new_opened(record, seen) and record.switchover is not None and not record.switchover.routed


def _unsettled(record: MigrationRecord, seen: Observation) -> bool:
    return new_opened(record, seen) and record.switchover is not None and not record.switchover.settled


def _uncertified(record: MigrationRecord, seen: Observation) -> bool:
    return new_opened(record, seen) and record.switchover is not None and not record.switchover.certified


def _traces(_record: MigrationRecord, seen: Observation) -> bool:
    return seen.source.generation > 0 or seen.target.generation > 0


_START = (Verb.START,)
_VERIFY = (Verb.VERIFY,)
_CUTOVER = (Verb.CUTOVER,)
MOVE = (Verb.CUTOVER, Verb.ROLLBACK)
_SWITCHING = (*MOVE, Verb.ABORT)
_ABORT = (Verb.ABORT,)
_FINISH = (Verb.FINISH,)
_P, _L, _S, _W = Phase.PLANNED, Phase.LOADING, Phase.STREAMING, Phase.SWITCHING

# fmt: off
TABLE: tuple[Row, ...] = (
    # start: from nothing to two servers in step
    Row(_P, _START, Step.BEGIN, _always, "check both servers and take charge of them", Phase.LOADING),
    Row(_L, _START, Step.PREPARE, _unprepared, "create publication, replication role and bookkeeping"),
    Row(_L, _START, Step.TRANSFER_SCHEMA, _no_schema, "copy the schema (tables, types, functions)"),
    Row(_L, _START, Step.CLOSE_TARGET, _target_unclosed, "close the target to application writes"),
    Row(_L, _START, Step.LOAD, _unloaded, "copy all rows under one snapshot"),
    Row(_L, _START, Step.BUILD_INDEXES, _no_indexes, "build indexes, constraints and triggers"),
    Row(_L, _START, Step.SUBSCRIBE, _unsubscribed, "stream changes since the snapshot"),
    Row(_L, _START, Step.JOIN_TABLES, _unjoined, "join tables that the load did not finish", recovery=True),
    Row(_L, _START, Step.ADD_FOREIGN_KEYS, _no_foreign_keys, "add and validate foreign keys"),
    Row(_L, _START, Step.SYNC_SEQUENCES, _sequences_behind, "set sequences, analyze the target"),
    Row(_L, _START, Step.REVERSE, _no_way_back, "create the stream back"),
    Row(_L, _START, Step.ENTER_STREAMING, _always, "record that both sides are in step", Phase.STREAMING),
    # streaming: what an operator may ask for
    Row(_S, _START, Step.CLOSE_TARGET, _target_unclosed, "close new tables of the target", recovery=True),
    Row(_S, _START, Step.SUBSCRIBE, _engine_stopped, "resume the stream that stopped", recovery=True),
    Row(_S, _START, Step.JOIN_TABLES, _new_tables, "close and join tables that are new", recovery=True),
    Row(_S, _VERIFY, Step.ARM, _unguarded_for_verify, "guard every table of the primary (open)"),
    Row(_S, _VERIFY, Step.VERIFY, _unverified, "hold writers for an instant, snapshot both sides, compare",
        pauses_writes=True),
    Row(_S, _VERIFY, Step.DISARM, guard_left, "drop the guard from the primary", foreseen=False),
    Row(_S, (Verb.SHIFT,), Step.SHIFT_READS, _unshifted, "move the share of reads"),
    Row(_S, _CUTOVER, Step.ARM, _unguarded_for_hand_over, "guard every table of the primary (open)"),
    Row(_S, _CUTOVER, Step.HAND_OVER, _not_handed_over,
        "hold writers for an instant, hand the stream over from AWS DMS to PostgreSQL, compare both sides",
        pauses_writes=True),
    Row(_S, _CUTOVER, Step.VERIFY, _uncompared, "compare both sides anew where that comparison was lost",
        pauses_writes=True, recovery=True),
    Row(_S, _CUTOVER, Step.DISARM, _guard_left_by_hand_over, "drop the guard from the primary"),
    Row(_S, MOVE, Step.LOWER_TTL, _ttl_high, "lower the TTL of the writer's name and let the old one run out",
        recovery=True),
    Row(_S, MOVE, Step.ENTER_SWITCHING, _elsewhere, "judge the gates and begin the switchover", Phase.SWITCHING),
    # switching: crash recovery first, so that a restarted controller ends a pause before anything else
    Row(_W, _SWITCHING, Step.OPEN, _must_open, "open the new primary (the old one is closed for good)",
        recovery=True),
    Row(_W, _SWITCHING, Step.REOPEN, _flag_left_closed, "let the old primary go on", recovery=True),
    Row(_W, MOVE, Step.ARM, _unarmed, "guard every table of the primary (open), ready what the switch needs"),
    Row(_W, MOVE, Step.SWITCH, before_commit, "hold, drain, snapshot, sequences, commit, open",
        pauses_writes=True),
    Row(_W, _SWITCHING, Step.ROUTE, _unrouted, "send writers to the new primary", foreseen=False),
    Row(_W, _SWITCHING, Step.SETTLE, _unsettled, "end sessions that predate the commit point, write a canary",
        foreseen=False),
    Row(_W, _SWITCHING, Step.CERTIFY, _uncertified, "compare both sides as they were at the fence",
        foreseen=False),
    Row(_W, _SWITCHING, Step.DISARM, _armed, "drop the guard from the primary", foreseen=False),
    Row(_W, _SWITCHING, Step.END_SWITCH, _always, "record the outcome", Phase.STREAMING),
    # the end, from both sides
    Row(_P, _ABORT, Step.CLEAN_UP, _traces, "remove every trace"),
    Row(_P, _ABORT, Step.END, _always, "record the end", Phase.ABORTED),
    Row(_L, _ABORT, Step.CLEAN_UP, _traces, "remove every trace"),
    Row(_L, _ABORT, Step.END, _always, "record the end", Phase.ABORTED),
    Row(_S, _ABORT, Step.CLEAN_UP, _traces, "end the streams and remove every trace"),
    Row(_S, _ABORT, Step.END, _always, "record the end", Phase.ABORTED),
    Row(_S, _FINISH, Step.CLEAN_UP, _traces, "end the streams, remove every trace but the old primary's fence"),
    Row(_S, _FINISH, Step.END, _always, "record the end", Phase.FINISHED),
)
# fmt: on
