"""A switchover that can't go on backs out by itself: it costs the application a pause and not one error,
and leaves the primary as it was (I4)."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import psycopg
import pytest
from rehearsal.points import at
from rehearsal.shared import Shared
from rehearsal.traces import guarded, portrait
from rehearsal.world import World

from daybreak.errors import PermanentError, Refused
from daybreak.lab.pair import OWNER, Pair
from daybreak.model import Side, Verb

LIMITS = {"max_write_pause_seconds": 1.0, "gate_patience_seconds": 2.0, "max_transaction_seconds": 1.0}


@dataclass
class Disturbance:
    """What gets in the way, made by ``begin`` and ended by ``end``."""

    pair: Pair
    stack: ExitStack

    def lock_on_the_standby(self) -> None:
        """Nothing is applied to this table: the drain does not end."""
        session = self._session(Side.TARGET, "postgres")
        session.execute("BEGIN; LOCK TABLE payments.transfers IN ACCESS EXCLUSIVE MODE")

    def token_is_not_applied(self) -> None:
        """The drain does not end though nothing was in its way when it began."""
        session = self._session(Side.TARGET, "postgres")
        session.execute("BEGIN; LOCK TABLE daybreak.token IN SHARE ROW EXCLUSIVE MODE")

    def writer_that_does_not_finish(self) -> None:
        """The hold waits for it."""
        session = self._session(Side.SOURCE)
        session.execute("BEGIN; INSERT INTO payments.events (account_id, note) VALUES (-2, 'slow')")

    def prepared_writer(self) -> None:
        """Likewise, and no session shows it."""
        session = self._session(Side.SOURCE)
        session.execute("BEGIN; INSERT INTO payments.events (account_id, note) VALUES (-2, 'prepared')")
        session.execute("PREPARE TRANSACTION 'slow'")
        self.stack.callback(lambda: session.execute("ROLLBACK PREPARED 'slow'"))

    def new_table(self) -> None:
        """It is on one side only, neither guarded nor published."""
        self._session(Side.SOURCE).execute("CREATE TABLE payments.new (id bigint PRIMARY KEY)")
        self.stack.callback(lambda: self._session(Side.SOURCE).execute("DROP TABLE payments.new"))

    def another_type(self) -> None:
        """The two sides are no longer of the same structure."""
        alter = "ALTER TABLE payments.limits ALTER COLUMN limit_cents TYPE numeric({}, 2)"
        self._session(Side.SOURCE).execute(alter.format(15).encode())
        self.stack.callback(lambda: self._session(Side.SOURCE).execute(alter.format(14).encode()))

    def _session(self, side: Side, user: str = OWNER) -> psycopg.Connection[tuple[object, ...]]:
        session = self.pair.connect(side, user)
        self.stack.callback(session.close)
        return session


Act = Callable[[Disturbance], None]
EVERYTHING: list[Act] = [
    Disturbance.lock_on_the_standby,
    Disturbance.writer_that_does_not_finish,
    Disturbance.prepared_writer,
    Disturbance.new_table,
    Disturbance.another_type,
]


class Began:
    """How it was at the beginning of a test."""

    def __init__(self, world: World) -> None:
        self.at = time.monotonic()
        self.primaries = world.probes.primaries()
        self._world = world

    def undisturbed_since(self) -> None:
        """The application is where it was, and no client saw an error."""
        assert guarded(self._world.pair, Side.SOURCE) == []
        assert self._world.probes.primaries() == self.primaries
        assert self._world.workload.ledger.failures(self.at) == ()


@pytest.mark.parametrize(
    ("act", "point"),
    [
        pytest.param(Disturbance.lock_on_the_standby, "intend switch", marks=pytest.mark.full),
        (Disturbance.token_is_not_applied, "mark held"),
        (Disturbance.writer_that_does_not_finish, "intend switch"),
        pytest.param(Disturbance.prepared_writer, "intend switch", marks=pytest.mark.full),
        (Disturbance.new_table, "intend switch"),
        (Disturbance.another_type, "intend switch"),
    ],
)
def test_a_pause_and_no_error(shared: Shared, act: Act, point: str) -> None:
    with shared.streaming() as world:
        before, began = portrait(world.pair, Side.SOURCE), Began(world)
        with ExitStack() as stack:
            disturbance = Disturbance(world.pair, stack)
            interfere = at(point, lambda: act(disturbance))
            with world.runtime(interfere) as runtime, pytest.raises((Refused, PermanentError)) as found:
                runtime.controller.run(Verb.CUTOVER)
            world.writes_go_on()
        if found.type is not PermanentError:
            assert portrait(world.pair, Side.SOURCE) == before
            began.undisturbed_since()
            return
        # What was in the way of the switch was in the way of tidying up, too: the same command does so,
        # and then what it was asked for.
        assert world.workload.ledger.failures(began.at) == ()
        world.must("cutover", "rollback")
        world.writes_go_on()
        assert world.probes.primaries() == [*began.primaries, Side.TARGET, Side.SOURCE]


@pytest.mark.parametrize("act", EVERYTHING)
def test_gates_that_are_red_before_it_begins(shared: Shared, act: Act) -> None:
    with shared.streaming() as world:
        began = Began(world)
        with ExitStack() as stack:
            act(Disturbance(world.pair, stack))
            with world.runtime() as runtime, pytest.raises(Refused):
                runtime.controller.run(Verb.CUTOVER)
            world.writes_go_on()
        began.undisturbed_since()


def test_nothing_in_the_way_any_more(shared: Shared) -> None:
    with shared.streaming() as world:
        world.must("cutover")
        world.writes_go_on()
        world.books_are_clean(Side.TARGET)
