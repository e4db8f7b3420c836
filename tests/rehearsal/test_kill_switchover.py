"""The controller is killed (SIGKILL) after every step of a switchover, in both directions, while clients
write; the same command run again finishes it, and every invariant is kept."""

from __future__ import annotations

import pytest
from rehearsal.shared import Shared
from rehearsal.traces import guarded
from rehearsal.world import World

from daybreak.model import Side, Step

STEPS = (
    Step.ENTER_SWITCHING,
    Step.ARM,
    Step.SWITCH,
    Step.SETTLE,
    Step.CERTIFY,
    Step.DISARM,
    Step.END_SWITCH,
)
MARKS = ("ready", "held", "drained", "snapshot", "sequences", "committed", "opened", "routed")
POINTS = [
    *(f"{kind} {step}" for step in STEPS for kind in ("intend", "done")),
    *(f"mark {name}" for name in MARKS),
]
MAIN = {"done arm", "mark drained", "mark committed", "mark opened", "done settle"}
# Killed there, nobody takes writes until a controller opens the new primary.
NOBODY = "mark committed"
# From the commit point on the new primary takes writes.
OPENED = {"mark opened", "mark routed", "done switch", *(f"{k} {s}" for s in STEPS[3:] for k in ("intend", "done"))}


def reverse_stream_is_there(world: World, to: Side) -> None:
    """I3: the slot on the new primary, and the old one's subscription to it."""
    name = f"daybreak_{world.name}_{'rev' if to is Side.TARGET else 'fwd'}"
    with world.pair.connect(to) as new, world.pair.connect(to.other) as old:
        assert new.execute("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", [name]).fetchone()
        assert old.execute("SELECT 1 FROM pg_subscription WHERE subname = %s", [name]).fetchone()


def killed_and_finished(world: World, verb: str, to: Side, point: str) -> None:
    before = world.probes.primaries()
    found = world.run(verb, point)
    assert found.killed, (point, found.said)
    if point == NOBODY or point in OPENED:
        reverse_stream_is_there(world, to)
    if point != NOBODY:
        world.writes_go_on()
    world.must(verb)
    world.writes_go_on()
    assert world.probes.primaries() == [*before, to]
    assert guarded(world.pair, to) == []
    reverse_stream_is_there(world, to)
    world.books_are_clean(to)


@pytest.mark.parametrize(
    "point", [pytest.param(point, marks=() if point in MAIN else pytest.mark.full) for point in POINTS]
)
def test_killed_switchovers_are_finished(shared: Shared, point: str) -> None:
    with shared.streaming() as world:
        killed_and_finished(world, "cutover", Side.TARGET, point)
        killed_and_finished(world, "rollback", Side.SOURCE, point)


@pytest.mark.parametrize(
    "point", ["done arm", *(pytest.param(p, marks=pytest.mark.full) for p in ("intend verify", "done verify"))]
)
def test_a_killed_verification_is_repeated(shared: Shared, point: str) -> None:
    with shared.streaming() as world:
        assert world.run("verify", point).killed
        world.writes_go_on()
        world.must("verify")
        assert guarded(world.pair, Side.SOURCE) == []


def test_both_sides_are_equal_after_all_that(shared: Shared) -> None:
    with shared.streaming() as world:
        world.must("verify")
