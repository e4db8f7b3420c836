"""The loop on good and bad days: what is refused, what is waited for and for how long, who may act."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation import NAME, Simulation, failing, kill, make_red, on, ready

from daybreak.errors import (
    AdapterError,
    DaybreakError,
    Finding,
    PermanentError,
    PreflightFailed,
    Refused,
    StateConflict,
    TransientError,
)
from daybreak.memory import MemoryStateStore
from daybreak.memory_world import Outcome
from daybreak.model import MigrationRecord, Phase, Side, Step, Verb

BROKEN = TransientError("connection lost", "Look.")
FORBIDDEN = PermanentError("permission denied", "Grant it.")
BOTH = pytest.mark.parametrize("streams", [True, False], ids=["both streams", "one stream"])


# --- abort and finish


@BOTH
def test_abort_backs_out_of_a_cutover_and_ends_the_migration(streams: bool) -> None:
    simulation = ready(bidirectional=streams)
    kill(simulation, Verb.CUTOVER, "arm: a table guarded")
    assert simulation.run(Verb.ABORT).phase is Phase.ABORTED
    assert simulation.footprint() == Simulation().footprint()
    simulation.assert_sound()


@BOTH
def test_abort_backs_out_of_a_rollback_and_stays_on_the_target(streams: bool) -> None:
    simulation = ready(Verb.CUTOVER, bidirectional=streams)
    kill(simulation, Verb.ROLLBACK, "arm: a table guarded")
    record = simulation.run(Verb.ABORT)
    assert (record.phase, record.primary) == (Phase.STREAMING, Side.TARGET)
    simulation.assert_in_step()


@BOTH
@pytest.mark.parametrize("point", ["switch: committed", "open: committed", "switch: opened", "settle: done"])
def test_abort_after_the_commit_point_goes_forward_and_says_so(streams: bool, point: str) -> None:
    simulation = ready(bidirectional=streams)
    kill(simulation, Verb.CUTOVER, point)
    with pytest.raises(Refused, match=r"Not aborted.*target is the primary now"):
        simulation.run(Verb.ABORT)
    assert simulation.record.primary is Side.TARGET
    simulation.assert_in_step()


@BOTH
def test_abort_lets_a_side_go_on_whose_closing_never_committed(streams: bool) -> None:
    simulation = ready(bidirectional=streams)
    kill(simulation, Verb.CUTOVER, "switch: flag closed")
    assert simulation.clients() == {Outcome.REFUSED}
    assert simulation.run(Verb.ABORT).phase is Phase.ABORTED
    assert simulation.footprint() == Simulation().footprint()


def test_what_abort_began_only_abort_can_end() -> None:
    simulation = ready()
    kill(simulation, Verb.ABORT, "clean_up: target emptied")
    for verb in (Verb.START, Verb.VERIFY, Verb.CUTOVER, Verb.ROLLBACK, Verb.SHIFT, Verb.FINISH):
        with pytest.raises(Refused, match="`abort` was begun"):
            simulation.run(verb, percent=0)
    assert simulation.run(Verb.ABORT).phase is Phase.ABORTED


@pytest.mark.parametrize("point", ["clean_up: begin", "clean_up: source cleaned"])
def test_abort_does_not_end_while_a_server_is_silent(point: str) -> None:
    simulation = ready()
    error = simulation.attempt(Verb.ABORT, on(point, lambda: simulation.world.stop(Side.TARGET)))
    assert isinstance(error, TransientError)
    assert simulation.record.phase is Phase.STREAMING
    simulation.world.start(Side.TARGET)
    assert simulation.run(Verb.ABORT).phase is Phase.ABORTED
    assert simulation.footprint() == Simulation().footprint()


@pytest.mark.parametrize(("verb", "away", "home"), [(Verb.ABORT, 40, 0), (Verb.FINISH, 40, 100)])
def test_reads_leave_the_side_that_is_left_behind(verb: Verb, away: int, home: int) -> None:
    simulation = ready(*([Verb.CUTOVER] if verb is Verb.FINISH else []))
    simulation.run(Verb.SHIFT, percent=away)
    simulation.run(verb)
    assert simulation.router.observe().read_weight == home


@pytest.mark.parametrize("verb", Verb)
def test_after_the_end_only_the_same_word_is_heard(verb: Verb) -> None:
    for ended, phase in ((ready().through(Verb.ABORT), Phase.ABORTED), (ready(Verb.CUTOVER), Phase.FINISHED)):
        if phase is Phase.FINISHED:
            ended.run(Verb.FINISH)
        before = ended.everything()
        if verb is {Phase.ABORTED: Verb.ABORT, Phase.FINISHED: Verb.FINISH}[phase]:
            assert ended.run(verb).phase is phase
        else:
            with pytest.raises(Refused, match=f"is {phase}"):
                ended.run(verb, percent=0)
        assert ended.everything() == before


# --- waiting and retrying


def test_waiting_ends() -> None:
    simulation = Simulation()
    began = simulation.world.now
    act = on("after journal: done load", lambda: simulation.world.stop(Side.SOURCE))
    error = simulation.attempt(Verb.START, act)
    assert isinstance(error, TransientError)
    assert "source is not reachable" in error.message
    assert 1 < (simulation.world.now - began).total_seconds() < 2
    assert any(event.kind == "wait" for event in simulation.events)
    simulation.world.start(Side.SOURCE)
    simulation.run(Verb.START)
    simulation.assert_in_step()


def test_a_long_catching_up_is_no_reason_to_give_up() -> None:
    simulation = Simulation()
    simulation.world.stalled = True
    end = simulation.world.now.timestamp() + 300

    def hook(_process: object, _name: str) -> None:
        if simulation.world.now.timestamp() >= end:
            simulation.world.stalled = False

    simulation.run(Verb.START, hook)
    simulation.assert_in_step()


def test_an_outage_after_a_long_wait_is_given_its_own_patience() -> None:
    simulation = Simulation()
    simulation.world.stalled = True

    def hook(_process: object, _name: str) -> None:
        waits = sum(event.kind == "wait" for event in simulation.events)
        if waits == 20:
            simulation.outage(Side.SOURCE, 0.5)
        simulation.world.stalled = waits < 30

    simulation.run(Verb.START, hook)
    simulation.assert_in_step()


def test_work_of_hours_that_breaks_off_is_tried_again() -> None:
    simulation = Simulation()

    def break_off() -> None:
        simulation.world.sleep(7200)
        raise BROKEN

    simulation.run(Verb.START, on("load: a table copied", break_off))
    simulation.assert_in_step()
    assert sum(event.kind == "retry" for event in simulation.events) == 1


def test_retrying_ends_and_the_command_goes_on_later() -> None:
    simulation = Simulation()
    with pytest.raises(TransientError, match="connection lost"):
        simulation.run(Verb.START, on("build_indexes: begin", failing(BROKEN), 1_000))
    simulation.run(Verb.START)
    simulation.assert_in_step()


def test_a_step_that_shows_no_effect_ends_the_loop() -> None:
    simulation = Simulation()
    undo = on("after journal: done build_indexes", lambda: simulation.world.done.discard("indexes"), 1_000)
    with pytest.raises(TransientError, match="build_indexes was done again and again"):
        simulation.run(Verb.START, undo)
    simulation.run(Verb.START)
    simulation.assert_in_step()


def test_a_step_that_is_needed_again_after_a_long_wait_is_no_endless_loop() -> None:
    simulation = Simulation()

    def hook(_process: object, name: str) -> None:
        if name == "after journal: done reverse" and Step.REVERSE not in simulation.steps()[:-1]:
            simulation.stall(5.0)
        elif sum(event.kind == "wait" for event in simulation.events) == 15:
            simulation.world[Side.SOURCE].subscription = False

    simulation.run(Verb.START, hook)
    assert simulation.steps().count(Step.REVERSE) > 1
    simulation.assert_in_step()


@pytest.mark.parametrize("error", [BROKEN, FORBIDDEN])
def test_a_verification_that_fails_leaves_no_guard(error: AdapterError) -> None:
    simulation = Simulation().through(Verb.START)
    before = simulation.world[Side.SOURCE].guarded
    with pytest.raises(Refused, match=error.message):
        simulation.run(Verb.VERIFY, on("fence point: drained", failing(error), 1_000))
    assert simulation.world[Side.SOURCE].guarded == before
    assert simulation.record.verification is None
    assert simulation.record.intent is None
    simulation.run(Verb.VERIFY)
    assert simulation.record.verification is not None


# --- who may act


def test_a_rival_is_told_before_anything_is_touched() -> None:
    simulation = ready()
    seen: list[DaybreakError] = []

    def meet() -> None:
        before = simulation.everything()
        with pytest.raises(StateConflict) as raised:
            simulation.run(Verb.CUTOVER)
        seen.append(raised.value)
        assert simulation.everything() == before

    simulation.run(Verb.CUTOVER, on("switch: drained", meet))
    assert len(seen) == 1
    simulation.assert_in_step()


def test_a_record_left_behind_by_another_state_file_does_not_act() -> None:
    """Two state files: the databases know better than the older one."""
    simulation = ready()
    copy = replace(simulation.record)
    simulation.run(Verb.CUTOVER)
    newest = simulation.store
    for stale in (copy, MigrationRecord(NAME)):
        simulation.store = MemoryStateStore()
        if stale.version:
            simulation.store.compare_and_swap(stale, 0, "copied", None, simulation.world.now, "")
        before = simulation.everything()
        for verb in (Verb.START, Verb.ABORT, Verb.CUTOVER, Verb.VERIFY):
            assert isinstance(simulation.attempt(verb), Refused | StateConflict)
        assert simulation.everything() == before
    simulation.store = newest
    simulation.assert_in_step()


def test_adopting_with_a_copy_of_the_record_goes_on_from_what_the_databases_know() -> None:
    simulation = ready()
    copy = simulation.record
    simulation.run(Verb.CUTOVER)
    truth = simulation.record
    simulation.store = MemoryStateStore()
    simulation.store.compare_and_swap(copy, 0, "copied", None, simulation.world.now, "")
    controller, process = simulation.controller()
    controller.adopt(lambda _seen: replace(truth, switchovers=1))
    process.close()
    simulation.assert_in_step()
    simulation.run(Verb.ROLLBACK)
    simulation.assert_in_step()


def test_findings_that_block_stop_a_start_before_it_touches_anything() -> None:
    simulation = Simulation()
    controller, _ = simulation.controller()
    finding = Finding("wal-level", "blocker", "source", "wal_level is replica", "ALTER SYSTEM ...")
    controller._preflight = lambda: (finding, replace(finding, severity="warning"))
    with pytest.raises(PreflightFailed) as raised:
        controller.run(Verb.START)
    assert raised.value.findings == (finding,)
    assert simulation.everything() == Simulation().everything()


# --- the rest of what an operator asks for


@pytest.mark.parametrize("before", [(), (Verb.CUTOVER,)], ids=["source", "target"])
def test_start_joins_tables_that_are_new(before: tuple[Verb, ...]) -> None:
    simulation = ready(*before)
    make_red(simulation, "new table")
    move = Verb.ROLLBACK if before else Verb.CUTOVER
    with pytest.raises(Refused, match="tables replicated: t3"):
        simulation.run(move)
    simulation.through(Verb.START, Verb.VERIFY, move)
    assert 3 in simulation.world[simulation.record.primary].rows.values()
    simulation.assert_in_step()


def test_reads_are_shifted_and_a_share_must_be_named() -> None:
    simulation = ready()
    assert simulation.run(Verb.SHIFT, percent=40).read_weight == 40
    assert simulation.router.observe().read_weight == 40
    for percent in (None, 101):
        with pytest.raises(Refused):
            simulation.run(Verb.SHIFT, percent=percent)
    simulation.world[Side.TARGET].subscription = False
    with pytest.raises(TransientError, match="the stream is down"):
        simulation.run(Verb.SHIFT, percent=50)
    assert simulation.run(Verb.SHIFT, percent=0).read_weight == 0


@pytest.mark.parametrize("verb", [Verb.CUTOVER, Verb.ROLLBACK, Verb.START])
def test_what_holds_already_is_done_at_once(verb: Verb) -> None:
    simulation = ready(*([Verb.CUTOVER] if verb is Verb.CUTOVER else []))
    before = simulation.steps()
    simulation.run(verb)
    assert simulation.steps() == before


def test_a_plan_does_nothing_and_names_every_step_with_the_time_it_took() -> None:
    simulation = ready(Verb.CUTOVER, Verb.ROLLBACK)
    before = simulation.everything()
    controller, _ = simulation.controller()
    plan = controller.plan(Verb.CUTOVER)
    assert simulation.everything() == before
    names = "enter_switching arm switch route settle certify disarm end_switch"
    assert " ".join(step.step for step in plan.steps) == names
    assert plan.ready
    assert plan.steps[2].pauses_writes
    assert plan.steps[2].expected_seconds == 0.0
    with pytest.raises(Refused):
        controller.plan(Verb.FINISH)


def test_whoever_watches_hears_every_step_and_every_mark() -> None:
    simulation = ready()
    simulation.events.clear()
    simulation.run(Verb.CUTOVER)
    marks = [event.text for event in simulation.events if event.kind == "mark"]
    assert marks == ["ready", "held", "drained", "snapshot", "sequences", "committed", "opened", "routed"]
    steps = [event.step for event in simulation.events if event.kind == "done"]
    assert steps == [step for step in simulation.steps() if step in steps][-len(steps) :]


def test_a_command_that_finds_the_migration_ended_meanwhile_leaves_no_trace() -> None:
    simulation = ready()
    simulation.attempt(Verb.VERIFY, on("observe router", lambda: simulation.run(Verb.ABORT)))
    assert simulation.record.phase is Phase.ABORTED
    assert simulation.footprint() == Simulation().footprint()


# --- names


def test_a_switchover_waits_until_the_old_ttl_ran_out_and_finish_puts_it_back() -> None:
    simulation = ready()
    simulation.router.use_names(60)
    began = simulation.world.now
    simulation.run(Verb.CUTOVER)
    assert (simulation.world.now - began).total_seconds() >= 60
    assert simulation.router.observe().ttl_seconds == 5
    began = simulation.world.now
    simulation.run(Verb.ROLLBACK)
    assert (simulation.world.now - began).total_seconds() < 60, "it is low since the cutover"
    simulation.run(Verb.CUTOVER)
    simulation.run(Verb.FINISH)
    assert simulation.router.observe().ttl_seconds == 60


def test_killed_right_after_lowering_the_ttl_the_next_one_waits_all_the_same() -> None:
    simulation = ready()
    simulation.router.use_names(60)
    kill(simulation, Verb.CUTOVER, "router: ttl lowered")
    began = simulation.world.now
    simulation.run(Verb.CUTOVER)
    assert (simulation.world.now - began).total_seconds() >= 60
