"""What every ``Router`` promises, held against the in-memory one, multi-host and a real PgBouncer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from psycopg import sql
from pydantic import SecretStr
from support import claimed, server_of

from daybreak.config import PgBouncer
from daybreak.errors import ConfigError, DaybreakError, PermanentError
from daybreak.lab.bouncer import READER, WRITER, Bouncer
from daybreak.lab.pair import Pair
from daybreak.memory import MemoryRouter
from daybreak.model import RoutingStatus, Side
from daybreak.ports import Router
from daybreak.postgres.server import Server
from daybreak.traffic.multihost import MultihostRouter
from daybreak.traffic.pgbouncer import PgBouncerRouter


@dataclass(frozen=True)
class World:
    """A router, and what the fence does at a switchover before the router is told."""

    router: Router
    fence: Callable[[Side], None]
    can_pause: bool

    def switch(self, side: Side) -> None:
        self.fence(side)
        self.router.point_writer(side)


def servers(pair: Pair) -> dict[Side, Server]:
    return {side: server_of(pair, side) for side in Side}


def fence(pair: Pair, writable: Side) -> None:
    """Close the other side the way Daybreak does, as far as libpq is concerned."""
    for side in Side:
        with pair.cluster(side).connect() as connection:
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}").format(
                    sql.Identifier(pair.database), sql.Literal("off" if side is writable else "on")
                )
            )


def _multihost(pair: Pair) -> World:
    for side in Side:
        claimed(pair, side).close()
    fence(pair, Side.SOURCE)
    router = MultihostRouter(servers(pair), lambda _connection: None)
    return World(router, lambda side: fence(pair, side), can_pause=False)


@pytest.fixture(params=["memory", "multihost", "pgbouncer"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "memory":
        yield World(MemoryRouter(), lambda _side: None, can_pause=True)
        return
    pair = request.getfixturevalue("pair")
    if request.param == "multihost":
        yield _multihost(pair)
        return
    try:
        bouncer = Bouncer(pair)
    except ConfigError as error:
        pytest.skip(str(error))
    with bouncer:
        settings = PgBouncer(
            admin_dsn=SecretStr(bouncer.admin_dsn), databases_file=bouncer.databases_file, writer=WRITER, reader=READER
        )
        yield World(PgBouncerRouter(settings, servers(pair), lambda: None), lambda _side: None, can_pause=True)


def test_the_source_has_everything_at_first(world: World) -> None:
    assert world.router.observe() == RoutingStatus(Side.SOURCE, 0)


def test_the_writer_moves_there_and_back(world: World) -> None:
    for side in (Side.TARGET, Side.TARGET, Side.SOURCE, Side.TARGET):
        world.switch(side)
        assert world.router.observe() == RoutingStatus(side, 0)


def test_reads_move_without_the_writer(world: World) -> None:
    for percent in (100, 100, 0):
        assert world.router.refuse_shift(percent) == ""
        world.router.shift_reads(percent)
        assert world.router.observe() == RoutingStatus(Side.SOURCE, percent)


def test_the_writer_moves_without_the_reads(world: World) -> None:
    world.router.shift_reads(100)
    world.switch(Side.TARGET)
    assert world.router.observe() == RoutingStatus(Side.TARGET, 100)
    world.switch(Side.SOURCE)
    assert world.router.observe() == RoutingStatus(Side.SOURCE, 100)


@pytest.mark.parametrize("percent", [-1, 40, 101])
def test_a_refused_shift_says_why_and_moves_nothing(world: World, percent: int) -> None:
    reason = world.router.refuse_shift(percent)
    if not reason:
        assert percent == 40
        return
    with pytest.raises(PermanentError) as raised:
        world.router.shift_reads(percent)
    assert reason in raised.value.message
    assert world.router.observe() == RoutingStatus(Side.SOURCE, 0)


def test_a_pause_ends_with_resume(world: World) -> None:
    world.router.pause(30)
    assert world.router.observe() == RoutingStatus(Side.SOURCE, 0, paused=world.can_pause)
    world.router.resume()
    assert world.router.observe() == RoutingStatus(Side.SOURCE, 0)
    world.router.resume()


def test_a_pause_ends_with_the_move(world: World) -> None:
    world.router.pause(30)
    world.switch(Side.TARGET)
    assert world.router.observe() == RoutingStatus(Side.TARGET, 0)


def test_a_pause_may_be_asked_for_again(world: World) -> None:
    world.router.pause(30)
    world.router.pause(30)
    world.router.resume()
    assert not world.router.observe().paused


def test_a_pause_ends_by_itself(world: World) -> None:
    world.router.pause(0.5)
    deadline = time.monotonic() + 30
    while world.router.observe().paused:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    world.router.resume()


def test_cleaning_up_leaves_clients_where_they_are(world: World) -> None:
    world.switch(Side.TARGET)
    world.router.clean_up()
    world.router.clean_up()
    assert world.router.observe().writer is Side.TARGET


def test_errors_are_daybreaks_own(world: World) -> None:
    with pytest.raises(DaybreakError) as raised:
        world.router.shift_reads(1000)
    assert raised.value.hint
