"""Every command killed at every point of its way, or stopped there while another controller acts, with
clients that write to both sides all the while: the same command run again goes on, and I1 to I5 and I7
hold at every point (``Simulation.clients`` looks at each)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import pytest
from simulation import Simulation, changes, kill_at, strike_at

from daybreak.errors import DaybreakError, StateConflict
from daybreak.memory_world import Engine, Killed, Outcome, Process, World
from daybreak.model import Phase, Side, Step, Verb

Scenario = tuple[tuple[Verb, ...], Verb]

# What was run before, and the command that is interrupted.
SCENARIOS: dict[str, Scenario] = {
    "start": ((), Verb.START),
    "verify": ((Verb.START,), Verb.VERIFY),
    "cutover": ((Verb.START, Verb.VERIFY), Verb.CUTOVER),
    "rollback": ((Verb.START, Verb.VERIFY, Verb.CUTOVER), Verb.ROLLBACK),
    "second cutover": ((Verb.START, Verb.VERIFY, Verb.CUTOVER, Verb.ROLLBACK), Verb.CUTOVER),
    "abort": ((Verb.START, Verb.VERIFY), Verb.ABORT),
    "abort after rollback": ((Verb.START, Verb.VERIFY, Verb.CUTOVER, Verb.ROLLBACK), Verb.ABORT),
    "finish": ((Verb.START, Verb.VERIFY, Verb.CUTOVER), Verb.FINISH),
    "finish after another turn": (
        (Verb.START, Verb.VERIFY, Verb.CUTOVER, Verb.ROLLBACK, Verb.CUTOVER),
        Verb.FINISH,
    ),
}
WORLDS: dict[str, Callable[[], World]] = {
    "both streams": World,
    "one stream": partial(World, bidirectional=False),
    "begun by DMS": partial(World, dms=True),
    "one stream begun by DMS": partial(World, bidirectional=False, dms=True),
}
NAMES = tuple(f"{name}, {streams}" for name in SCENARIOS for streams in WORLDS)


def prepared(name: str) -> tuple[Simulation, Verb]:
    """The simulation just before the command of scenario ``name``."""
    scenario, _, streams = name.partition(", ")
    before, verb = SCENARIOS[scenario]
    return Simulation(WORLDS[streams]()).through(*before), verb


@cache
def points(name: str) -> tuple[str, ...]:
    """All points of the command, found by a dry run."""
    simulation, verb = prepared(name)
    begin = len(simulation.points)
    simulation.run(verb)
    return tuple(point for point in simulation.points[begin:] if changes(point))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kill_point" in metafunc.fixturenames:
        cases = [(name, number) for name in NAMES for number in range(len(points(name)))]
        ids = [f"{name}-{number}-{points(name)[number]}".replace(" ", "_") for name, number in cases]
        metafunc.parametrize(("name", "kill_point"), cases, ids=ids)


def assert_ended(simulation: Simulation, verb: Verb) -> None:
    """What the command promises, however often it was interrupted."""
    record = simulation.record
    assert record.intent is None
    assert record.switchover is None
    assert record.last_error == ""
    if verb is Verb.ABORT:
        assert record.phase is Phase.ABORTED
        assert simulation.footprint() == Simulation().footprint()
        assert not simulation.world[Side.TARGET].tables
        assert simulation.world.engine in (None, Engine())
        simulation.assert_sound()
        return
    if verb is Verb.FINISH:
        assert record.phase is Phase.FINISHED
        assert simulation.world[Side.TARGET].footprint() == Simulation().world[Side.SOURCE].footprint()
        fence, hint, streams, _ = simulation.world[Side.SOURCE].footprint()
        assert (fence, hint, streams) == ((True, frozenset({0, 1, 2}), True), True, (frozenset(), False, None))
        simulation.assert_sound()
        return
    assert record.phase is Phase.STREAMING
    assert record.primary is (Side.TARGET if verb is Verb.CUTOVER else Side.SOURCE)
    simulation.assert_in_step()


def test_killed_anywhere_the_same_command_goes_on(name: str, kill_point: int) -> None:
    simulation, verb = prepared(name)
    assert isinstance(simulation.attempt(verb, kill_at(kill_point)), Killed)
    # I7: nobody holds writers any more, and where nobody can write a restart mends that before all else.
    assert Outcome.WAITING not in simulation.clients()
    stuck = not any(simulation.world[side].accepts for side in Side)
    before = len(simulation.steps("intend"))
    simulation.run(verb)
    if stuck:
        assert simulation.steps("intend")[before] in {Step.OPEN, Step.REOPEN}
    assert_ended(simulation, verb)


@pytest.mark.parametrize("name", NAMES)
def test_killed_again_and_again_it_ends_as_well(name: str) -> None:
    simulation, verb = prepared(name)
    while isinstance(simulation.attempt(verb, kill_at(25)), Killed):
        simulation.assert_sound()
    assert_ended(simulation, verb)


@pytest.mark.parametrize("name", NAMES)
def test_stopped_anywhere_while_another_one_finishes_it_changes_nothing_more(name: str) -> None:
    """I5: SIGSTOP at a point, a second controller takes over and does it all, SIGCONT."""
    for number, point in enumerate(points(name)):
        simulation, verb = prepared(name)
        after = overtaken_at(number, simulation, verb)
        simulation.assert_sound()
        # In the middle of its own claim it may still win a generation, and act under that.
        if not point.startswith("claim: control row"):
            assert simulation.everything() == after, f"{name}: {point}"
            assert_ended(simulation, verb)


def overtaken_at(number: int, simulation: Simulation, verb: Verb) -> tuple[object, ...]:
    """Everything as the second controller left it when the first one was woken up."""
    after: list[tuple[object, ...]] = []

    def take_over(_process: Process, _name: str) -> None:
        simulation.run(verb, take_over=True)
        after.append(simulation.everything())

    error = simulation.attempt(verb, strike_at(number, take_over))
    assert error is None or isinstance(error, StateConflict)
    return after[0]


def lose(simulation: Simulation, side: Side, _process: Process, _name: str) -> None:
    simulation.outage(side, 4.0)


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("name", NAMES)
def test_a_server_lost_anywhere_costs_no_more_than_running_the_command_again(name: str, side: Side) -> None:
    """The server of ``side`` goes down at a point and comes back much later than patience lasts."""
    for number, point in enumerate(points(name)):
        simulation, verb = prepared(name)
        error = simulation.attempt(verb, strike_at(number, partial(lose, simulation, side)))
        assert isinstance(error, DaybreakError) or error is None
        assert Outcome.WAITING not in simulation.clients(), f"{name}: {point}"
        simulation.world.start(side)
        simulation.attempt(verb)  # a switchover may have to back out first
        simulation.run(verb)
        assert_ended(simulation, verb)
