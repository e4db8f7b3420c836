"""Switchovers that back out leave everything as it was (I4); past the commit point there is only forward."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation import Hook, Simulation, failing, kill, make_red, on, ready

from daybreak.errors import PermanentError, Refused, TransientError
from daybreak.memory_switch import MemorySwitch
from daybreak.memory_world import Outcome
from daybreak.model import Phase, Side, Step, Verb

BROKEN = TransientError("connection lost", "Look.")
FORBIDDEN = PermanentError("permission denied", "Grant it.")
BOTH = pytest.mark.parametrize("streams", [True, False], ids=["both streams", "one stream"])


# --- a switchover that backs out


@BOTH
@pytest.mark.parametrize(
    ("point", "what"),
    [
        ("router: pause", "fail"),
        ("arm: function made", "fail"),
        ("arm: a table guarded", "forbid"),
        ("switch: held", "stall"),
        ("switch: held", "fail"),
        ("switch: drained", "end the hold"),
        ("switch: drained", "fail"),
        ("switch: snapshot", "stop the standby"),
        ("switch: sequences", "end the hold"),
        ("switch: sequences", "let the pause pass"),
        ("switch: flag closed", "end the hold"),
        ("switch: flag closed", "fail"),
    ],
)
@pytest.mark.parametrize("verb", [Verb.CUTOVER, Verb.ROLLBACK])
def test_a_switch_that_backs_out_leaves_everything_as_it_was(streams: bool, point: str, what: str, verb: Verb) -> None:
    """I4. And the next attempt succeeds."""
    simulation = ready(*([Verb.CUTOVER] if verb is Verb.ROLLBACK else []), bidirectional=streams)
    primary, before = simulation.record.primary, simulation.footprint(publications=False)
    old = simulation.world[primary]
    acts = {
        "fail": failing(BROKEN),
        "forbid": failing(FORBIDDEN),
        "stall": lambda: setattr(simulation.world, "stalled", True),
        "end the hold": lambda: setattr(old, "held_by", None),
        "stop the standby": lambda: simulation.outage(primary.other, 0.5),
        "let the pause pass": lambda: simulation.world.sleep(60),
    }
    error = simulation.attempt(verb, on(point, acts[what], 1_000 if point.startswith("arm") else 1))
    assert isinstance(error, Refused)
    simulation.world.stalled = False
    simulation.world.start(primary.other)
    assert simulation.record.phase is Phase.STREAMING
    assert simulation.record.primary is primary
    switch = simulation.record.last_switchover
    assert switch is not None
    assert switch.outcome == f"backed out: {switch.backed_out}"
    assert switch.backed_out in error.message
    assert simulation.footprint(publications=False) == before
    simulation.assert_in_step()
    assert not simulation.router.observe().paused
    simulation.run(verb)
    simulation.assert_in_step()


@pytest.mark.parametrize(
    "gate", ["streams", "lag", "prepared transaction", "long transaction", "structure", "standby", "new table"]
)
@pytest.mark.parametrize("since", ["before it", "the last moment"])
def test_a_red_gate_refuses_and_leaves_nothing(gate: str, since: str) -> None:
    simulation = ready()
    hook: Hook = on("after journal: done arm", lambda: make_red(simulation, gate))
    if since == "before it":
        make_red(simulation, gate)
        hook = on("", lambda: None)
    before = simulation.world[Side.SOURCE].footprint()
    error = simulation.attempt(Verb.CUTOVER, hook)
    assert isinstance(error, Refused)
    assert "nothing was changed" in error.message
    assert simulation.record.phase is Phase.STREAMING
    assert simulation.world[Side.SOURCE].footprint() == before
    assert (Step.ARM in simulation.steps()[14:]) is (since == "the last moment")


def test_a_red_gate_that_turns_green_in_time_is_no_obstacle() -> None:
    simulation = ready()
    simulation.world.stalled = True
    simulation.run(Verb.CUTOVER, on("observe streams", lambda: setattr(simulation.world, "stalled", False)))
    simulation.assert_in_step()


def test_never_verified_is_not_ready() -> None:
    simulation = Simulation().through(Verb.START)
    with pytest.raises(Refused, match="verified: never"):
        simulation.run(Verb.CUTOVER)


# --- what is lost at or after the commit point


def test_a_switch_lost_while_it_opens_goes_forward_under_a_new_generation() -> None:
    """The session that opens may still be at it: only a new generation tells how it ended."""
    simulation = ready()
    simulation.run(Verb.CUTOVER, on("open: committed", failing(BROKEN)))
    simulation.assert_in_step()
    assert simulation.record.primary is Side.TARGET
    assert simulation.record.generation == 4
    assert Step.OPEN in simulation.steps()


def test_where_nobody_can_write_a_server_is_waited_for_without_end() -> None:
    simulation = ready()
    simulation.run(Verb.CUTOVER, on("switch: committed", lambda: simulation.outage(Side.TARGET, 900)))
    simulation.assert_in_step()
    assert simulation.record.primary is Side.TARGET


@BOTH
def test_ctrl_c_before_the_commit_point_lets_clients_go_on(streams: bool) -> None:
    simulation = ready(bidirectional=streams)
    with pytest.raises(KeyboardInterrupt):
        simulation.run(Verb.CUTOVER, on("switch: drained", failing(KeyboardInterrupt())))
    assert not simulation.router.observe().paused
    assert simulation.clients() == {Outcome.ACKNOWLEDGED, Outcome.REFUSED}
    simulation.run(Verb.CUTOVER)
    simulation.assert_in_step()


def test_ctrl_c_after_the_commit_point_leaves_clients_waiting_for_the_new_primary() -> None:
    simulation = ready()
    with pytest.raises(KeyboardInterrupt):
        simulation.run(Verb.CUTOVER, on("switch: committed", failing(KeyboardInterrupt())))
    assert simulation.router.observe().paused
    simulation.run(Verb.CUTOVER)
    assert not simulation.router.observe().paused
    simulation.assert_in_step()


@BOTH
@pytest.mark.parametrize("point", ["switch: committed", "open: committed", "switch: opened"])
def test_what_was_opened_is_not_backed_out_of_whatever_the_record_says(streams: bool, point: str) -> None:
    """As where the answer to a commit was lost, and the commit was not."""
    simulation = ready(bidirectional=streams)
    kill(simulation, Verb.CUTOVER, point)
    record = simulation.record
    assert record.switchover is not None
    believed = replace(record, switchover=replace(record.switchover, backed_out="connection lost"))
    simulation.store.compare_and_swap(believed, record.version, "believed", None, simulation.world.now, "")
    switched = simulation.run(Verb.CUTOVER)
    assert switched.primary is Side.TARGET
    assert switched.last_switchover is not None
    assert switched.last_switchover.outcome == "switched"
    simulation.assert_in_step()


def test_backing_out_ends_the_pause_of_a_controller_that_died() -> None:
    simulation = ready()
    kill(simulation, Verb.CUTOVER, "switch: held")
    assert simulation.router.observe().paused
    simulation.world.stalled = True
    simulation.world.client_write(Side.SOURCE)
    with pytest.raises(Refused, match="lag"):
        simulation.run(Verb.CUTOVER)
    assert not simulation.router.observe().paused


def test_a_router_that_fails_delays_nothing_but_itself() -> None:
    simulation = ready()
    simulation.run(Verb.CUTOVER, on("router: point_writer", failing(BROKEN)))
    simulation.assert_in_step()
    assert Step.ROUTE in simulation.steps()


def test_a_certificate_that_is_lost_keeps_the_earlier_verification() -> None:
    simulation = ready()
    verified = simulation.record.verification
    kill(simulation, Verb.CUTOVER, "settle: done")
    simulation.run(Verb.CUTOVER)
    simulation.assert_in_step()
    switch = simulation.record.last_switchover
    assert switch is not None
    assert switch.certified
    assert switch.certificate is None
    assert simulation.record.verification == verified


def test_a_certificate_that_ran_out_of_time_says_nothing_against_an_earlier_verification(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulation = ready()
    verified = simulation.record.verification
    assert verified is not None
    unfinished = replace(verified, at=simulation.world.now, tables=1, complete=False)
    monkeypatch.setattr(MemorySwitch, "compare", lambda *_: unfinished)
    assert simulation.run(Verb.CUTOVER).verification == verified
    different = replace(unfinished, differences=("public.t",))
    monkeypatch.setattr(MemorySwitch, "compare", lambda *_: different)
    record = simulation.run(Verb.ROLLBACK)
    assert record.verification == different
    assert record.last_switchover is not None
    assert record.last_switchover.certificate == different
