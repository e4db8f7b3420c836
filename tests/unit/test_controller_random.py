"""Random histories: commands of one or two controllers, kills, outages, stops, a store that is copied, in any
order. Whatever happens, no two sides take writes, the side that does has every acknowledged one, an older
generation changes nothing, and in the end the operator gets through."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from simulation import Simulation, kill_at, strike_at

from daybreak.errors import DaybreakError, Refused
from daybreak.memory_world import Killed, Process, World
from daybreak.model import Phase, Side, Verb

_VERBS = st.sampled_from([Verb.START, Verb.VERIFY, Verb.CUTOVER, Verb.ROLLBACK, Verb.SHIFT])
_POINTS = st.integers(0, 70)


class Histories(RuleBasedStateMachine):
    """One migration and everything that can befall it."""

    @initialize(bidirectional=st.booleans(), begun=st.booleans(), dms=st.booleans())
    def begin(self, bidirectional: bool, begun: bool, dms: bool) -> None:
        self.simulation = Simulation(World(bidirectional, dms=dms))
        if begun:
            self.simulation.through(Verb.START, Verb.VERIFY)

    @rule(verb=_VERBS)
    def run(self, verb: Verb) -> None:
        """A command; refused or failed is fine."""
        assert not isinstance(self.simulation.attempt(verb, percent=40), Killed)

    @rule(verb=_VERBS, point=_POINTS)
    def run_and_kill(self, verb: Verb, point: int) -> None:
        """kill -9 somewhere on its way."""
        self.simulation.attempt(verb, kill_at(point), percent=40)

    @rule(verb=_VERBS, point=_POINTS, other=_VERBS, further=st.integers(0, 20))
    def run_and_stop(self, verb: Verb, point: int, other: Verb, further: int) -> None:
        """SIGSTOP somewhere; somebody else takes over, is killed or not; SIGCONT."""
        left: list[tuple[object, ...]] = []

        def meanwhile(_process: Process, name: str) -> None:
            generation = self.simulation.record.generation
            controller, process = self.simulation.controller(kill_at(further * 10))
            try:
                controller.run(other, 60, take_over=True)
            except (DaybreakError, Killed):
                pass
            finally:
                process.close()
            # In the middle of its own claim the first one may still win a generation of its own.
            if self.simulation.record.generation > generation and not name.startswith("claim"):
                left.append(self.simulation.everything())

        self.simulation.attempt(verb, strike_at(point, meanwhile), percent=40)
        assert left in ([], [self.simulation.everything()])

    @rule(verb=_VERBS, point=_POINTS, side=st.sampled_from(Side), seconds=st.sampled_from([0.3, 5.0]))
    def run_and_lose_a_server(self, verb: Verb, point: int, side: Side, seconds: float) -> None:
        """A server crashes somewhere on its way."""
        self.simulation.attempt(verb, strike_at(point, lambda *_: self.simulation.outage(side, seconds)), percent=40)

    @rule(side=st.sampled_from(Side))
    def lose_a_server(self, side: Side) -> None:
        """Between two commands."""
        self.simulation.outage(side, 0.5)

    @rule(seconds=st.sampled_from([0.5, 5.0]))
    def stall(self, seconds: float) -> None:
        """The streams stop applying for a while."""
        self.simulation.stall(seconds)

    @invariant()
    def sound(self) -> None:
        """I1 and I2, looked at from outside as well."""
        if hasattr(self, "simulation"):
            self.simulation.assert_sound()

    def teardown(self) -> None:
        """All is up again: whatever was asked for last can be brought to its end."""
        if not hasattr(self, "simulation"):
            return
        simulation = self.simulation
        simulation.world.stalled = False
        for side in Side:
            simulation.world.start(side)
        record = simulation.record
        if record.phase in {Phase.PLANNED, Phase.LOADING}:
            simulation.run(Verb.START)
        elif record.phase is Phase.SWITCHING and record.switchover is not None:
            under_way = Verb.CUTOVER if record.switchover.to is Side.TARGET else Verb.ROLLBACK
            try:
                simulation.run(under_way)
            except Refused:
                assert simulation.record.phase is Phase.STREAMING
        if simulation.controller()[0].observe().replication.handing_over:  # it was cut off: the same command ends it
            simulation.attempt(Verb.CUTOVER)
        simulation.run(Verb.VERIFY)
        simulation.assert_in_step()
        simulation.run(Verb.ROLLBACK if simulation.record.primary is Side.TARGET else Verb.CUTOVER)
        simulation.assert_in_step()


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=12, deadline=None)
