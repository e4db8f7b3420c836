"""Automatic mode on real servers and emulated AWS: nobody calls the function but the schedule that makes it look."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rehearsal.on_aws import LOOK, Naming, led_by_the_function, naming
from rehearsal.world import World

from daybreak.lab.aws import EmulatedAws
from daybreak.lab.configuration import Section
from daybreak.lab.pair import Pair
from daybreak.model import Side

# Enough for every step of this schedule, with some in which a gate of a busy machine is red.
_LOOKS = 20
State = tuple[Side, int, Side | None]


@contextmanager
def automatic(pair: Pair, directory: Path, account: EmulatedAws) -> Iterator[tuple[World, Naming]]:
    """A migration that streams, by names whose TTL needs no lowering."""
    # The probes are refused on the target all the time, and are no readers.
    cutover: Section = {
        "mode": "automatic",
        "read_schedule": [50, 100],
        "soak_seconds": 0.0,
        "max_read_errors_per_minute": 1e6,
    }
    with (
        naming(pair, 1) as named,
        led_by_the_function(pair, directory, account, named=named, cutover=cutover) as world,
    ):
        yield world, named


def state(world: World, named: Naming) -> State:
    """Who takes writes, and where Route 53 sends readers (percent to the target) and writers."""
    route = named.router.observe()
    return world.probes.primaries()[-1], route.read_weight, route.writer


def looked_until(world: World, named: Naming, goal: State) -> list[State]:
    """Look until ``goal``; returns all states on the way there, that before the first look included."""
    passed = [state(world, named)]
    for _ in range(_LOOKS):
        found = world.invoke(LOOK)
        assert not found.error, found.said
        world.writes_go_on()
        if (now := state(world, named)) != passed[-1]:
            passed.append(now)
        if now == goal:
            return passed
    raise AssertionError(f"it does not get any further: {passed}")


def steps(world: World) -> int:
    """How many steps were journalled; that people were told something is none."""
    with world.runtime() as runtime:
        return sum(entry.step is not None for entry in runtime.store.journal(world.name))


def test_reads_and_then_writes_move_by_themselves(pair: Pair, tmp_path: Path, account: EmulatedAws) -> None:
    with automatic(pair, tmp_path, account) as (world, named):
        goal = (Side.TARGET, 100, Side.TARGET)
        assert looked_until(world, named, goal) == [
            (Side.SOURCE, 0, Side.SOURCE),
            (Side.SOURCE, 50, Side.SOURCE),
            (Side.SOURCE, 100, Side.SOURCE),
            goal,
        ]
        assert world.invoke({"action": "rollback"}).said.get("primary") == Side.SOURCE
        world.writes_go_on()
        before, there = steps(world), state(world, named)
        for _ in range(2):
            world.invoke(LOOK)
        assert (steps(world), state(world, named)) == (before, there)
        assert world.probes.primaries() == [Side.SOURCE, Side.TARGET, Side.SOURCE]
        world.books_are_clean(Side.SOURCE)


def test_readers_of_a_target_that_died_are_sent_back(own_pair: Pair, tmp_path: Path, account: EmulatedAws) -> None:
    with automatic(own_pair, tmp_path, account) as (world, named):
        looked_until(world, named, (Side.SOURCE, 50, Side.SOURCE))
        own_pair.target.stop()
        world.invoke(LOOK)
        assert state(world, named) == (Side.SOURCE, 0, Side.SOURCE)
        world.writes_go_on()
        own_pair.target.start()
        world.books_are_clean(Side.SOURCE)


def test_what_is_postponed_does_not_begin(pair: Pair, tmp_path: Path, account: EmulatedAws) -> None:
    with automatic(pair, tmp_path, account) as (world, named):
        until = datetime.now(UTC) + timedelta(hours=1)
        assert not world.invoke({"action": "postpone", "until": until.isoformat()}).error
        before = steps(world)
        for _ in range(3):
            world.invoke(LOOK)
        assert (steps(world), state(world, named)) == (before, (Side.SOURCE, 0, Side.SOURCE))
        assert not world.invoke({"action": "postpone"}).error
        looked_until(world, named, (Side.SOURCE, 50, Side.SOURCE))
