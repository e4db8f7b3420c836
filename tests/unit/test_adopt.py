"""A lost record is rebuilt so that the loop goes on exactly where the databases stand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from world import AT, TABLES

from daybreak.errors import Refused, TransientError
from daybreak.model import GuardState, Observation, Phase, ReplicationStatus, RoutingStatus, Side, SideStatus
from daybreak.switchover.adopt import rebuild_record

DONE = ReplicationStatus(
    prepared=True, schema_transferred=True, load_done=True, indexes_built=True, foreign_keys_added=True,
    sequences_synced=True, subscribed=True, forward=True, reverse=True,
)  # fmt: skip


def _seen(
    source: dict[str, object] | None = None,
    target: dict[str, object] | None = None,
    streams: ReplicationStatus = DONE,
) -> Observation:
    """Both servers as the forward stream runs and nothing was switched yet, with changes."""
    first = SideStatus(Side.SOURCE, generation=4, tables=TABLES, guard=GuardState.OPEN)
    second = SideStatus(Side.TARGET, generation=4, tables=TABLES, guard=GuardState.CLOSED, guarded_tables=TABLES)
    return Observation(
        AT,
        replace(first, **(source or {})),  # type: ignore[arg-type]
        replace(second, **(target or {})),  # type: ignore[arg-type]
        streams,
        RoutingStatus(Side.SOURCE, 30),
    )


def test_before_the_first_switchover() -> None:
    found = rebuild_record("payments", _seen())
    assert (found.phase, found.primary, found.switchovers) == (Phase.STREAMING, Side.SOURCE, 0)
    assert (found.generation, found.read_weight) == (4, 30)


@pytest.mark.parametrize(
    "missing", ["load_done", "indexes_built", "subscribed", "foreign_keys_added", "sequences_synced", "reverse"]
)
def test_an_unfinished_load_is_gone_on_with(missing: str) -> None:
    streams = replace(DONE, **{missing: False})  # type: ignore[arg-type]
    assert rebuild_record("payments", _seen(streams=streams)).phase is Phase.LOADING


def test_below_16_no_stream_back_is_missing() -> None:
    streams = replace(DONE, reverse=False, bidirectional=False)
    assert rebuild_record("payments", _seen(streams=streams)).phase is Phase.STREAMING


CLOSED = {"guard": GuardState.CLOSED, "guarded_tables": TABLES}
OPENED = {"guard": GuardState.OPEN, "guarded_tables": 0}


def test_after_a_cutover_and_after_a_rollback() -> None:
    cut = _seen({**CLOSED, "closed_by": 1}, {**OPENED, "opened_by": 1}, replace(DONE, forward=False))
    found = rebuild_record("payments", cut)
    assert (found.phase, found.primary, found.switchovers) == (Phase.STREAMING, Side.TARGET, 1)
    back = _seen({**OPENED, "closed_by": 1, "opened_by": 2}, {**CLOSED, "opened_by": 1, "closed_by": 2})
    found = rebuild_record("payments", back)
    assert (found.phase, found.primary, found.switchovers) == (Phase.STREAMING, Side.SOURCE, 2)


def test_between_commit_point_and_opening_there_is_only_forward() -> None:
    found = rebuild_record("payments", _seen({**CLOSED, "closed_by": 1}))
    assert found.phase is Phase.SWITCHING
    assert found.primary is Side.SOURCE
    assert found.switchover is not None
    assert (found.switchover.number, found.switchover.to, found.switchover.backed_out) == (1, Side.TARGET, "")


def test_opened_but_still_guarded_is_settled_again() -> None:
    target = {**OPENED, "guarded_tables": TABLES, "opened_by": 1}
    found = rebuild_record("payments", _seen({**CLOSED, "closed_by": 1}, target))
    assert found.phase is Phase.SWITCHING
    assert found.switchover is not None
    assert (found.switchover.to, found.switchover.settled) == (Side.TARGET, False)


@pytest.mark.parametrize("cut_before", [False, True])
def test_a_flag_left_closed_without_a_commit_is_reopened(cut_before: bool) -> None:
    seen = _seen(CLOSED)
    if cut_before:
        seen = _seen({**CLOSED, "closed_by": 1}, {**CLOSED, "opened_by": 1})
    found = rebuild_record("payments", seen)
    assert found.phase is Phase.SWITCHING
    assert found.switchover is not None
    assert found.switchover.backed_out
    assert found.primary is (Side.TARGET if cut_before else Side.SOURCE)
    assert found.switchover.to is found.primary.other
    assert found.switchover.number == found.switchovers == (2 if cut_before else 1)


def test_after_finish() -> None:
    gone = {"generation": 0, "guard": GuardState.ABSENT, "guarded_tables": 0}
    found = rebuild_record("payments", _seen({**CLOSED, "closed_by": 3, "generation": 0}, gone))
    assert (found.phase, found.primary) == (Phase.FINISHED, Side.TARGET)
    with pytest.raises(Refused, match="Neither database knows"):
        rebuild_record("payments", _seen(gone, gone))


@pytest.mark.parametrize("side", ["source", "target"])
def test_nothing_is_assumed_of_a_silent_server(side: str) -> None:
    with pytest.raises(TransientError, match="not reachable"):
        rebuild_record("payments", replace(_seen(), **{side: SideStatus(Side(side), problem="refused")}))  # type: ignore[arg-type]
    with pytest.raises(TransientError, match="streams"):
        rebuild_record("payments", _seen(streams=ReplicationStatus(problem="refused")))
