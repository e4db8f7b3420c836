"""The function over two imaginary servers: what it does with calls and looks, what it tells, and what remains
of it when an invocation dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import SecretStr
from simulation import NAME, POLICY, Hook, Simulation, failing, kill_at, no_hook, on, ready

from daybreak.aws.metrics import Metrics, Own
from daybreak.config import Cutover, Server, Settings
from daybreak.entry.lambda_app import ACTOR, App, OutOfTime, Watch
from daybreak.entry.lambda_calls import Call, parse
from daybreak.errors import PermanentError, Refused, TransientError
from daybreak.events import Event as Heard
from daybreak.events import Listener
from daybreak.memory_world import Killed, Process
from daybreak.milestones import told
from daybreak.model import MigrationRecord, Phase, Side, Step, Verb
from daybreak.remote import Remote
from daybreak.wiring import Runtime

UNAUTHORIZED = PermanentError("Not authorized to perform route53:ChangeResourceRecordSets.", "Grant it.")


@dataclass
class Cloud:
    """What was told and published; ``broken`` refuses both."""

    subjects: list[str] = field(default_factory=list)
    values: list[dict[Own, float]] = field(default_factory=list)
    asleep: bool = False
    broken: bool = False

    def publish(self, **message: str) -> None:
        if self.broken:
            raise TransientError("busy", "Wait.")
        self.subjects.append(message["Subject"])

    def put_metric_data(self, **data: Any) -> None:
        if self.broken:
            raise TransientError("busy", "Wait.")
        assert data["Namespace"] == "Daybreak"
        assert {one["Name"] for one in data["MetricData"][0]["Dimensions"]} == {"Migration", "Environment"}
        self.values.append({Own(one["MetricName"]): one["Value"] for one in data["MetricData"]})

    @property
    def last(self) -> dict[Own, float]:
        return self.values[-1]


@dataclass
class Function:
    """The function, invocation after invocation. ``informed``: people know what was before the first."""

    simulation: Simulation
    cloud: Cloud = field(default_factory=Cloud)
    settings: Settings = field(default_factory=lambda: settings())
    remaining_seconds: float = 900.0
    informed: bool = True

    def __post_init__(self) -> None:
        record = self.simulation.record
        if self.informed and record.version:
            self.remote().remember(record, told(record))

    def remote(self, listener: Listener = lambda _event: None) -> Remote:
        """One who asks."""
        simulation = self.simulation
        return Remote(NAME, simulation.store, listener, simulation.router.refuse_shift, clock=simulation.world.clock)

    @contextmanager
    def invocation(self, hook: Hook = no_hook) -> Iterator[App]:
        """One invocation in a process of its own."""
        simulation = self.simulation
        patience = self.settings.cutover.gate_patience_seconds
        watch = Watch(lambda: self.remaining_seconds, 70.0, patience, simulation.world.clock)
        controller, process = simulation.controller(hook, watch, ACTOR)
        runtime = Runtime(
            self.settings, simulation.store, cast(Any, None), cast(Any, None), simulation.router, cast(Any, None),
            tuple, controller, self.remote(watch), self._schedule,
        )  # fmt: skip
        client = cast(Any, self.cloud)
        try:
            yield App(runtime, client, Metrics(client, NAME, "test"), "arn:topic")
        finally:
            process.close()

    def _schedule(self, awake: bool) -> None:
        self.cloud.asleep = not awake

    def call(self, hook: Hook = no_hook, **request: object) -> dict[str, Any]:
        asked = parse(request)
        assert isinstance(asked, Call)
        with self.invocation(hook) as app:
            return app.call(asked)

    def look(self, hook: Hook = no_hook) -> dict[str, Any]:
        with self.invocation(hook) as app:
            return app.look("the schedule")


def settings(**cutover: object) -> Settings:
    server = Server(dsn=SecretStr("postgresql://d@h/p"), password=None, peer_host="", peer_port=0)
    return Settings(name=NAME, source=server, target=server, cutover=Cutover.model_validate(cutover))


def fixed(at: datetime) -> datetime:
    """A clock that stands still."""
    return at


# --- calls


def test_a_cutover_and_back() -> None:
    function = Function(ready())
    answer = function.call(action="cutover")
    assert (answer["phase"], answer["primary"], answer["under_way"]) == (Phase.STREAMING, Side.TARGET, None)
    assert function.cloud.subjects == [f"{NAME}: the target is the primary now"]
    assert function.cloud.last[Own.CUTOVER_SUCCESS] == 1.0
    assert function.cloud.last[Own.WRITER_ON_TARGET] == 1.0
    assert Own.WRITE_PAUSE_MS in function.cloud.last
    assert function.call(action="rollback")["primary"] is Side.SOURCE
    assert function.cloud.last[Own.ROLLBACK] == 1.0
    assert function.simulation.record.owner == ACTOR
    function.simulation.assert_in_step()


def test_one_share_after_the_other_and_then_none() -> None:
    function = Function(ready(), settings=settings(read_schedule=(20, 100)))
    assert [function.call(action="shift")["read_weight"] for _ in range(2)] == [20, 100]
    with pytest.raises(Refused, match="Every share"):
        function.call(action="shift")
    assert function.call(action="shift", weight=0)["read_weight"] == 0
    assert f"{NAME}: 20% of reads go to the target" in function.cloud.subjects


def test_a_refusal_is_an_error_and_told() -> None:
    simulation = ready()
    simulation.world[Side.SOURCE].prepared_transactions = 1
    function = Function(simulation, settings=settings(gate_patience_seconds=1))
    with pytest.raises(Refused, match="prepared"):
        function.call(action="cutover")
    assert function.cloud.subjects == [f"{NAME}: something was refused"]
    simulation.assert_in_step()


def test_a_request_that_is_delivered_again_is_carried_out_once() -> None:
    function = Function(ready())
    function.call(action="cutover", request="r-1")
    function.call(action="rollback", request="r-2")
    assert function.call(action="cutover", request="r-1")["primary"] is Side.SOURCE
    assert function.simulation.record.switchovers == 2
    assert function.call(action="cutover", request="r-3")["primary"] is Side.TARGET


def test_status_and_postponing() -> None:
    function = Function(ready(), settings=settings(mode="automatic"))
    assert function.call(action="status")["phase"] == Phase.STREAMING
    until = function.simulation.world.now + timedelta(hours=1)
    assert function.call(action="postpone", until=until.isoformat())["postponed_until"] == until
    assert function.look()["read_weight"] == 0
    assert function.call(action="postpone")["postponed_until"] is None
    assert function.look()["read_weight"] == 20


# --- looking


def test_a_look_publishes_how_things_stand() -> None:
    function = Function(ready())
    function.look()
    assert function.cloud.last[Own.LAG_SECONDS] == 0.0
    assert function.cloud.last[Own.PHASE] == 2
    assert function.cloud.subjects == []


def test_lag_that_cannot_be_measured_is_no_number() -> None:
    function = Function(ready())
    function.simulation.world.stop(Side.TARGET)
    function.look()
    assert Own.LAG_SECONDS not in function.cloud.last


def test_in_automatic_mode_everything_happens_by_itself() -> None:
    simulation = Simulation().through(Verb.START)
    function = Function(simulation, settings=settings(mode="automatic", soak_seconds=60))
    for _ in range(12):
        simulation.world.sleep(60)
        function.look()
    assert simulation.record.primary is Side.TARGET
    assert [subject.split(": ")[1] for subject in function.cloud.subjects] == [
        *(f"{share}% of reads go to the target" for share in (20, 50, 80, 100)),
        "the target is the primary now",
    ]


def test_after_the_end_it_sleeps() -> None:
    function = Function(ready(Verb.CUTOVER))
    function.call(action="finish")
    assert function.cloud.asleep
    function.cloud.asleep = False
    function.look()
    assert function.cloud.asleep


def test_before_the_start_nothing_is_done() -> None:
    function = Function(Simulation())
    assert function.look()["phase"] is Phase.PLANNED
    assert function.cloud.values == []


def test_telling_that_fails_harms_nothing() -> None:
    function = Function(ready(), Cloud(broken=True))
    assert function.call(action="cutover")["primary"] is Side.TARGET
    function.simulation.assert_in_step()


# --- invocations that end too soon


@pytest.mark.parametrize("number", range(45))
@pytest.mark.parametrize("verb", [Verb.CUTOVER, Verb.ROLLBACK])
def test_killed_anywhere_the_next_look_goes_on(verb: Verb, number: int) -> None:
    function = Function(ready(*([Verb.CUTOVER] if verb is Verb.ROLLBACK else [])))
    try:
        function.call(kill_at(number), action=str(verb))
    except Killed:
        function.look()
    expected = Side.TARGET if verb is Verb.CUTOVER else Side.SOURCE
    asked = any(entry.event == f"asked: {verb}" for entry in function.simulation.store.journal(NAME)[-60:])
    assert function.simulation.record.primary is expected or not asked
    function.simulation.assert_in_step()


def test_with_too_little_time_nothing_is_begun_and_the_next_look_does_it() -> None:
    function = Function(ready(), remaining_seconds=40.0)
    answer = function.call(action="cutover")
    assert (answer["under_way"], answer["primary"]) == (Verb.CUTOVER, Side.SOURCE)
    function.simulation.assert_sound()
    function.remaining_seconds = 900.0
    assert function.look()["primary"] is Side.TARGET


def test_a_long_wait_is_left_to_the_schedule() -> None:
    function = Function(ready())
    function.simulation.router.use_names(300)
    looks = 0
    answer = function.call(action="cutover")
    while answer["under_way"]:
        looks += 1
        assert looks < 10
        answer = function.look()
    assert looks > 2
    assert answer["primary"] is Side.TARGET


def test_somebody_at_work_elsewhere_is_left_to_act_on_it() -> None:
    function = Function(ready())
    controller, rival = function.simulation.controller()

    def look(passed: str) -> None:
        if passed == "arm: function made":
            function.look()

    rival.hook = look
    # It looks while a command runs: nothing is taken from that, and nothing fails.
    assert controller.run(Verb.CUTOVER).primary is Side.TARGET
    rival.close()
    assert function.simulation.record.owner == "the same"
    function.simulation.assert_in_step()


def test_an_asker_whose_clock_is_wrong_harms_nothing() -> None:
    for hours in (-5, 5):
        simulation = ready()
        wrong = simulation.world.now + timedelta(hours=hours)
        clock = partial(fixed, wrong)
        asking = Remote(NAME, simulation.store, lambda _event: None, lambda _percent: "", clock=clock)
        asking.ask(Verb.VERIFY)
        before = simulation.record.verification
        simulation.world.sleep(1)
        assert Function(simulation).look()["under_way"] is None
        assert simulation.record.verification != before
        assert simulation.steps().count(Step.VERIFY) == 2, "the first, and this one once"


def test_what_is_heard_ends_the_invocation_in_time_but_never_the_hot_part() -> None:
    remaining = SimpleNamespace(seconds=500.0)
    watch = Watch(lambda: remaining.seconds, 70.0)
    watch(Heard("intend", Step.SWITCH))
    remaining.seconds = 69.0
    watch(Heard("intend", Step.SETTLE))
    with pytest.raises(OutOfTime):
        watch(Heard("intend", Step.SWITCH))
    remaining.seconds = 0.0
    watch(Heard("mark", Step.SWITCH, "committed"))
    with pytest.raises(OutOfTime):
        watch(Heard("done", Step.SETTLE))


# --- what stands in the way, and who is told


def test_the_end_of_start_is_told_by_the_first_look() -> None:
    function = Function(Simulation().through(Verb.START), informed=False)
    function.look()
    function.look()
    assert function.cloud.subjects == [f"{NAME}: source and target are in step"]


def test_what_an_invocation_did_that_died_before_telling_is_told_by_the_next() -> None:
    function = Function(ready())
    function.simulation.run(Verb.CUTOVER)
    function.look()
    function.look()
    assert function.cloud.subjects == [f"{NAME}: the target is the primary now"]
    assert [Own.CUTOVER_SUCCESS in values for values in function.cloud.values] == [True, False]
    function.simulation.run(Verb.FINISH)
    function.look()
    function.look()
    assert function.cloud.subjects[1:] == [f"{NAME}: finished"]


@pytest.mark.parametrize("mode", ["manual", "automatic"])
def test_reads_leave_a_target_that_does_not_answer(mode: str) -> None:
    function = Function(ready(), settings=settings(mode=mode))
    function.call(action="shift", percent=80)
    function.simulation.world.stop(Side.TARGET)
    assert function.look()["read_weight"] == 0
    assert function.simulation.router.observe().read_weight == 0
    assert "does not answer" in function.simulation.record.last_error
    assert function.cloud.subjects[-1] == f"{NAME}: 0% of reads go to the target"
    function.simulation.world.start(Side.TARGET)
    assert function.call(action="cutover")["primary"] is Side.TARGET
    function.simulation.assert_in_step()


def test_reads_leave_it_although_something_else_is_asked_for() -> None:
    function = Function(ready())
    function.call(action="shift", percent=50)
    function.simulation.world.stop(Side.TARGET)
    function.remote().ask(Verb.VERIFY)
    assert (function.look()["read_weight"], function.simulation.record.intent) == (0, None)


def test_a_failure_reaches_whoever_asked() -> None:
    function = Function(ready())
    function.remote().ask(Verb.SHIFT, 20)
    for _ in range(3):
        with pytest.raises(PermanentError):
            function.look(on("router: shift_reads", failing(UNAUTHORIZED)))
    record = function.simulation.record
    assert record.intent is not None, "it stays asked for"
    assert "route53:ChangeResourceRecordSets" in record.last_error
    assert function.cloud.subjects == [f"{NAME}: shift fails and is tried again"]
    assert function.look()["read_weight"] == 20
    assert function.simulation.record.last_error == ""


def test_whoever_follows_hears_of_a_failure() -> None:
    function = Function(ready())
    heard: list[Heard] = []
    following = function.remote(heard.append)
    hooks = iter((on("router: shift_reads", failing(UNAUTHORIZED)), no_hook))

    def look(_seconds: float) -> None:
        with suppress(PermanentError):
            function.look(next(hooks))

    following.sleep = look
    following.run(Verb.SHIFT, 20)
    (said,) = [one.text for one in heard if "Not authorized" in one.text]
    assert said.startswith("it failed: Not authorized to perform route53")


def test_a_start_that_was_cut_off_is_left_to_its_command() -> None:
    simulation = Simulation()
    controller, process = simulation.controller(kill_at(12))
    with pytest.raises(Killed):
        controller.run(Verb.START)
    process.close()
    generation = simulation.record.generation
    function = Function(simulation)
    assert function.look()["under_way"] is Verb.START
    assert function.cloud.last[Own.PHASE] == 1, "how far the load is can be seen"
    assert not function.cloud.asleep
    assert simulation.record.generation == generation
    assert simulation.run(Verb.START).phase is Phase.STREAMING


def test_what_differs_is_not_compared_again_and_again() -> None:
    simulation = Simulation().through(Verb.START)
    function = Function(simulation, settings=settings(mode="automatic", soak_seconds=0))
    simulation.world[Side.TARGET].rows[1_000_000] = 0
    for _ in range(4):
        function.look()
    assert simulation.steps().count(Step.VERIFY) == 1
    assert function.cloud.subjects == [f"{NAME}: BOTH SIDES DIFFER"]
    assert simulation.record.read_weight == 0


# --- wishes that cross


def test_postponing_between_judging_and_asking_wins() -> None:
    function = Function(ready(), settings=settings(mode="automatic", read_schedule=(100,), soak_seconds=0))
    function.look()
    until = function.simulation.world.now + timedelta(hours=1)

    def postpone(_process: Process, name: str) -> None:
        if name == "observe router" and function.simulation.record.postponed_until is None:
            function.remote().postpone(until)

    answer = function.look(postpone)
    assert (answer["primary"], answer["under_way"], answer["postponed_until"]) == (Side.SOURCE, None, until)


def test_postponing_takes_back_a_cutover_that_waits_but_not_a_person_s() -> None:
    function = Function(ready(), settings=settings(mode="automatic", read_schedule=(100,), soak_seconds=0))
    function.look()
    function.simulation.router.use_names(300)
    assert function.look()["under_way"] is Verb.CUTOVER
    function.call(action="postpone", until=(function.simulation.world.now + timedelta(hours=1)).isoformat())
    answer = function.look()
    assert (answer["under_way"], answer["primary"]) == (None, Side.SOURCE)
    assert "postponed" in answer["last_error"]
    asked = function.call(action="cutover")
    assert function.call(action="postpone", until="2030-01-01T00:00:00Z")["under_way"] is Verb.CUTOVER, asked


def test_a_person_s_wish_that_comes_in_between_is_served() -> None:
    function = Function(ready(), settings=settings(mode="automatic", soak_seconds=0))
    asked: list[MigrationRecord] = []

    def ask(_process: Process, name: str) -> None:
        if name == "observe router" and not asked:
            asked.append(function.remote().ask(Verb.CUTOVER))

    assert function.look(ask)["primary"] is Side.TARGET


def test_a_refused_request_that_comes_again_is_refused_again() -> None:
    function = Function(ready(), settings=settings(gate_patience_seconds=1))
    function.simulation.world[Side.SOURCE].prepared_transactions = 1
    for _ in range(2):
        with pytest.raises(Refused, match="prepared"):
            function.call(action="cutover", request="r-1")
    assert function.simulation.record.switchovers == 0


def test_a_request_for_what_is_asked_for_already_is_known_later() -> None:
    function = Function(ready())
    function.remote().ask(Verb.CUTOVER)
    function.call(action="cutover", request="r-1")
    function.call(action="rollback", request="r-2")
    assert function.call(action="cutover", request="r-1")["primary"] is Side.SOURCE


def test_the_last_share_that_is_asked_for_again_is_no_error() -> None:
    function = Function(ready(), settings=settings(read_schedule=(100,)))
    for _ in range(2):
        assert function.call(action="shift", request="r-1")["read_weight"] == 100


# --- waiting


def test_gates_are_waited_for_in_one_invocation_however_long_their_patience() -> None:
    simulation = ready()
    simulation.policy = replace(POLICY, gate_patience_seconds=120.0)
    function = Function(simulation, settings=settings(gate_patience_seconds=120))
    function.simulation.world[Side.SOURCE].prepared_transactions = 1
    with pytest.raises(Refused, match="prepared"):
        function.call(action="cutover")


def test_where_nobody_can_write_it_does_not_walk_away() -> None:
    clock = SimpleNamespace(now=datetime(2026, 3, 1, tzinfo=UTC))
    watch = Watch(lambda: 500.0, 70.0, 0.0, lambda: clock.now)
    watch(Heard("wait", text="closed", urgent=True))
    clock.now += timedelta(seconds=300)
    watch(Heard("wait", text="closed", urgent=True))
    with pytest.raises(OutOfTime):
        watch(Heard("wait", text="a TTL"))


def test_failed_reads_are_counted_over_the_last_minutes() -> None:
    function = Function(ready())
    function.call(action="shift", percent=50)
    counted = function.simulation.record.rollbacks_at
    function.simulation.world.sleep(300)
    function.look()
    assert function.simulation.record.rollbacks_at == counted
    function.simulation.world.sleep(400)
    function.look()
    assert function.simulation.record.rollbacks_at == function.simulation.world.now


@pytest.mark.parametrize("verb", [Verb.VERIFY, Verb.CUTOVER])
def test_a_lag_that_passes_takes_no_wish_away(verb: Verb) -> None:
    simulation = ready()
    simulation.policy = replace(POLICY, gate_patience_seconds=30.0)
    function = Function(simulation, settings=settings(gate_patience_seconds=30))
    function.call(action="shift", percent=50)
    simulation.stall(5.0)
    simulation.clients()
    simulation.world.sleep(2)
    answer = function.call(action=str(verb))
    assert answer["last_error"] == ""
    assert answer["primary"] is (Side.TARGET if verb is Verb.CUTOVER else Side.SOURCE)


def test_what_cannot_be_seen_is_not_taken_for_not_begun() -> None:
    function = Function(ready())
    function.call(action="shift", percent=50)
    function.simulation.world.sleep(1)
    function.remote().ask(Verb.VERIFY)

    def die(process: Process, name: str) -> None:
        if name == "arm: a table guarded":
            process.kill()

    with pytest.raises(Killed):
        function.look(die)
    for side in Side:
        function.simulation.world.stop(side)
    with suppress(TransientError):
        function.look()
    intent = function.simulation.record.intent
    assert intent is not None
    assert intent.verb is Verb.VERIFY, "its guard has to be removed by it"
    for side in Side:
        function.simulation.world.start(side)
    function.look()
    function.simulation.assert_in_step()


def test_a_wish_after_a_failure_costs_no_result() -> None:
    function = Function(ready())
    function.remote().ask(Verb.CUTOVER)
    with pytest.raises(PermanentError):
        function.look(on("before journal: intend enter_switching", failing(UNAUTHORIZED)))
    assert function.simulation.record.last_error

    def abort() -> object:
        return function.remote().ask(Verb.ABORT)

    function.look(on("switch: committed", abort))
    last = function.simulation.record.last_switchover
    assert last is not None
    assert last.timings is not None
    assert last.certificate is not None


def test_postponed_in_the_very_moment_it_is_not_made() -> None:
    function = Function(ready(), settings=settings(mode="automatic", read_schedule=(100,), soak_seconds=0))
    function.look()
    until = function.simulation.world.now + timedelta(hours=1)

    def postpone() -> object:
        return function.remote().postpone(until)

    answer = function.look(on("before journal: done enter_switching", postpone))
    assert answer["primary"] is Side.SOURCE
    assert "postponed" in answer["last_error"]
    assert function.simulation.steps().count(Step.SWITCH) == 0
    function.simulation.assert_in_step()


def test_a_step_that_there_was_no_time_for_was_not_begun() -> None:
    function = Function(ready(), remaining_seconds=40.0)
    function.call(action="cutover")
    assert Step.ENTER_SWITCHING not in function.simulation.steps("intend")


def test_failures_are_judged_before_they_are_counted_anew() -> None:
    function = Function(ready())
    function.call(action="shift", percent=50)
    function.simulation.world[Side.TARGET].rollbacks = 5_000
    function.simulation.world.sleep(700)
    assert function.look()["read_weight"] == 0


def test_what_could_not_be_told_is_told_by_the_next_look() -> None:
    function = Function(ready(), Cloud(broken=True))
    function.call(action="cutover")
    function.cloud.broken = False
    function.look()
    function.look()
    assert function.cloud.subjects == [f"{NAME}: the target is the primary now"]
    assert [Own.CUTOVER_SUCCESS in values for values in function.cloud.values] == [True, False]


def test_what_was_told_is_remembered_although_somebody_writes_meanwhile() -> None:
    function = Function(ready())
    record = function.simulation.record
    function.remote().postpone(None)
    remembered = function.remote().remember(record, replace(record.told, switchover=9))
    assert remembered.told.switchover == 9


def test_a_request_delivered_again_after_reads_went_back_by_themselves_is_no_refusal() -> None:
    function = Function(ready())
    function.call(action="shift", percent=50, request="r-1")
    function.simulation.world.stop(Side.TARGET)
    function.look()
    assert function.call(action="shift", percent=50, request="r-1")["read_weight"] == 0


def test_after_a_cutover_no_reads_are_counted() -> None:
    function = Function(ready())
    function.call(action="shift", percent=50)
    function.call(action="cutover")
    counted = function.simulation.record.rollbacks_at
    function.simulation.world.sleep(5_000)
    function.look()
    assert function.simulation.record.rollbacks_at == counted
