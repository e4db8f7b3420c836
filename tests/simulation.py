"""A whole migration in memory: controllers over one imaginary world, clients that write to both sides all
the while, and hooks that kill, stop or break things at any point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

from daybreak.controller import Controller
from daybreak.errors import DaybreakError, StateConflict
from daybreak.events import Event, Listener
from daybreak.memory import MemoryRouter, MemoryStateStore
from daybreak.memory_dms import MemoryDmsReplicator
from daybreak.memory_replicator import MemoryReplicator
from daybreak.memory_switch import MemorySwitch
from daybreak.memory_world import Killed, Outcome, Process, World
from daybreak.model import JournalEntry, MigrationRecord, Policy, RoutingStatus, Side, Step, Verb

NAME = "shop"
POLICY = Policy(gate_patience_seconds=1.0)
Hook = Callable[[Process, str], None]


def no_hook(_process: Process, _name: str) -> None:
    """Nothing happens to this one."""


def changes(point: str) -> bool:
    """Whether something may have changed before ``point``: looking changes nothing."""
    return not point.startswith("observe")


@dataclass
class _Store:
    """The store as one process uses it."""

    store: MemoryStateStore
    process: Process

    def load(self, name: str) -> MigrationRecord | None:
        return self.store.load(name)

    def compare_and_swap(
        self, record: MigrationRecord, expected_version: int, event: str, step: Step | None, at: datetime, detail: str
    ) -> MigrationRecord:
        what = f"{event} {step or ''}".strip()
        self.process.point(f"before journal: {what}")
        stored = self.store.compare_and_swap(record, expected_version, event, step, at, detail)
        self.process.point(f"after journal: {what}")
        return stored

    def journal(self, name: str) -> tuple[JournalEntry, ...]:
        return self.store.journal(name)


@dataclass
class _Router:
    """The router as one process uses it: refused once another generation acts on both sides."""

    router: MemoryRouter
    process: Process
    generation: Callable[[], int]

    def observe(self) -> RoutingStatus:
        self.process.point("observe router")
        return self.router.observe()

    def refuse_shift(self, percent: int) -> str:
        return self.router.refuse_shift(percent)

    def shift_reads(self, percent: int) -> None:
        self._point("shift_reads")
        self.router.shift_reads(percent)

    def lower_ttl(self) -> float:
        self._point("lower_ttl")
        seconds = self.router.lower_ttl()
        self.process.point("router: ttl lowered")
        return seconds

    def pause(self, seconds: float) -> None:
        self._point("pause")
        self.router.pause(seconds)

    def resume(self) -> None:
        self.process.point("router: resume")
        self.router.resume()

    def point_writer(self, side: Side) -> None:
        self._point("point_writer")
        self.router.point_writer(side)
        self.process.point("router: pointed")

    def clean_up(self) -> None:
        self._point("clean_up")
        self.router.clean_up()

    def _point(self, name: str) -> None:
        self.process.point(f"router: {name}")
        for side in Side:
            database = self.process.world[side]
            if database.up and database.control and database.control.generation != self.generation():
                raise StateConflict("A newer Daybreak took charge.", "Stop.")


@dataclass
class Simulation:
    """``hook`` strikes at every point of every process; clients write at each of them anyway."""

    world: World = field(default_factory=World)
    policy: Policy = POLICY
    store: MemoryStateStore = field(default_factory=MemoryStateStore)
    events: list[Event] = field(default_factory=list)
    points: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._back_at: dict[Side, datetime] = {}
        self._flow_at: datetime | None = None
        self.router = MemoryRouter(clock=lambda: self.world.now.timestamp())
        for _ in range(7):
            self.world.client_write(Side.SOURCE)

    # --- controllers

    def controller(
        self, hook: Hook = no_hook, listener: Listener | None = None, owner: str = "the same"
    ) -> tuple[Controller, Process]:
        """A fresh controller in a process of its own, at whose points ``hook`` is called."""
        process = self.world.process()

        def at_point(name: str) -> None:
            self.points.append(name)
            if changes(name):
                self.clients()
            hook(process, name)

        process.hook = at_point
        switch = MemorySwitch(self.world, process, self.policy)
        replicator = MemoryReplicator if self.world.engine is None else MemoryDmsReplicator
        controller = Controller(
            name=NAME,
            store=_Store(self.store, process),
            replicator=replicator(self.world, process),
            router=_Router(self.router, process, lambda: switch.generation),
            switch=switch,
            policy=self.policy,
            owner=owner,
            listener=listener or self.events.append,
            clock=self.world.clock,
            sleep=self._sleep,
        )
        return controller, process

    def run(
        self, verb: Verb, hook: Hook = no_hook, percent: int | None = None, take_over: bool = False
    ) -> MigrationRecord:
        """One command, from its process's start to its end."""
        controller, process = self.controller(hook)
        try:
            return controller.run(verb, percent, take_over)
        finally:
            process.close()

    def attempt(self, verb: Verb, hook: Hook = no_hook, percent: int | None = None) -> DaybreakError | Killed | None:
        """The same, for commands that may fail or be killed: what they ended with."""
        try:
            self.run(verb, hook, percent)
        except (DaybreakError, Killed) as error:
            return error
        return None

    def through(self, *verbs: Verb) -> Simulation:
        """Several commands, one after the other."""
        for verb in verbs:
            self.run(verb)
        return self

    def outage(self, side: Side, seconds: float) -> None:
        """The server of ``side`` goes down for so long, of the time that controllers sleep through."""
        self.world.stop(side)
        self._back_at[side] = self.world.now + timedelta(seconds=seconds)

    def stall(self, seconds: float) -> None:
        """The streams apply nothing for so long."""
        self.world.stalled = True
        self._flow_at = self.world.now + timedelta(seconds=seconds)

    def _sleep(self, seconds: float) -> None:
        self.world.sleep(seconds)
        if self._flow_at is not None and self._flow_at <= self.world.now:
            self.world.stalled, self._flow_at = False, None
        self.clients()
        for side in [side for side, moment in self._back_at.items() if moment <= self.world.now]:
            self.world.start(side)
            del self._back_at[side]

    # --- looking

    @property
    def record(self) -> MigrationRecord:
        """What is stored."""
        return self.store.load(NAME) or MigrationRecord(NAME)

    def steps(self, event: str = "done") -> list[Step]:
        """The journal's steps."""
        return [entry.step for entry in self.store.journal(NAME) if entry.event == event and entry.step is not None]

    def clients(self) -> set[Outcome]:
        """Applications write wherever they can; then the invariants are looked at."""
        outcomes = {self.world.client_write(side) for side in Side}
        self.world.check()
        return outcomes

    def footprint(self, publications: bool = True) -> tuple[object, ...]:
        """What Daybreak left in both databases."""
        return tuple(self.world[side].footprint(publications) for side in Side)

    def everything(self) -> tuple[object, ...]:
        """All that a controller could change, time and imaginary pauses apart."""
        controls = tuple(repr(self.world[side].control) for side in Side)
        status = self.router.observe()
        return (
            self.footprint(),
            controls,
            self.record,
            len(self.store.journal(NAME)),
            status.writer,
            status.read_weight,
        )

    def assert_sound(self) -> None:
        """No invariant was violated, and the side that takes writes has every acknowledged one."""
        self.clients()
        assert self.world.violations == []

    def assert_in_step(self) -> None:
        """In phase streaming: one primary that takes writes everywhere, unguarded, its changes captured; a
        standby that is closed everywhere and has all of it."""
        self.assert_sound()
        self.world.flow()
        primary, standby = self.world[self.record.primary], self.world[self.record.primary.other]
        assert [self.world.client_write(primary.side) for _ in primary.tables] == [Outcome.ACKNOWLEDGED] * len(
            primary.tables
        )
        assert {self.world.client_write(standby.side) for _ in standby.tables} == {Outcome.REFUSED}
        self.world.flow()
        assert primary.guarded == set()
        assert standby.guarded == standby.tables
        assert primary.slot or (self.world.engine is not None and self.world.engine.streams)
        assert primary.rows.keys() == standby.rows.keys() >= self.world.acknowledged
        assert self.router.observe() == RoutingStatus(primary.side, self.router.observe().read_weight)
        self.assert_sound()


