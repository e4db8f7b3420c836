"""The hand-over from another engine to PostgreSQL's own streams, by hand: what it leaves when it fails, and that
nothing is moved on a comparison that found a difference or never was made."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation import Simulation, failing, kill, make_red, on

from daybreak.errors import PermanentError, Refused, TransientError
from daybreak.memory_world import Engine, World
from daybreak.model import Phase, Side, Step, Verb

BROKEN = TransientError("connection lost", "Look.")
FORBIDDEN = PermanentError("permission denied", "Grant it.")


def begun(*more: Verb, bidirectional: bool = True) -> Simulation:
    """The other engine streams, and both sides were compared."""
    return Simulation(World(bidirectional, dms=True)).through(Verb.START, Verb.VERIFY, *more)


def engine(simulation: Simulation) -> Engine:
    """The other engine."""
    assert simulation.world.engine is not None
    return simulation.world.engine


@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_first_cutover_hands_over_and_everything_after_it_is_native(bidirectional: bool) -> None:
    simulation = begun(bidirectional=bidirectional)
    assert engine(simulation).streams
    simulation.run(Verb.CUTOVER)
    assert engine(simulation) == Engine(login=False)
    simulation.assert_in_step()
    for verb in (Verb.ROLLBACK, Verb.CUTOVER):
        simulation.run(verb)
        simulation.assert_in_step()
    assert simulation.steps().count(Step.HAND_OVER) == 1
    at_fence, *_ = (step for step in simulation.steps() if step in {Step.HAND_OVER, Step.SWITCH})
    assert at_fence is Step.HAND_OVER


def test_its_plan_names_the_hand_over_and_that_of_a_native_stream_does_not() -> None:
    steps = [line.step for line in begun().controller()[0].plan(Verb.CUTOVER).steps]
    assert steps[:4] == [Step.ARM, Step.HAND_OVER, Step.DISARM, Step.ENTER_SWITCHING]
    native = Simulation().through(Verb.START, Verb.VERIFY).controller()[0].plan(Verb.CUTOVER).steps
    assert [line.step for line in native][:2] == [Step.ENTER_SWITCHING, Step.ARM]


@pytest.mark.parametrize("gate", ["streams", "lag", "prepared transaction", "structure", "standby"])
def test_a_red_gate_refuses_before_anything_is_handed_over(gate: str) -> None:
    simulation = begun()
    before = simulation.footprint()
    if gate == "streams":
        engine(simulation).running = False
    else:
        make_red(simulation, gate)
        before = simulation.footprint()
    with pytest.raises(Refused, match="Not switched"):
        simulation.run(Verb.CUTOVER)
    assert Step.HAND_OVER not in simulation.steps("intend")
    assert simulation.footprint() == before
    assert engine(simulation).login


@pytest.mark.parametrize(
    ("point", "what"),
    [
        ("hand_over: slot made", "fail"),
        ("fence point: held", "stall"),
        ("fence point: held", "fail"),
        ("fence point: drained", "end the hold"),
        ("hand_over: engine fenced", "fail"),
        ("hand_over: engine fenced", "end the hold"),
        ("hand_over: slot advanced", "let the pause pass"),
        ("hand_over: slot advanced", "stop the standby"),
        ("hand_over: slot advanced", "forbid"),
    ],
)
def test_a_hand_over_that_fails_lets_the_engine_go_on(point: str, what: str) -> None:
    simulation = begun()
    before, source = simulation.footprint(), simulation.world[Side.SOURCE]
    acts = {
        "fail": failing(BROKEN),
        "forbid": failing(FORBIDDEN),
        "stall": lambda: setattr(simulation.world, "stalled", True),
        "end the hold": lambda: setattr(source, "held_by", None),
        "let the pause pass": lambda: simulation.world.sleep(60),
        "stop the standby": lambda: simulation.world.stop(Side.TARGET),
    }
    error = simulation.attempt(Verb.CUTOVER, on(point, acts[what], 1_000))
    assert isinstance(error, Refused)
    simulation.world.stalled = False
    simulation.world.start(Side.TARGET)
    assert simulation.record.phase is Phase.STREAMING
    assert simulation.record.primary is Side.SOURCE
    assert source.guarded == set()
    simulation.assert_sound()
    if what != "stop the standby":  # which nobody can let the engine in to while it is down
        assert simulation.footprint() == before
        simulation.assert_in_step()
    simulation.attempt(Verb.CUTOVER)
    simulation.run(Verb.CUTOVER)
    simulation.assert_in_step()


def test_killed_after_the_fence_it_lets_the_engine_go_on_and_tries_again() -> None:
    simulation = begun()
    kill(simulation, Verb.CUTOVER, "hand_over: slot advanced")
    assert not engine(simulation).login
    simulation.clients()
    simulation.run(Verb.CUTOVER)
    assert simulation.steps().count(Step.HAND_OVER) == 2
    simulation.assert_in_step()


def test_a_difference_at_the_fence_point_refuses_the_cutover() -> None:
    """What the engine lost after it was verified: a token says nothing of it."""
    simulation = begun()
    lost = engine(simulation)
    controller, process = simulation.controller()
    passed = process.hook

    def lose(name: str) -> None:
        passed(name)
        if name == "hand_over: begin":
            lost.backlog.clear()

    process.hook = lose
    with pytest.raises(Refused, match="verified"):
        controller.run(Verb.CUTOVER)
    process.close()
    record = simulation.record
    assert record.primary is Side.SOURCE
    assert record.verification is not None
    assert record.verification.differences
    assert simulation.world[Side.SOURCE].guarded == set()
    with pytest.raises(Refused, match="not clean"):
        simulation.run(Verb.CUTOVER)


@pytest.mark.parametrize("point", ["hand_over: fenced", "hand_over: subscribed", "hand_over: engine stopped"])
def test_a_lost_comparison_is_made_again_before_anything_moves(point: str) -> None:
    simulation = begun()
    kill(simulation, Verb.CUTOVER, point)
    simulation.run(Verb.CUTOVER)
    steps = simulation.steps()
    assert steps.count(Step.VERIFY) == 2
    assert steps.index(Step.SWITCH) > len(steps) - 1 - steps[::-1].index(Step.VERIFY)


def test_a_stream_that_somebody_stopped_is_resumed_by_start() -> None:
    simulation = begun()
    engine(simulation).running = False
    simulation.clients()
    simulation.run(Verb.START)
    assert simulation.steps()[-1] is Step.SUBSCRIBE
    simulation.assert_in_step()


def test_aborted_before_the_hand_over_nothing_of_the_engine_is_left() -> None:
    simulation = begun()
    kill(simulation, Verb.CUTOVER, "hand_over: engine fenced")
    simulation.run(Verb.ABORT)
    assert engine(simulation) == Engine()
    assert simulation.footprint() == Simulation().footprint()


def test_a_loading_engine_is_waited_for_however_long() -> None:
    simulation = Simulation(World(dms=True))
    controller, _process = simulation.controller()
    replicator = controller._replicator
    observe, looks = replicator.observe, iter(range(100))

    def busy(primary: Side) -> object:
        seen = observe(primary)
        return replace(seen, load_done=False, loading="40 percent") if next(looks, None) is not None else seen

    replicator.observe = busy  # type: ignore[method-assign, assignment]
    controller.run(Verb.START)
    waits = {event.text for event in simulation.events if event.kind == "wait"}
    assert waits == {"40 percent"}
    simulation.assert_in_step()
