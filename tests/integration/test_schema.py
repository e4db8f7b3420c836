"""The schema's way over: complete, resumable after any interruption, and back without a trace."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from integration.nasty import GENERATION, Move, claimed_move, nasty_move
from psycopg import sql
from support import EVERYTHING, NAME

from daybreak.errors import PermanentError, StateConflict
from daybreak.lab.pair import MIGRATION, OWNER, Pair
from daybreak.model import Side
from daybreak.postgres import catalog, control, foreign_keys, schema, statements
from daybreak.postgres.dump import Entry
from daybreak.postgres.server import Connection

_HEADER = re.compile(r"^-- Name: .*; Type: .*; Schema: .*; Owner: .*$", re.MULTILINE)


def transfer(move: Move) -> None:
    """All three parts, without rows."""
    schema.transfer_pre_data(move.job)
    schema.build_indexes(move.job)
    schema.add_foreign_keys(move.job)


def owner_runs(pair: Pair, side: Side, *statements: str) -> None:
    with pair.connect(side, OWNER) as owner:
        for statement in statements:
            owner.execute(statement.encode())


@contextmanager
def roles(pair: Pair, side: Side, *names: str) -> Iterator[None]:
    """Roles are the whole cluster's, which other tests use as well."""
    with pair.cluster(side).connect() as superuser:
        for name in names:
            superuser.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
    try:
        yield
    finally:
        with pair.connect(side) as superuser:
            for name in names:
                superuser.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(name)))
                superuser.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


# --- completeness


@pytest.mark.parametrize("versions", [(17, 17)], indirect=True)
def test_everything_arrives_as_it_was(pair: Pair) -> None:
    move = nasty_move(pair, rows=False)
    transfer(move)
    assert move.dump(Side.TARGET) == move.dump(Side.SOURCE)


@pytest.mark.parametrize("versions", [(17, 18), (15, 17), (15, 18)], indirect=True)
def test_every_object_arrives_on_a_newer_server(pair: Pair) -> None:
    move = nasty_move(pair, rows=False)
    transfer(move)
    source, target = (
        {line for line in _HEADER.findall(move.dump(side)) if "pg_read_file" not in line} for side in Side
    )
    assert target == source
    prints = []
    for server in (move.source, move.target):
        with server.session("test") as connection:
            prints.append(catalog.fingerprint(connection, EVERYTHING, ()))
    assert prints[0] == prints[1]


def test_materialized_views_are_filled_where_they_were(pair: Pair) -> None:
    move = nasty_move(pair, rows=True)
    schema.transfer_pre_data(move.job)
    with move.snapshot() as snapshot:
        move.copy(snapshot)
    schema.build_indexes(move.job)
    with pair.connect(Side.TARGET) as target:
        assert target.execute("SELECT sum(accounts) FROM app.moods").fetchone() == (300,)
        assert target.execute("SELECT moods FROM app.moods_of_moods").fetchone() == (3,)
        filled = target.execute("SELECT relispopulated FROM pg_class WHERE relname = 'empty'").fetchone()
    assert filled == (False,)


def test_the_migration_role_copies_a_database_without_any_table(pair: Pair) -> None:
    move = claimed_move(pair)
    before = move.dump(Side.TARGET)
    transfer(move)
    assert move.dump(Side.TARGET) == before


def test_compression_that_the_target_lacks_is_left_to_the_target(pair: Pair) -> None:
    owner_runs(pair, Side.SOURCE, "CREATE TABLE t (id integer PRIMARY KEY, body text COMPRESSION lz4)")
    move = claimed_move(pair)
    transfer(move)
    with pair.connect(Side.TARGET) as target:
        lz4 = target.execute("SELECT 'lz4' = ANY(enumvals) FROM pg_settings WHERE name = 'default_toast_compression'")
        expected = "l" if lz4.fetchone() == (True,) else ""
        found = target.execute("SELECT attcompression FROM pg_attribute WHERE attname = 'body'").fetchone()
    assert found == (expected,)


def test_progress_is_told(pair: Pair) -> None:
    move = nasty_move(pair, rows=False)
    transfer(move)
    told = {progress.what.split(",")[0] for progress in move.progress}
    assert {"transferring the schema", "building indexes", "adding foreign keys", "validating foreign keys"} <= told
    last = [progress for progress in move.progress if progress.what == "transferring the schema"][-1]
    assert last.tables_done == last.tables_total


# --- interruptions


