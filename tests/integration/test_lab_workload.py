"""The payments application: its schema, its clients, and a ledger that notices what goes wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
from psycopg import sql

from daybreak.lab import payments
from daybreak.lab.bouncer import Bouncer, find_pgbouncer
from daybreak.lab.pair import APPLICATION, OWNER, Pair
from daybreak.lab.ways import ByBouncer
from daybreak.lab.workload import Workload
from daybreak.model import Side

SCALE = 0.01
WRITES = 300


def value(pair: Pair, query: str) -> object:
    with pair.connect(Side.SOURCE) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def test_the_schema_has_one_of_each_kind(pair: Pair) -> None:
    payments.create(pair, SCALE)
    assert value(pair, "SELECT sum(balance_cents) FROM payments.accounts") == 0
    assert value(pair, "SELECT count(*) FROM payments.transfers") == 400
    toasted = "SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE oid = 'payments.documents'::regclass"
    assert int(str(value(pair, toasted))) > 100_000
    leaves = "SELECT count(*) FROM pg_partition_tree('payments.ledger') WHERE isleaf"
    assert value(pair, leaves) == 5
    owners = "SELECT string_agg(DISTINCT tableowner, ',') FROM pg_tables WHERE schemaname = 'payments'"
    assert value(pair, owners) == OWNER
    with pair.connect(Side.TARGET) as target:
        assert target.execute("SELECT count(*) FROM pg_namespace WHERE nspname = 'payments'").fetchone() == (0,)


def test_the_ledger_agrees_with_an_undisturbed_database(pair: Pair) -> None:
    payments.create(pair, SCALE)
    with Workload(pair, clients=4) as workload:
        workload.wait_for_writes(WRITES)
    report = workload.report(pair.dsn(Side.SOURCE, APPLICATION))
    assert report.clean
    assert report.acknowledged >= WRITES
    assert (report.errors, workload.reader_failures) == (0, ())
    assert workload.reads[Side.SOURCE] > 0


@pytest.mark.parametrize(
    ("tamper", "field"),
    [
        ("DELETE FROM payments.ledger WHERE transfer_id = {0}", "lost"),
        ("UPDATE payments.documents SET scan = '' WHERE transfer_id IN (SELECT {0})", "lost"),
        (
            "INSERT INTO payments.ledger (bucket, account_id, transfer_id, amount_cents)"
            " SELECT bucket, account_id, transfer_id, amount_cents FROM payments.ledger WHERE transfer_id = {0}",
            "duplicated",
        ),
        (
            "INSERT INTO payments.transfers (key, client, from_account, to_account, amount_cents)"
            " SELECT gen_random_uuid(), client, 1, 2, 3 FROM payments.transfers WHERE id = {0}",
            "unknown",
        ),
        ("UPDATE payments.accounts SET balance_cents = balance_cents + 1 WHERE id = 1", "unbalanced"),
    ],
)
def test_the_ledger_notices(pair: Pair, tamper: str, field: str) -> None:
    payments.create(pair, SCALE)
    with Workload(pair, clients=2) as workload:
        workload.wait_for_writes(100)
    one = "(SELECT max(transfer_id) FROM payments.documents)"
    with pair.connect(Side.SOURCE) as connection:
        connection.execute(tamper.format(one).encode())
    report = workload.report(pair.dsn(Side.SOURCE, "postgres"))
    assert getattr(report, field) == 1
    assert not report.clean


def test_clients_outlive_a_crash_of_the_server(own_pair: Pair) -> None:
    payments.create(own_pair, SCALE)
    with own_pair.target.connect() as target:
        # What closes a target: or clients would take the empty one for their primary.
        closed = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on")
        target.execute(closed.format(sql.Identifier(own_pair.database)))
    with Workload(own_pair) as workload:
        workload.wait_for_writes(WRITES)
        own_pair.source.kill()
        own_pair.source.start()
        workload.wait_for_writes(WRITES)
    report = workload.report(own_pair.dsn(Side.SOURCE, APPLICATION))
    assert report.clean
    assert report.errors > 0


def test_writers_find_the_side_that_takes_writes(pair: Pair) -> None:
    payments.create(replace(pair, source=pair.target, target=pair.source), SCALE)
    with pair.source.connect() as source:
        closed = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on")
        source.execute(closed.format(sql.Identifier(pair.database)))
    with Workload(pair, clients=2) as workload:
        workload.wait_for_writes(WRITES)
    assert workload.report(pair.dsn(Side.TARGET, APPLICATION)).clean
    assert workload.ledger.failures() == ()


def test_readers_follow_the_published_weight(pair: Pair) -> None:
    payments.create(pair, SCALE)
    with pair.connect(Side.SOURCE) as source, pair.connect(Side.TARGET, OWNER) as target:
        source.execute(
            "CREATE SCHEMA daybreak; CREATE TABLE daybreak.route AS SELECT 'source' AS primary, 100 AS read_weight"
        )
        source.execute("GRANT USAGE ON SCHEMA daybreak TO PUBLIC; GRANT SELECT ON daybreak.route TO PUBLIC")
        target.execute("CREATE SCHEMA payments; CREATE TABLE payments.ledger (account_id bigint)")
        target.execute("GRANT USAGE ON SCHEMA payments TO PUBLIC; GRANT SELECT ON payments.ledger TO PUBLIC")
        with Workload(pair, clients=1, rate_per_second=100) as workload:
            workload.wait_for_writes(20)
    assert workload.reads[Side.TARGET] > 0
    assert workload.reads[Side.SOURCE] == 0


@pytest.mark.skipif(find_pgbouncer() is None, reason="pgbouncer is not installed")
@pytest.mark.parametrize(("versions", "tls"), [((17, 18), False), ((17, 17), True)], indirect=True)
def test_clients_through_pgbouncer(pair: Pair) -> None:
    payments.create(pair, SCALE)
    with Bouncer(pair) as bouncer:
        with Workload(pair, clients=4, way=ByBouncer(bouncer)) as workload:
            workload.wait_for_writes(WRITES)
        report = workload.report(pair.dsn(Side.SOURCE, APPLICATION))
        assert report.clean
        assert (report.errors, workload.reader_failures) == (0, ())
        assert workload.reads[Side.SOURCE] > 0
        directory = bouncer.directory
    assert not directory.exists()
