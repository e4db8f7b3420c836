"""Two controllers: the second waits its turn, or takes over, and then the first changes nothing more (I5)."""

from __future__ import annotations

import pytest
from rehearsal.shared import Shared
from rehearsal.traces import left_on, portrait
from rehearsal.world import World

from daybreak.model import Side

MAIN = {"mark held", "mark committed"}
POINTS = [
    "intend arm",
    "intend switch",
    "mark held",
    "mark drained",
    "mark sequences",
    "mark committed",
    "mark opened",
    "intend settle",
    "intend disarm",
]


def state(world: World) -> list[object]:
    """Everything that a controller could have changed."""
    there: list[object] = [world.probes.primaries()]
    for side in Side:
        there += [portrait(world.pair, side), left_on(world.pair, side)]
        with world.pair.connect(side) as connection:
            there.append(connection.execute("SELECT * FROM daybreak.control, daybreak.guard_flag").fetchall())
    return there


@pytest.mark.parametrize(
    "point", [pytest.param(point, marks=() if point in MAIN else pytest.mark.full) for point in POINTS]
)
def test_a_stopped_controller_wakes_up_and_changes_nothing(shared: Shared, point: str) -> None:
    with shared.streaming() as world:
        stopped = world.drive("cutover", point, "STOP")
        try:
            stopped.wait_until_stopped()
            world.must("adopt", "cutover")
            world.writes_go_on()
            before = state(world)
        finally:
            stopped.wake()
        woken = stopped.end()
        assert woken.error == "StateConflict"
        assert state(world) == before
        with world.runtime() as runtime:
            record = runtime.controller.record()
        assert (record.primary, record.last_error) == (Side.TARGET, "")
        world.must("rollback")
        world.books_are_clean(Side.SOURCE)


def test_the_second_of_two_is_refused(shared: Shared) -> None:
    with shared.streaming() as world:
        first = world.drive("cutover", "intend switch", "STOP")
        try:
            first.wait_until_stopped()
            second = world.run("cutover")
            other = world.run("abort")
        finally:
            first.wake()
        assert second.error == "ControllerAtWork"
        assert other.error == "ControllerAtWork"
        assert not first.end().error
        world.must("rollback")
        world.books_are_clean(Side.SOURCE)


def test_writers_are_let_go_when_the_controller_hangs(shared: Shared) -> None:
    """I7: the server ends the hold by itself, while the controller neither lives nor dies."""
    with shared.streaming() as world:
        failures = len(world.workload.ledger.failures())
        hanging = world.drive("cutover", "mark drained", "STOP")
        try:
            hanging.wait_until_stopped()
            world.writes_go_on()
            world.writes_go_on()
        finally:
            hanging.wake()
        assert hanging.end().error == "Refused"
        assert len(world.workload.ledger.failures()) == failures
        assert world.probes.primaries()[-1] is Side.SOURCE
        world.must("cutover", "rollback")
        world.books_are_clean(Side.SOURCE)


def test_adopt_rebuilds_a_lost_record(shared: Shared) -> None:
    with shared.streaming() as world:
        world.must("cutover")
        state_files = [path for path in (world.directory / ".daybreak").iterdir() if path.name.startswith(world.name)]
        for path in state_files:
            path.unlink()
        world.must("adopt", "verify", "rollback")
        world.books_are_clean(Side.SOURCE)
