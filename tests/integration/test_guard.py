"""The guard on a real server: a closed side holds against everybody but replication, an open one is
invisible, and afterwards no trace of it is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors
from support import EVERYTHING, NAME, claimed, guard_everything

from daybreak.errors import PermanentError, StateConflict
from daybreak.lab import payments
from daybreak.lab.pair import APPLICATION, OWNER, Pair
from daybreak.model import GuardState, Side
from daybreak.postgres import catalog, control, guard, settings
from daybreak.postgres.server import Connection

INSERT = "INSERT INTO payments.limits SELECT min(id), 'x', 1 FROM payments.accounts"
Anyone = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def migration(pair: Pair) -> Iterator[Connection]:
    """The migration role on a filled source whose tables all carry the open guard."""
    payments.create(pair, 0.01)
    with claimed(pair, Side.SOURCE) as connection:
        guard_everything(connection)
        yield connection


@pytest.fixture
def closed(migration: Connection) -> Connection:
    """The same, closed."""
    guard.set_flag(migration, GuardState.CLOSED)
    return migration


def refused(connection: Anyone, statement: str) -> None:
    """``statement`` fails with 25006 and changes nothing."""
    with pytest.raises(errors.ReadOnlySqlTransaction, match="not the primary"):
        connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        INSERT,
        "UPDATE payments.accounts SET holder = 'x' WHERE false",
        "DELETE FROM payments.limits",
        "TRUNCATE payments.event_log",
        "MERGE INTO payments.limits l USING payments.accounts a ON l.account_id = a.id AND l.kind = 'never'"
        " WHEN NOT MATCHED THEN INSERT VALUES (a.id, 'never', 1)",
        "INSERT INTO payments.ledger (bucket, account_id, transfer_id, amount_cents) SELECT 1, 1, 1, 1",
        "INSERT INTO payments.ledger_0 (id, bucket, account_id, transfer_id, amount_cents)"
        " OVERRIDING SYSTEM VALUE SELECT 1, 0, 1, 1, 1",
        "UPDATE payments.ledger_2_odd SET amount_cents = 1",
    ],
)
@pytest.mark.parametrize("user", [APPLICATION, OWNER, "postgres"])
def test_every_write_of_everybody_is_refused(pair: Pair, closed: Connection, user: str, statement: str) -> None:
    with pair.connect(Side.SOURCE, user) as connection:
        if user == APPLICATION and statement.startswith("TRUNCATE"):
            with pytest.raises((errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction)):
                connection.execute(statement)
        else:
            refused(connection, statement)
    assert guard.state(closed) is GuardState.CLOSED


@pytest.mark.parametrize("user", [APPLICATION, OWNER, "postgres"])
def test_no_setting_opens_it(pair: Pair, closed: Connection, user: str) -> None:
    with pair.connect(Side.SOURCE, user) as connection:
        connection.execute("SET default_transaction_read_only = off")
        refused(connection, INSERT)
        connection.execute("BEGIN READ WRITE")
        refused(connection, INSERT)
        connection.execute("ROLLBACK")
        with (
            pytest.raises(errors.ReadOnlySqlTransaction),
            connection.cursor().copy("COPY payments.limits FROM STDIN") as copy,
        ):
            copy.write(b"1\tcopied\t1\t2020-01-01\n")
    assert guard.state(closed) is GuardState.CLOSED


def test_security_definer_and_prepared_statements_are_refused(pair: Pair, closed: Connection) -> None:
    guard.set_flag(closed, GuardState.OPEN)
    with pair.connect(Side.SOURCE, OWNER) as owner, pair.connect(Side.SOURCE, APPLICATION) as pooled:
        owner.execute(f"CREATE FUNCTION payments.sneak() RETURNS void LANGUAGE sql SECURITY DEFINER AS $${INSERT}$$")
        owner.execute("GRANT EXECUTE ON FUNCTION payments.sneak() TO PUBLIC")
        pooled.execute("PREPARE later AS UPDATE payments.accounts SET holder = holder WHERE id = 1")
        pooled.execute("EXECUTE later")
        guard.set_flag(closed, GuardState.CLOSED)
        refused(pooled, "EXECUTE later")
        refused(pooled, "SELECT payments.sneak()")


def test_a_snapshot_taken_while_it_was_open_is_no_way_round(pair: Pair, closed: Connection) -> None:
    guard.set_flag(closed, GuardState.OPEN)
    with pair.connect(Side.SOURCE, APPLICATION) as old:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM payments.accounts")
        guard.set_flag(closed, GuardState.CLOSED)
        refused(old, INSERT)


def test_replication_apply_passes(pair: Pair, closed: Connection) -> None:
    with pair.connect(Side.SOURCE, "postgres") as apply:
        apply.execute("SET session_replication_role = replica")  # what an apply worker runs under
        assert apply.execute(INSERT).rowcount == 1
    assert guard.state(closed) is GuardState.CLOSED


def test_reading_goes_on_and_the_migration_role_is_exempt(pair: Pair, closed: Connection) -> None:
    with pair.connect(Side.SOURCE, APPLICATION) as reader:
        assert reader.execute("SELECT count(*) FROM payments.accounts").fetchone() != (0,)
    assert closed.execute(INSERT).rowcount == 1


def test_the_hold_waits_for_writers_and_makes_new_ones_wait(pair: Pair, migration: Connection) -> None:
    with pair.connect(Side.SOURCE, APPLICATION) as first, pair.connect(Side.SOURCE, APPLICATION) as second:
        first.execute("BEGIN")
        first.execute(INSERT)
        assert migration.execute("SELECT pg_try_advisory_lock(%s)", [guard.LOCK_KEY]).fetchone() == (False,)
        first.execute("COMMIT")
        assert migration.execute("SELECT pg_try_advisory_lock(%s)", [guard.LOCK_KEY]).fetchone() == (True,)
        ended: list[float] = []

        def write() -> None:
            second.execute("DELETE FROM payments.event_log")
            ended.append(time.monotonic())

        waiting = threading.Thread(target=write)
        waiting.start()
        time.sleep(0.3)
        assert not ended
        migration.execute("SELECT pg_advisory_unlock(%s)", [guard.LOCK_KEY])
        waiting.join(10)
        assert ended


def test_a_disabled_guard_counts_as_none_and_is_put_back(migration: Connection) -> None:
    everything = set(catalog.guardable_tables(migration, EVERYTHING, ()))
    assert guard.guarded(migration) == everything
    migration.execute("ALTER TABLE payments.limits DISABLE TRIGGER daybreak_guard")
    assert len(guard.guarded(migration)) == len(everything) - 1
    guard.attach(migration, sorted(everything), NAME, 1, 5.0)
    assert guard.guarded(migration) == everything


def test_arming_gives_up_behind_an_open_writer_and_names_it(pair: Pair, migration: Connection) -> None:
    guard.detach(migration, NAME, 1, 5.0)
    with pair.connect(Side.SOURCE, APPLICATION) as writer:
        writer.execute("BEGIN")
        writer.execute(INSERT)
        with pytest.raises(PermanentError, match=f"pid {writer.info.backend_pid}, user {APPLICATION}"):
            guard_everything_in(migration, 0.3)
        writer.execute("COMMIT")
    guard_everything_in(migration, 5.0)


def guard_everything_in(connection: Connection, patience_seconds: float) -> None:
    guard.attach(connection, catalog.guardable_tables(connection, EVERYTHING, ()), NAME, 1, patience_seconds)


def test_an_older_generation_neither_guards_nor_unguards(migration: Connection) -> None:
    control.raise_generation(migration, NAME, "a newer one", 2)
    with pytest.raises(StateConflict, match="generation 2"):
        guard.detach(migration, NAME, 1, 1.0)
    assert guard.guarded(migration)


def test_the_stamp_sees_ddl_and_not_work(pair: Pair, migration: Connection) -> None:
    before = guard.stamp(migration)
    with pair.connect(Side.SOURCE, OWNER) as owner:
        guard.set_flag(migration, GuardState.OPEN)
        owner.execute("TRUNCATE payments.event_log")
        owner.execute(INSERT)
        owner.execute("ANALYZE payments.limits")
        owner.execute("VACUUM payments.limits")
        assert guard.stamp(migration) == before
        owner.execute("ALTER TABLE payments.limits ADD COLUMN note text")
        changed = guard.stamp(migration)
        assert changed != before
        owner.execute("CREATE TABLE payments.new (id int PRIMARY KEY)")
        assert guard.stamp(migration) not in {before, changed}


TRACES = """
SELECT json_build_object(
    'acl', (SELECT json_agg(json_build_array(oid::regclass, relacl::text) ORDER BY oid) FROM pg_class WHERE oid >= 16384
            AND relnamespace <> coalesce(to_regnamespace('daybreak'), 0)),
    'settings', (SELECT json_agg(json_build_array(setrole, setconfig) ORDER BY setrole) FROM pg_db_role_setting
                 WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())),
    'triggers', (SELECT json_agg(json_build_array(tgrelid, tgname, tgenabled) ORDER BY oid) FROM pg_trigger),
    'schemas', (SELECT json_agg(nspname ORDER BY nspname) FROM pg_namespace WHERE nspname !~ '^pg_temp|^pg_toast_temp')
)::text
"""


@pytest.mark.parametrize("before", [None, "off"])
def test_nothing_is_left_of_it(pair: Pair, before: str | None) -> None:
    payments.create(pair, 0.01)
    with pair.connect(Side.SOURCE, "postgres") as postgres:
        if before is not None:
            postgres.execute(f"ALTER DATABASE {pair.database} SET default_transaction_read_only = {before}")
        was = postgres.execute(TRACES).fetchone()
        with claimed(pair, Side.SOURCE) as migration:
            settings.save_and_exempt(migration, NAME)
            settings.save_and_exempt(migration, NAME)  # a second run must not save what the first one set
            guard_everything(migration)
            migration.execute(settings.hint_statement(migration, True, NAME))
            assert settings.database_default(migration) == "on"
            assert postgres.execute(TRACES).fetchone() != was
            guard.detach(migration, NAME, 1, 5.0)
            settings.restore(migration, NAME, keep_hint=False)
            control.drop_schema(migration)
        assert postgres.execute(TRACES).fetchone() == was
