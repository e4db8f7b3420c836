"""AWS DMS as engine: what it and AWS say when something fails, what the token does not show, and the hand-over to
PostgreSQL's own streams while an application writes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from contract.places import PostgresPlace
from dms_task import NAMES, ROLE, Dms, emulated_dms, hasten
from psycopg import sql

from daybreak.aws.dms import DmsTask, Start, Task
from daybreak.config import load_settings
from daybreak.errors import AdapterError, PermanentError, Refused, TransientError
from daybreak.events import Event
from daybreak.lab import payments
from daybreak.lab.pair import APPLICATION, OWNER, Pair
from daybreak.lab.workload import Workload
from daybreak.memory_world import Outcome
from daybreak.model import ReplicationStatus, Side, Step, TableName, Verb
from daybreak.ports import Report
from daybreak.postgres import logins
from daybreak.replication.dms import DmsReplicator
from daybreak.replication.streams import Stream
from daybreak.wiring import Runtime, build

TASK = NAMES.of("task")
ORDERS = TableName("shop", "orders")


class Bench:
    """A small shop that DMS is to move; ``runtime`` is one process after another."""

    def __init__(self, dms: Dms, directory: Path, stack: ExitStack) -> None:
        self.dms = dms
        self.place = PostgresPlace(dms.pair, directory)
        self.events: list[Event] = []
        self.directory, self._stack = directory, stack
        for _ in range(5):
            self.write()
        self.runtime = self.process()

    def process(self, **cutover: float) -> Runtime:
        """A new process."""
        limits = {"gate_patience_seconds": 2.0, **cutover}
        settings = load_settings(self.dms.configuration(self.directory, **limits))
        self.kill()
        self.runtime = self._stack.enter_context(hasten(build(settings, self.events.append)))
        return self.runtime

    def kill(self) -> None:
        """End the process's sessions, as a kill does."""
        for close in (*self.runtime.closers, self.runtime.sessions.close) if hasattr(self, "runtime") else ():
            close()
        self.place.until(lambda: not any(self._connected(side) for side in Side))

    def _connected(self, side: Side) -> bool:
        with self.dms.pair.connect(side) as connection:
            query = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'daybreak:shop:%:controller'"
            return connection.execute(query).fetchone() is not None

    def write(self) -> None:
        """The application writes on the source."""
        assert self.place.write(Side.SOURCE) is Outcome.ACKNOWLEDGED

    def streams(self) -> ReplicationStatus:
        """What is seen of DMS and the streams."""
        return self.runtime.controller.observe().replication

    def until(self, holds: Callable[[ReplicationStatus], bool]) -> ReplicationStatus:
        """Wait until what is seen ``holds``."""
        self.place.until(lambda: holds(self.streams()))
        return self.streams()

    def slots(self) -> set[str]:
        """Slots on the source."""
        with self.dms.pair.connect(Side.SOURCE) as source:
            return {str(name) for (name,) in source.execute("SELECT slot_name FROM pg_replication_slots")}

    def may_write(self) -> bool:
        """Whether DMS's role may connect to the target."""
        with self.dms.pair.connect(Side.TARGET) as target:
            query = "SELECT rolcanlogin FROM pg_roles WHERE rolname = %s"
            return target.execute(query, [ROLE]).fetchone() == (True,)

    def as_owner(self, side: Side, statement: str) -> None:
        """Run DDL or DML as the application's owner."""
        with self.dms.pair.connect(side, OWNER) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(sql.SQL(statement))


