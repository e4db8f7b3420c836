"""What is asked for from elsewhere while a controller runs, and by whoever follows one that runs elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from simulation import NAME, Simulation, kill, on, ready, strike_at

from daybreak.errors import ControllerAtWork, DaybreakError, Refused, StateConflict
from daybreak.events import Event
from daybreak.memory_world import Process
from daybreak.model import MigrationRecord, Phase, Side, Step, Verb
from daybreak.remote import Remote


def remote(simulation: Simulation, act: Callable[[], object] = lambda: None, told: list[Event] | None = None) -> Remote:
    """One who asks; the controller does ``act`` whenever they wait."""
    events: list[Event] = [] if told is None else told

    def sleep(seconds: float) -> None:
        simulation.world.sleep(seconds)
        act()

    return Remote(
        NAME,
        simulation.store,
        events.append,
        simulation.router.refuse_shift,
        clock=simulation.world.clock,
        sleep=sleep,
    )


def serving(simulation: Simulation) -> Callable[[], object]:
    """A controller that acts on whatever is asked for."""

    def serve() -> None:
        controller, process = simulation.controller()
        try:
            controller.serve(take_over=False)
        finally:
            process.close()

    return serve


def test_what_is_asked_for_elsewhere_is_done_by_whoever_serves_and_told() -> None:
    simulation = ready()
    told: list[Event] = []
    asking = remote(simulation, serving(simulation), told)
    record = asking.run(Verb.CUTOVER)
    assert (record.phase, record.primary) == (Phase.STREAMING, Side.TARGET)
    done = [event.step for event in told if event.kind == "done"]
    assert Step.SWITCH in done
    assert done == simulation.steps()[-len(done) :]
    assert asking.run(Verb.SHIFT, 40).read_weight == 40
    assert asking.run(Verb.ROLLBACK).primary is Side.SOURCE
    simulation.assert_in_step()


def test_a_refusal_reaches_the_one_who_asked() -> None:
    simulation = ready()
    asking = remote(simulation, serving(simulation))
    simulation.world[Side.SOURCE].prepared_transactions = 1
    with pytest.raises(Refused, match="prepared"):
        asking.run(Verb.CUTOVER)
    with pytest.raises(Refused, match="The source is still the primary"):
        asking.run(Verb.FINISH)
    with pytest.raises(Refused, match="no share was named"):
        asking.run(Verb.SHIFT)
    with pytest.raises(Refused, match="101 is not a percentage"):
        asking.run(Verb.SHIFT, 101)
    simulation.assert_in_step()


def test_nothing_is_asked_for_twice_and_nothing_beside_what_is_under_way() -> None:
    asking = remote(ready())
    first = asking.ask(Verb.CUTOVER)
    assert asking.ask(Verb.CUTOVER) == first
    with pytest.raises(StateConflict, match="`cutover` was asked for"):
        asking.ask(Verb.VERIFY)
    intent = asking.ask(Verb.ABORT).intent
    assert intent is not None
    assert intent.verb is Verb.ABORT


def test_whoever_asked_does_it_where_the_other_is_gone() -> None:
    simulation = ready()
    asking = remote(simulation)
    tries = []

    def act(verb: Verb) -> MigrationRecord:
        tries.append(verb)
        if len(tries) < 3:
            raise ControllerAtWork("Another one is.", "Wait.")
        return simulation.run(verb)

    asking.act = act
    assert asking.run(Verb.ABORT).phase is Phase.ABORTED
    assert len(tries) == 3


def test_nobody_acting_is_said() -> None:
    simulation = ready()
    told: list[Event] = []
    waits = iter(range(1000))
    remote(simulation, lambda: next(waits) == 300 and serving(simulation)(), told).run(Verb.CUTOVER)
    texts = [event.text for event in told if event.kind == "wait"]
    assert texts[0].startswith("nobody has acted for 12")


def test_serving_does_nothing_where_nothing_is_asked_for() -> None:
    simulation = ready()
    before = simulation.everything()
    serving(simulation)()
    assert simulation.everything() == before


def test_serving_goes_on_after_one_that_was_killed() -> None:
    simulation = ready()
    kill(simulation, Verb.CUTOVER, "switch: committed")
    serving(simulation)()
    assert simulation.record.primary is Side.TARGET
    simulation.assert_in_step()


def test_abort_after_the_end_is_the_end() -> None:
    simulation = ready()
    simulation.run(Verb.ABORT)
    assert remote(simulation).run(Verb.ABORT).phase is Phase.ABORTED
    with pytest.raises(Refused, match="aborted"):
        remote(simulation).run(Verb.START)


@pytest.mark.parametrize("number", range(45))
@pytest.mark.parametrize("verb", [Verb.CUTOVER, Verb.ROLLBACK, Verb.VERIFY])
def test_an_abort_from_elsewhere_always_wins_or_says_why_not(verb: Verb, number: int) -> None:
    """At every point of the way of another command: before its commit point it is backed out of and the
    migration ended; after it, it goes forward. Nothing is lost on the way."""
    simulation = ready(*([Verb.CUTOVER] if verb is Verb.ROLLBACK else []))
    asked: list[MigrationRecord] = []

    def ask(_process: Process, _name: str) -> None:
        with suppress(Refused):  # on the target, before its way back has begun
            asked.append(remote(simulation).ask(Verb.ABORT))

    error: object = None
    try:
        simulation.run(verb, strike_at(number, ask))
        if simulation.record.intent is not None:  # it came too late for that command: who asked does it
            simulation.run(Verb.ABORT)
    except DaybreakError as raised:
        error = raised
    if simulation.record.intent is not None:
        simulation.run(Verb.ABORT)
    record = simulation.record
    if asked and record.phase is not Phase.ABORTED:
        assert isinstance(error, Refused)
        assert record.primary is Side.TARGET or "Not aborted" in record.last_error
    if record.phase is Phase.ABORTED:
        assert simulation.footprint() == Simulation().footprint()
    simulation.assert_sound()


def test_whoever_was_overruled_is_told() -> None:
    simulation = ready()
    with pytest.raises(Refused, match="`daybreak abort` was asked for meanwhile"):
        simulation.run(Verb.CUTOVER, on("arm: function made", lambda: remote(simulation).ask(Verb.ABORT)))
    assert simulation.record.phase is Phase.ABORTED


def test_another_change_of_the_record_still_stops_the_controller() -> None:
    simulation = ready()

    def meddle() -> None:
        record = simulation.record
        changed = replace(record, read_weight=77)
        simulation.store.compare_and_swap(changed, record.version, "meddled", None, simulation.world.now, "")

    with pytest.raises(StateConflict):
        simulation.run(Verb.CUTOVER, on("arm: function made", meddle))


@pytest.mark.parametrize("number", range(0, 45, 3))
def test_postponing_disturbs_nothing_that_is_under_way(number: int) -> None:
    simulation = ready()
    until = simulation.world.now + timedelta(hours=1)

    def postpone(_process: Process, _name: str) -> None:
        remote(simulation).postpone(until)

    simulation.run(Verb.CUTOVER, strike_at(number, postpone))
    assert simulation.record.primary is Side.TARGET
    assert simulation.record.postponed_until == until
    simulation.assert_in_step()


def test_only_what_is_under_way_can_be_postponed() -> None:
    simulation = Simulation()
    with pytest.raises(Refused, match="no migration"):
        remote(simulation).postpone(None)
