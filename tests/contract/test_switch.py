"""What every ``Replicator`` and ``Switch`` promise together, held against the imaginary world and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from contract.places import DmsPlace, MemoryPlace, Place, Ports, PostgresPlace, loading_rows
from dms_task import emulated_dms

from daybreak.errors import StateConflict, TransientError
from daybreak.memory_world import Outcome, World
from daybreak.model import GuardState, MigrationRecord, Phase, Progress, Side, Step

MARKS = ["ready", "held", "drained", "snapshot", "sequences", "committed", "opened"]


class Crash(BaseException):
    """The process dies here."""


def nothing(_what: object) -> None:
    """Not interested."""


def arm(ports: Ports, record: MigrationRecord) -> None:
    """Arm, and look: a switch holds what was seen last to what it finds under the hold."""
    ports.switch.arm(record)
    ports.observe(record)


def crash_at(name: str) -> Callable[[str], None]:
    """A listener of marks that dies at ``name``."""

    def mark(passed: str) -> None:
        if passed == name:
            raise Crash

    return mark


@pytest.fixture(params=["memory", "memory, begun by DMS", "postgres", pytest.param("dms", marks=pytest.mark.full)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        made = _place(request, tmp_path, stack)
        for _ in range(5):
            assert made.write(Side.SOURCE) is Outcome.ACKNOWLEDGED
        yield made
        made.close()


def _place(request: pytest.FixtureRequest, directory: Path, stack: ExitStack) -> Place:
    if request.param.startswith("memory"):
        return MemoryPlace(World(dms="DMS" in request.param))
    pair = request.getfixturevalue("pair")
    if request.param == "postgres":
        return PostgresPlace(pair, directory)
    return DmsPlace(stack.enter_context(emulated_dms(pair, request.getfixturevalue("monkeypatch"))), directory)


def test_every_step_of_the_load_brings_about_what_its_row_asks_for(place: Place) -> None:
    ports = place.process()
    generation = ports.switch.claim("first", 0, False)
    record = place.record(generation, phase=Phase.LOADING)
    reports: list[Progress] = []
    # The way back is made when another engine hands over.
    unneeded = {Step.CLOSE_TARGET, Step.JOIN_TABLES, *(() if place.native else (Step.REVERSE,))}
    for row in loading_rows():
        assert row.needed(record, ports.observe(record)) or row.step in unneeded
        if row.step not in unneeded - {Step.CLOSE_TARGET}:
            ports.replicator.perform(row.step, generation, reports.append)
        place.take(ports, generation, row)
        if row.step not in {Step.LOAD, Step.JOIN_TABLES}:
            ports.replicator.perform(row.step, generation, nothing)
        place.write(Side.SOURCE)
    assert not [row.step for row in loading_rows() if row.needed(record, ports.observe(record))]
    place.until_in_step()
    seen = ports.replicator.observe(Side.SOURCE)
    assert seen.tables_total == seen.tables_copied == 3
    assert seen.tables_unreplicated == seen.tables_unready == ()
    place.until(lambda: (ports.replicator.observe(Side.SOURCE).lag_seconds or 0.0) < 1.0)
    assert reports
    assert place.write(Side.TARGET) is Outcome.REFUSED


def test_a_load_that_dies_half_way_is_finished_by_another_process(place: Place) -> None:
    ports = place.process()
    generation = ports.switch.claim("first", 0, False)
    steps = [row.step for row in loading_rows()]
    for step in steps[: steps.index(Step.LOAD)]:
        ports.replicator.perform(step, generation, nothing)

    def die(_progress: Progress) -> None:
        raise Crash

    with pytest.raises(Crash):
        ports.replicator.perform(Step.LOAD, generation, die)
    ports.close()
    place.write(Side.SOURCE)
    ports = place.process()
    generation = ports.switch.claim("second", generation, False)
    for row in loading_rows():
        place.take(ports, generation, row)
        place.write(Side.SOURCE)
    place.until_in_step()


def test_a_claim_gives_a_higher_generation_and_fences_the_older_one(place: Place) -> None:
    ports, generation = place.loaded()
    rival = place.process()
    before = rival.switch.observe(Side.SOURCE), rival.switch.observe(Side.TARGET)
    assert {status.generation for status in before} == {generation}
    with pytest.raises(StateConflict):
        rival.switch.claim("second", 0, False)
    after = rival.switch.observe(Side.SOURCE), rival.switch.observe(Side.TARGET)
    assert [status.generation for status in after] == [generation] * 2
    assert rival.switch.claim("second", 40, True) == 41
    assert rival.switch.observe(Side.TARGET).owner == "second"
    rival.switch.arm(place.record(41))
    old, switching = place.record(generation), place.switching(generation, 1, Side.TARGET)
    effects: list[Callable[[], object]] = [
        lambda: ports.switch.arm(old),
        lambda: ports.switch.disarm(old),
        lambda: ports.switch.reopen(switching),
        lambda: ports.replicator.perform(Step.CLOSE_TARGET, generation, nothing),
        lambda: ports.replicator.clean_up(generation, keep_target_data=False),
    ]
    for effect in effects:
        with pytest.raises(StateConflict):
            until_answered(effect)
    assert rival.switch.observe(Side.SOURCE).guarded_tables == 3
    assert rival.replicator.observe(Side.SOURCE).forward


def test_a_claim_of_one_side_leaves_the_other_alone_until_it_is_claimed_too(place: Place) -> None:
    first = place.process()
    generation = first.switch.claim("first", 0, False)
    first.close()
    second = place.process()
    assert second.switch.claim("second", generation, False, (Side.SOURCE,)) == generation + 1
    owners = [second.switch.observe(side).owner for side in Side]
    assert owners == ["second", "first"]
    second.close()
    third = place.process()
    assert third.switch.claim("third", generation + 1, False) == generation + 2
    assert [third.switch.observe(side).generation for side in Side] == [generation + 2] * 2


def until_answered(effect: Callable[[], object]) -> None:
    """The first attempt may find its session ended instead."""
    try:
        effect()
    except TransientError:
        effect()


def test_arming_lets_writers_go_on_and_disarming_leaves_nothing(place: Place) -> None:
    ports, generation = place.loaded()
    for _ in range(2):
        ports.switch.arm(place.record(generation))
        seen = ports.switch.observe(Side.SOURCE)
        assert (seen.guard, seen.guarded_tables, seen.tables) == (GuardState.OPEN, 3, 3)
        assert place.write(Side.SOURCE) is Outcome.ACKNOWLEDGED
    for _ in range(2):
        ports.switch.disarm(place.record(generation))
        assert ports.switch.observe(Side.SOURCE).guarded_tables == 0
    assert place.write(Side.SOURCE) is Outcome.ACKNOWLEDGED


def test_a_verification_compares_and_lets_writers_go_on(place: Place) -> None:
    ports, generation = place.loaded()
    arm(ports, place.record(generation))
    found = ports.switch.verify(place.record(generation), nothing)
    assert found.clean
    assert found.tables == 3
    assert found.rows == len(place.ids(Side.SOURCE))
    assert place.write(Side.SOURCE) is Outcome.ACKNOWLEDGED


def test_the_primary_moves_there_and_back(place: Place) -> None:
    ports, generation = place.loaded()
    for number, to in enumerate((Side.TARGET, Side.SOURCE, Side.TARGET), 1):
        record = place.switching(generation, number, to)
        arm(ports, record)
        assert place.write(to.other) is Outcome.ACKNOWLEDGED
        marks: list[str] = []
        switched = ports.switch.switch(record, marks.append)
        assert marks == MARKS
        assert switched.backed_out == ""
        assert switched.timings is not None
        times = [getattr(switched.timings, f"{name}_ms") for name in MARKS[1:]]
        assert times == sorted(times)
        assert place.write(to.other) is Outcome.REFUSED
        assert place.write(to) is Outcome.ACKNOWLEDGED
        record = replace(record, switchover=switched)
        for _ in range(2):
            ports.switch.open(record)
            ports.switch.settle(record)
        found = ports.switch.compare(record, nothing)
        assert found is not None
        assert found.clean
        assert ports.switch.compare(record, nothing) is None
        ports.switch.disarm(record)
        old, new = ports.switch.observe(to.other), ports.switch.observe(to)
        assert (old.guard, old.guarded_tables, old.closed_by) == (GuardState.CLOSED, 3, number)
        assert (new.guard, new.guarded_tables, new.opened_by) == (GuardState.OPEN, 0, number)
        assert place.write(to.other) is Outcome.REFUSED
        place.until_in_step()


@pytest.mark.parametrize(
    "mark",
    [
        "held",
        "sequences",
        pytest.param("drained", marks=pytest.mark.full),
        pytest.param("snapshot", marks=pytest.mark.full),
    ],
)
def test_dying_before_the_commit_point_changes_nothing(place: Place, mark: str) -> None:
    ports, generation = place.loaded()
    record = place.switching(generation, 1, Side.TARGET)
    arm(ports, record)
    with pytest.raises(Crash):
        ports.switch.switch(record, crash_at(mark))
    ports.close()
    place.until(lambda: place.write(Side.SOURCE) is Outcome.ACKNOWLEDGED)
    assert place.write(Side.TARGET) is Outcome.REFUSED
    assert place.process().switch.observe(Side.SOURCE).closed_by == 0
    assert_goes_on(place, generation, record)


def assert_goes_on(place: Place, generation: int, record: MigrationRecord) -> None:
    """Another process finishes the switchover to the target."""
    ports = place.process()
    record = replace(record, generation=ports.switch.claim("second", generation, True))
    if ports.switch.observe(Side.SOURCE).closed_by == 1:
        ports.switch.open(record)
    else:
        arm(ports, record)
        assert ports.switch.switch(record, nothing).backed_out == ""
    assert place.write(Side.TARGET) is Outcome.ACKNOWLEDGED
    assert place.write(Side.SOURCE) is Outcome.REFUSED
    ports.switch.settle(record)
    ports.switch.disarm(record)
    place.until_in_step()


def test_dying_at_the_commit_point_leaves_both_closed_and_only_forward(place: Place) -> None:
    ports, generation = place.loaded()
    record = place.switching(generation, 1, Side.TARGET)
    arm(ports, record)
    with pytest.raises(Crash):
        ports.switch.switch(record, crash_at("committed"))
    ports.close()
    assert [place.write(side) for side in Side] == [Outcome.REFUSED] * 2
    assert place.process().switch.observe(Side.TARGET).opened_by == 0
    assert_goes_on(place, generation, record)


def test_a_flag_that_was_closed_without_its_commit_is_opened_again(place: Place) -> None:
    ports, generation = place.loaded()
    record = place.switching(generation, 1, Side.TARGET)
    ports.switch.arm(record)
    place.close_flag(Side.SOURCE)
    assert ports.switch.observe(Side.SOURCE).guard is GuardState.CLOSED
    assert place.write(Side.SOURCE) is Outcome.REFUSED
    for _ in range(2):
        ports.switch.reopen(record)
        assert place.write(Side.SOURCE) is Outcome.ACKNOWLEDGED
    assert place.write(Side.TARGET) is Outcome.REFUSED


def test_an_opening_that_lost_its_last_statement_is_done_again(place: Place) -> None:
    ports, generation = place.loaded()
    record = place.switching(generation, 1, Side.TARGET)
    arm(ports, record)
    ports.switch.switch(record, nothing)
    place.close_flag(Side.TARGET)
    seen = ports.switch.observe(Side.TARGET)
    assert (seen.opened_by, seen.guard) == (1, GuardState.CLOSED)
    ports.switch.open(record)
    assert place.write(Side.TARGET) is Outcome.ACKNOWLEDGED


def test_cleaning_up_before_a_cutover_leaves_no_trace(place: Place) -> None:
    ports, generation = place.loaded()
    record = place.record(generation)
    ports.switch.arm(record)
    ports.replicator.clean_up(generation, keep_target_data=False)
    ports.switch.clean_up(record, unfence=True)
    for side in Side:
        seen = ports.switch.observe(side)
        assert (seen.generation, seen.guard, seen.guarded_tables) == (0, GuardState.ABSENT, 0)
    assert ports.switch.observe(Side.TARGET).tables == 0
    streams = ports.replicator.observe(Side.SOURCE)
    left = (streams.prepared, streams.slot_present, streams.subscribed, streams.forward, streams.reverse)
    assert not any(left)
    assert place.write(Side.SOURCE) is Outcome.ACKNOWLEDGED


def test_cleaning_up_after_a_cutover_keeps_the_fence_until_it_is_taken_away(place: Place) -> None:
    ports, generation = place.loaded()
    record = place.switching(generation, 1, Side.TARGET)
    arm(ports, record)
    ports.switch.switch(record, nothing)
    ports.switch.settle(record)
    ports.switch.disarm(record)
    finished = place.record(generation, primary=Side.TARGET, switchovers=1)
    ports.replicator.clean_up(generation, keep_target_data=True)
    ports.switch.clean_up(finished, unfence=False)
    assert place.write(Side.TARGET) is Outcome.ACKNOWLEDGED
    assert place.write(Side.SOURCE) is Outcome.REFUSED
    seen = ports.switch.observe(Side.SOURCE)
    assert (seen.generation, seen.guard, seen.guarded_tables) == (0, GuardState.CLOSED, 3)
    assert ports.switch.observe(Side.TARGET).guard is GuardState.ABSENT
    ports.switch.unfence(Side.SOURCE)
    assert place.write(Side.SOURCE) is Outcome.ACKNOWLEDGED


def test_a_server_that_is_down_is_said_to_be(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    places: list[Place] = [MemoryPlace(World()), PostgresPlace(request.getfixturevalue("own_pair"), tmp_path)]
    for place in places:
        ports, _ = place.loaded()
        place.stop(Side.TARGET)
        assert not ports.switch.observe(Side.TARGET).reachable
        assert ports.switch.observe(Side.SOURCE).reachable
        assert ports.replicator.observe(Side.SOURCE).problem
        place.close()
