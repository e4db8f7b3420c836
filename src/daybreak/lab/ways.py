"""How the lab's clients find the database: by both hosts, through PgBouncer, or by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from psycopg_pool import ConnectionPool

from daybreak.lab.bouncer import Bouncer
from daybreak.lab.pair import APPLICATION, Pair
from daybreak.lab.resolving import Connection, Resolver, open_pool
from daybreak.model import Side

_READERS = 2
# Real pools keep a connection for minutes; a rehearsal has none to spare.
_LIFETIME_SECONDS = 1.0


class Way(Protocol):
    """What a client's driver is given. ``pooled``: the next statement may run in another server session;
    ``by_route``: readers choose a side themselves, by the weight that is published in both databases."""

    @property
    def pooled(self) -> bool: ...

    @property
    def by_route(self) -> bool: ...

    def dsn(self, *, read_only: bool) -> str:
        """For the next connection; holds a password. Raises psycopg.OperationalError where it can't be known."""

    def readers(self, name: str) -> ConnectionPool[Connection] | None:
        """A pool of sessions called ``name`` for readers, to be closed by them; None: each keeps its own session."""


@dataclass(frozen=True)
class ByHosts:
    """libpq looks for the writer among both hosts (``target_session_attrs``)."""

    pair: Pair
    pooled: bool = False
    by_route: bool = True

    def dsn(self, *, read_only: bool) -> str:  # noqa: ARG002 - readers that know no weight read from the primary
        """See ``Way``."""
        return self.pair.multihost_dsn()

    def readers(self, name: str) -> None:
        """There is none."""


@dataclass(frozen=True)
class ByBouncer:
    """Through PgBouncer in transaction pooling."""

    bouncer: Bouncer
    pooled: bool = True
    by_route: bool = False

    def dsn(self, *, read_only: bool) -> str:
        """See ``Way``."""
        return self.bouncer.reader_dsn if read_only else self.bouncer.writer_dsn

    def readers(self, name: str) -> None:
        """PgBouncer is one."""


@dataclass(frozen=True)
class ByName:
    """By DNS. A certificate is checked against its authority only: it bears the server's own name, not the
    name that moves (libpq, ``sslmode=verify-ca``)."""

    pair: Pair
    resolver: Resolver
    writer: str
    reader: str
    pooled: bool = False
    by_route: bool = False

    def dsn(self, *, read_only: bool) -> str:
        """See ``Way``."""
        if read_only:
            return self.resolver.conninfo(self.reader, self._parameters())
        return self.resolver.conninfo(self.writer, {**self._parameters(), "target_session_attrs": "read-write"})

    def readers(self, name: str) -> ConnectionPool[Connection]:
        """See ``Way``; the reader's name is resolved for each new session."""
        parameters = {**self._parameters(), "application_name": name}
        return open_pool(self.resolver, self.reader, parameters, size=_READERS, max_lifetime_seconds=_LIFETIME_SECONDS)

    def _parameters(self) -> Mapping[str, str]:
        cluster = self.pair.cluster(Side.SOURCE)
        parameters = cluster.parameters(APPLICATION, self.pair.application_password, self.pair.database)
        return {**parameters, "sslmode": "verify-ca"} if "sslmode" in parameters else parameters
