"""Two lab servers as the two sides of a migration, with the roles that take part in it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg import conninfo, sql

from daybreak.lab.certificates import Authority
from daybreak.lab.cluster import HOST, Cluster, find_server
from daybreak.model import Side
from daybreak.postgres.grants import grant_script

OWNER = "payments_owner"
APPLICATION = "payments_app"
MIGRATION = "daybreak"


@dataclass(frozen=True)
class Pair:
    """A database of one name on two running servers, and the passwords of its roles.

    ``payments_owner`` owns database and tables, ``payments_app`` is the application (DML rights
    only), ``daybreak`` the migration role with the rights of its grant script and no others: superuser
    only on servers below PostgreSQL 16, where only superusers create subscriptions."""

    source: Cluster
    target: Cluster
    database: str
    owner_password: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)
    application_password: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)
    migration_password: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)

    @classmethod
    def create(cls, source: Cluster, target: Cluster, database: str = "payments") -> Pair:
        """Make the roles (they are cluster-wide: a newer pair gives them new passwords) and an empty
        database owned by ``payments_owner`` on both servers."""
        pair = cls(source, target, database)
        for side in Side:
            pair._prepare(side)
        return pair

    def cluster(self, side: Side) -> Cluster:
        """The server of ``side``."""
        return self.source if side is Side.SOURCE else self.target

    def dsn(self, side: Side, user: str = MIGRATION) -> str:
        """Connection string of one of the roles or of ``postgres``. Holds a password."""
        return self.cluster(side).dsn(user, self._password(user), self.database)

    def multihost_dsn(self, user: str = APPLICATION) -> str:
        """By which libpq finds the side that takes writes (``target_session_attrs=read-write``)."""
        parts = {**self.source.parameters(user, self._password(user), self.database)}
        parts["host"] = f"{HOST},{HOST}"
        parts["port"] = f"{self.source.port},{self.target.port}"
        return conninfo.make_conninfo("", **parts, target_session_attrs="read-write", connect_timeout="5")

    def connect(self, side: Side, user: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """An autocommit session on ``side``."""
        return psycopg.connect(self.dsn(side, user), autocommit=True)

    def drop(self) -> None:
        """Remove the databases and everything of a migration that keeps a database from going:
        subscriptions, slots, prepared transactions, and the roles made for the streams."""
        for side in Side:
            self.cluster(side).start()
            with self.connect(side) as here:
                here.execute("SET default_transaction_read_only = off")  # it may be a closed side
                _drop_subscriptions(here)
                _roll_back_prepared(here)
        for side in Side:
            with self.cluster(side).connect() as postgres:
                _drop_database(postgres, self.database)

    def _password(self, user: str) -> str:
        known = {
            OWNER: self.owner_password,
            APPLICATION: self.application_password,
            MIGRATION: self.migration_password,
        }
        return known.get(user, "")

    def _prepare(self, side: Side) -> None:
        with self.cluster(side).connect() as postgres:
            for role in (OWNER, APPLICATION, MIGRATION):
                known = postgres.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
                verb = sql.SQL("ALTER" if known else "CREATE")
                postgres.execute(
                    sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, sql.Identifier(role), self._password(role))
                )
            owned = sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(self.database), sql.Identifier(OWNER))
            postgres.execute(owned)
        with self.connect(side) as here:
            script = grant_script("postgres", side, MIGRATION, self.database, (OWNER,), here.info.server_version)
            here.execute(script.encode())


@contextmanager
def running_pair(source_major: int, target_major: int, *, tls: bool = False) -> Iterator[Pair]:
    """Two fresh servers, started at the same time, and their pair; both ended at the end."""
    authority = Authority() if tls else None
    with (
        closing(Cluster(find_server(source_major), authority=authority)) as source,
        closing(Cluster(find_server(target_major), authority=authority)) as target,
    ):
        start_together(source, target)
        yield Pair.create(source, target)


def start_together(*clusters: Cluster) -> None:
    """Start several servers at the same time."""
    with ThreadPoolExecutor(len(clusters)) as pool:
        for _ in pool.map(Cluster.start, clusters):
            pass


def _drop_subscriptions(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    names = connection.execute(
        "SELECT subname FROM pg_subscription"
        " WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
    ).fetchall()
    for (name,) in names:
        subscription = sql.Identifier(str(name))
        # Detached from its slot, so that the other server is not asked to drop it.
        connection.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(subscription))
        connection.execute(sql.SQL("ALTER SUBSCRIPTION {} SET (slot_name = NONE)").format(subscription))
        connection.execute(sql.SQL("DROP SUBSCRIPTION {}").format(subscription))


def _roll_back_prepared(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    query = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
    for (gid,) in connection.execute(query).fetchall():
        connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(str(gid)))


def _drop_database(postgres: psycopg.Connection[tuple[object, ...]], database: str) -> None:
    slots = "SELECT slot_name, active_pid FROM pg_replication_slots WHERE database = %s"
    while rows := postgres.execute(slots, (database,)).fetchall():
        for name, pid in rows:
            if pid is not None:
                # Waits up to a second for the walsender to end (PostgreSQL docs, 9.28.2).
                postgres.execute("SELECT pg_terminate_backend(%s, 1000)", (pid,))
            else:
                postgres.execute("SELECT pg_drop_replication_slot(%s)", (name,))
    postgres.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))
    leftover = r"SELECT rolname FROM pg_roles WHERE rolname LIKE 'daybreak\_%'"
    for (role,) in postgres.execute(leftover).fetchall():
        postgres.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(str(role))))
