"""The function on AWS is killed (SIGKILL) after every step of a switchover while clients write; its next look
goes on, and every invariant is kept. Servers, processes and kills are real, AWS is emulated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dms_task import carried_out
from rehearsal.on_aws import LOOK, Naming, led_by_the_function, naming
from rehearsal.test_kill_switchover import MAIN, NOBODY, OPENED, POINTS, reverse_stream_is_there
from rehearsal.traces import guarded
from rehearsal.world import World

from daybreak.config.names import Names
from daybreak.lab.aws import EmulatedAws
from daybreak.lab.cloud import ENVIRONMENT
from daybreak.lab.pair import Pair
from daybreak.model import SWITCH_TTL_SECONDS, Side

# One second more than clients shall keep the writer's name around a switchover: so it has to be lowered.
_TTL_SECONDS = SWITCH_TTL_SECONDS + 1
LOWERING = ["intend lower_ttl", "done lower_ttl"]
# Open, and no name leads there: clients that know it by name only can't write until the next look.
NOT_ROUTED = "mark opened"


@pytest.fixture
def world(pair: Pair, tmp_path: Path, account: EmulatedAws) -> Iterator[World]:
    """A streaming migration whose clients find the primary themselves."""
    with led_by_the_function(pair, tmp_path, account) as made:
        made.must("verify")
        yield made


@contextmanager
def by_name(pair: Pair, directory: Path, account: EmulatedAws) -> Iterator[tuple[World, Naming]]:
    """A streaming migration whose clients find the primary by Route 53's names."""
    with (
        naming(pair, _TTL_SECONDS) as named,
        led_by_the_function(pair, directory, account, named=named) as world,
    ):
        world.must("verify")
        yield world, named


def killed(world: World, request: dict[str, str], point: str) -> None:
    found = world.invoke(request, point)
    assert found.killed, (point, found.said)


def gone_on_with(world: World, to: Side, before: list[Side]) -> None:
    """The next look finishes it."""
    found = world.invoke(LOOK)
    assert found.said.get("primary") == to, found.said
    world.writes_go_on()
    assert world.probes.primaries() == [*before, to]
    assert guarded(world.pair, to) == []
    reverse_stream_is_there(world, to)


def killed_and_gone_on_with(world: World, action: str, to: Side, point: str, *, named: Naming | None = None) -> None:
    before = world.probes.primaries()
    killed(world, {"action": action}, point)
    if point == NOBODY or point in OPENED:
        reverse_stream_is_there(world, to)
    if point != NOBODY and not (named and point == NOT_ROUTED):
        world.writes_go_on()
    gone_on_with(world, to, before)
    if named is not None:
        assert named.router.observe().writer is to


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_killed_function_is_gone_on_with(world: World) -> None:
    for point in POINTS:
        killed_and_gone_on_with(world, "cutover", Side.TARGET, point)
        killed_and_gone_on_with(world, "rollback", Side.SOURCE, point)
    world.books_are_clean(Side.SOURCE)


@pytest.mark.parametrize(
    "points",
    [
        [("done lower_ttl", NOBODY)],
        pytest.param([(point, point) for point in (*LOWERING, *sorted(MAIN))], marks=pytest.mark.full),
    ],
    ids=["main", "all"],
)
@pytest.mark.timeout(900)
def test_a_killed_function_leaves_no_name_astray(
    pair: Pair, tmp_path: Path, account: EmulatedAws, points: list[tuple[str, str]]
) -> None:
    with by_name(pair, tmp_path, account) as (world, named):
        for going, returning in points:
            killed_and_gone_on_with(world, "cutover", Side.TARGET, going, named=named)
            assert named.router.observe().ttl_seconds == SWITCH_TTL_SECONDS
            if returning in LOWERING:
                named.router.clean_up()  # by hand: the TTL is what it was before the first switchover
            killed_and_gone_on_with(world, "rollback", Side.SOURCE, returning, named=named)
            if returning in LOWERING:
                named.router.clean_up()
        world.books_are_clean(Side.SOURCE)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_a_function_killed_between_opening_and_routing_is_gone_on_with(
    pair: Pair, tmp_path: Path, account: EmulatedAws
) -> None:
    with by_name(pair, tmp_path, account) as (world, named):
        for action, to in (("cutover", Side.TARGET), ("rollback", Side.SOURCE)):
            for point in ("intend route", "done route"):
                before = world.probes.primaries()
                killed(world, {"action": action}, NOT_ROUTED)
                killed(world, LOOK, point)
                reverse_stream_is_there(world, to)
                assert named.router.observe().writer is (to if point == "done route" else to.other)
                gone_on_with(world, to, before)
                assert named.router.observe().writer is to
                if point == "intend route":
                    back = {"action": "rollback" if to is Side.TARGET else "cutover"}
                    assert world.invoke(back).said.get("primary") == to.other
        world.books_are_clean(Side.SOURCE)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_a_function_killed_while_it_takes_over_from_dms_is_gone_on_with(
    pair: Pair, tmp_path: Path, account: EmulatedAws
) -> None:
    """Each kill finds the hand-over where the one before left it: it is done once for a migration."""
    names, limits = Names(pair.database, ENVIRONMENT), {"max_lag_seconds": 5.0, "max_write_pause_seconds": 5.0}
    with (
        carried_out(pair, names),
        led_by_the_function(pair, tmp_path, account, cutover=limits, replication={"engine": "dms"}) as world,
    ):
        world.must("verify")
        killed(world, {"action": "cutover"}, "intend hand_over")
        world.writes_go_on()
        for point in ("during hand_over", "done hand_over", "done arm", "mark drained"):
            killed(world, LOOK, point)
            world.writes_go_on()
            assert world.probes.primaries() == [Side.SOURCE]
        gone_on_with(world, Side.TARGET, [Side.SOURCE])
        assert world.invoke({"action": "rollback"}).said.get("primary") == Side.SOURCE
        world.books_are_clean(Side.SOURCE)
