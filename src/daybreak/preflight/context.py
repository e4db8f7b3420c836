"""What a check is given and what it gives back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from daybreak.config import Settings
from daybreak.errors import Severity
from daybreak.model import Side
from daybreak.postgres import control
from daybreak.postgres.catalog import like_patterns
from daybreak.postgres.inspect import grant_kind
from daybreak.postgres.server import Connection, Server


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that a check found; ``id`` only where it is not the check's own."""

    severity: Severity
    object: str
    message: str
    fix: str
    id: str = ""


@dataclass(frozen=True)
class Context:
    """Both servers with a session on each, in autocommit."""

    settings: Settings
    servers: Mapping[Side, Server]
    connections: Mapping[Side, Connection]

    @property
    def source(self) -> Connection:
        """The session on the source."""
        return self.connections[Side.SOURCE]

    @property
    def target(self) -> Connection:
        """The session on the target."""
        return self.connections[Side.TARGET]

    @property
    def include(self) -> tuple[str, ...]:
        """Patterns of tables to migrate."""
        return self.settings.replication.include

    @property
    def exclude(self) -> tuple[str, ...]:
        """Patterns of tables to leave out."""
        return self.settings.replication.exclude

    def each(self) -> Iterator[tuple[Side, Connection]]:
        """The sides that can be asked."""
        yield from self.connections.items()

    def begun(self, side: Side) -> bool:
        """Whether ``side`` already carries this migration: then what Daybreak itself did is no finding."""
        return control.read_control(self.connections[side], self.settings.name) is not None

    def patterns(self) -> tuple[list[str], list[str], list[str], list[str]]:
        """Include and exclude as LIKE patterns: schemas, names, schemas, names."""
        pairs = [[like_patterns(one) for one in patterns] for patterns in (self.include, self.exclude)]
        included, excluded = pairs
        return ([s for s, _ in included], [n for _, n in included], [s for s, _ in excluded], [n for _, n in excluded])


def statement(template: str, *names: str | sql.Composable) -> str:
    """A statement for the reader to run: each ``{}`` of ``template`` becomes a quoted identifier."""
    parts = (sql.Identifier(name) if isinstance(name, str) else name for name in names)
    return sql.SQL(template).format(*parts).as_string(None)


def set_parameter(connection: Connection, name: str, value: str) -> str:
    """How to set a server parameter that needs a restart, on this kind of server."""
    if grant_kind(connection) == "rds":
        return f"Set {name} = {value} in the server's parameter group and reboot it."
    return f"ALTER SYSTEM SET {name} = '{value}'; then restart the server."


def listed(names: Sequence[str], limit: int = 5) -> str:
    """Some of ``names``, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
