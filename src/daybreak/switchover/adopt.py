"""A lost record, rebuilt from what both databases remember: control rows, guard, streams. Pure.

Switchovers are numbered, and each side keeps the number of the last one that closed and that opened it,
written in the very transaction that did it. So the highest number tells who is the primary and how far
the last switchover came; where in doubt the rebuilt record repeats steps, which are idempotent.
"""

from __future__ import annotations

from daybreak.errors import Refused, TransientError
from daybreak.model import (
    GuardState,
    MigrationRecord,
    Observation,
    Phase,
    ReplicationStatus,
    Side,
    SideStatus,
    Switchover,
)


def rebuild_record(name: str, seen: Observation) -> MigrationRecord:
    """The record of migration ``name`` as far as ``seen`` tells it; its history and verification are lost.

    Raises Refused where neither database knows the migration, TransientError where one can't be seen:
    what is not seen is not assumed."""
    sides = (seen.source, seen.target)
    for status in sides:
        if status.problem:
            raise TransientError(
                f"{status.side} is not reachable: {status.problem}", "Adopting needs both servers: start it first."
            )
    generation = max(status.generation for status in sides)
    if generation == 0:
        return _finished(name, seen)
    if seen.replication.problem:
        raise TransientError(f"The streams can't be seen: {seen.replication.problem}", "Mend this and run it again.")
    number = max(max(status.closed_by, status.opened_by) for status in sides)
    found = MigrationRecord(name, read_weight=seen.routing.read_weight, generation=generation, switchovers=number)
    primary = _primary(seen, number)
    if number > 0 and _unfinished(seen.side(primary), number):
        return _switching(found, primary.other, number, seen)
    if seen.side(primary).guard is GuardState.CLOSED:
        # The flag was set and its transaction never committed: this side has to be let go.
        return _switching(found, primary, number + 1, seen, backed_out="the controller was lost at the commit point")
    done = number > 0 or _loaded(seen.replication)
    return _with(found, Phase.STREAMING if done else Phase.LOADING, primary)


def _primary(seen: Observation, number: int) -> Side:
    """The side that switchover ``number`` opened, or has to open: the other one was closed by it."""
    if number == 0:
        return Side.SOURCE
    return Side.TARGET if seen.source.closed_by == number else Side.SOURCE


def _unfinished(primary: SideStatus, number: int) -> bool:
    """Not opened yet, or opened and still guarded: the guard is the last thing to go."""
    return primary.opened_by < number or (primary.guard is GuardState.OPEN and primary.guarded_tables > 0)


def _loaded(streams: ReplicationStatus) -> bool:
    done = streams.load_done and streams.indexes_built and streams.foreign_keys_added and streams.sequences_synced
    joined = streams.subscribed and streams.tables_to_join == 0
    return done and joined and (streams.reverse or not streams.bidirectional)


def _switching(
    found: MigrationRecord, old: Side, number: int, seen: Observation, backed_out: str = ""
) -> MigrationRecord:
    switch = Switchover(number, old.other, seen.at, backed_out)
    return _with(found, Phase.SWITCHING, old, switch)


def _with(found: MigrationRecord, phase: Phase, primary: Side, switch: Switchover | None = None) -> MigrationRecord:
    return MigrationRecord(
        name=found.name,
        phase=phase,
        primary=primary,
        read_weight=found.read_weight,
        switchover=switch,
        switchovers=max(found.switchovers, 0 if switch is None else switch.number),
        generation=found.generation,
    )


def _finished(name: str, seen: Observation) -> MigrationRecord:
    """What ``finish`` leaves: a closed side of generation 0, and nothing on the other."""
    for status in (seen.source, seen.target):
        if status.guard is GuardState.CLOSED and status.closed_by > status.opened_by:
            return MigrationRecord(
                name, Phase.FINISHED, primary=status.side.other, switchovers=status.closed_by, read_weight=0
            )
    raise Refused(
        f"Neither database knows a migration {name}.", "Check the name and both DSNs; `daybreak start` begins one."
    )
