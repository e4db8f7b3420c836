"""Multi-host routing against libpq itself: clients go where ``observe`` says, and what is published
can be read by the application."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql
from support import NAME, claimed, server_of

from daybreak.errors import StateConflict, TransientError
from daybreak.lab.pair import APPLICATION, Pair
from daybreak.model import RoutingStatus, Side
from daybreak.postgres.control import fenced
from daybreak.postgres.server import Connection
from daybreak.traffic.multihost import MultihostRouter


def _check(generation: int) -> Callable[[Connection], None]:
    def check(connection: Connection) -> None:
        with fenced(connection, NAME, generation):
            pass

    return check


def _router(pair: Pair, generation: int = 1) -> MultihostRouter:
    return MultihostRouter({side: server_of(pair, side) for side in Side}, _check(generation))


@pytest.fixture
def routed(pair: Pair) -> Pair:
    """A pair with the table of routes, the target closed."""
    for side in Side:
        claimed(pair, side).close()
    _set(pair, Side.TARGET, "default_transaction_read_only", "on")
    return pair


def _set(pair: Pair, side: Side, name: str, value: str, *, role: str = "") -> None:
    database = sql.Identifier(pair.database)
    whose = sql.SQL("ROLE {} IN DATABASE {}").format(sql.Identifier(role), database)
    target = whose if role else sql.SQL("DATABASE {}").format(database)
    with pair.cluster(side).connect() as connection:
        connection.execute(sql.SQL("ALTER {} SET {} = {}").format(target, sql.Identifier(name), value))


def _found_by_libpq(pair: Pair) -> int:
    with psycopg.connect(pair.multihost_dsn()) as connection:
        return connection.info.port


def _published(pair: Pair, side: Side) -> list[tuple[object, ...]]:
    with pair.connect(side, APPLICATION) as connection:
        return connection.execute("SELECT primary_side, read_weight FROM daybreak.route").fetchall()


def test_libpq_goes_where_the_router_says(routed: Pair) -> None:
    router = _router(routed)
    assert router.observe() == RoutingStatus(Side.SOURCE, 0)
    assert _found_by_libpq(routed) == routed.source.port
    _set(routed, Side.SOURCE, "default_transaction_read_only", "on")
    _set(routed, Side.TARGET, "default_transaction_read_only", "off")
    assert router.observe() == RoutingStatus(Side.TARGET, 0)
    assert _found_by_libpq(routed) == routed.target.port


def test_settings_of_one_role_and_other_settings_are_not_mistaken_for_the_databases(routed: Pair) -> None:
    _set(routed, Side.SOURCE, "default_transaction_read_only", "on", role="daybreak")
    _set(routed, Side.TARGET, "default_transaction_read_only", "off", role="daybreak")
    _set(routed, Side.SOURCE, "application_name", "default_transaction_read_only=on")
    assert _router(routed).observe() == RoutingStatus(Side.SOURCE, 0)


@pytest.mark.parametrize(("value", "words"), [("on", "Neither side"), ("off", "Both sides")])
def test_no_writer_and_two_writers_are_problems(routed: Pair, value: str, words: str) -> None:
    for side in Side:
        _set(routed, side, "default_transaction_read_only", value)
    status = _router(routed).observe()
    assert status.writer is None
    assert status.problem.startswith(words)


def test_the_application_reads_what_is_published(routed: Pair) -> None:
    router = _router(routed)
    router.point_writer(Side.SOURCE)
    router.shift_reads(40)
    for side in Side:
        assert _published(routed, side) == [("source", 40)]
    router.point_writer(Side.TARGET)
    for side in Side:
        assert _published(routed, side) == [("target", 40)]
    router.clean_up()
    for side in Side:
        assert _published(routed, side) == []


def test_an_older_generation_publishes_nothing(routed: Pair) -> None:
    _router(routed).point_writer(Side.SOURCE)
    late = _router(routed, generation=0)
    changes: list[Callable[[], None]] = [
        lambda: late.point_writer(Side.TARGET),
        lambda: late.shift_reads(9),
        late.clean_up,
    ]
    for change in changes:
        with pytest.raises(StateConflict):
            change()
    for side in Side:
        assert _published(routed, side) == [("source", 0)]


def test_cleaning_up_twice_is_fine_and_publishing_after_it_is_not(pair: Pair) -> None:
    router = _router(pair)
    router.clean_up()
    with pytest.raises(StateConflict, match="cleaned up"):
        router.point_writer(Side.TARGET)


def test_a_server_that_is_down_keeps_the_other_from_nothing(own_pair: Pair) -> None:
    claimed(own_pair, Side.TARGET).close()
    own_pair.source.stop()
    router = _router(own_pair)
    status = router.observe()
    assert status.writer is None
    assert status.problem.startswith("source: connecting as daybreak:")
    with pytest.raises(TransientError, match="source: connecting"):
        router.point_writer(Side.TARGET)
    assert _published(own_pair, Side.TARGET) == [("target", 0)]
    with pytest.raises(TransientError, match="Reads were not shifted"):
        router.shift_reads(10)
