"""How the lab's clients find the database: by both hosts, through PgBouncer, or by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from daybreak.lab.bouncer import Bouncer
from daybreak.lab.pair import APPLICATION, Pair
from daybreak.lab.resolving import Resolver
from daybreak.model import Side


class Way(Protocol):
    """What a client's driver is given. ``lifetime_seconds`` is how long a reader keeps a connection (0: for good);
    ``pooled``: the next statement may run in another server session; ``by_route``: readers choose a side
    themselves, by the weight that is published in both databases."""

    @property
    def lifetime_seconds(self) -> float: ...

    @property
    def pooled(self) -> bool: ...

    @property
    def by_route(self) -> bool: ...

    def dsn(self, *, read_only: bool) -> str:
        """For the next connection; holds a password. Raises psycopg.OperationalError where it can't be known."""


@dataclass(frozen=True)
class ByHosts:
    """libpq looks for the writer among both hosts (``target_session_attrs``)."""

    pair: Pair
    lifetime_seconds: float = 0.0
    pooled: bool = False
    by_route: bool = True

    def dsn(self, *, read_only: bool) -> str:  # noqa: ARG002 - readers that know no weight read from the primary
        """See ``Way``."""
        return self.pair.multihost_dsn()


@dataclass(frozen=True)
class ByBouncer:
    """Through PgBouncer in transaction pooling."""

    bouncer: Bouncer
    lifetime_seconds: float = 0.0
    pooled: bool = True
    by_route: bool = False

    def dsn(self, *, read_only: bool) -> str:
        """See ``Way``."""
        return self.bouncer.reader_dsn if read_only else self.bouncer.writer_dsn


@dataclass(frozen=True)
class ByName:
    """By DNS. A certificate is checked against its authority only: it bears the server's own name, not the
    name that moves (libpq, ``sslmode=verify-ca``)."""

    pair: Pair
    resolver: Resolver
    writer: str
    reader: str
    lifetime_seconds: float = 1.0
    pooled: bool = False
    by_route: bool = False

    def dsn(self, *, read_only: bool) -> str:
        """See ``Way``."""
        cluster = self.pair.cluster(Side.SOURCE)
        parameters = cluster.parameters(APPLICATION, self.pair.application_password, self.pair.database)
        if "sslmode" in parameters:
            parameters = {**parameters, "sslmode": "verify-ca"}
        if read_only:
            return self.resolver.conninfo(self.reader, parameters)
        return self.resolver.conninfo(self.writer, {**parameters, "target_session_attrs": "read-write"})
