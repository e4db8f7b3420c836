"""The controller is killed (SIGKILL) after every step of ``start`` while clients write; the same command
run again goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
from rehearsal.traces import guarded, left_on, portrait
from rehearsal.world import World

from daybreak.lab.pair import Pair
from daybreak.model import Side, Step

STEPS = (
    Step.BEGIN,
    Step.PREPARE,
    Step.TRANSFER_SCHEMA,
    Step.LOAD,
    Step.BUILD_INDEXES,
    Step.SUBSCRIBE,
    Step.ADD_FOREIGN_KEYS,
    Step.SYNC_SEQUENCES,
    Step.REVERSE,
    Step.ENTER_STREAMING,
)
BOUNDARIES = [f"{kind} {step}" for step in STEPS for kind in ("intend", "done")]
# Below 16 there is no stream back before a switchover.
ONLY_BIDIRECTIONAL = {"intend reverse", "done reverse"}
POINTS = [*BOUNDARIES, "during transfer_schema", "table of load", "during build_indexes"]
VERSIONS = [
    pytest.param((17, 18), id="17-18"),
    pytest.param((15, 17), id="15-17", marks=pytest.mark.full),
]


def streams_and_is_equal(world: World) -> None:
    """The whole of it works: verified, switched, and every write is there."""
    world.must("start", "verify", "cutover")
    world.writes_go_on()
    world.books_are_clean(Side.TARGET)
    assert world.probes.primaries() == [Side.SOURCE, Side.TARGET]


def load_of(pair: Pair) -> dict[str, int]:
    """How many tables are in which state of the load."""
    with pair.connect(Side.TARGET) as target:
        rows = target.execute("SELECT state, count(*) FROM daybreak.table_load GROUP BY state").fetchall()
    return {str(state): int(str(count)) for state, count in rows}


@pytest.mark.parametrize("versions", VERSIONS, indirect=True)
def test_start_killed_at_every_step_one_after_the_other(pair: Pair, versions: tuple[int, int], tmp_path: Path) -> None:
    with World(pair, tmp_path) as world:
        for point in BOUNDARIES:
            if point in ONLY_BIDIRECTIONAL and versions[0] < 16:
                continue
            found = world.run("start", point)
            assert found.killed, (point, found.said)
            assert world.probes.primaries() == [Side.SOURCE], point
            assert guarded(pair, Side.SOURCE) == []
        streams_and_is_equal(world)


@pytest.mark.parametrize("versions", VERSIONS, indirect=True)
def test_tables_that_were_copied_stay_and_the_others_join(pair: Pair, tmp_path: Path) -> None:
    with World(pair, tmp_path, replication={"jobs": 3}) as world:
        assert world.run("start", "intend load").killed
        with pair.connect(Side.TARGET) as target, target.transaction():
            # Two of three workers wait for these; the third one goes on.
            target.execute("LOCK TABLE payments.accounts, payments.events IN ACCESS EXCLUSIVE MODE")
            assert world.run("start", "table of load").killed
        copied = load_of(pair)["copied"]
        world.workload.wait_for_writes(100)  # to tables that are copied and to those that are not
        assert world.run("start", "intend join_tables").killed
        assert load_of(pair) == {"copied": copied, "join": 11 - copied}
        world.writes_go_on()
        assert world.run("start", "done join_tables").killed
        world.writes_go_on()
        streams_and_is_equal(world)


@pytest.mark.full
@pytest.mark.parametrize("point", POINTS)
def test_start_killed_once(pair: Pair, tmp_path: Path, point: str) -> None:
    with World(pair, tmp_path) as world:
        assert world.run("start", point).killed
        world.writes_go_on()
        streams_and_is_equal(world)


@pytest.mark.parametrize(
    "point", ["done prepare", pytest.param("table of load", marks=pytest.mark.full), "done subscribe"]
)
def test_an_aborted_start_leaves_no_trace(pair: Pair, tmp_path: Path, point: str) -> None:
    with World(pair, tmp_path) as world:
        before = [portrait(pair, side) for side in Side]
        assert world.run("start", point).killed
        # Killed again, in the middle of cleaning up.
        assert world.run("abort", "intend clean_up").killed
        assert world.run("abort", "done clean_up").killed
        world.must("abort")
        assert [portrait(pair, side) for side in Side] == before
        assert [left_on(pair, side) for side in Side] == [[], []]
        world.writes_go_on()
        world.books_are_clean(Side.SOURCE)
        assert world.workload.ledger.failures() == ()