@pytest.fixture
def bench(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with ExitStack() as stack:
        dms = stack.enter_context(emulated_dms(pair, monkeypatch))
        yield Bench(dms, tmp_path, stack)


@pytest.fixture
def streaming(bench: Bench) -> Bench:
    """Loaded, streaming and verified."""
    bench.runtime.run(Verb.START)
    bench.write()
    bench.runtime.run(Verb.VERIFY)
    return bench


def steps(bench: Bench) -> list[Step]:
    """What was done."""
    return [event.step for event in bench.events if event.kind == "done" and event.step is not None]


# --- the way there and back


def test_dms_loads_and_streams_then_postgresql_takes_over(streaming: Bench) -> None:
    seen = streaming.streams()
    assert (seen.handed_over, seen.forward, seen.reverse, seen.bidirectional) == (False, True, False, False)
    assert seen.lag_seconds is not None
    assert seen.retained_wal_bytes is not None
    (slot,) = streaming.slots()
    assert TASK.replace("-", "_") in slot
    assert streaming.place.write(Side.TARGET) is Outcome.REFUSED
    streaming.runtime.run(Verb.CUTOVER)
    assert not streaming.may_write()
    assert streaming.slots() == {"daybreak_shop_fwd"}
    assert streaming.dms.kinds() == ["STARTED", "STOPPED", "STARTED", "STOPPED"]
    seen = streaming.streams()
    assert (seen.handed_over, seen.forward, seen.reverse, seen.bidirectional) == (True, True, True, True)
    for verb in (Verb.ROLLBACK, Verb.CUTOVER):
        streaming.runtime.run(verb)
    assert steps(streaming).count(Step.HAND_OVER) == 1
    assert streaming.place.write(Side.TARGET) is Outcome.ACKNOWLEDGED
    streaming.place.until_in_step()
    streaming.runtime.run(Verb.FINISH)
    assert streaming.slots() == set()
    assert not streaming.may_write()


@pytest.mark.full
@pytest.mark.parametrize("versions", [(15, 17)], indirect=True)
def test_below_16_one_stream_at_a_time_takes_over(streaming: Bench) -> None:
    for verb in (Verb.CUTOVER, Verb.ROLLBACK, Verb.CUTOVER):
        streaming.runtime.run(verb)
    assert streaming.place.write(Side.TARGET) is Outcome.ACKNOWLEDGED
    streaming.place.until_in_step()


@pytest.mark.full
def test_aborted_nothing_is_left_and_dms_may_begin_again(streaming: Bench) -> None:
    streaming.runtime.run(Verb.ABORT)
    assert streaming.slots() == set()
    assert streaming.may_write()
    with streaming.dms.pair.connect(Side.SOURCE) as source:
        assert source.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'daybreak'").fetchone() is None
        settings = source.execute(
            "SELECT 1 FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole WHERE r.rolname = %s", [ROLE]
        )
        assert settings.fetchone() is None
    assert streaming.dms.client.describe_replication_tasks()["ReplicationTasks"][0]["Status"] == "stopped"


@pytest.mark.full
def test_clients_lose_nothing_from_the_first_load_to_the_end(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    payments.create(pair, 0.1)
    with emulated_dms(pair, monkeypatch) as dms:
        config = dms.configuration(tmp_path)
        with (
            Workload(pair, clients=4, rate_per_second=200) as workload,
            hasten(build(load_settings(config))) as runtime,
        ):
            for verb in (Verb.START, Verb.VERIFY, Verb.CUTOVER, Verb.ROLLBACK, Verb.CUTOVER):
                workload.wait_for_writes(200)
                record = runtime.run(verb)
            workload.wait_for_writes(200)
            runtime.run(Verb.FINISH)
            workload.stop()
            report = workload.report(pair.dsn(Side.TARGET, APPLICATION))
    assert record.verification is not None
    assert record.verification.clean
    assert (report.lost, report.duplicated, report.unknown, report.unbalanced) == (0, 0, 0, 0)
    assert report.acknowledged >= 1_200


# --- what the token does not show


def refused(bench: Bench, *words: str) -> None:
    """The cutover is refused for this, with everything in place."""
    with pytest.raises(Refused) as error:
        bench.runtime.run(Verb.CUTOVER)
    for word in words:
        assert word in error.value.message
    seen = bench.runtime.controller.observe()
    assert seen.source.guarded_tables == 0
    bench.write()


def test_changes_applied_out_of_order_refuse_the_cutover(streaming: Bench) -> None:
    streaming.dms.stand_in.faults.out_of_order = True
    with streaming.dms.pair.connect(Side.SOURCE, OWNER) as source:
        for number in range(20):
            source.execute("UPDATE shop.orders SET note = %s WHERE id = 1", [f"note {number}"])
    streaming.until(lambda seen: seen.lag_seconds is not None and seen.lag_seconds < 5)
    refused(streaming, "verified", "not clean")
    assert streaming.streams().handed_over
    assert streaming.runtime.controller.record().primary is Side.SOURCE
    verification = streaming.runtime.controller.record().verification
    assert verification is not None
    assert any("orders" in difference for difference in verification.differences)


def test_a_suspended_table_refuses_the_cutover(streaming: Bench) -> None:
    streaming.dms.stand_in.faults.suspend = frozenset({ORDERS})
    streaming.write()
    seen = streaming.until(lambda seen: bool(seen.problem))
    assert "shop.orders" in seen.problem
    assert "reload" in seen.problem
    refused(streaming, "replication healthy", "shop.orders")
    assert not streaming.streams().handed_over


@pytest.mark.full
def test_rows_that_validation_finds_different_refuse_the_cutover(streaming: Bench) -> None:
    streaming.dms.stand_in.faults.mismatched = frozenset({ORDERS})
    assert "Mismatched" in streaming.until(lambda seen: bool(seen.problem)).problem
    refused(streaming, "replication healthy", "Mismatched records")


@pytest.mark.full
def test_a_row_that_dms_lost_is_found_at_the_fence_point(streaming: Bench) -> None:
    streaming.dms.stand_in.faults.suspend = frozenset({ORDERS})
    streaming.write()
    streaming.until(lambda seen: bool(seen.problem))
    # As if nobody had noticed: the table is said to be well.
    streaming.dms.stand_in.counts[ORDERS].state = "Table completed"
    streaming.dms.stand_in.faults.suspend = frozenset()
    with streaming.dms.pair.connect(Side.TARGET) as target:
        target.execute("SET default_transaction_read_only = off")
        target.execute("DELETE FROM daybreak.awsdms_suspended_tables")
    streaming.until(lambda seen: not seen.problem)
    refused(streaming, "verified")


# --- lag


@pytest.mark.full
def test_lag_is_what_dms_says_or_a_token_shows(streaming: Bench) -> None:
    streaming.dms.stand_in.faults.lag_seconds = 7.0
    streaming.write()
    seen = streaming.until(lambda seen: (seen.lag_seconds or 0.0) > 5.0)
    assert seen.forward
    refused(streaming, "lag: ")


@pytest.mark.full
def test_metrics_that_are_missing_are_no_good_news(streaming: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    replicator = streaming.runtime.replicator
    assert isinstance(replicator, DmsReplicator)
    monkeypatch.setattr(type(replicator.task), "latency_seconds", lambda _self: None)
    assert streaming.until(lambda seen: seen.lag_seconds is None).forward
    refused(streaming, "lag: not measurable")


# --- tasks that fail, stop and go


def test_a_load_that_fails_says_why_in_dms_s_words_and_begins_anew(bench: Bench) -> None:
    bench.dms.stand_in.faults.fail = "ODBC general error, disk full"
    with pytest.raises((Refused, PermanentError), match="ODBC general error, disk full"):
        bench.runtime.run(Verb.START)
    bench.dms.stand_in.faults.fail = ""
    assert "FAILED" in bench.dms.kinds()
    bench.write()
    bench.process().run(Verb.START)
    bench.place.until_in_step()


@pytest.mark.full
def test_a_stream_that_failed_is_resumed_by_start(streaming: Bench) -> None:
    streaming.dms.stand_in.faults.fail = "Last error: table definition changed"
    seen = streaming.until(lambda seen: not seen.forward and "failed" in seen.apply_error)
    assert "table definition changed" in seen.apply_error
    assert seen.lag_seconds is None
    refused(streaming, "streams ready", "table definition changed")
    streaming.dms.stand_in.faults.fail = ""
    streaming.runtime.run(Verb.START)
    streaming.until(lambda seen: seen.forward)
    streaming.place.until_in_step()
    streaming.runtime.run(Verb.CUTOVER)


@pytest.mark.full
def test_a_task_that_a_person_stopped_is_said_to_be(streaming: Bench) -> None:
    (task,) = streaming.dms.client.describe_replication_tasks()["ReplicationTasks"]
    streaming.dms.client.stop_replication_task(ReplicationTaskArn=task["ReplicationTaskArn"])
    seen = streaming.until(lambda seen: "is stopped" in seen.apply_error)
    assert "Stop Reason NORMAL" in seen.apply_error
    assert "`daybreak start` resumes it" in seen.apply_error
    refused(streaming, "streams ready", "is stopped")


@pytest.mark.full
def test_a_task_that_was_deleted_is_said_to_be(streaming: Bench) -> None:
    (task,) = streaming.dms.client.describe_replication_tasks()["ReplicationTasks"]
    streaming.dms.client.delete_replication_task(ReplicationTaskArn=task["ReplicationTaskArn"])
    seen = streaming.until(lambda seen: bool(seen.problem))
    assert "was deleted" in seen.problem
    assert "daybreak abort" in seen.problem
    refused(streaming, "was deleted")
    streaming.runtime.run(Verb.ABORT)
    assert streaming.slots() == set()


def test_a_task_with_other_settings_is_not_started(bench: Bench) -> None:
    moto_task = _moto_task()
    moto_task.replication_task_settings = moto_task.replication_task_settings.replace(
        '"BatchApplyEnabled":false', '"BatchApplyEnabled":true'
    )
    with pytest.raises((Refused, AdapterError), match="BatchApplyEnabled is True, not False"):
        bench.runtime.run(Verb.START)


def _moto_task() -> Any:
    from moto.dms.models import dms_backends

    (backend,) = (regions["eu-central-1"] for regions in dms_backends.values())
    (task,) = backend.replication_tasks.values()
    return task


def test_a_role_that_is_missing_is_named(bench: Bench) -> None:
    bench.runtime.replicator.role = "nobody_here"  # type: ignore[attr-defined]
    with pytest.raises((Refused, AdapterError), match="no role nobody_here"):
        bench.runtime.run(Verb.START)


# --- tables that come later


@pytest.mark.full
def test_a_table_that_dms_does_not_know_is_joined_after_the_hand_over(streaming: Bench) -> None:
    for side in Side:
        streaming.as_owner(side, "CREATE TABLE shop.late (id bigint PRIMARY KEY)")
    streaming.as_owner(Side.SOURCE, "INSERT INTO shop.late SELECT generate_series(1, 10)")
    assert streaming.streams().tables_unreplicated == ("shop.late",)
    with pytest.raises((Refused, AdapterError), match=r"made after its load: shop\.late"):
        streaming.runtime.run(Verb.START)
    refused(streaming, "tables replicated: shop.late", "not clean")
    assert streaming.streams().handed_over
    streaming.runtime.run(Verb.START)
    streaming.until(lambda seen: not seen.tables_unready)
    streaming.runtime.run(Verb.VERIFY)
    streaming.runtime.run(Verb.CUTOVER)
    with streaming.dms.pair.connect(Side.TARGET) as target:
        assert target.execute("SELECT count(*) FROM shop.late").fetchone() == (10,)


# --- cut off in the middle


class Crash(BaseException):
    """The process dies here."""


def crash(bench: Bench, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Run a cutover whose process dies when it comes to ``method`` of the replicator."""

    def die(*_arguments: object, **_keywords: object) -> None:
        bench.kill()
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(DmsReplicator, method, die)
        with pytest.raises(Crash):
            bench.runtime.run(Verb.CUTOVER)
    bench.process()


@pytest.mark.parametrize("how", [Start.FIRST, Start.RESUME])
@pytest.mark.parametrize("asked", [False, True], ids=["before the call", "after it took effect"])
def test_killed_while_the_task_is_started_the_next_start_goes_on_and_loads_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, how: Start, asked: bool
) -> None:
    start = DmsTask.start

    def die(task: DmsTask, found: Task, wanted: Start) -> None:
        if wanted is not how:
            return start(task, found, wanted)
        if asked:
            start(task, found, wanted)
        bench.kill()
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(DmsTask, "start", die)
        with pytest.raises(Crash):
            bench.runtime.run(Verb.START)
    bench.write()
    bench.process().run(Verb.START)
    assert bench.dms.kinds() == ["STARTED", "STOPPED", "STARTED"]
    bench.until(lambda seen: seen.forward)
    bench.place.until_in_step()


def test_a_load_that_somebody_else_ran_before_is_not_taken_for_this_one_s(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = _moto_task()
    task.status, task.start_date = "stopped", datetime.now(UTC).replace(tzinfo=None)
    task.report = {"percent": 100, "stop_reason": "Stop Reason STOPPED_AFTER_FULL_LOAD"}

    def die(*_arguments: object) -> None:
        bench.kill()
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(DmsTask, "start", die)
        with pytest.raises(Crash):
            bench.runtime.run(Verb.START)
    bench.process().run(Verb.START)
    assert bench.dms.kinds() == ["STARTED", "STOPPED", "STARTED"]
    bench.place.until_in_step()


@pytest.mark.parametrize("method", ["_take_over", "_retire"])
def test_killed_after_the_fence_point_postgresql_s_streams_go_on(
    streaming: Bench, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    crash(streaming, monkeypatch, method)
    assert not streaming.may_write()
    for _ in range(3):
        streaming.write()
    seen = streaming.streams()
    assert seen.handing_over
    assert "daybreak cutover" in seen.apply_error
    streaming.runtime.run(Verb.CUTOVER)
    assert steps(streaming).count(Step.VERIFY) == 2
    assert streaming.place.write(Side.TARGET) is Outcome.ACKNOWLEDGED
    streaming.place.until_in_step()


@pytest.mark.full
def test_killed_before_the_fence_point_was_sure_dms_goes_on(streaming: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    shut_out = logins.shut_out

    def die(connection: Any, role: str) -> None:
        shut_out(connection, role)
        streaming.kill()
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(logins, "shut_out", die)
        patch.setattr(DmsReplicator, "_let_dms_go_on", lambda _self: None)
        with pytest.raises(Crash):
            streaming.runtime.run(Verb.CUTOVER)
    streaming.process(gate_patience_seconds=20.0)
    assert not streaming.may_write()
    for _ in range(3):
        streaming.write()
    streaming.runtime.run(Verb.CUTOVER)
    assert steps(streaming).count(Step.HAND_OVER) == 2
    assert streaming.place.write(Side.TARGET) is Outcome.ACKNOWLEDGED
    streaming.place.until_in_step()


def test_a_hold_that_ended_at_the_fence_point_lets_dms_go_on(streaming: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the end of the hold and the slot's move a client may have committed."""
    shut_out = logins.shut_out

    def slowly(connection: Any, role: str) -> None:
        shut_out(connection, role)
        with streaming.dms.pair.connect(Side.SOURCE) as source:
            source.execute(
                "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE application_name LIKE '%:hold'"
            )
        streaming.write()

    with monkeypatch.context() as patch:
        patch.setattr(logins, "shut_out", slowly)
        refused(streaming, "hold was ended")
    assert streaming.may_write()
    assert "daybreak_shop_fwd" not in streaming.slots()
    streaming.process(gate_patience_seconds=20.0)
    streaming.until(lambda seen: seen.forward and not seen.handing_over)
    streaming.place.until_in_step()
    streaming.runtime.run(Verb.CUTOVER)
    assert streaming.place.write(Side.TARGET) is Outcome.ACKNOWLEDGED
    streaming.place.until_in_step()


@pytest.mark.full
def test_aws_that_does_not_answer_delays_no_hand_over(streaming: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    replicator = streaming.runtime.replicator
    assert isinstance(replicator, DmsReplicator)

    def stop(*_arguments: object) -> bool:
        raise TransientError("AWS DMS task: no answer", "Wait.")

    monkeypatch.setattr(type(replicator.task), "stop", stop)
    streaming.runtime.run(Verb.CUTOVER)
    assert streaming.slots() == {"daybreak_shop_fwd"}
    assert any("was not stopped" in event.progress.what for event in streaming.events if event.progress is not None)


def test_a_writer_that_holds_a_row_and_waits_does_not_delay_the_hand_over(
    streaming: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SELECT FOR UPDATE takes a transaction id: to make a slot would wait for it, and it waits for the hold."""
    ensure_slot, act = Stream.ensure_slot, DmsReplicator._at_fence_point
    waiting = threading.Thread(target=lambda: client.execute("UPDATE shop.orders SET note = 'late' WHERE id = 1"))

    def then_lock(stream: Stream, publisher: Any) -> None:
        ensure_slot(stream, publisher)
        if stream.publisher.side is Side.SOURCE:
            client.execute("SELECT 1 FROM shop.orders WHERE id = 1 FOR UPDATE")

    def while_waiting(replicator: DmsReplicator, check_held: Callable[[], None]) -> None:
        waiting.start()
        time.sleep(0.2)
        act(replicator, check_held)

    monkeypatch.setattr(Stream, "ensure_slot", then_lock)
    monkeypatch.setattr(DmsReplicator, "_at_fence_point", while_waiting)

    take_over = DmsReplicator._take_over

    def after_commit(replicator: DmsReplicator, report: Report) -> None:
        waiting.join()
        client.commit()
        take_over(replicator, report)

    monkeypatch.setattr(DmsReplicator, "_take_over", after_commit)
    with psycopg.connect(streaming.dms.pair.dsn(Side.SOURCE, APPLICATION)) as client:
        streaming.runtime.run(Verb.CUTOVER)
    with streaming.dms.pair.connect(Side.TARGET) as target:
        assert target.execute("SELECT note FROM shop.orders WHERE id = 1").fetchone() == ("late",)
    assert steps(streaming).count(Step.HAND_OVER) == 1


# --- before anything is started


def findings(bench: Bench, **dms: str | int) -> dict[str, list[tuple[str, str]]]:
    """Severity and object of what ``check`` finds about DMS, by its id, with other settings of DMS."""
    path = bench.dms.configuration(bench.directory)
    path.write_text(
        path.read_text() + "\n[aws.dms]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in dms.items())
    )
    found: dict[str, list[tuple[str, str]]] = {}
    with build(load_settings(path)) as runtime:
        for finding in runtime.preflight():
            found.setdefault(finding.id, []).append((finding.severity, finding.object))
    return found


def test_check_asks_for_dms_s_role_and_its_rights(bench: Bench) -> None:
    found = findings(bench)
    assert not {"dms-role", "dms-limits"} & found.keys()
    absent = findings(bench, user="nobody")
    assert absent["dms-role"] == [("blocker", "source role nobody"), ("blocker", "target role nobody")]
    with bench.dms.pair.connect(Side.TARGET) as target:
        target.execute(sql.SQL("REVOKE SET ON PARAMETER session_replication_role FROM {}").format(sql.Identifier(ROLE)))
        target.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(ROLE)))
    assert findings(bench)["dms-role"] == [("blocker", f"target role {ROLE}")] * 2


def test_check_measures_large_objects_only_where_they_have_a_limit(bench: Bench) -> None:
    bench.as_owner(Side.SOURCE, "UPDATE shop.orders SET note = repeat('x', 5000) WHERE id = 1")
    assert "dms-large-objects" not in findings(bench)
    assert "dms-large-objects" not in findings(bench, max_lob_kb=5)
    assert findings(bench, max_lob_kb=4)["dms-large-objects"] == [("blocker", "shop.orders.note")]
