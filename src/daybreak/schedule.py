"""What begins by itself: reads by the schedule, back again where they do harm, and in automatic mode the
verification and the switchover. Pure, like ``machine``, which judges every step of it once more.

Nothing begins while something is asked for, while the operator postponed it, or after a rollback: then a
person decides. Only the way back of reads needs no mode and waits for nobody, and where the target does not
answer it takes the place of what was asked for and can't be done there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from daybreak.errors import Refused
from daybreak.gates import gates
from daybreak.model import Intent, MigrationRecord, Observation, Phase, Policy, Schedule, Side, Verb

_MINUTE = 60.0
# Read errors are a rate over no more than about this long: over days a bad hour would go unnoticed.
_COUNTED_SECONDS = 600.0
# While the target does not answer these would be refused, once patience ends: reads need not wait for that.
_YIELDING = frozenset({Verb.VERIFY, Verb.SHIFT, Verb.CUTOVER})


@dataclass(frozen=True, slots=True)
class Proposal:
    """What to ask for now (None: nothing), and why."""

    intent: Intent | None
    why: str


def propose(record: MigrationRecord, seen: Observation, policy: Policy, schedule: Schedule) -> Proposal:
    """The next step that begins by itself, or what is in its way."""
    if record.phase is not Phase.STREAMING or record.primary is not Side.SOURCE:
        return Proposal(None, f"nothing begins by itself in phase {record.phase} with the {record.primary} as primary")
    if _yields(record, seen) and (harm := _harm(record, seen, policy, schedule)):
        why = f"Reads went back to the source: {harm}."
        return Proposal(Intent(Verb.SHIFT, seen.at, 0, given_up=why, by_itself=True), why)
    if record.intent is not None:
        return Proposal(None, f"{record.intent.verb} is asked for")
    if why := _nothing_begins(record, seen, schedule):
        return Proposal(None, why)
    red = [gate for gate in gates(record, seen, policy) if not gate.ok]
    if [gate.name for gate in red] == ["verified"]:
        return _comparison(record, seen)
    if red:
        return Proposal(None, "waiting for gates: " + "; ".join(f"{gate.name}: {gate.value}" for gate in red))
    share = next_share(record, schedule)
    if share is not None:
        return Proposal(_begun(Verb.SHIFT, seen, share), f"{share} percent of reads come next")
    return Proposal(_begun(Verb.CUTOVER, seen), "all reads are on the target and every gate is green")


def recounts(record: MigrationRecord, seen: Observation) -> bool:
    """Whether failed reads are to be counted anew from ``seen`` on."""
    if record.phase is not Phase.STREAMING or record.primary is not Side.SOURCE or not seen.target.reachable:
        return False
    if record.read_weight == 0 or record.rollbacks_at is None:
        return False
    return _seconds(seen.at, record.rollbacks_at) > _COUNTED_SECONDS


def next_share(record: MigrationRecord, schedule: Schedule) -> int | None:
    """The first share of the schedule above the present one; None after the last."""
    return next((share for share in schedule.shares if share > record.read_weight), None)


def share_to_take(record: MigrationRecord, schedule: Schedule) -> int:
    """The next share, for whoever asks for one step of the schedule; raises Refused after the last."""
    share = next_share(record, schedule)
    if share is None:
        raise Refused("Every share of cutover.read_schedule was taken.", "Ask for cutover, or name a share.")
    return share


def _begun(verb: Verb, seen: Observation, percent: int | None = None) -> Intent:
    return Intent(verb, seen.at, percent, by_itself=True)


def _yields(record: MigrationRecord, seen: Observation) -> bool:
    """Whether nothing is asked for, or nothing that can be done and is known not to have begun: a guard has to be
    removed by what attached it, and a hand-over is made under one."""
    intent = record.intent
    if intent is None:
        return True
    begun = not seen.source.reachable or seen.source.guarded_tables > 0 or bool(intent.given_up)
    return intent.verb in _YIELDING and intent.percent != 0 and not begun and not seen.target.reachable


def _comparison(record: MigrationRecord, seen: Observation) -> Proposal:
    """One that found differences, or could not finish, would only do so again: a person has to look."""
    found, handed_over = record.verification, seen.replication.handed_over_at
    outdated = found is not None and handed_over is not None and found.at < handed_over
    if found is not None and not found.clean and not outdated:
        what = f"{len(found.differences)} difference(s)" if found.differences else "it did not get to its end"
        return Proposal(None, f"both sides were compared, and a person has to decide: {what}")
    return Proposal(_begun(Verb.VERIFY, seen), "before traffic moves both sides are compared")


def _nothing_begins(record: MigrationRecord, seen: Observation, schedule: Schedule) -> str:
    """Why no step forward is begun now, whatever the gates say; empty where one is."""
    last = record.last_switchover
    if not schedule.automatic:
        return "cutover.mode is manual"
    if record.postponed_until is not None and seen.at < record.postponed_until:
        return f"postponed until {record.postponed_until.isoformat(timespec='seconds')}"
    if last is not None and last.to is Side.SOURCE and not last.backed_out:
        return "after a rollback a person decides"
    began = [at for at in (record.shifted_at, None if last is None else last.started_at) if at is not None]
    if began and (left := schedule.soak_seconds - _seconds(seen.at, max(began))) > 0:
        return f"soaking for another {left:.0f} s at {record.read_weight} percent"
    return ""


def _harm(record: MigrationRecord, seen: Observation, policy: Policy, schedule: Schedule) -> str:
    """Why readers must not stay on the target; empty where they may, or where none are there."""
    if record.read_weight == 0 and seen.routing.read_weight == 0:
        return ""
    if seen.routing.problem:
        return ""  # whom the router can't see it can't move either
    if not seen.target.reachable:
        return f"the target does not answer ({seen.target.problem})"
    lag = seen.replication.lag_seconds
    if lag is None or lag > policy.max_lag_seconds:
        return "its lag can't be measured" if lag is None else f"it lags by {lag:.1f} s"
    if record.rollbacks_at is None:
        return ""
    failed = seen.target.rollbacks - record.rollbacks_then
    minutes = max(_seconds(seen.at, record.rollbacks_at) / _MINUTE, 1.0)
    if failed / minutes > schedule.max_read_errors_per_minute:
        return f"{failed} transactions failed there in {minutes:.0f} min"
    return ""


def _seconds(later: datetime, earlier: datetime) -> float:
    return (later - earlier).total_seconds()
