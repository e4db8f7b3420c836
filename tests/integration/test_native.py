"""Native replication on real servers: what its health says, what it leaves in logs, what it does when its
slot is lost or the application creates a table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daybreak.config import load_settings
from daybreak.errors import PermanentError
from daybreak.lab import payments
from daybreak.lab.configuration import write_configuration
from daybreak.lab.pair import OWNER, Pair
from daybreak.model import Phase, Progress, ReplicationStatus, Side, Step, Verb
from daybreak.wiring import Runtime, build

NEW_TABLE = "CREATE TABLE payments.refunds (id bigint PRIMARY KEY, note text)"


@pytest.fixture
def runtime(pair: Pair, tmp_path: Path) -> Iterator[Runtime]:
    """A migration of a small payments database, not yet started."""
    payments.create(pair, 0.01)
    with build(load_settings(write_configuration(pair, tmp_path, replication={"jobs": 2}))) as made:
        yield made


@pytest.fixture
def streaming(runtime: Runtime) -> Runtime:
    """The same, started."""
    assert runtime.controller.run(Verb.START).phase is Phase.STREAMING
    return runtime


def until(runtime: Runtime, holds: Callable[[ReplicationStatus], bool]) -> ReplicationStatus:
    """Look until ``holds``; fails after 20 seconds."""
    deadline = time.monotonic() + 20
    while not holds(seen := runtime.replicator.observe(Side.SOURCE)):
        assert time.monotonic() < deadline, seen
        time.sleep(0.1)
    return seen


def test_a_healthy_stream_is_measured(streaming: Runtime) -> None:
    seen = streaming.replicator.observe(Side.SOURCE)
    assert (seen.forward, seen.reverse, seen.problem, seen.tables_unreplicated) == (True, True, "", ())
    assert seen.lag_seconds is not None
    assert seen.lag_bytes is not None
    assert seen.retained_wal_bytes is not None
    assert seen.tables_copied == seen.tables_total == 11


def test_an_apply_error_is_told_in_postgresqls_words(pair: Pair, streaming: Runtime) -> None:
    row = "INSERT INTO payments.event_log (id, number, operation) OVERRIDING SYSTEM VALUE VALUES (900000, 1, 'x')"
    with pair.connect(Side.TARGET, "postgres") as target, pair.connect(Side.SOURCE, OWNER) as source:
        target.execute("SET default_transaction_read_only = off")
        target.execute("SET session_replication_role = replica")
        # Under an origin, or the stream back would bring it to the source.
        target.execute("SELECT pg_replication_origin_create('elsewhere')")
        target.execute("SELECT pg_replication_origin_session_setup('elsewhere')")
        target.execute(row)
        source.execute(row)
        seen = until(streaming, lambda status: "payments.event_log" in status.problem)
        assert "(900000)" in seen.problem
        target.execute("DELETE FROM payments.event_log WHERE id = 900000")
        target.execute("SELECT pg_replication_origin_session_reset()")
        target.execute("SELECT pg_replication_origin_drop('elsewhere')")
    until(streaming, lambda status: not status.problem and status.forward)


def test_a_stopped_stream_is_bad_and_not_without_lag(pair: Pair, streaming: Runtime) -> None:
    with pair.connect(Side.TARGET, "postgres") as target:
        target.execute("SET default_transaction_read_only = off")
        target.execute("ALTER SUBSCRIPTION daybreak_rehearsal_fwd DISABLE")
        seen = until(streaming, lambda status: not status.forward)
        assert seen.lag_seconds is None
        target.execute("ALTER SUBSCRIPTION daybreak_rehearsal_fwd ENABLE")
    until(streaming, lambda status: status.forward and status.lag_seconds is not None)


def test_nothing_echoes(pair: Pair, streaming: Runtime) -> None:
    count = "SELECT count(*) FROM payments.event_log"
    with pair.connect(Side.SOURCE, OWNER) as source, pair.connect(Side.TARGET, OWNER) as target:
        source.execute("INSERT INTO payments.event_log (number, operation) VALUES (1, 'once')")
        there = source.execute(count).fetchone()
        until(streaming, lambda _status: target.execute(count).fetchone() == there)
        time.sleep(0.5)
        assert source.execute(count).fetchone() == there


def test_a_lost_slot_during_the_load_begins_it_anew_and_says_so(pair: Pair, runtime: Runtime) -> None:
    controller, replicator = runtime.controller, runtime.replicator
    generation = runtime.switch.claim("test", 0, False)
    told: list[Progress] = []
    for step in (Step.PREPARE, Step.TRANSFER_SCHEMA, Step.CLOSE_TARGET, Step.LOAD):
        replicator.perform(step, generation, told.append)
    assert replicator.observe(Side.SOURCE).load_done
    with pair.connect(Side.SOURCE, "postgres") as source:
        source.execute("SELECT pg_drop_replication_slot('daybreak_rehearsal_fwd')")
        source.execute("INSERT INTO payments.event_log (number, operation) VALUES (1, 'between the slots')")
    assert not replicator.observe(Side.SOURCE).load_done
    replicator.perform(Step.LOAD, generation, told.append)
    assert any("everything is copied again" in progress.what for progress in told)
    runtime.sessions.close()
    controller.run(Verb.START)
    assert controller.run(Verb.VERIFY).verification is not None


def test_a_new_table_blocks_the_switch_until_it_is_joined(pair: Pair, streaming: Runtime) -> None:
    with pair.connect(Side.SOURCE, OWNER) as source:
        source.execute(NEW_TABLE)
        source.execute("INSERT INTO payments.refunds VALUES (1, 'before it was joined')")
    assert streaming.replicator.observe(Side.SOURCE).tables_unreplicated == ("payments.refunds",)
    red = {gate.name for gate in streaming.controller.plan(Verb.CUTOVER).gates if not gate.ok}
    assert {"tables replicated", "same structure"} <= red
    with pytest.raises(PermanentError, match="refunds"):
        streaming.controller.run(Verb.START)
    with pair.connect(Side.TARGET, "postgres") as target:
        target.execute("SET default_transaction_read_only = off")
        target.execute(NEW_TABLE)
        target.execute(f"ALTER TABLE payments.refunds OWNER TO {OWNER}")
    streaming.controller.run(Verb.START)
    until(streaming, lambda status: not status.tables_unready and not status.tables_unreplicated)
    streaming.controller.run(Verb.VERIFY)
    assert streaming.controller.run(Verb.CUTOVER).primary is Side.TARGET
    with pair.connect(Side.TARGET, OWNER) as target, pair.connect(Side.SOURCE, OWNER) as source:
        target.execute("INSERT INTO payments.refunds VALUES (2, 'on the way back')")
        until(streaming, lambda _s: source.execute("SELECT count(*) FROM payments.refunds").fetchone() == (2,))
        # And the same the other way round, where the target is the primary.
        target.execute(NEW_TABLE.replace("refunds", "disputes"))
        target.execute("INSERT INTO payments.disputes VALUES (1, 'made on the target')")
        source.execute("SET default_transaction_read_only = off")
        source.execute(NEW_TABLE.replace("refunds", "disputes"))
    streaming.controller.run(Verb.START)
    streaming.controller.run(Verb.VERIFY)
    assert streaming.controller.run(Verb.ROLLBACK).primary is Side.SOURCE
    with pair.connect(Side.SOURCE, OWNER) as source:
        assert source.execute("SELECT note FROM payments.disputes").fetchone() == ("made on the target",)


def test_the_password_of_the_streams_is_in_no_log(
    own_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = "a-password-that-nobody-else-would-choose"
    monkeypatch.setattr("secrets.token_urlsafe", lambda _n: password)
    payments.create(own_pair, 0.01)
    for side in Side:
        with own_pair.cluster(side).connect() as postgres:
            postgres.execute("ALTER SYSTEM SET log_statement = 'all'")
            postgres.execute("ALTER SYSTEM SET log_min_duration_statement = 0")
            postgres.execute("SELECT pg_reload_conf()")
    with build(load_settings(write_configuration(own_pair, tmp_path, replication={"jobs": 2}))) as runtime:
        runtime.controller.run(Verb.START)
        assert runtime.replicator.observe(Side.SOURCE).reverse
        logs = "".join(own_pair.cluster(side).log(1_000_000) for side in Side)
        assert "CREATE SUBSCRIPTION" in logs  # the block that runs it was logged, and what it ran it with not
        assert password not in logs
        runtime.controller.run(Verb.ABORT)
