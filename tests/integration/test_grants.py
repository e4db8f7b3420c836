"""The printed rights are enough, and each of them is needed: on real servers, by doing what Daybreak
does as the role that the script made, whole and with one right taken away."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

import psycopg
import pytest
from psycopg import errors, sql
from support import Clusters

from daybreak.lab.cluster import Cluster
from daybreak.model import Side
from daybreak.postgres.grants import GrantItem, grant_items, grant_script, missing_items
from daybreak.postgres.inspect import grant_kind, owners
from daybreak.postgres.installations import client_tools

ROLE = 'Day "break"'
OWNER = "own'er \\ $x$"
DATABASE_OWNER = "Großer Besitzer"
STREAMS = "daybreak_grants_repl"
PASSWORD = "not-a-secret"
_numbers = count(1)


@dataclass(frozen=True)
class Ground:
    """A database whose objects belong to two plain roles, before anything was granted."""

    cluster: Cluster
    database: str
    version_num: int

    @property
    def owners(self) -> tuple[str, ...]:
        return (OWNER, DATABASE_OWNER)

    @property
    def items(self) -> tuple[GrantItem, ...]:
        return grant_items("postgres", ROLE, self.owners, self.version_num)

    def superuser(self) -> psycopg.Connection[tuple[object, ...]]:
        return self.cluster.connect(self.database)

    def role(self, user: str = ROLE, **more: str) -> psycopg.Connection[tuple[object, ...]]:
        parameters = {**self.cluster.parameters(user, PASSWORD, self.database), **more}
        return psycopg.connect(**parameters, autocommit=True)  # type: ignore[arg-type]

    @property
    def published(self) -> str:
        """The database that ``subscribe`` receives from, on the same server."""
        return f"{self.database} published"

    def publisher(self) -> psycopg.Connection[tuple[object, ...]]:
        return self.cluster.connect(self.published)

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        parts = self.cluster.parameters(dbname=self.database)
        names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
        return subprocess.run(
            [client_tools(self.cluster.major, self.cluster.major).program("psql"), "-Xq", "-v", "ON_ERROR_STOP=1"],
            input=script,
            env={**os.environ, **{names[key]: value for key, value in parts.items() if key in names}},
            capture_output=True,
            text=True,
            check=False,
        )

    def grant(self) -> None:
        script = grant_script("postgres", Side.SOURCE, ROLE, self.database, self.owners, self.version_num)
        for _ in range(2):
            done = self.run(script)
            assert done.returncode == 0, done.stderr
        with self.superuser() as postgres:
            postgres.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(ROLE), PASSWORD))


def _prepare(ground: Ground) -> None:
    with ground.cluster.connect() as postgres:
        for role in (OWNER, DATABASE_OWNER):
            postgres.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
        for database in (ground.database, ground.published):
            names = (sql.Identifier(database), sql.Identifier(DATABASE_OWNER))
            postgres.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*names))
    with ground.superuser() as postgres:
        for schema in ("here", "there"):
            names = (sql.Identifier(schema), sql.Identifier(OWNER))
            postgres.execute(sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(*names))
            table = sql.Identifier(schema, "t")
            postgres.execute(sql.SQL("CREATE TABLE {} (id int PRIMARY KEY)").format(table))
            postgres.execute(sql.SQL("ALTER TABLE {} OWNER TO {}").format(table, sql.Identifier(OWNER)))
        postgres.execute("ALTER TABLE here.t ENABLE ROW LEVEL SECURITY")
        postgres.execute("INSERT INTO here.t VALUES (1)")
    with ground.publisher() as publisher:
        publisher.execute("CREATE SCHEMA there CREATE TABLE t (id int PRIMARY KEY)")
        publisher.execute("CREATE PUBLICATION everything FOR TABLE there.t")


def _clear(ground: Ground) -> None:
    with ground.cluster.connect() as postgres:
        for database in (ground.database, ground.published):
            slots = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s"
            postgres.execute(slots, (database,))
            postgres.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))
        for role in (STREAMS, ROLE, OWNER, DATABASE_OWNER):
            postgres.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))


@pytest.fixture
def ground(clusters: Clusters, versions: tuple[int, int], side: Side) -> Iterator[Ground]:
    """A database on the server of ``side``."""
    cluster = clusters(*versions, False)[0 if side is Side.SOURCE else 1]
    with cluster.connect() as postgres:
        made = Ground(cluster, f'gra"nts {next(_numbers)}', postgres.info.server_version)
    _prepare(made)
    yield made
    _clear(made)


@pytest.fixture(params=list(Side))
def side(request: pytest.FixtureRequest) -> Side:
    """Each side in turn: two versions."""
    side: Side = request.param
    return side


def connect(ground: Ground) -> None:
    ground.role().close()


def own_schema(ground: Ground) -> None:
    with ground.role() as here:
        here.execute("CREATE SCHEMA daybreak")
        here.execute("DROP SCHEMA daybreak")


def publish(ground: Ground) -> None:
    with ground.role() as here:
        here.execute("CREATE PUBLICATION daybreak_grants FOR TABLE here.t")
        here.execute("DROP PUBLICATION daybreak_grants")


def guard(ground: Ground) -> None:
    with ground.role() as here:
        here.execute("CREATE TRIGGER g BEFORE INSERT ON there.t EXECUTE FUNCTION suppress_redundant_updates_trigger()")
        here.execute("DROP TRIGGER g ON there.t")


def close_database(ground: Ground) -> None:
    database = sql.Identifier(ground.database)
    with ground.role() as here:
        here.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(database))
        here.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(database))
        own = sql.SQL("ALTER ROLE CURRENT_USER IN DATABASE {} {}")
        here.execute(own.format(database, sql.SQL("SET default_transaction_read_only = off")))
        here.execute(own.format(database, sql.SQL("RESET ALL")))


def restore_schema(ground: Ground) -> None:
    with ground.role() as here, here.transaction():
        here.execute("CREATE SCHEMA restored")
        here.execute(sql.SQL("ALTER SCHEMA restored OWNER TO {}").format(sql.Identifier(OWNER)))
        here.execute("CREATE TABLE restored.t (id serial PRIMARY KEY)")
        here.execute(sql.SQL("ALTER TABLE restored.t OWNER TO {}").format(sql.Identifier(OWNER)))
        here.execute("SELECT setval('restored.t_id_seq', 10)")
        here.execute("ANALYZE restored.t")
        here.execute("DROP SCHEMA restored CASCADE")


def slot(ground: Ground) -> None:
    with ground.role() as here:
        here.execute("SELECT pg_create_logical_replication_slot('daybreak_grants', 'pgoutput')")
        here.execute("SELECT pg_drop_replication_slot('daybreak_grants')")


def streams_role(ground: Ground) -> None:
    with ground.role() as here:
        name = sql.Identifier(STREAMS)
        here.execute(sql.SQL("CREATE ROLE {} LOGIN REPLICATION PASSWORD {}").format(name, PASSWORD))
        try:
            here.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(OWNER), name))
            with ground.role(STREAMS, replication="database") as walsender:
                assert walsender.execute("IDENTIFY_SYSTEM").fetchone()
            with ground.role(STREAMS) as copying, copying.cursor().copy("COPY here.t TO STDOUT") as rows:
                assert list(rows.rows()) == [("1",)]
        finally:
            here.execute(sql.SQL("DROP ROLE {}").format(name))


def subscribe(ground: Ground) -> None:
    """A subscription to another database, whose apply worker writes to a table of OWNER."""
    with ground.publisher() as publisher:
        publisher.execute("SELECT pg_create_logical_replication_slot('daybreak_grants', 'pgoutput')")
        publisher.execute("INSERT INTO there.t VALUES (7)")
        try:
            with ground.role() as here:
                _receive(here, ground.cluster.dsn(ROLE, PASSWORD, ground.published))
        finally:
            active = "SELECT 1 FROM pg_replication_slots WHERE slot_name = 'daybreak_grants' AND active"
            while publisher.execute(active).fetchone():
                time.sleep(0.05)
            publisher.execute("SELECT pg_drop_replication_slot('daybreak_grants')")
            publisher.execute("DELETE FROM there.t")
            with ground.superuser() as postgres:
                postgres.execute("DELETE FROM there.t")


def _receive(here: psycopg.Connection[tuple[object, ...]], conninfo: str) -> None:
    here.execute(
        sql.SQL(
            "CREATE SUBSCRIPTION daybreak_grants CONNECTION {} PUBLICATION everything WITH"
            " (slot_name = daybreak_grants, create_slot = false, copy_data = false, disable_on_error = true)"
        ).format(conninfo)
    )
    try:
        _wait_for_row(here)
    finally:
        here.execute("ALTER SUBSCRIPTION daybreak_grants DISABLE")
        here.execute("ALTER SUBSCRIPTION daybreak_grants SET (slot_name = NONE)")
        here.execute("DROP SUBSCRIPTION daybreak_grants")


def _wait_for_row(here: psycopg.Connection[tuple[object, ...]]) -> None:
    for _ in range(600):
        enabled = here.execute("SELECT subenabled FROM pg_subscription WHERE subname = 'daybreak_grants'").fetchone()
        if enabled == (False,):
            raise errors.InsufficientPrivilege("apply failed")
        if here.execute("SELECT 1 FROM there.t WHERE id = 7").fetchone():
            return
        time.sleep(0.05)
    raise AssertionError("nothing was applied within 30 s")


def terminate(ground: Ground) -> None:
    with ground.superuser() as postgres, ground.role() as here:
        name = sql.Identifier(STREAMS)
        postgres.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, PASSWORD))
        session = ground.role(STREAMS)
        try:
            here.execute("SELECT pg_terminate_backend(%s, 5000)", (session.info.backend_pid,))
        finally:
            session.close()
            postgres.execute(sql.SQL("DROP ROLE {}").format(name))


def observe(ground: Ground) -> None:
    with ground.superuser() as postgres, ground.role() as here:
        query = "SELECT state IS NULL FROM pg_stat_activity WHERE pid = %s"
        if here.execute(query, (postgres.info.backend_pid,)).fetchone() != (False,):
            raise errors.InsufficientPrivilege("others' sessions are hidden")
        here.execute("SELECT * FROM pg_ls_logdir()")


def read_log(ground: Ground) -> None:
    with ground.role() as here:
        here.execute("SELECT pg_read_file(pg_current_logfile(), 0, 100)")


ACTIONS: tuple[Callable[[Ground], None], ...] = (
    connect,
    own_schema,
    publish,
    guard,
    close_database,
    restore_schema,
    slot,
    streams_role,
    subscribe,
    terminate,
    observe,
    read_log,
)

# What takes an item away, and what then fails.
TAKEN: dict[tuple[str, str], tuple[str, set[str]]] = {
    ("role-login", ROLE): ("ALTER ROLE {role} NOLOGIN", {action.__name__ for action in ACTIONS}),
    ("role-createrole", ROLE): ("ALTER ROLE {role} NOCREATEROLE", {"streams_role"}),
    ("role-replication", ROLE): ("ALTER ROLE {role} NOREPLICATION", {"slot", "streams_role", "subscribe"}),
    ("member-pg-create-subscription", ROLE): ("REVOKE pg_create_subscription FROM {role}", {"subscribe"}),
    ("member-of-owner", OWNER): (
        "REVOKE {owner} FROM {role}",
        {"publish", "guard", "restore_schema", "streams_role", "subscribe"},
    ),
    ("member-of-owner", DATABASE_OWNER): (
        "REVOKE {database_owner} FROM {role}",
        {"own_schema", "publish", "close_database", "restore_schema", "subscribe"},
    ),
    ("member-pg-signal-backend", ROLE): ("REVOKE pg_signal_backend FROM {role}", {"terminate"}),
    ("member-pg-monitor", ROLE): ("REVOKE pg_monitor FROM {role}", {"observe", "read_log"}),
    ("execute-read-log", ROLE): (
        "REVOKE EXECUTE ON FUNCTION pg_read_file(text,bigint,bigint) FROM {role}",
        {"read_log"},
    ),
}


def _failing(ground: Ground) -> set[str]:
    failed = set()
    for action in ACTIONS:
        try:
            action(ground)
        except (errors.InsufficientPrivilege, errors.OperationalError):
            failed.add(action.__name__)
    return failed


def test_the_script_is_enough_and_each_item_of_it_is_needed(ground: Ground) -> None:
    with ground.superuser() as postgres:
        missing = missing_items(postgres, ground.items)
        assert missing == ground.items
        ground.grant()
        assert missing_items(postgres, ground.items) == ()
        for action in ACTIONS:
            action(ground)
        names = {"role": ROLE, "owner": OWNER, "database_owner": DATABASE_OWNER}
        identifiers = {key: sql.Identifier(name) for key, name in names.items()}
        seen = {}
        for item in ground.items:
            take, expected = TAKEN[item.id, item.object]
            postgres.execute(sql.SQL(take).format(**identifiers))
            assert missing_items(postgres, ground.items) == (item,)
            seen[item.id, item.object] = (_failing(ground), expected)
            postgres.execute(item.statement.encode())
        assert {key: found for key, (found, _) in seen.items()} == {key: due for key, (_, due) in seen.items()}


@pytest.mark.parametrize("versions", [(15, 17)], indirect=True)
@pytest.mark.parametrize("side", [Side.SOURCE], indirect=True)
def test_before_16_a_superuser_is_what_it_takes(ground: Ground) -> None:
    assert [item.id for item in ground.items] == ["role-login", "role-superuser"]
    ground.grant()
    for action in ACTIONS:
        action(ground)
    with ground.role() as here:
        assert missing_items(here, ground.items) == ()


@pytest.mark.parametrize("side", [Side.SOURCE], indirect=True)
def test_the_script_refuses_another_database_and_then_changes_nothing(ground: Ground) -> None:
    done = ground.run(grant_script("postgres", Side.SOURCE, ROLE, "elsewhere", ground.owners, ground.version_num))
    assert done.returncode != 0
    assert "this script is for another database" in done.stderr
    with ground.superuser() as postgres:
        assert postgres.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,)).fetchone() is None


@pytest.mark.parametrize("side", [Side.SOURCE], indirect=True)
def test_on_rds_the_master_user_gives_it_all(ground: Ground) -> None:
    """RDS's own roles are stood in for by roles of the same names and a master user without superuser."""
    items = grant_items("rds", ROLE, ground.owners, ground.version_num)
    script = grant_script("rds", Side.SOURCE, ROLE, ground.database, ground.owners, ground.version_num)
    given = ("rds_replication", "pg_create_subscription", "pg_signal_backend", "pg_monitor", *ground.owners)
    with ground.superuser() as postgres:
        postgres.execute("CREATE ROLE rds_replication")
        postgres.execute("CREATE ROLE master CREATEROLE")
        for role in given:
            postgres.execute(sql.SQL("GRANT {} TO master WITH ADMIN OPTION").format(sql.Identifier(role)))
    try:
        done = ground.run("SET SESSION AUTHORIZATION master;\n" + script)
        assert done.returncode == 0, done.stderr
        with ground.superuser() as postgres:
            assert missing_items(postgres, items) == ()
    finally:
        with ground.superuser() as postgres:
            postgres.execute(sql.SQL("DROP OWNED BY {}, master").format(sql.Identifier(ROLE)))
            postgres.execute(sql.SQL("DROP ROLE {}, master, rds_replication").format(sql.Identifier(ROLE)))


@pytest.mark.parametrize("side", [Side.SOURCE], indirect=True)
def test_owners_are_those_of_the_database_and_of_everything_in_it(ground: Ground) -> None:
    with ground.superuser() as postgres:
        assert set(owners(postgres)) == {OWNER, DATABASE_OWNER}
        postgres.execute("CREATE FUNCTION here.f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        assert set(owners(postgres)) == {OWNER, DATABASE_OWNER, "postgres"}
        postgres.execute("DROP FUNCTION here.f()")
        postgres.execute("CREATE EXTENSION citext SCHEMA here")
        assert set(owners(postgres)) == {OWNER, DATABASE_OWNER}
        assert grant_kind(postgres) == "postgres"
