"""Decisions, one by one: every row of the table, every phase with every verb, every gate, every way of not
seeing a server, what contradicts a record, what can be given up, and plans."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daybreak import machine
from daybreak.gates import gates
from daybreak.model import (
    Advance,
    Done,
    GuardState,
    Intent,
    MigrationRecord,
    Observation,
    Phase,
    Policy,
    Refuse,
    ReplicationStatus,
    RoutingStatus,
    Side,
    SideStatus,
    Step,
    Switchover,
    Verb,
    Verification,
    Wait,
)
from daybreak.table import TABLE, Row

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
POLICY = Policy()
PRIMARY = SideStatus(Side.SOURCE, generation=3, tables=3, fingerprint="f", accepts_writes=True)
STANDBY = SideStatus(Side.TARGET, generation=3, guard=GuardState.CLOSED, guarded_tables=3, tables=3, fingerprint="f")
STREAMS = ReplicationStatus(
    prepared=True,
    schema_transferred=True,
    slot_present=True,
    load_done=True,
    indexes_built=True,
    foreign_keys_added=True,
    sequences_synced=True,
    subscribed=True,
    forward=True,
    reverse=True,
    lag_seconds=0.1,
)
ARMED: dict[str, object] = {"guard": GuardState.OPEN, "guarded_tables": 3}
# AWS DMS carries the stream.
DMS: dict[str, Any] = {"handed_over": False, "bidirectional": False, "reverse": False}
SWITCH = Switchover(1, Side.TARGET, NOW - timedelta(seconds=1))


def record(phase: Phase, verb: Verb, **changes: object) -> MigrationRecord:
    """A verified record whose operator asked for ``verb`` one second ago."""
    changes.setdefault("verification", Verification(NOW - timedelta(hours=1), 3, 100, 1.0))
    if phase is Phase.SWITCHING:
        changes.setdefault("switchover", SWITCH)
        changes.setdefault("switchovers", 1)
    intent = Intent(verb, NOW - timedelta(seconds=1), 40 if verb is Verb.SHIFT else None)
    return replace(MigrationRecord("shop", phase, intent=intent, generation=3), **changes)  # type: ignore[arg-type]


def seen(
    source: dict[str, object] | None = None, target: dict[str, object] | None = None, **streams: object
) -> Observation:
    """Two servers in step before any switchover, but for what is given."""
    return Observation(
        NOW,
        replace(PRIMARY, **(source or {})),  # type: ignore[arg-type]
        replace(STANDBY, **(target or {})),  # type: ignore[arg-type]
        replace(STREAMS, **streams),  # type: ignore[arg-type]
        RoutingStatus(Side.SOURCE),
    )


def after_commit(**target: object) -> Observation:
    """Switchover 1 closed the source; ``target`` says how far the target came."""
    closed: dict[str, object] = {"guard": GuardState.CLOSED, "guarded_tables": 3, "closed_by": 1}
    return seen(closed, target)


def opened(**target: object) -> Observation:
    """Switchover 1 opened the target."""
    return after_commit(opened_by=1, guard=GuardState.OPEN, **target)


def _named(observation: Observation, ttl_seconds: int = 60) -> Observation:
    """The same where a name leads writers to the primary."""
    return replace(observation, routing=RoutingStatus(Side.SOURCE, ttl_seconds=ttl_seconds))


def decided(stored: MigrationRecord, observation: Observation) -> object:
    return machine.decide(stored, observation, POLICY)


# --- every row

_SWITCHED = replace(SWITCH, routed=True, settled=True, certified=True)
# For each row a situation in which it is the one that is taken.
SITUATIONS: dict[tuple[Phase, Step, Verb | None], tuple[dict[str, object], Observation]] = {
    (Phase.PLANNED, Step.BEGIN, None): ({}, seen()),
    (Phase.LOADING, Step.PREPARE, None): ({}, seen(prepared=False)),
    (Phase.LOADING, Step.TRANSFER_SCHEMA, None): ({}, seen(schema_transferred=False)),
    (Phase.LOADING, Step.CLOSE_TARGET, None): ({}, seen(target={"guarded_tables": 2})),
    (Phase.LOADING, Step.LOAD, None): ({}, seen(load_done=False)),
    (Phase.LOADING, Step.BUILD_INDEXES, None): ({}, seen(indexes_built=False)),
    (Phase.LOADING, Step.SUBSCRIBE, None): ({}, seen(subscribed=False)),
    (Phase.LOADING, Step.JOIN_TABLES, None): ({}, seen(tables_to_join=1)),
    (Phase.LOADING, Step.ADD_FOREIGN_KEYS, None): ({}, seen(foreign_keys_added=False)),
    (Phase.LOADING, Step.SYNC_SEQUENCES, None): ({}, seen(sequences_synced=False)),
    (Phase.LOADING, Step.REVERSE, None): ({}, seen(reverse=False)),
    (Phase.LOADING, Step.ENTER_STREAMING, None): ({}, seen()),
    (Phase.STREAMING, Step.CLOSE_TARGET, None): ({}, seen(target={"guarded_tables": 2})),
    (Phase.STREAMING, Step.SUBSCRIBE, None): ({}, seen(**DMS, subscribed=False, forward=False)),
    (Phase.STREAMING, Step.JOIN_TABLES, None): ({}, seen(tables_unreplicated=("t",))),
    (Phase.STREAMING, Step.ARM, None): ({}, seen()),
    (Phase.STREAMING, Step.VERIFY, None): ({}, seen(ARMED)),
    (Phase.STREAMING, Step.DISARM, None): ({"verification": Verification(NOW, 1, 1, 1.0)}, seen(ARMED)),
    (Phase.STREAMING, Step.SHIFT_READS, None): ({}, seen()),
    **{
        (Phase.STREAMING, step, Verb.CUTOVER): ({}, seen(source, **streams))
        for step, source, streams in (
            (Step.ARM, None, DMS),
            (Step.HAND_OVER, ARMED, DMS),
            (Step.VERIFY, ARMED, {"handed_over_at": NOW}),
            (Step.DISARM, ARMED, {"handed_over_at": NOW - timedelta(hours=2)}),
        )
    },
    (Phase.STREAMING, Step.LOWER_TTL, Verb.CUTOVER): ({}, _named(seen())),
    (Phase.STREAMING, Step.LOWER_TTL, Verb.ROLLBACK): (
        {"primary": Side.TARGET},
        _named(Observation(NOW, replace(STANDBY, side=Side.SOURCE), replace(PRIMARY, side=Side.TARGET), STREAMS)),
    ),
    (Phase.STREAMING, Step.ENTER_SWITCHING, Verb.CUTOVER): ({}, seen()),
    (Phase.STREAMING, Step.ENTER_SWITCHING, Verb.ROLLBACK): (
        {"primary": Side.TARGET},
        Observation(NOW, replace(STANDBY, side=Side.SOURCE), replace(PRIMARY, side=Side.TARGET), STREAMS),
    ),
    (Phase.SWITCHING, Step.OPEN, None): ({}, after_commit()),
    (Phase.SWITCHING, Step.REOPEN, None): (
        {"switchover": replace(SWITCH, backed_out="why")},
        seen({"guard": GuardState.CLOSED, "guarded_tables": 3}),
    ),
    (Phase.SWITCHING, Step.ARM, None): ({}, seen()),
    (Phase.SWITCHING, Step.SWITCH, None): ({}, seen(ARMED)),
    (Phase.SWITCHING, Step.ROUTE, None): ({}, opened()),
    (Phase.SWITCHING, Step.SETTLE, None): ({"switchover": replace(SWITCH, routed=True)}, opened()),
    (Phase.SWITCHING, Step.CERTIFY, None): ({"switchover": replace(SWITCH, routed=True, settled=True)}, opened()),
    (Phase.SWITCHING, Step.DISARM, None): ({"switchover": _SWITCHED}, opened()),
    (Phase.SWITCHING, Step.END_SWITCH, None): (
        {"switchover": replace(_SWITCHED, disarmed=True)},
        opened(guarded_tables=0),
    ),
    (Phase.PLANNED, Step.CLEAN_UP, None): ({}, seen()),
    (Phase.PLANNED, Step.END, None): ({}, seen({"generation": 0}, {"generation": 0})),
    (Phase.LOADING, Step.CLEAN_UP, None): ({}, seen()),
    (Phase.LOADING, Step.END, None): ({}, seen({"generation": 0}, {"generation": 0})),
    (Phase.STREAMING, Step.CLEAN_UP, Verb.ABORT): ({}, seen()),
    (Phase.STREAMING, Step.END, Verb.ABORT): ({}, seen({"generation": 0}, {"generation": 0})),
    (Phase.STREAMING, Step.CLEAN_UP, Verb.FINISH): ({"primary": Side.TARGET}, seen()),
    (Phase.STREAMING, Step.END, Verb.FINISH): (
        {"primary": Side.TARGET},
        seen({"generation": 0}, {"generation": 0}),
    ),
}


@pytest.mark.parametrize(
    ("row", "verb"),
    [(row, verb) for row in TABLE for verb in row.verbs],
    ids=lambda value: f"{value.phase}-{value.step}" if isinstance(value, Row) else str(value),
)
def test_every_row_is_taken_where_it_is_needed(row: Row, verb: Verb) -> None:
    key = (row.phase, row.step, verb)
    changes, observation = SITUATIONS.get(key) or SITUATIONS[(row.phase, row.step, None)]
    if row.phase is Phase.SWITCHING and verb is Verb.ROLLBACK:
        changes, observation = mirrored(changes, observation)
    stored = record(row.phase, verb, **changes)
    assert machine.contradiction(stored, observation) == ""
    assert decided(stored, observation) == Advance(row.step)


def mirrored(changes: dict[str, object], observation: Observation) -> tuple[dict[str, object], Observation]:
    """The same situation on the way back."""
    switch = changes.get("switchover", SWITCH)
    assert isinstance(switch, Switchover)
    swapped = replace(
        observation,
        source=replace(observation.target, side=Side.SOURCE),
        target=replace(observation.source, side=Side.TARGET),
    )
    return {**changes, "primary": Side.TARGET, "switchover": replace(switch, to=Side.SOURCE)}, swapped


def test_every_step_has_a_row_and_every_row_says_what_it_does() -> None:
    assert {row.step for row in TABLE} == set(Step)
    assert all(row.what for row in TABLE)
    keys = [(row.phase, row.step, verb) for row in TABLE for verb in row.verbs]
    assert len(keys) == len(set(keys)), "the second of two rows for the same step would never be taken"


# --- every phase with every verb, in a healthy world

_LOAD_FIRST = "The full load is not finished."
_START_FIRST = "Nothing has been started yet."
_UNDER_WAY = "A switchover to target is under way."
MATRIX: dict[Phase, dict[Verb, object]] = {
    Phase.PLANNED: {
        Verb.START: Step.BEGIN,
        Verb.ABORT: Step.CLEAN_UP,
        **dict.fromkeys((Verb.VERIFY, Verb.SHIFT, Verb.CUTOVER, Verb.ROLLBACK, Verb.FINISH), _START_FIRST),
    },
    Phase.LOADING: {
        Verb.START: Step.ENTER_STREAMING,
        Verb.ABORT: Step.CLEAN_UP,
        **dict.fromkeys((Verb.VERIFY, Verb.SHIFT, Verb.CUTOVER, Verb.ROLLBACK, Verb.FINISH), _LOAD_FIRST),
    },
    Phase.STREAMING: {
        Verb.START: "done",
        Verb.VERIFY: Step.ARM,
        Verb.SHIFT: Step.SHIFT_READS,
        Verb.CUTOVER: Step.ENTER_SWITCHING,
        Verb.ROLLBACK: "done",
        Verb.ABORT: Step.CLEAN_UP,
        Verb.FINISH: "The source is still the primary.",
    },
    Phase.SWITCHING: {
        Verb.CUTOVER: Step.ARM,
        Verb.ABORT: "The operator aborted it.",
        **dict.fromkeys((Verb.START, Verb.VERIFY, Verb.SHIFT, Verb.ROLLBACK, Verb.FINISH), _UNDER_WAY),
    },
    Phase.FINISHED: {**dict.fromkeys(Verb, "Migration shop is finished."), Verb.FINISH: "done"},
    Phase.ABORTED: {**dict.fromkeys(Verb, "Migration shop is aborted."), Verb.ABORT: "done"},
}


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("verb", Verb)
def test_every_phase_answers_every_verb(phase: Phase, verb: Verb) -> None:
    expected, decision = MATRIX[phase][verb], decided(record(phase, verb), seen())
    if isinstance(expected, Step):
        assert decision == Advance(expected)
    elif expected == "done":
        assert isinstance(decision, Done)
    else:
        assert isinstance(decision, Refuse)
        assert decision.reason == expected
        assert decision.hint or verb is Verb.ABORT


def test_the_target_as_primary_is_not_aborted_but_finished() -> None:
    refused = decided(record(Phase.STREAMING, Verb.ABORT, primary=Side.TARGET), seen())
    assert isinstance(refused, Refuse)
    assert "rollback" in refused.hint


@pytest.mark.parametrize("begun", [Verb.ABORT, Verb.FINISH])
@pytest.mark.parametrize("verb", Verb)
def test_an_end_that_was_begun_is_the_only_way_on(begun: Verb, verb: Verb) -> None:
    primary = Side.TARGET if begun is Verb.FINISH else Side.SOURCE
    refused = machine.refusal(record(Phase.STREAMING, begun, primary=primary), verb)
    assert (refused is None) is (verb is begun)


def test_nothing_asked_nothing_done() -> None:
    assert isinstance(decided(MigrationRecord("shop", Phase.SWITCHING), seen()), Done)


# --- gates

_AGED = Verification(NOW - timedelta(days=2), 3, 100, 1.0)
_UNCLEAN = Verification(NOW, 3, 100, 1.0, differences=("public.t",))
RED: dict[str, tuple[str, bool, dict[str, object], Observation]] = {
    "primary down": ("servers reachable", True, {}, seen({"problem": "refused"})),
    "standby down": ("servers reachable", True, {}, seen(target={"problem": "refused"})),
    "streams unseen": ("replication healthy", True, {}, seen(problem="unknown")),
    "slot lost": ("slot kept", False, {}, seen(slot_lost=True)),
    "forward down": ("streams ready", True, {}, seen(forward=False, apply_error="duplicate key")),
    "reverse down": ("streams ready", True, {}, seen(reverse=False)),
    "feeding stream down": ("streams ready", True, {}, seen(bidirectional=False, forward=False)),
    "lag": ("lag", True, {}, seen(lag_seconds=1.1)),
    "lag unknown": ("lag", True, {}, seen(lag_seconds=None)),
    "copying": ("tables in step", True, {}, seen(tables_unready=("public.t",))),
    "new table": ("tables replicated", False, {}, seen(tables_unreplicated=("public.t",))),
    "ddl": ("same structure", False, {}, seen({"fingerprint": "g"})),
    "no structure": ("same structure", False, {}, seen({"fingerprint": ""}, {"fingerprint": ""})),
    "never verified": ("verified", False, {"verification": None}, seen()),
    "stale": ("verified", False, {"verification": _AGED}, seen()),
    "unclean": ("verified", False, {"verification": _UNCLEAN}, seen()),
    "incomplete": ("verified", False, {"verification": replace(_UNCLEAN, differences=(), complete=False)}, seen()),
    "prepared": ("no prepared transactions", True, {}, seen({"prepared_transactions": 1})),
    "long": ("no long transaction", True, {}, seen({"longest_transaction_seconds": 30.1})),
    "validating": ("validated by DMS", True, {}, seen(**DMS, unvalidated=("public.t",))),
    "engine down": ("streams ready", True, {}, seen(**{**DMS, "forward": False})),
    "router": ("router", True, {}, replace(seen(), routing=RoutingStatus(problem="silent"))),
    "standby open": ("standby closed", False, {}, seen(target={"guard": GuardState.OPEN})),
    "standby unguarded": ("standby closed", False, {}, seen(target={"guarded_tables": 2})),
}


@pytest.mark.parametrize("why", RED)
def test_each_red_gate_alone_refuses_or_is_waited_for(why: str) -> None:
    name, transient, changes, observation = RED[why]
    stored = record(Phase.STREAMING, Verb.CUTOVER, **changes)
    red = [gate for gate in gates(stored, observation, POLICY) if not gate.ok]
    assert name in [gate.name for gate in red]
    assert all(gate.fix and gate.value for gate in red)
    late = replace(observation, at=NOW + timedelta(seconds=30))
    decision = decided(stored, observation)
    if transient:
        assert isinstance(decision, Wait)
        assert name in decision.reason
        assert not decision.limited, "patience is the gates' own"
        decision = decided(stored, late)
    assert isinstance(decision, Refuse)
    assert name in decision.reason
    assert all(gate.fix in decision.hint for gate in red)


def test_every_gate_was_seen_red() -> None:
    green = gates(record(Phase.STREAMING, Verb.CUTOVER), seen(**DMS), POLICY)
    assert all(gate.ok for gate in green)
    assert {name for name, *_ in RED.values()} == {gate.name for gate in green}


def test_a_comparison_from_before_the_hand_over_says_nothing() -> None:
    (gate,) = (g for g in gates(record(Phase.STREAMING, Verb.CUTOVER), seen(handed_over_at=NOW), POLICY) if not g.ok)
    assert (gate.name, gate.value) == ("verified", "not since the stream was handed over")


@pytest.mark.parametrize("why", RED)
def test_gates_are_judged_before_a_hand_over_is_begun(why: str) -> None:
    name, transient, changes, observation = RED[why]
    if name == "tables replicated":  # those it joins afterwards
        return
    streams = replace(observation.replication, handed_over=False, bidirectional=False)
    decision = decided(record(Phase.STREAMING, Verb.CUTOVER, **changes), replace(observation, replication=streams))
    if name == "streams ready" and streams.forward:
        assert decision == Advance(Step.ARM)
        return
    assert isinstance(decision, Wait if transient else Refuse)
    assert name in decision.reason


def test_one_that_was_begun_is_finished_whatever_the_gates_say() -> None:
    stuck: dict[str, Any] = {**DMS, "forward": False, "lag_seconds": None, "handing_over": True}
    assert decided(record(Phase.STREAMING, Verb.CUTOVER), seen(**stuck)) == Advance(Step.HAND_OVER)


@pytest.mark.parametrize("why", [why for why in RED if "down" not in why])
def test_gates_are_judged_again_before_the_hold(why: str) -> None:
    name, transient, changes, observation = RED[why]
    armed = replace(observation, source=replace(observation.source, **ARMED))  # type: ignore[arg-type]
    stored = record(Phase.SWITCHING, Verb.CUTOVER, **changes)
    decision = decided(stored, armed)
    assert isinstance(decision, Wait if transient else Refuse)
    assert name in decision.reason


def test_patience_counts_from_entering_the_switchover() -> None:
    observation = replace(seen(ARMED, lag_seconds=5.0), at=NOW + timedelta(seconds=40))
    asked = record(Phase.SWITCHING, Verb.CUTOVER)
    assert isinstance(decided(asked, observation), Refuse)
    entered = replace(asked, switchover=replace(SWITCH, started_at=NOW + timedelta(seconds=20)))
    assert isinstance(decided(entered, observation), Wait)


def test_an_old_ttl_is_waited_out_however_long_and_then_gates_are_waited_for() -> None:
    stored = record(Phase.STREAMING, Verb.CUTOVER, old_ttl_until=NOW + timedelta(seconds=300))
    observation = _named(seen(lag_seconds=5.0), ttl_seconds=5)
    waiting = decided(stored, replace(observation, at=NOW + timedelta(seconds=290)))
    assert waiting == Wait("clients may still hold the writer's address under its old TTL: 10 s")
    assert isinstance(decided(stored, replace(observation, at=NOW + timedelta(seconds=310))), Wait)
    assert isinstance(decided(stored, replace(observation, at=NOW + timedelta(seconds=340))), Refuse)


def test_a_ttl_that_is_low_since_nobody_knows_when_is_waited_out() -> None:
    observation = _named(seen(), ttl_seconds=5)
    assert decided(record(Phase.STREAMING, Verb.CUTOVER), observation) == Advance(Step.LOWER_TTL)
    known = record(Phase.STREAMING, Verb.CUTOVER, old_ttl_until=NOW)
    assert decided(known, observation) == Advance(Step.ENTER_SWITCHING)


def test_below_16_only_the_feeding_stream_has_to_run() -> None:
    stored = record(Phase.STREAMING, Verb.CUTOVER)
    assert decided(stored, seen(bidirectional=False, reverse=False)) == Advance(Step.ENTER_SWITCHING)


# --- what can't be seen

DOWN: dict[str, object] = {"problem": "refused", "guard": GuardState.ABSENT, "guarded_tables": 0, "generation": 0}


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize(
    ("phase", "verb"),
    [
        (Phase.PLANNED, Verb.START),
        (Phase.PLANNED, Verb.ABORT),
        (Phase.LOADING, Verb.START),
        (Phase.LOADING, Verb.ABORT),
        (Phase.STREAMING, Verb.START),
        (Phase.STREAMING, Verb.VERIFY),
        (Phase.STREAMING, Verb.SHIFT),
        (Phase.STREAMING, Verb.ABORT),
    ],
)
def test_nothing_is_done_or_called_done_past_a_silent_server(phase: Phase, verb: Verb, side: Side) -> None:
    observation = seen(DOWN, {"generation": 0}) if side is Side.SOURCE else seen({"generation": 0}, DOWN)
    verified = Verification(NOW, 3, 100, 1.0)
    decision = decided(record(phase, verb, verification=verified), observation)
    assert isinstance(decision, Wait)
    assert decision.limited
    assert f"{side} is not reachable: refused" in decision.reason


def test_streams_that_cannot_be_seen_are_not_taken_for_absent() -> None:
    unseen = replace(seen(), replication=ReplicationStatus(problem="down"))
    for phase in (Phase.LOADING, Phase.STREAMING):
        assert decided(record(phase, Verb.START), unseen) == Wait("down", limited=True)
    assert isinstance(decided(record(Phase.STREAMING, Verb.SHIFT), unseen), Wait)
    assert decided(record(Phase.STREAMING, Verb.ABORT), unseen) == Advance(Step.CLEAN_UP)


@pytest.mark.parametrize("backed_out", ["", "why"])
@pytest.mark.parametrize("verb", [Verb.CUTOVER, Verb.ABORT])
def test_a_silent_old_primary_may_have_been_closed(verb: Verb, backed_out: str) -> None:
    stored = record(Phase.SWITCHING, verb, switchover=replace(SWITCH, backed_out=backed_out))
    decision = decided(stored, seen(DOWN))
    assert isinstance(decision, Wait)
    assert decision.limited
    assert "not known whether it was closed" in decision.reason


def test_a_silent_new_primary_is_waited_for_without_end_once_the_old_one_is_closed() -> None:
    decision = decided(record(Phase.SWITCHING, Verb.CUTOVER), after_commit(**DOWN))
    assert isinstance(decision, Wait)
    assert not decision.limited
    assert "which must open" in decision.reason


def test_a_silent_standby_does_not_keep_a_switch_from_backing_out() -> None:
    given_up = replace(SWITCH, backed_out="why")
    armed = seen(ARMED, DOWN)
    assert decided(record(Phase.SWITCHING, Verb.CUTOVER, switchover=given_up), armed) == Advance(Step.DISARM)
    disarmed = record(Phase.SWITCHING, Verb.CUTOVER, switchover=replace(given_up, disarmed=True))
    assert decided(disarmed, seen(target=DOWN)) == Advance(Step.END_SWITCH)


def test_a_silent_old_primary_holds_up_no_more_than_it_must() -> None:
    gone = replace(opened(), source=replace(PRIMARY, **DOWN))  # type: ignore[arg-type]

    def at(**done: bool) -> object:
        return decided(record(Phase.SWITCHING, Verb.CUTOVER, switchover=replace(SWITCH, **done)), gone)  # type: ignore[arg-type]

    assert at() == Advance(Step.ROUTE)
    settling = at(routed=True)
    assert isinstance(settling, Wait)
    assert settling.limited
    assert at(routed=True, settled=True) == Advance(Step.CERTIFY)
    assert at(routed=True, settled=True, certified=True) == Advance(Step.DISARM)


# --- half-done switchovers


def test_opened_with_its_flag_still_closed_is_opened_again() -> None:
    half = after_commit(opened_by=1)
    assert decided(record(Phase.SWITCHING, Verb.CUTOVER), half) == Advance(Step.OPEN)
    assert decided(record(Phase.SWITCHING, Verb.ABORT), half) == Advance(Step.OPEN)


def test_a_commit_that_arrives_after_giving_up_is_followed_all_the_same() -> None:
    stored = record(Phase.SWITCHING, Verb.CUTOVER, switchover=replace(SWITCH, backed_out="answer lost"))
    assert decided(stored, after_commit()) == Advance(Step.OPEN)


def test_an_abort_lets_the_old_primary_go_on_first() -> None:
    half = seen({"guard": GuardState.CLOSED, "guarded_tables": 3})
    given_up = record(Phase.SWITCHING, Verb.ABORT, switchover=replace(SWITCH, backed_out="aborted"))
    assert decided(given_up, half) == Advance(Step.REOPEN)


def test_an_earlier_switchover_is_not_taken_for_the_present_one() -> None:
    second = replace(SWITCH, number=3)
    earlier = seen({**ARMED, "closed_by": 1, "opened_by": 2}, {"opened_by": 1, "closed_by": 2})
    stored = record(Phase.SWITCHING, Verb.CUTOVER, switchover=second, switchovers=3)
    assert machine.contradiction(stored, earlier) == ""
    assert decided(stored, earlier) == Advance(Step.SWITCH)


def test_a_stream_that_a_crash_left_turned_off_is_armed_again() -> None:
    stored = record(Phase.SWITCHING, Verb.CUTOVER)
    assert decided(stored, seen(ARMED, bidirectional=False, forward=False)) == Advance(Step.ARM)


# --- loading


@pytest.mark.parametrize(
    ("streams", "reason", "limited"),
    [
        ({"forward": False, "apply_error": "duplicate key"}, "is down (duplicate key)", True),
        ({"tables_unready": ("a", "b")}, "2 table(s) are still being copied", False),
        ({"lag_seconds": None}, "lag unknown", False),
        ({"lag_seconds": 3.0}, "lag 3.0 s", False),
    ],
)
@pytest.mark.parametrize("missing", [{"foreign_keys_added": False}, {"reverse": False}, {}])
def test_the_last_steps_of_a_load_wait_for_the_streams(
    streams: dict[str, object], reason: str, limited: bool, missing: dict[str, object]
) -> None:
    decision = decided(record(Phase.LOADING, Verb.START), seen(None, None, **{**missing, **streams}))
    assert isinstance(decision, Wait)
    assert reason in decision.reason
    assert decision.limited is limited


def test_a_lost_slot_loads_everything_again() -> None:
    assert decided(record(Phase.LOADING, Verb.START), seen(slot_lost=True)) == Advance(Step.LOAD)


def test_below_16_a_load_ends_without_the_stream_back() -> None:
    stored = record(Phase.LOADING, Verb.START)
    assert decided(stored, seen(bidirectional=False, reverse=False)) == Advance(Step.ENTER_STREAMING)


def test_the_target_is_never_closed_while_it_is_the_primary() -> None:
    closed: dict[str, object] = {"guard": GuardState.CLOSED, "guarded_tables": 3}
    unguarded: dict[str, object] = {"guard": GuardState.ABSENT, "guarded_tables": 0}
    stored = record(Phase.STREAMING, Verb.START, primary=Side.TARGET)
    assert isinstance(decided(stored, seen(closed, unguarded)), Done)
    new_on_the_standby = seen({**closed, "guarded_tables": 2}, unguarded)
    assert decided(stored, new_on_the_standby) == Advance(Step.JOIN_TABLES)


# --- streaming


def test_reads_come_home_whatever_the_standby_is_like() -> None:
    stored = record(Phase.STREAMING, Verb.SHIFT, read_weight=60)
    bad = replace(seen(target=DOWN, forward=False, problem="down"), routing=RoutingStatus(Side.SOURCE, 60))
    assert decided(stored, bad) == Advance(Step.SHIFT_READS)
    on_target = replace(stored, primary=Side.TARGET)
    assert isinstance(decided(on_target, bad), Wait)


@pytest.mark.parametrize(("percent", "recorded", "routed"), [(40, 40, 0), (40, 0, 40)])
def test_a_shift_is_done_when_routed_and_recorded(percent: int, recorded: int, routed: int) -> None:
    asked = record(Phase.STREAMING, Verb.SHIFT, read_weight=recorded)
    routing = RoutingStatus(Side.SOURCE, routed)
    assert decided(asked, replace(seen(), routing=routing)) == Advance(Step.SHIFT_READS)
    both = replace(seen(), routing=replace(routing, read_weight=percent))
    assert isinstance(decided(replace(asked, read_weight=percent), both), Done)


@pytest.mark.parametrize("observation", [seen(), seen(ARMED)])
def test_a_verification_needs_a_running_stream(observation: Observation) -> None:
    stalled = replace(observation, replication=replace(STREAMS, forward=False))
    decision = decided(record(Phase.STREAMING, Verb.VERIFY), stalled)
    assert isinstance(decision, Wait)
    assert decision.limited


# --- what the databases know better


@pytest.mark.parametrize(
    ("changes", "source", "target", "why"),
    [
        ({}, {"closed_by": 1}, {}, "switchover 1, of which this record knows nothing"),
        ({}, {"closed_by": 1}, {"opened_by": 1}, "of which this record knows nothing"),
        ({"switchovers": 1}, {"closed_by": 1}, {"opened_by": 1}, "but switchover 1 closed it"),
        ({"switchovers": 2}, {"opened_by": 2}, {"opened_by": 1}, "but switchover 1 opened it"),
        ({"switchovers": 2, "primary": Side.TARGET}, {"opened_by": 2, "closed_by": 1}, {"closed_by": 2}, "closed it"),
    ],
)
def test_a_record_that_names_the_wrong_primary_is_noticed(
    changes: dict[str, object], source: dict[str, object], target: dict[str, object], why: str
) -> None:
    assert why in machine.contradiction(record(Phase.STREAMING, Verb.VERIFY, **changes), seen(source, target))


@pytest.mark.parametrize(
    ("changes", "source", "target"),
    [
        ({}, {}, {}),
        ({"switchovers": 4}, {}, {}),
        ({"switchovers": 1, "primary": Side.TARGET}, {"closed_by": 1}, {"opened_by": 1}),
        ({"switchovers": 2}, {"closed_by": 1, "opened_by": 2}, {"opened_by": 1, "closed_by": 2}),
        # finish, killed on its way: the target's row was removed and made anew
        ({"switchovers": 3, "primary": Side.TARGET}, {"closed_by": 3, "opened_by": 2}, {}),
        # abort, likewise
        ({"switchovers": 2}, {"closed_by": 1, "opened_by": 2}, {}),
    ],
)
def test_a_record_that_is_right_is_left_alone(
    changes: dict[str, object], source: dict[str, object], target: dict[str, object]
) -> None:
    assert machine.contradiction(record(Phase.STREAMING, Verb.VERIFY, **changes), seen(source, target)) == ""


# --- giving up


def test_before_the_commit_point_a_switch_can_be_given_up() -> None:
    stored = record(Phase.SWITCHING, Verb.CUTOVER)
    given_up = machine.give_up(stored, seen(ARMED), "why")
    assert given_up is not None
    assert given_up.switchover == replace(SWITCH, backed_out="why")
    for observation in (seen(DOWN), after_commit(), opened()):
        assert machine.give_up(stored, observation, "why") is None
    assert machine.give_up(given_up, seen(ARMED), "again") is None


def test_a_verification_is_given_up_once() -> None:
    stored = record(Phase.STREAMING, Verb.VERIFY)
    given_up = machine.give_up(stored, seen(ARMED), "why")
    assert given_up is not None
    assert decided(given_up, seen(ARMED)) == Advance(Step.DISARM)
    assert isinstance(decided(given_up, seen()), Done)
    assert machine.give_up(given_up, seen(ARMED), "again") is None
    for other in (Verb.START, Verb.SHIFT, Verb.ABORT):
        assert machine.give_up(record(Phase.STREAMING, other), seen(), "why") is None


# --- plans

_ALL_OF_START = (
    "begin prepare transfer_schema close_target load build_indexes subscribe add_foreign_keys sync_sequences reverse"
    " enter_streaming"
)
_ALL_OF_A_SWITCH = "enter_switching arm switch route settle certify disarm end_switch"


@pytest.mark.parametrize(
    ("phase", "verb", "observation", "steps"),
    [
        (Phase.PLANNED, Verb.START, seen(), _ALL_OF_START),
        (Phase.LOADING, Verb.START, seen(indexes_built=False), "build_indexes enter_streaming"),
        (Phase.LOADING, Verb.START, seen(tables_to_join=2), "join_tables enter_streaming"),
        (Phase.STREAMING, Verb.START, seen(), ""),
        (Phase.STREAMING, Verb.VERIFY, seen(), "arm verify disarm"),
        (Phase.STREAMING, Verb.CUTOVER, seen(), _ALL_OF_A_SWITCH),
        (Phase.STREAMING, Verb.ROLLBACK, seen(), ""),
        (Phase.STREAMING, Verb.ABORT, seen(), "clean_up end"),
        (Phase.SWITCHING, Verb.CUTOVER, seen(ARMED), "switch route settle certify disarm end_switch"),
        (Phase.SWITCHING, Verb.CUTOVER, after_commit(), "open route settle certify disarm end_switch"),
    ],
)
def test_a_plan_lists_what_would_be_done(phase: Phase, verb: Verb, observation: Observation, steps: str) -> None:
    stored = replace(record(phase, verb), intent=None)
    plan = machine.plan(stored, observation, POLICY, verb, {Step.SWITCH: 0.2})
    assert " ".join(step.step for step in plan.steps) == steps
    assert bool(plan.gates) is (verb in {Verb.CUTOVER, Verb.ROLLBACK})
    for step in plan.steps:
        assert step.expected_seconds == (0.2 if step.step is Step.SWITCH else None)
        assert step.pauses_writes is (step.step in {Step.SWITCH, Step.VERIFY})


def test_a_plan_is_ready_when_every_gate_is_green() -> None:
    stored = record(Phase.STREAMING, Verb.CUTOVER)
    assert machine.plan(stored, seen(), POLICY, Verb.CUTOVER, {}).ready
    assert not machine.plan(stored, seen(slot_lost=True), POLICY, Verb.CUTOVER, {}).ready
