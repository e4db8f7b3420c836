"""What begins by itself: every rule with a situation in which it decides, and whole runs of the schedule."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from simulation import POLICY, Simulation, ready
from unit.test_machine import NOW, SWITCH, record, seen

from daybreak.model import MigrationRecord, Observation, Phase, RoutingStatus, Schedule, Side, Verb
from daybreak.remote import Remote
from daybreak.schedule import Proposal, propose

AUTOMATIC = Schedule(automatic=True)
LONG_AGO = NOW - timedelta(hours=1)


def standing(**changes: object) -> MigrationRecord:
    """Streaming and verified, nothing asked for."""
    return record(Phase.STREAMING, Verb.START, **{"intent": None, **changes})


def proposed(stored: MigrationRecord, observation: Observation, schedule: Schedule = AUTOMATIC) -> Proposal:
    return propose(stored, observation, POLICY, schedule)


def asked(proposal: Proposal) -> tuple[Verb, int | None] | None:
    return None if proposal.intent is None else (proposal.intent.verb, proposal.intent.percent)


@pytest.mark.parametrize(("now", "then"), [(0, 20), (20, 50), (30, 50), (50, 80), (80, 100)])
def test_shares_come_one_after_the_other(now: int, then: int) -> None:
    assert asked(proposed(standing(read_weight=now, shifted_at=LONG_AGO), seen())) == (Verb.SHIFT, then)


def test_writes_follow_the_last_share() -> None:
    assert asked(proposed(standing(read_weight=100, shifted_at=LONG_AGO), seen())) == (Verb.CUTOVER, None)


def test_each_share_is_kept_for_its_time() -> None:
    fresh = standing(read_weight=20, shifted_at=NOW - timedelta(seconds=599))
    assert proposed(fresh, seen()) == Proposal(None, "soaking for another 1 s at 20 percent")
    backed_out = replace(SWITCH, backed_out="it took too long", started_at=NOW - timedelta(seconds=590))
    again = standing(read_weight=100, shifted_at=LONG_AGO, last_switchover=backed_out)
    assert proposed(again, seen()).intent is None
    assert asked(proposed(again, replace(seen(), at=NOW + timedelta(seconds=11)))) == (Verb.CUTOVER, None)


def test_a_red_gate_stops_it_and_a_missing_verification_is_made() -> None:
    waiting = proposed(standing(), seen({"prepared_transactions": 2}))
    assert waiting == Proposal(None, "waiting for gates: no prepared transactions: 2")
    assert asked(proposed(standing(verification=None), seen())) == (Verb.VERIFY, None)
    assert proposed(standing(verification=None), seen(reverse=False)).intent is None


def test_by_hand_nothing_begins() -> None:
    assert proposed(standing(), seen(), Schedule()) == Proposal(None, "cutover.mode is manual")


def test_a_person_wins() -> None:
    assert proposed(record(Phase.STREAMING, Verb.ABORT), seen()).intent is None
    postponed = standing(postponed_until=NOW + timedelta(minutes=5))
    assert "postponed until 2026-05-01T12:05" in proposed(postponed, seen()).why
    assert asked(proposed(postponed, replace(seen(), at=NOW + timedelta(minutes=5)))) == (Verb.SHIFT, 20)
    rolled_back = standing(last_switchover=replace(SWITCH, to=Side.SOURCE))
    assert proposed(rolled_back, seen()).why == "after a rollback a person decides"


@pytest.mark.parametrize("phase", [Phase.PLANNED, Phase.LOADING, Phase.SWITCHING, Phase.FINISHED, Phase.ABORTED])
def test_nothing_begins_in_another_phase(phase: Phase) -> None:
    assert proposed(record(phase, Verb.START, intent=None), seen()).intent is None


def test_nothing_begins_with_the_target_as_primary() -> None:
    assert proposed(standing(primary=Side.TARGET, read_weight=100), seen()).intent is None


@pytest.mark.parametrize("schedule", [AUTOMATIC, Schedule()], ids=["automatic", "manual"])
@pytest.mark.parametrize(
    ("observation", "why"),
    [
        (seen(lag_seconds=3.0), "it lags by 3.0 s"),
        (seen(lag_seconds=None), "its lag can't be measured"),
        (seen(target={"problem": "connection refused"}), "the target does not answer (connection refused)"),
        (seen(target={"rollbacks": 100 + 1801}), "1801 transactions failed there in 60 min"),
    ],
)
def test_reads_go_back_where_they_do_harm(schedule: Schedule, observation: Observation, why: str) -> None:
    shifted = standing(read_weight=50, shifted_at=LONG_AGO, rollbacks_at=LONG_AGO, rollbacks_then=100)
    proposal = proposed(shifted, observation, schedule)
    assert asked(proposal) == (Verb.SHIFT, 0)
    assert proposal.why == f"Reads went back to the source: {why}."
    # Nobody is there to be harmed, and a person's postponing does not keep anybody there.
    assert asked(proposed(replace(shifted, read_weight=0), observation, schedule)) != (Verb.SHIFT, 0)
    later = replace(shifted, postponed_until=NOW + timedelta(days=1))
    assert asked(proposed(later, observation, schedule)) == (Verb.SHIFT, 0)


def test_reads_that_only_the_router_knows_of_go_back_too() -> None:
    """A controller that died between moving reads and recording it."""
    observation = replace(seen(lag_seconds=3.0), routing=RoutingStatus(Side.SOURCE, 20))
    assert asked(proposed(standing(), observation)) == (Verb.SHIFT, 0)


def test_few_errors_and_statistics_that_began_anew_move_nothing() -> None:
    shifted = standing(read_weight=50, shifted_at=LONG_AGO, rollbacks_at=LONG_AGO, rollbacks_then=100)
    assert asked(proposed(shifted, seen(target={"rollbacks": 100 + 1800}))) == (Verb.SHIFT, 80)
    assert asked(proposed(shifted, seen(target={"rollbacks": 0}))) == (Verb.SHIFT, 80)


def _minute(simulation: Simulation, schedule: Schedule) -> Verb | None:
    """What the controller on AWS does each minute."""
    simulation.world.sleep(60)
    controller, process = simulation.controller()
    try:
        stored = controller.record()
        intent = propose(stored, controller.observe(stored), POLICY, schedule).intent
        if intent is not None:
            controller.run(intent.verb, intent.percent)
    finally:
        process.close()
    return None if intent is None else intent.verb


def test_the_whole_way_by_itself() -> None:
    simulation = Simulation().through(Verb.START)
    schedule = Schedule(automatic=True, soak_seconds=120)
    begun = [verb for _ in range(30) if (verb := _minute(simulation, schedule)) is not None]
    assert begun == [Verb.VERIFY, *[Verb.SHIFT] * 4, Verb.CUTOVER]
    assert simulation.record.primary is Side.TARGET
    simulation.assert_in_step()


def test_after_harm_it_begins_again_with_the_first_share() -> None:
    simulation = ready()
    schedule = Schedule(automatic=True, soak_seconds=120)
    while simulation.record.read_weight < 50:
        _minute(simulation, schedule)
    simulation.world.stalled = True
    simulation.clients()
    assert _minute(simulation, schedule) is Verb.SHIFT
    assert simulation.record.read_weight == 0
    simulation.world.stalled = False
    shares = []
    for _ in range(12):
        _minute(simulation, schedule)
        if simulation.record.read_weight not in shares:
            shares.append(simulation.record.read_weight)
    assert shares == [0, 20, 50, 80, 100]


def test_postponing_holds_it_and_ends() -> None:
    simulation = ready()
    schedule = Schedule(automatic=True, soak_seconds=0)
    asking = Remote("shop", simulation.store, lambda _event: None, lambda _percent: "", clock=simulation.world.clock)
    asking.postpone(simulation.world.now + timedelta(minutes=30))
    assert [_minute(simulation, schedule) for _ in range(20)] == [None] * 20
    asking.postpone(None)
    assert _minute(simulation, schedule) is Verb.SHIFT
