"""The controller is killed while PgBouncer holds clients back: they go on by themselves, and without an
error as long as nothing was closed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rehearsal.world import World

from daybreak.lab.bouncer import Bouncer, find_pgbouncer
from daybreak.lab.pair import Pair
from daybreak.model import Side

pytestmark = pytest.mark.skipif(find_pgbouncer() is None, reason="pgbouncer is not installed")

HARMLESS = ("intend switch", "mark ready", "mark held", "mark drained", "mark sequences")
CLOSED = ("mark committed", "mark opened", "mark routed", "done switch")


@pytest.fixture
def world(pair: Pair, tmp_path: Path) -> Iterator[World]:
    """A verified migration whose clients come through PgBouncer."""
    with Bouncer(pair) as bouncer, World(pair, tmp_path, bouncer=bouncer) as made:
        made.must("start", "verify")
        yield made


@pytest.mark.parametrize(
    "points", [("mark held", "mark drained"), pytest.param(HARMLESS, marks=pytest.mark.full)], ids=["main", "all"]
)
def test_killed_before_the_commit_point(world: World, points: tuple[str, ...]) -> None:
    for point in points:
        assert world.run("cutover", point).killed
        world.writes_go_on()
    world.must("cutover")
    world.writes_go_on()
    world.must("rollback")
    world.books_are_clean(Side.SOURCE)
    assert world.workload.ledger.failures() == ()
    assert world.probes.primaries() == [Side.SOURCE, Side.TARGET, Side.SOURCE]


@pytest.mark.full
def test_killed_after_the_commit_point(world: World) -> None:
    for point in CLOSED:
        assert world.run("cutover", point).killed
        world.must("cutover")
        world.writes_go_on()
        assert world.run("rollback", point).killed
        world.must("rollback")
        world.writes_go_on()
    world.books_are_clean(Side.SOURCE)
    assert world.probes.primaries() == [Side.SOURCE, *(Side.TARGET, Side.SOURCE) * len(CLOSED)]