def strike_at(number: int, blow: Hook) -> Hook:
    """A hook that deals ``blow`` at the ``number``-th point, from 0, of those where things change."""
    seen = count()

    def hook(process: Process, name: str) -> None:
        if changes(name) and next(seen) == number:
            blow(process, name)

    return hook


def kill_at(number: int) -> Hook:
    """A hook that kills its process there."""
    return strike_at(number, lambda process, _name: process.kill())


def on(name: str, act: Callable[[], object], times: int = 1) -> Hook:
    """A hook that does ``act`` the first ``times`` times that a process passes the point ``name``."""
    left = [times]

    def hook(_process: Process, passed: str) -> None:
        if passed == name and left[0] > 0:
            left[0] -= 1
            act()

    return hook


def failing(error: BaseException) -> Callable[[], object]:
    """An act that raises ``error``: what is done at that point fails."""

    def fail() -> object:
        raise error

    return fail


def ready(*more: Verb, bidirectional: bool = True) -> Simulation:
    """Streaming and verified, after ``more``."""
    return Simulation(World(bidirectional)).through(Verb.START, Verb.VERIFY, *more)


def kill(simulation: Simulation, verb: Verb, name: str) -> None:
    """Run ``verb`` and kill it at the first point ``name``."""
    controller, process = simulation.controller()
    process.hook = lambda passed: process.kill() if passed == name else None
    try:
        controller.run(verb)
    except Killed:
        return
    raise AssertionError(f"{verb} does not pass {name}")


def make_red(simulation: Simulation, gate: str) -> None:
    """Make ``gate`` red for good."""
    world = simulation.world
    if gate == "streams":
        world[Side.TARGET].subscription = False
    elif gate == "lag":
        world.stalled = True
    elif gate == "prepared transaction":
        world[Side.SOURCE].prepared_transactions = 1
    elif gate == "long transaction":
        world[Side.SOURCE].longest_transaction_seconds = 31
    elif gate == "structure":
        world[Side.SOURCE].ddl = 1
    elif gate == "standby":
        world[Side.TARGET].guarded = {0}
    elif gate == "new table":
        for side in Side:
            world[side].tables |= {3}
        world[simulation.record.primary.other].guarded |= {3}
