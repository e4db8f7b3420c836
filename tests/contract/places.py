"""Where the contract of ``Replicator`` and ``Switch`` is tried: the imaginary world, and two real servers.

A place has three tables of which an application writes to one, and lets controllers come and go."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from dms_task import Dms, hasten
from psycopg import errors, sql

from daybreak.config import load_settings
from daybreak.lab.configuration import write_configuration
from daybreak.lab.pair import APPLICATION, OWNER, Pair
from daybreak.memory_dms import MemoryDmsReplicator
from daybreak.memory_replicator import MemoryReplicator
from daybreak.memory_switch import MemorySwitch
from daybreak.memory_world import Outcome, World
from daybreak.model import MigrationRecord, Observation, Phase, Policy, Side, Step, Switchover, Verb, Verification
from daybreak.ports import Replicator, Switch
from daybreak.table import TABLE, Row
from daybreak.wiring import Runtime, build

_PATIENCE_SECONDS = 30.0
_SCHEMA = sql.SQL("""
CREATE SCHEMA shop AUTHORIZATION {owner};
SET ROLE {owner};
CREATE TABLE shop.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text NOT NULL);
CREATE TABLE shop.parts (id bigint PRIMARY KEY, of_order bigint NOT NULL REFERENCES shop.orders);
CREATE TABLE shop.log (at timestamptz PRIMARY KEY, text text);
GRANT USAGE ON SCHEMA shop TO {application};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA shop TO {application};
""")


@dataclass(frozen=True)
class Ports:
    """What one controller's process has in hand."""

    replicator: Replicator
    switch: Switch
    close: Callable[[], None]

    def observe(self, record: MigrationRecord) -> Observation:
        """Everything but the router."""
        source, target = (self.switch.observe(side) for side in Side)
        return Observation(datetime.now(UTC), source, target, self.replicator.observe(record.primary))


class Place(ABC):
    """Two databases, the application's way to them, and controllers."""

    name = "shop"
    native = True

    def __init__(self) -> None:
        self._processes: list[Ports] = []

    @abstractmethod
    def make_process(self) -> Ports:
        """Ports of a new process."""

    @abstractmethod
    def write(self, side: Side) -> Outcome:
        """The application writes a row, ignoring the routing hint."""

    @abstractmethod
    def ids(self, side: Side) -> frozenset[int]:
        """The rows that are there."""

    @abstractmethod
    def close_flag(self, side: Side) -> None:
        """What is left where a session ends between closing the flag and committing."""

    @abstractmethod
    def stop(self, side: Side) -> None:
        """The server of ``side`` stops."""

    def process(self) -> Ports:
        """A new controller."""
        self._processes.append(self.make_process())
        return self._processes[-1]

    def close(self) -> None:
        """End all controllers."""
        for process in self._processes:
            process.close()

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until ``holds``."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not holds():
            assert time.monotonic() < deadline, "it does not come to hold"
            time.sleep(0.02)

    def record(self, generation: int, **changes: object) -> MigrationRecord:
        """A streaming record of ``generation``."""
        values: dict[str, object] = {"phase": Phase.STREAMING, "generation": generation, **changes}
        return MigrationRecord(self.name, **values)  # type: ignore[arg-type]

    def switching(self, generation: int, number: int, to: Side) -> MigrationRecord:
        """A record in the midst of switchover ``number``."""
        switch = Switchover(number, to, datetime.now(UTC))
        return self.record(generation, phase=Phase.SWITCHING, primary=to.other, switchover=switch, switchovers=number)

    def loaded(self) -> tuple[Ports, int]:
        """A controller that has loaded the target, and its generation."""
        ports = self.process()
        generation = ports.switch.claim("first", 0, False)
        for row in loading_rows():
            self.take(ports, generation, row)
        if not self.native:
            self.hand_over(ports, generation)
        return ports, generation

    def hand_over(self, ports: Ports, generation: int) -> None:
        """Until PostgreSQL's own streams run."""
        record, found = self.record(generation), list[Verification | None]()
        ports.switch.arm(record)
        self.until(lambda: ports.observe(record).replication.forward)
        ports.replicator.hand_over(
            generation,
            lambda act: ports.switch.at_fence_point(record, act),
            lambda: found.append(ports.switch.compare(record, lambda _progress: None)),
            lambda _progress: None,
        )
        ports.switch.disarm(record)
        assert [one.clean for one in found if one is not None] == [True]
        assert ports.observe(record).replication.handed_over

    def take(self, ports: Ports, generation: int, row: Row) -> None:
        """The step of ``row`` if it is needed, until it is seen to hold."""
        record = self.record(generation, phase=Phase.LOADING)
        if row.needed(record, ports.observe(record)):
            ports.replicator.perform(row.step, generation, lambda _progress: None)
        self.until(lambda: not row.needed(record, ports.observe(record)))

    def until_in_step(self) -> None:
        """Wait until both sides have the same rows."""
        self.until(lambda: self.ids(Side.SOURCE) == self.ids(Side.TARGET))


