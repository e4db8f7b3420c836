"""The checks on real servers: each finds what it is there for, its fix is true, and a sound pair is
found sound."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import conninfo, sql

from daybreak.config import Settings
from daybreak.errors import Finding
from daybreak.lab.cluster import Cluster, find_server, free_port
from daybreak.lab.pair import MIGRATION, OWNER, Pair, start_together
from daybreak.model import Side
from daybreak.postgres import control
from daybreak.postgres.server import Server
from daybreak.postgres.sessions import Sessions
from daybreak.preflight import run_checks

# What the lab does on purpose.
EXPECTED = {"password-in-dsn", "slot-retention"}
Key = tuple[str, str, str]


def settings(pair: Pair, **more: Any) -> Settings:
    sides = {str(side): {"dsn": pair.dsn(side), **more.pop(str(side), {})} for side in Side}
    return Settings(**{"name": "payments", **sides, **more})


def checks(pair: Pair, **more: Any) -> list[Finding]:
    """All findings but those that every run in the lab has."""
    wanted = settings(pair, **more)
    sides = {side: wanted.server(side) for side in Side}
    servers = [Server(side, wanted.name, one.parameters(), one.peer_parameters()) for side, one in sides.items()]
    found = run_checks(wanted, Sessions(*servers))
    return [one for one in found if one.id not in EXPECTED]


def keys(findings: list[Finding]) -> set[Key]:
    return {(one.id, one.severity, one.object) for one in findings}


def of(findings: list[Finding], name: str) -> list[Finding]:
    return [one for one in findings if one.id == name]


def run(connection: psycopg.Connection[tuple[object, ...]], script: str) -> None:
    connection.execute(script.encode())


@pytest.mark.parametrize(("versions", "tls"), [((17, 18), False), ((15, 17), False), ((17, 17), True)], indirect=True)
def test_a_sound_pair_is_found_sound_and_nothing_is_left_behind(pair: Pair) -> None:
    with pair.connect(Side.SOURCE, OWNER) as owner:
        run(owner, "CREATE TABLE t (id int PRIMARY KEY)")
    before = [_everything(pair, side) for side in Side]
    assert checks(pair) == []
    assert [_everything(pair, side) for side in Side] == before


def _everything(pair: Pair, side: Side) -> list[list[tuple[object, ...]]]:
    queries = (
        "SELECT subname FROM pg_subscription",
        "SELECT slot_name FROM pg_replication_slots",
        "SELECT pubname FROM pg_publication",
        "SELECT rolname FROM pg_roles ORDER BY 1",
        "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_temp|^pg_toast_temp' ORDER BY 1",
        "SELECT oid, relname FROM pg_class WHERE oid >= 16384 ORDER BY 1",
    )
    with pair.connect(side) as postgres:
        return [postgres.execute(query.encode()).fetchall() for query in queries]


TABLES = """
CREATE TABLE good (id int PRIMARY KEY);
CREATE TABLE no_key (id int);
CREATE TABLE spare (id int NOT NULL UNIQUE);
CREATE TABLE nothing (id int PRIMARY KEY);
ALTER TABLE nothing REPLICA IDENTITY NOTHING;
CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE);
CREATE TABLE computed (a int, b int GENERATED ALWAYS AS (a * 2) STORED PRIMARY KEY);
CREATE TABLE "full ""quoted" (a int);
ALTER TABLE "full ""quoted" REPLICA IDENTITY FULL;
CREATE TABLE full_json (a json, b point[]);
ALTER TABLE full_json REPLICA IDENTITY FULL;
CREATE TABLE parts (id int) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF parts DEFAULT;
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
CREATE MATERIALIZED VIEW mat AS SELECT 1;
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
CREATE TABLE numbers (id int PRIMARY KEY, o oid, r regclass);
CREATE TABLE apart (id int PRIMARY KEY, r int4range, EXCLUDE USING gist (r WITH &&));
CREATE TABLE loud (id int PRIMARY KEY);
CREATE TRIGGER shout BEFORE UPDATE ON loud FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
ALTER TABLE loud ENABLE ALWAYS TRIGGER shout;
CREATE SEQUENCE short AS smallint MAXVALUE 5000;
SELECT nextval('short');
CREATE SEQUENCE shorter AS smallint INCREMENT -1 MINVALUE -500;
SELECT nextval('shorter');
CREATE SEQUENCE round MAXVALUE 10 CYCLE;
SELECT nextval('round');
CREATE TABLE forced (id int PRIMARY KEY);
ALTER TABLE forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE TABLE policed (id int PRIMARY KEY);
ALTER TABLE policed ENABLE ROW LEVEL SECURITY;
CREATE TABLE disowned (id int PRIMARY KEY);
REVOKE TRIGGER, INSERT ON disowned FROM payments_owner;
CREATE SCHEMA locked;
CREATE TABLE locked.t (id int PRIMARY KEY);
REVOKE USAGE ON SCHEMA locked FROM payments_owner;
SELECT lo_create(0);
CREATE PUBLICATION elsewhere;
"""
ABOUT_TABLES: set[Key] = {
    ("replica-identity", "blocker", "public.no_key"),
    ("replica-identity", "blocker", "public.spare"),
    ("replica-identity", "blocker", "public.nothing"),
    ("replica-identity", "blocker", "public.deferred"),
    ("replica-identity", "blocker", "public.computed"),
    ("replica-identity", "blocker", "public.part"),
    ("replica-identity-full", "warning", 'public.full "quoted'),
    ("replica-identity-full", "blocker", "public.full_json"),
    ("unlogged-tables", "blocker", "public.unlogged"),
    ("materialized-views", "warning", "public.mat"),
    ("large-objects", "blocker", "pg_largeobject"),
    ("inherited-tables", "info", "source"),
    ("oid-columns", "warning", "public.numbers"),
    ("generated-columns", "info", "source"),
    ("special-constraints", "info", "source"),
    ("always-triggers", "warning", "public.loud"),
    ("sequence-room", "warning", "public.short"),
    ("sequence-room", "blocker", "public.shorter"),
    ("row-security", "blocker", "public.forced"),
    ("table-rights", "blocker", "public.disowned"),
    ("schema-rights", "blocker", "source schema locked"),
    ("other-publications", "warning", "source publication elsewhere"),
}
# Findings whose fix is a statement and nothing else, after these words.
CURES = ("", "Until `daybreak finish`: ", "Unless that is what it is for: ")


def test_tables(pair: Pair) -> None:
    with pair.connect(Side.SOURCE, OWNER) as owner:
        run(owner, TABLES)
    found = checks(pair)
    assert keys(found) == ABOUT_TABLES
    reasons = {one.object: one.message for one in of(found, "replica-identity")}
    assert "no primary key" in reasons["public.no_key"]
    assert "NOTHING" in reasons["public.nothing"]
    assert "DEFERRABLE" in reasons["public.deferred"]
    assert "generated" in reasons["public.computed"]
    assert "a json, b point[]" in of(found, "replica-identity-full")[0].message
    cured = {
        "public.spare",
        "public.nothing",
        "public.loud",
        "public.forced",
        "public.disowned",
        "source schema locked",
    }
    with pair.connect(Side.SOURCE, OWNER) as owner:
        for one in found:
            if one.object in cured:
                run(owner, next(one.fix.removeprefix(words) for words in reversed(CURES) if one.fix.startswith(words)))
    assert {one.object for one in checks(pair)} == {name for _, _, name in ABOUT_TABLES} - cured


def test_what_is_excluded_is_no_finding(pair: Pair) -> None:
    with pair.connect(Side.SOURCE, OWNER) as owner:
        run(owner, "CREATE SCHEMA other; CREATE TABLE other.t (id int); CREATE UNLOGGED TABLE other.u (id int)")
        run(owner, "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent)")
    assert checks(pair, replication={"exclude": ["other.*"]}) == of(checks(pair), "inherited-tables")
    found = checks(pair, replication={"include": ["public.*"], "exclude": ["public.child"]})
    assert keys(found) == {("inherited-tables", "blocker", "public.parent"), ("inherited-tables", "info", "source")}


def test_an_invalid_index_is_no_identity(pair: Pair) -> None:
    with pair.connect(Side.SOURCE, OWNER) as owner, pair.connect(Side.SOURCE) as postgres:
        run(owner, "CREATE TABLE t (id int NOT NULL); INSERT INTO t VALUES (1); CREATE UNIQUE INDEX i ON t (id)")
        run(owner, "ALTER TABLE t REPLICA IDENTITY USING INDEX i")
        run(postgres, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'i'::regclass")
        found = of(checks(pair), "replica-identity")
        assert "invalid" in found[0].message
        run(owner, found[0].fix)
        assert of(checks(pair), "replica-identity") == []
        run(owner, "DROP INDEX i")
        assert "gone" in of(checks(pair), "replica-identity")[0].message


@contextmanager
def transaction(pair: Pair, side: Side, statement: str) -> Iterator[None]:
    with psycopg.connect(pair.dsn(side, OWNER)) as session:
        session.execute(statement.encode())
        yield
        session.rollback()


def test_sessions_and_streams_in_the_way(pair: Pair) -> None:
    with pair.connect(Side.SOURCE, OWNER) as owner, pair.connect(Side.SOURCE) as postgres:
        run(owner, "CREATE TABLE t (id int PRIMARY KEY)")
        run(owner, "BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'it''s'")
        run(postgres, "SELECT pg_replication_origin_create('another tool')")
        run(postgres, "CREATE SUBSCRIPTION another CONNECTION 'dbname=x' PUBLICATION p WITH (connect = false)")
        with transaction(pair, Side.SOURCE, "INSERT INTO t VALUES (2)"):
            time.sleep(0.2)
            found = checks(pair, cutover={"max_transaction_seconds": 0.1})
        assert of(found, "long-transactions")[0].severity == "warning"
        run(postgres, "ROLLBACK PREPARED 'it''s'")
        run(postgres, "SELECT pg_create_logical_replication_slot('another_slot', 'pgoutput')")
        sessions = {("superuser-sessions", "warning", "source role postgres")}
        assert keys([one for one in found if one.id != "long-transactions"]) == sessions | {
            ("prepared-transactions", "blocker", "source transaction it's"),
            ("replication-origin-users", "blocker", "source origin another tool"),
            ("other-subscriptions", "blocker", "source subscription another"),
        }
        assert "ROLLBACK PREPARED 'it''s'" in of(found, "prepared-transactions")[0].fix
        run(postgres, of(found, "replication-origin-users")[0].fix.partition(": ")[2])
        run(postgres, "ALTER SUBSCRIPTION another SET (slot_name = NONE); DROP SUBSCRIPTION another")
        assert keys(checks(pair)) == sessions | {("other-publications", "warning", "source slot another_slot")}


def test_a_target_that_is_not_empty_unless_this_migration_filled_it(pair: Pair) -> None:
    table = "CREATE TABLE t (id int PRIMARY KEY); CREATE TYPE mood AS ENUM ('sad')"
    for side in Side:
        with pair.connect(side, OWNER) as owner:
            run(owner, table)
    found = checks(pair)
    assert keys(found) == {("target-empty", "blocker", "target schema public")}
    assert "mood, t" in found[0].message
    with pair.connect(Side.TARGET, MIGRATION) as target:
        control.install(target, "payments", Side.TARGET)
        assert checks(pair) == []
        run(target, "DROP SCHEMA daybreak CASCADE")
    with pair.connect(Side.TARGET, OWNER) as owner:
        run(owner, "DROP TABLE t; DROP TYPE mood; CREATE SCHEMA other CREATE TABLE t (id int)")
    assert checks(pair) == []


def test_another_migration(pair: Pair) -> None:
    with pair.connect(Side.SOURCE, MIGRATION) as source, pair.connect(Side.TARGET, MIGRATION) as target:
        control.install(source, "older", Side.TARGET)
        run(target, "CREATE SCHEMA daybreak")
        found = checks(pair)
        assert keys(found) == {
            ("other-migration", "blocker", "source schema daybreak"),
            ("other-migration", "blocker", "target schema daybreak"),
        }
        assert "target of the migration older" in found[0].message
        control.retire(source)
        assert "daybreak finish --unfence" in checks(pair)[0].fix
        run(source, "DROP SCHEMA daybreak CASCADE")
        run(target, "DROP SCHEMA daybreak CASCADE")
    assert checks(pair) == []


def test_a_name_that_is_taken(pair: Pair) -> None:
    with pair.source.connect() as elsewhere:
        run(elsewhere, "CREATE ROLE daybreak_payments_repl")
        run(elsewhere, "SELECT pg_create_logical_replication_slot('daybreak_payments_fwd', 'pgoutput')")
        found = checks(pair)
        run(elsewhere, "SELECT pg_drop_replication_slot('daybreak_payments_fwd')")
        run(elsewhere, "DROP ROLE daybreak_payments_repl")
    assert keys(found) == {("name-taken", "blocker", "source")}
    assert [("slot" in one.message, "role" in one.message) for one in found] == [(True, False), (False, True)]


def test_roles_and_extensions(pair: Pair) -> None:
    objects = """
        CREATE EXTENSION citext; CREATE EXTENSION pg_stat_statements;
        CREATE ROLE lost_owner; CREATE ROLE lost_app LOGIN; CREATE ROLE lost_group; CREATE ROLE unrelated LOGIN;
        CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t OWNER TO payments_owner;
        CREATE TABLE u (id int PRIMARY KEY); ALTER TABLE u OWNER TO lost_owner;
        GRANT SELECT ON t TO lost_app, lost_group;
        CREATE FUNCTION c_code() RETURNS int LANGUAGE c AS 'pg_stat_statements', 'pg_stat_statements_1_11';
        ALTER FUNCTION c_code() OWNER TO payments_owner;
        CREATE FUNCTION quiet() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
        CREATE EVENT TRIGGER watch ON ddl_command_end WHEN TAG IN ('CREATE VIEW') EXECUTE FUNCTION quiet();
    """
    roles = "DROP ROLE lost_app, lost_group, unrelated"
    with pair.connect(Side.SOURCE) as postgres:
        run(postgres, objects)
    try:
        found = checks(pair)
        assert keys(found) == {
            ("extensions", "blocker", "target extension pg_stat_statements"),
            ("missing-roles", "blocker", "target role lost_owner"),
            ("missing-roles", "blocker", "target role lost_app"),
            ("missing-roles", "warning", "target role lost_group"),
            ("member-of-owner", "blocker", "source role lost_owner"),
            ("member-of-owner", "blocker", "source role postgres"),
            ("member-of-owner", "blocker", "target role postgres"),
            ("superuser-owners", "info", "source role postgres"),
            ("needs-superuser", "blocker", "target"),
            ("event-triggers", "warning", "source event trigger watch"),
        }
        assert "event trigger watch, function c_code()" in of(found, "needs-superuser")[0].message.replace(
            "public.", ""
        )
        with pair.connect(Side.TARGET) as postgres:
            run(postgres, of(found, "extensions")[0].fix.partition(": ")[2])
        assert of(checks(pair), "extensions") == []
    finally:
        with pair.connect(Side.SOURCE) as postgres:
            run(
                postgres,
                "DROP EVENT TRIGGER watch; DROP OWNED BY lost_owner, lost_app, lost_group; DROP ROLE lost_owner",
            )
            run(postgres, roles)


def test_settings_of_the_databases(pair: Pair) -> None:
    name = sql.Identifier(pair.database)
    with pair.connect(Side.SOURCE) as source, pair.connect(Side.TARGET) as target:
        for change in ("default_transaction_read_only = on", "search_path = a, b", "work_mem = '7MB'"):
            source.execute(sql.SQL("ALTER DATABASE {} SET {}").format(name, sql.SQL(change)))
        source.execute(sql.SQL("ALTER ROLE payments_app IN DATABASE {} SET lock_timeout = '1s'").format(name))
        target.execute(
            sql.SQL("ALTER ROLE payments_owner IN DATABASE {} SET {}").format(
                name, sql.SQL("default_transaction_read_only = true")
            )
        )
        found = [one for one in checks(pair) if one.id != "superuser-sessions"]
        assert keys(found) == {
            ("read-only-default", "blocker", f"source database {pair.database}"),
            ("read-only-default", "blocker", f"target role payments_owner in database {pair.database}"),
            ("database-settings", "warning", "target search_path"),
            ("database-settings", "warning", "target work_mem"),
            ("database-settings", "warning", "target lock_timeout"),
        }
        for one in found:
            run(source if one.object.startswith("source") else target, one.fix)
    assert checks(pair) == []


@pytest.mark.parametrize("versions", [(17, 17)], indirect=True)
def test_encoding_and_locale(pair: Pair) -> None:
    with pair.target.connect() as postgres:
        name, owner = sql.Identifier(pair.database), sql.Identifier(OWNER)
        postgres.execute(sql.SQL("DROP DATABASE {}").format(name))
        odd = "CREATE DATABASE {} OWNER {} ENCODING 'LATIN1' LOCALE_PROVIDER libc LC_COLLATE 'POSIX' TEMPLATE template0"
        postgres.execute(sql.SQL(odd).format(name, owner))
        # Rights on functions are each database's own.
        log = ("execute-read-log", "info", "target role daybreak")
        assert keys(checks(pair)) == {log, ("encoding", "blocker", "target")}
        postgres.execute(sql.SQL("DROP DATABASE {}").format(name))
        other = "CREATE DATABASE {} OWNER {} LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' TEMPLATE template0"
        postgres.execute(sql.SQL(other).format(name, owner))
        assert keys(checks(pair)) == {
            log,
            *(("locale", "warning", f"target {what}") for what in ("provider", "locale")),
        }


def _changed(dsn: str, **changes: str) -> dict[str, str]:
    return {"dsn": conninfo.make_conninfo(dsn, **changes)}


@pytest.mark.parametrize(
    ("changes", "message", "fix"),
    [
        ({"password": "wrong"}, "password authentication failed", "\\password daybreak"),
        ({"user": "nobody_here"}, "password authentication failed", "nobody_here"),
        ({"dbname": "not there"}, "does not exist", "CREATE DATABASE"),
        ({"port": "closed"}, "Connection refused", "Start the server"),
        ({"host": "no-such-host.invalid"}, "resolve host", "Correct the host"),
        ({"sslmode": "require"}, "SSL", "sslmode"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_connection_that_fails_says_what_to_do(pair: Pair, changes: dict[str, str], message: str, fix: str) -> None:
    changes = {key: str(free_port()) if value == "closed" else value for key, value in changes.items()}
    with pair.connect(Side.SOURCE, OWNER) as owner:
        run(owner, "CREATE TABLE t (id int)")
    found = checks(pair, target=_changed(pair.dsn(Side.TARGET), **changes))
    # What can be checked on the other side is.
    assert keys(found) == {("connect", "blocker", "target"), ("replica-identity", "blocker", "public.t")}
    assert message in found[0].message
    assert fix in found[0].fix
    assert pair.migration_password not in repr(found)


def test_a_server_that_is_down_is_a_finding(own_pair: Pair) -> None:
    own_pair.source.stop()
    assert keys(checks(own_pair)) == {("connect", "blocker", "source")}
    own_pair.target.stop()
    assert keys(checks(own_pair)) == {("connect", "blocker", "source"), ("connect", "blocker", "target")}


def test_a_role_without_rights_gets_the_statement_for_each(pair: Pair) -> None:
    weak = {}
    with pair.connect(Side.SOURCE, OWNER) as owner:
        run(owner, "CREATE TABLE t (id int PRIMARY KEY)")
    for side in Side:
        with pair.connect(side) as postgres:
            run(postgres, "CREATE ROLE weak LOGIN PASSWORD 'weak'")
        weak[str(side)] = _changed(pair.dsn(side), user="weak", password="weak")
    try:
        found = checks(pair, **weak)
        rights = {"role-replication", "role-createrole", "member-pg-create-subscription", "member-of-owner"}
        rights |= {"member-pg-signal-backend", "member-pg-monitor"}
        assert {one.id for one in found if one.severity == "blocker"} == rights
        assert {one.id for one in found if one.severity == "info"} == {"execute-read-log"}
        for one in found:
            with pair.connect(Side(one.object.split()[0])) as postgres:
                run(postgres, one.fix)
        assert checks(pair, **weak) == []
    finally:
        for side in Side:
            with pair.connect(side) as postgres:
                run(postgres, "DROP OWNED BY weak; DROP ROLE weak")


def test_one_server_is_not_two(pair: Pair) -> None:
    found = checks(pair, target={"dsn": pair.dsn(Side.SOURCE)})
    assert keys(found) == {("same-server", "blocker", "target")}


@pytest.mark.parametrize("versions", [(18, 17)], indirect=True)
def test_a_target_older_than_the_source_is_refused(pair: Pair) -> None:
    assert keys(of(checks(pair), "server-version")) == {("server-version", "blocker", "target")}


def test_no_client_programs(pair: Pair) -> None:
    found = checks(pair, replication={"client_bin": "/nowhere"})
    assert keys(found) == {("client-programs", "blocker", "this machine")}


NARROW = {
    "wal_level": "replica",
    "max_replication_slots": "0",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_worker_processes": "0",
    "max_slot_wal_keep_size": "64MB",
    "max_connections": "12",
}
TIGHT = {
    "max_replication_slots": "1",
    "max_active_replication_origins": "1",
    "max_wal_senders": "2",
    "max_logical_replication_workers": "1",
    "max_worker_processes": "3",
    "idle_replication_slot_timeout": "1d",
}
ROOM = ("replication-slots", "replication-origins", "wal-senders", "replication-workers", "worker-processes")


def test_servers_without_room_and_ways_that_are_closed() -> None:
    with (
        closing(Cluster(find_server(17), settings=NARROW)) as source,
        closing(Cluster(find_server(18), settings=TIGHT)) as target,
    ):
        start_together(source, target)
        pair = Pair.create(source, target)
        found = checks(pair)
        assert keys(found) == {
            ("wal-level", "blocker", "source"),
            *((name, "blocker", "source") for name in ROOM),
            *((name, "warning", "target") for name in ROOM),
            ("connection-room", "warning", "source"),
        }
        assert of(found, "wal-level")[0].fix.startswith("ALTER SYSTEM SET wal_level = 'logical';")
        with source.connect() as postgres:
            for one in found:
                if one.object == "source" and one.fix.startswith("ALTER SYSTEM"):
                    run(postgres, one.fix.partition(";")[0])
        source.restart()
        assert {one.object for one in checks(pair) if one.id != "connection-room"} == {"target"}
        _ways(pair)


def _ways(pair: Pair) -> None:
    """Each way between the servers closed in turn."""
    closed = str(free_port())
    found = of(checks(pair, source={"peer_port": closed}), "peer-reachable")
    assert keys(found) == {("peer-reachable", "blocker", "target to source")}
    assert "peer_host" in found[0].fix
    hba = pair.target.data_directory / "pg_hba.conf"
    rules = hba.read_text()
    for method, text in (("reject", "pg_hba.conf"), ("trust", "without asking")):
        hba.write_text(f"host all daybreak_payments_repl all {method}\n{rules}")
        with pair.target.connect() as postgres:
            run(postgres, "SELECT pg_reload_conf()")
        time.sleep(0.3)
        found = of(checks(pair), "peer-reachable")
        assert keys(found) == {("peer-reachable", "blocker", "source to target")}, method
        assert text in found[0].message
    assert pair.migration_password not in pair.source.log(10_000) + pair.target.log(10_000)


def test_two_thousand_tables_take_seconds(pair: Pair) -> None:
    with pair.connect(Side.SOURCE, OWNER) as owner:
        run(owner, "DO $$ BEGIN FOR i IN 1..2000 LOOP EXECUTE format('CREATE TABLE t%s (id int)', i); END LOOP; END $$")
    assert len(of(checks(pair), "replica-identity")) == 2000
