"""What every ``Router`` promises, held against the in-memory one, multi-host, a real PgBouncer and Route 53."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from aws_zone import SETTINGS, make_zone
from moto import mock_aws
from psycopg import sql
from pydantic import SecretStr
from support import claimed, server_of

from daybreak.config import PgBouncer
from daybreak.errors import ConfigError, DaybreakError, PermanentError
from daybreak.lab.bouncer import READER, WRITER, Bouncer
from daybreak.lab.pair import Pair
from daybreak.memory import MemoryRouter
from daybreak.model import SWITCH_TTL_SECONDS, RoutingStatus, Side
from daybreak.ports import Router
from daybreak.postgres.server import Server
from daybreak.traffic.multihost import MultihostRouter
from daybreak.traffic.pgbouncer import PgBouncerRouter
from daybreak.traffic.route53 import Route53Router


@dataclass(frozen=True)
class World:
    """A router, and what the fence does at a switchover before the router is told. ``ttl_seconds`` is the
    configured one where names route."""

    router: Router
    fence: Callable[[Side], None]
    can_pause: bool
    ttl_seconds: int | None = None

    def switch(self, side: Side) -> None:
        self.fence(side)
        self.router.point_writer(side)

    def status(self, writer: Side, read_weight: int, *, paused: bool = False) -> RoutingStatus:
        """What the router shall say."""
        return RoutingStatus(writer, read_weight, paused, self.ttl_seconds)


def _memory_names() -> World:
    router = MemoryRouter()
    router.use_names(60)
    return World(router, lambda _side: None, can_pause=True, ttl_seconds=60)


def _route53() -> World:
    router = Route53Router(make_zone(), SETTINGS, lambda: None)
    return World(router, lambda _side: None, can_pause=False, ttl_seconds=SETTINGS.ttl_seconds)


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


@pytest.fixture(params=["memory", "memory names", "multihost", "pgbouncer", "route53"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "memory":
        yield World(MemoryRouter(), lambda _side: None, can_pause=True)
        return
    if request.param == "memory names":
        yield _memory_names()
        return
    if request.param == "route53":
        with mock_aws():
            yield _route53()
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
    assert world.router.observe() == world.status(Side.SOURCE, 0)


def test_the_writer_moves_there_and_back(world: World) -> None:
    for side in (Side.TARGET, Side.TARGET, Side.SOURCE, Side.TARGET):
        world.switch(side)
        assert world.router.observe() == world.status(side, 0)


def test_reads_move_without_the_writer(world: World) -> None:
    for percent in (100, 100, 0):
        assert world.router.refuse_shift(percent) == ""
        world.router.shift_reads(percent)
        assert world.router.observe() == world.status(Side.SOURCE, percent)


def test_the_writer_moves_without_the_reads(world: World) -> None:
    world.router.shift_reads(100)
    world.switch(Side.TARGET)
    assert world.router.observe() == world.status(Side.TARGET, 100)
    world.switch(Side.SOURCE)
    assert world.router.observe() == world.status(Side.SOURCE, 100)


@pytest.mark.parametrize("percent", [-1, 40, 101])
def test_a_refused_shift_says_why_and_moves_nothing(world: World, percent: int) -> None:
    reason = world.router.refuse_shift(percent)
    if not reason:
        assert percent == 40
        return
    with pytest.raises(PermanentError) as raised:
        world.router.shift_reads(percent)
    assert reason in raised.value.message
    assert world.router.observe() == world.status(Side.SOURCE, 0)


def test_a_pause_ends_with_resume(world: World) -> None:
    world.router.pause(30)
    assert world.router.observe() == world.status(Side.SOURCE, 0, paused=world.can_pause)
    world.router.resume()
    assert world.router.observe() == world.status(Side.SOURCE, 0)
    world.router.resume()


def test_a_pause_ends_with_the_move(world: World) -> None:
    world.router.pause(30)
    world.switch(Side.TARGET)
    assert world.router.observe() == world.status(Side.TARGET, 0)


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


def test_the_ttl_is_lowered_ahead_of_a_switchover_and_put_back(world: World) -> None:
    # Low already says nothing about when it was lowered: the whole configured one is to be waited out again.
    for _ in range(2):
        assert world.router.lower_ttl() == (world.ttl_seconds or 0)
        ttl_seconds = world.router.observe().ttl_seconds
        assert ttl_seconds == (None if world.ttl_seconds is None else SWITCH_TTL_SECONDS)
    world.switch(Side.TARGET)
    assert world.router.observe().ttl_seconds == ttl_seconds
    world.router.clean_up()
    assert world.router.observe() == world.status(Side.TARGET, 0)


def test_errors_are_daybreaks_own(world: World) -> None:
    with pytest.raises(DaybreakError) as raised:
        world.router.shift_reads(1000)
    assert raised.value.hint
