"""Ctrl-C at any step: the controller ends, the application goes on, the same command run again finishes."""

from __future__ import annotations

from pathlib import Path

import pytest
from rehearsal.shared import Shared
from rehearsal.world import World

from daybreak.lab.pair import Pair
from daybreak.model import Side

MAIN = {"mark drained", "mark committed"}
POINTS = [
    "intend enter_switching",
    "intend arm",
    "intend switch",
    "mark held",
    "mark drained",
    "mark sequences",
    "mark committed",
    "mark opened",
    "mark routed",
    "intend settle",
    "intend certify",
    "intend disarm",
]


@pytest.mark.parametrize(
    "point", [pytest.param(point, marks=() if point in MAIN else pytest.mark.full) for point in POINTS]
)
def test_ctrl_c_during_a_switchover(shared: Shared, point: str) -> None:
    with shared.streaming() as world:
        assert world.run("cutover", point, "INT").error == "KeyboardInterrupt"
        world.writes_go_on()
        world.must("cutover", "rollback")
        world.books_are_clean(Side.SOURCE)


@pytest.mark.full
def test_ctrl_c_during_start(pair: Pair, tmp_path: Path) -> None:
    with World(pair, tmp_path) as world:
        for point in ("during transfer_schema", "during load", "during build_indexes", "intend reverse"):
            assert world.run("start", point, "INT").error == "KeyboardInterrupt", point
            world.writes_go_on()
        world.must("start", "verify", "cutover")
        world.books_are_clean(Side.TARGET)