class _Killed(BaseException):
    """Like a SIGKILL, nothing handles it."""


@contextmanager
def killed_after(count: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process ends when so many statements were committed, and others may be running."""
    left = [count]
    original = statements.run_once

    def run_once(connection: Connection, migration: str, generation: int, entry: Entry) -> None:
        if left[0] <= 0:
            raise _Killed
        left[0] -= 1
        original(connection, migration, generation, entry)

    with monkeypatch.context() as patch:
        patch.setattr("daybreak.postgres.schema.run_once", run_once)
        patch.setattr("daybreak.postgres.indexes.run_once", run_once)
        with pytest.raises(_Killed):
            yield


@pytest.mark.parametrize("versions", [(17, 17)], indirect=True)
def test_killed_anywhere_it_goes_on(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    move = nasty_move(pair, rows=False)
    for count in (0, 1, 10, 30):
        with killed_after(count, monkeypatch):
            schema.transfer_pre_data(move.job)
    schema.transfer_pre_data(move.job)
    for count in (1, 3, 9, 12, 8):
        with killed_after(count, monkeypatch):
            schema.build_indexes(move.job)
    schema.build_indexes(move.job)
    schema.build_indexes(move.job)
    schema.add_foreign_keys(move.job)
    schema.add_foreign_keys(move.job)
    assert move.dump(Side.TARGET) == move.dump(Side.SOURCE)


_BUILD = """
import sys
from psycopg import conninfo
from daybreak.model import Side
from daybreak.postgres import schema
from daybreak.postgres.installations import client_tools
from daybreak.postgres.server import Server
source, target = (Server(side, "payments", conninfo.conninfo_to_dict(dsn), {})
                  for side, dsn in zip((Side.SOURCE, Side.TARGET), sys.stdin.read().splitlines()))
schema.build_indexes(schema.SchemaJob(source, target, client_tools(17, 17), 1, ("*.*",), (), 2, lambda _: None))
"""


def wait_for(connection: Connection, condition: str) -> None:
    for _ in range(600):
        if connection.execute(condition.encode()).fetchone() == (True,):
            return
        time.sleep(0.05)
    raise AssertionError(condition)


@pytest.mark.parametrize("versions", [(17, 17)], indirect=True)
def test_a_build_of_a_killed_process_ends_and_leaves_nothing(pair: Pair) -> None:
    head = "CREATE OR REPLACE FUNCTION slow(n integer) RETURNS integer IMMUTABLE"
    slow = f"{head} LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN n; END'"
    fast = f"{head} LANGUAGE sql AS 'SELECT n'"
    owner_runs(
        pair, Side.SOURCE, "CREATE TABLE t (id integer PRIMARY KEY)", slow, "CREATE INDEX t_slow ON t (slow(id))"
    )
    move = claimed_move(pair)
    schema.transfer_pre_data(move.job)
    owner_runs(pair, Side.TARGET, "INSERT INTO t VALUES (1)")
    with pair.connect(Side.TARGET) as target:
        running = "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX%' AND state = 'active'"
        with subprocess.Popen([sys.executable, "-c", _BUILD], stdin=subprocess.PIPE, text=True) as builder:
            assert builder.stdin is not None
            builder.stdin.write("\n".join(pair.dsn(side) for side in Side))
            builder.stdin.close()
            wait_for(target, running)
            builder.send_signal(signal.SIGKILL)
        wait_for(target, running.replace("> 0", "= 0"))
        assert target.execute("SELECT count(*) FROM pg_class WHERE relname = 't_slow'").fetchone() == (0,)
    for side in Side:
        owner_runs(pair, side, fast)
    schema.build_indexes(move.job)
    with pair.connect(Side.TARGET) as target:
        valid = target.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 't_slow'::regclass").fetchone()
    assert valid == (True,)


def test_an_older_generation_changes_nothing(pair: Pair) -> None:
    move = nasty_move(pair, rows=False)
    schema.transfer_pre_data(move.job)
    with move.target.session("test", 2) as target:
        control.raise_generation(target, NAME, "another", 2)
    before = move.dump(Side.TARGET)
    for part in (schema.transfer_pre_data, schema.build_indexes, schema.add_foreign_keys):
        with pytest.raises(StateConflict):
            part(move.job)
    assert move.dump(Side.TARGET) == before


# --- roles and privileges


def test_missing_roles_cost_ownership_and_grants_but_not_the_migration(pair: Pair) -> None:
    with roles(pair, Side.SOURCE, 'only "here"', "reader"):
        owner_runs(pair, Side.SOURCE, "CREATE TABLE t (id integer PRIMARY KEY)", "CREATE TABLE kept (id integer)")
        with pair.connect(Side.SOURCE) as superuser:
            superuser.execute('ALTER TABLE t OWNER TO "only ""here"""')
            superuser.execute('GRANT "only ""here""" TO daybreak')
            superuser.execute("GRANT SELECT ON kept TO reader, payments_app")
        move = claimed_move(pair)
        report = schema.transfer_pre_data(move.job)
        schema.build_indexes(move.job)
        schema.add_foreign_keys(move.job)
    assert set(report.missing_roles) == {'only "here"', "reader"}
    assert len(report.left_out) == 2
    assert any("table public.t stays with daybreak" in line for line in report.left_out)
    assert any('GRANT SELECT ON TABLE "public"."kept" TO "reader";' in line for line in report.left_out)
    with pair.connect(Side.TARGET) as target:
        owners = target.execute("SELECT tablename, tableowner FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        assert owners.fetchall() == [("kept", OWNER), ("t", MIGRATION)]
        granted = target.execute("SELECT has_table_privilege('payments_app', 'kept', 'SELECT')").fetchone()
    assert granted == (True,)


def test_an_owner_that_we_may_not_act_as_is_reported(pair: Pair) -> None:
    with roles(pair, Side.SOURCE, "stranger"), roles(pair, Side.TARGET, "stranger"):
        owner_runs(pair, Side.SOURCE, "CREATE TABLE t (id integer PRIMARY KEY)")
        with pair.connect(Side.SOURCE) as superuser:
            superuser.execute("ALTER TABLE t OWNER TO stranger")
            superuser.execute("GRANT stranger TO daybreak")
        move = claimed_move(pair)
        report = schema.transfer_pre_data(move.job)
        assert report.missing_roles == ()
        assert report.left_out == ("table public.t stays with daybreak: daybreak may not act as stranger",)


def test_grants_of_grantees_are_made_by_the_owner(pair: Pair) -> None:
    names = ("middle", "end_user")
    with roles(pair, Side.SOURCE, *names), roles(pair, Side.TARGET, *names):
        owner_runs(
            pair,
            Side.SOURCE,
            "CREATE TABLE t (id integer PRIMARY KEY)",
            "GRANT SELECT ON t TO middle WITH GRANT OPTION",
        )
        with pair.connect(Side.SOURCE) as superuser:
            superuser.execute("SET ROLE middle")
            superuser.execute("GRANT SELECT ON t TO end_user")
        move = claimed_move(pair)
        assert schema.transfer_pre_data(move.job).left_out == ()
        with pair.connect(Side.TARGET) as target:
            query = (
                "SELECT has_table_privilege('end_user', 't', 'SELECT'), tableowner FROM pg_tables WHERE tablename = 't'"
            )
            assert target.execute(query.encode()).fetchone() == (True, OWNER)


# --- what does not fit


def test_a_failing_statement_says_what_postgresql_says(pair: Pair) -> None:
    with pair.connect(Side.TARGET) as target:
        if target.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'pgcrypto'").fetchone():
            pytest.skip("both servers have pgcrypto")
    with pair.connect(Side.SOURCE) as superuser:
        superuser.execute("CREATE EXTENSION pgcrypto")
    owner_runs(pair, Side.SOURCE, "CREATE TABLE t (id integer PRIMARY KEY)")
    move = claimed_move(pair)
    with pytest.raises(PermanentError, match='extension pgcrypto: extension "pgcrypto" is not available'):
        schema.transfer_pre_data(move.job)
    with pair.connect(Side.SOURCE) as superuser:
        superuser.execute("DROP EXTENSION pgcrypto")
    schema.transfer_pre_data(move.job)


def test_rows_that_violate_a_foreign_key_are_named(pair: Pair) -> None:
    owner_runs(
        pair,
        Side.SOURCE,
        "CREATE TABLE a (id integer PRIMARY KEY)",
        "CREATE TABLE b (id integer PRIMARY KEY, a integer REFERENCES a)",
    )
    move = claimed_move(pair)
    schema.transfer_pre_data(move.job)
    schema.build_indexes(move.job)
    owner_runs(pair, Side.TARGET, "INSERT INTO b VALUES (1, 7)")
    with pytest.raises(PermanentError, match=r"Key \(a\)=\(7\) is not present"):
        schema.add_foreign_keys(move.job)
    owner_runs(pair, Side.TARGET, "DELETE FROM b")
    schema.add_foreign_keys(move.job)
    with pair.connect(Side.TARGET) as target:
        assert target.execute("SELECT convalidated FROM pg_constraint WHERE contype = 'f'").fetchone() == (True,)


def test_a_foreign_key_waits_in_slices_for_a_table_in_use(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_keys, "_PATIENCE_SECONDS", 0.5)
    owner_runs(
        pair,
        Side.SOURCE,
        "CREATE TABLE a (id integer PRIMARY KEY)",
        "CREATE TABLE b (id integer PRIMARY KEY, a integer REFERENCES a)",
    )
    move = claimed_move(pair)
    schema.transfer_pre_data(move.job)
    schema.build_indexes(move.job)
    with pair.connect(Side.TARGET, OWNER) as writer, writer.transaction():
        writer.execute("INSERT INTO a VALUES (1)")
        with pytest.raises(PermanentError, match=r"b_a_fkey of public\.b"):
            schema.add_foreign_keys(move.job)
    schema.add_foreign_keys(move.job)


# --- patterns


def test_what_is_excluded_stays_behind_with_all_that_needs_it(pair: Pair) -> None:
    move = nasty_move(pair, rows=False)
    job = replace(move.job, exclude=("app.account",))
    report = schema.transfer_pre_data(job)
    schema.build_indexes(job)
    keys = schema.add_foreign_keys(job)
    assert {line.split(":")[0] for line in report.left_out} == {
        "view app.rich",
        "view app.twice_rich",
        "materialized view app.moods",
        "materialized view app.moods_of_moods",
    }
    assert keys.left_out == ("foreign key entry_account_fkey of app.entry: refers to an excluded table",)
    with pair.connect(Side.TARGET) as target:
        there = {str(name) for (name,) in target.execute("SELECT relname FROM pg_class")}
    assert {"entry", "part_rest_0", "unlogged", "empty"} <= there
    assert not {"account", "account_id_seq", "account_number_seq", "rich", "moods"} & there


def test_a_table_that_cannot_be_without_an_excluded_one_is_refused(pair: Pair) -> None:
    move = nasty_move(pair, rows=False)
    with pytest.raises(PermanentError, match=r"app\.child cannot be without an excluded table"):
        schema.transfer_pre_data(replace(move.job, exclude=("app.parent",)))


# --- and back


def test_dropping_what_was_transferred_leaves_the_target_as_it_was(pair: Pair) -> None:
    owner_runs(
        pair,
        Side.TARGET,
        "CREATE SCHEMA mine",
        "CREATE FUNCTION mine.f() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO payments_app",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT INSERT ON TABLES TO payments_app",
        "GRANT CREATE ON SCHEMA public TO payments_app",
        "COMMENT ON SCHEMA public IS 'the target''s own'",
    )
    with pair.connect(Side.TARGET) as superuser:
        superuser.execute("CREATE EXTENSION pg_trgm")
    with pair.connect(Side.SOURCE) as superuser:
        superuser.execute("CREATE EXTENSION btree_gist")
    owner_runs(
        pair,
        Side.SOURCE,
        "REVOKE USAGE ON SCHEMA public FROM PUBLIC",
        "COMMENT ON SCHEMA public IS 'the source''s'",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT UPDATE ON TABLES TO payments_app",
        "ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC",
        "CREATE TABLE in_public (id serial PRIMARY KEY, kind text)",
        "CREATE VIEW view_in_public AS SELECT * FROM in_public",
        "CREATE FUNCTION in_public(t in_public) RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE CAST (in_public AS integer) WITH FUNCTION in_public(in_public)",
    )
    move = nasty_move(pair, rows=False)
    before = move.dump(Side.TARGET)
    transfer(move)
    assert "in_public" in move.dump(Side.TARGET)
    with move.target.session("test", GENERATION) as target:
        schema.drop_transferred(target, NAME, GENERATION)
        schema.drop_transferred(target, NAME, GENERATION)
    assert move.dump(Side.TARGET) == before
    transfer(move)


def test_nothing_is_dropped_where_nothing_was_transferred(pair: Pair) -> None:
    owner_runs(pair, Side.TARGET, "CREATE TABLE mine (id integer)")
    move = claimed_move(pair)
    with move.target.session("test", GENERATION) as target:
        schema.drop_transferred(target, NAME, GENERATION)
    assert "mine" in move.dump(Side.TARGET)
