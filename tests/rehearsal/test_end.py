"""How a migration ends: without a trace, the fence of the old primary apart (I6), wherever it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from rehearsal.traces import left_on, portrait
from rehearsal.world import World

from daybreak.lab.pair import Pair
from daybreak.model import Side

VERSIONS = [
    pytest.param((17, 18), False, id="17-18"),
    pytest.param((15, 17), False, id="15-17", marks=pytest.mark.full),
    pytest.param((17, 17), True, id="17-17-tls", marks=pytest.mark.full),
]


@pytest.mark.full
@pytest.mark.parametrize(("versions", "tls"), VERSIONS, indirect=True)
def test_abort_after_going_there_and_back(pair: Pair, tmp_path: Path) -> None:
    with World(pair, tmp_path) as world:
        before = [portrait(pair, side) for side in Side]
        world.must("start", "verify", "shift 30", "cutover")
        refused = world.run("abort")
        assert refused.error == "Refused"
        world.must("rollback", "abort", "abort")
        world.writes_go_on()
        assert [portrait(pair, side) for side in Side] == before
        assert [left_on(pair, side) for side in Side] == [[], []]
        world.books_are_clean(Side.SOURCE)


@pytest.mark.parametrize(("versions", "tls"), VERSIONS, indirect=True)
def test_finish_leaves_the_fence_and_unfence_nothing(pair: Pair, tmp_path: Path) -> None:
    with World(pair, tmp_path) as world:
        before = portrait(pair, Side.SOURCE)
        world.must("start", "verify", "cutover", "cutover", "rollback", "rollback", "cutover")
        assert world.run("finish", "intend clean_up").killed
        assert world.run("finish", "done clean_up").killed
        world.must("finish", "finish")
        world.writes_go_on()
        world.books_are_clean(Side.TARGET)
        assert left_on(pair, Side.TARGET) == []
        kinds = {line.split()[0] for line in left_on(pair, Side.SOURCE)}
        assert kinds == {"schema", "setting", "trigger"}
        assert world.probes.primaries() == [Side.SOURCE, Side.TARGET, Side.SOURCE, Side.TARGET]
        world.workload.stop()  # from now on both sides take writes, and that is the operator's wish
        with world.runtime() as runtime:
            runtime.controller.unfence()
        assert left_on(pair, Side.SOURCE) == []
        assert portrait(pair, Side.SOURCE) == before