def loading_rows() -> list[Row]:
    """The rows of the table that load."""
    steps = [row for row in TABLE if row.phase is Phase.LOADING and Verb.START in row.verbs]
    return [row for row in steps if row.step is not Step.ENTER_STREAMING]


class MemoryPlace(Place):
    """The imaginary world."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.native = world.engine is None
        self.policy = Policy()

    def make_process(self) -> Ports:
        process = self.world.process()
        switch = MemorySwitch(self.world, process, self.policy)
        replicator = MemoryReplicator if self.native else MemoryDmsReplicator
        return Ports(replicator(self.world, process), switch, process.close)

    def write(self, side: Side) -> Outcome:
        return self.world.client_write(side)

    def ids(self, side: Side) -> frozenset[int]:
        self.world.flow()
        return frozenset(self.world[side].rows)

    def close_flag(self, side: Side) -> None:
        self.world[side].closed = True

    def stop(self, side: Side) -> None:
        self.world.stop(side)


class PostgresPlace(Place):
    """Two databases on real servers."""

    def __init__(self, pair: Pair, directory: Path) -> None:
        super().__init__()
        self.pair = pair
        with pair.connect(Side.SOURCE) as source:
            source.execute(_SCHEMA.format(owner=sql.Identifier(OWNER), application=sql.Identifier(APPLICATION)))
        self.config = write_configuration(pair, directory, name=self.name, cutover={"max_write_pause_seconds": 5.0})

    def build(self) -> Runtime:
        """A new process's runtime."""
        return build(load_settings(self.config))

    def make_process(self) -> Ports:
        runtime = self.build()

        def close() -> None:
            with runtime:  # which a killed process doesn't: but its sessions end, too
                pass

        return Ports(runtime.replicator, runtime.switch, close)

    def write(self, side: Side) -> Outcome:
        options = "-c default_transaction_read_only=off -c statement_timeout=1000"
        with psycopg.connect(self.pair.dsn(side, APPLICATION), options=options) as connection:
            try:
                connection.execute("INSERT INTO shop.orders (note) VALUES ('x')")
            except errors.ReadOnlySqlTransaction:
                return Outcome.REFUSED
            except errors.QueryCanceled:
                return Outcome.WAITING
        return Outcome.ACKNOWLEDGED

    def ids(self, side: Side) -> frozenset[int]:
        with self.pair.connect(side) as connection:
            return frozenset(int(str(row[0])) for row in connection.execute("SELECT id FROM shop.orders"))

    def close_flag(self, side: Side) -> None:
        with self.pair.connect(side) as connection:
            connection.execute("SELECT setval('daybreak.guard_flag', 2)")

    def stop(self, side: Side) -> None:
        self.pair.cluster(side).stop()


class DmsPlace(PostgresPlace):
    """The same, begun by AWS DMS."""

    native = False

    def __init__(self, dms: Dms, directory: Path) -> None:
        super().__init__(dms.pair, directory)
        self.dms = dms
        self.config = dms.configuration(directory)

    def build(self) -> Runtime:
        return hasten(super().build())
