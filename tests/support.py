"""What integration tests share: sessions and generations on the fixtures' databases."""

from __future__ import annotations

from collections.abc import Callable

from psycopg import conninfo

from daybreak.lab.cluster import Cluster
from daybreak.lab.pair import MIGRATION, Pair
from daybreak.model import Side
from daybreak.postgres import catalog, control, guard
from daybreak.postgres.server import Connection, Server

NAME = "payments"
EVERYTHING = ("*.*",)
# Source version, target version and TLS to two running servers.
Clusters = Callable[[int, int, bool], tuple[Cluster, Cluster]]


def server_of(pair: Pair, side: Side) -> Server:
    """``side`` of ``pair`` as the migration role reaches it."""
    parts = {key: str(value) for key, value in conninfo.conninfo_to_dict(pair.dsn(side, MIGRATION)).items()}
    peer = {key: value for key, value in parts.items() if key in {"host", "port", "dbname"} or key.startswith("ssl")}
    return Server(side, NAME, parts, peer)


def claimed(pair: Pair, side: Side) -> Connection:
    """A session of the migration role on ``side``, which generation 1 has claimed."""
    connection = server_of(pair, side).connect("test", 1)
    control.install(connection, NAME, side)
    control.raise_generation(connection, NAME, "test", 1)
    return connection


def guard_everything(connection: Connection) -> None:
    """The guard on all tables, open."""
    guard.install_function(connection, NAME, connection.info.user)
    guard.attach(connection, catalog.guardable_tables(connection, EVERYTHING, ()), NAME, 1, 5.0)
