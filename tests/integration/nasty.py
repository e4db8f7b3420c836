"""A source database of everything that trips migrations over (nasty.sql, nasty_rows.sql)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from psycopg import sql
from support import EVERYTHING, claimed, server_of

from daybreak.lab.pair import OWNER, Pair
from daybreak.model import Progress, Side, TableName
from daybreak.postgres import catalog, schema
from daybreak.postgres.catalog import Table
from daybreak.postgres.installations import Installation, client_tools
from daybreak.postgres.server import Server
from daybreak.replication.copy import copy_tables

_HERE = Path(__file__).parent
NASTY = _HERE / "nasty.sql"
GENERATION = 1


@dataclass
class Move:
    """A migration of a pair's source, step by step, on both sides claimed by generation 1."""

    pair: Pair
    progress: list[Progress] = field(default_factory=list)

    @property
    def source(self) -> Server:
        return server_of(self.pair, Side.SOURCE)

    @property
    def target(self) -> Server:
        return server_of(self.pair, Side.TARGET)

    @property
    def tools(self) -> Installation:
        return client_tools(self.pair.source.major, self.pair.target.major)

    @property
    def job(self) -> schema.SchemaJob:
        return schema.SchemaJob(
            self.source, self.target, self.tools, GENERATION, EVERYTHING, (), 2, self.progress.append
        )

    def tables(self) -> tuple[Table, ...]:
        with self.source.session("test", GENERATION) as connection:
            return catalog.user_tables(connection, EVERYTHING, ())

    @contextmanager
    def snapshot(self) -> Iterator[str]:
        """A snapshot of the source, exported as long as the block runs."""
        with self.source.session("snapshot", GENERATION) as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            (name,) = connection.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
            yield str(name)

    def copy(self, snapshot: str, tables: tuple[Table, ...] | None = None) -> None:
        copy_tables(
            self.source,
            self.target,
            self.tools,
            self.tables() if tables is None else tables,
            snapshot,
            jobs=2,
            generation=GENERATION,
            report=self.progress.append,
        )

    def copied(self) -> dict[TableName, int]:
        """Tables marked as copied, with their rows."""
        with self.target.session("test", GENERATION) as connection:
            rows = connection.execute("SELECT schema_name, table_name, rows FROM daybreak.table_load").fetchall()
        return {TableName(str(a), str(b)): int(str(n)) for a, b, n in rows}

    def rows(self, side: Side, table: Table) -> object:
        """Number of rows and a digest of their values, by name of column."""
        columns = [sql.SQL("t.{}::text").format(sql.Identifier(name)) for name in sorted(table.columns)]
        query = sql.SQL("SELECT count(*), sum(hashtextextended(ROW ({})::text, 0)::numeric) FROM ONLY {} t").format(
            sql.SQL(", ").join(columns), sql.Identifier(table.name.schema, table.name.name)
        )
        with self.pair.connect(side) as connection:
            return connection.execute(query).fetchone()

    def dump(self, side: Side) -> str:
        """The schema as a superuser sees it."""
        parts = self.pair.cluster(side).parameters(dbname=self.pair.database)
        return schema.schema_text(Server(side, "test", parts, {}), self.tools)


def nasty_move(pair: Pair, *, rows: bool) -> Move:
    """The nasty schema on the source, with or without rows, and both sides claimed."""
    with pair.connect(Side.SOURCE, OWNER) as owner:
        owner.execute(NASTY.read_bytes())
        if rows:
            owner.execute((_HERE / "nasty_rows.sql").read_bytes())
    return claimed_move(pair)


def claimed_move(pair: Pair) -> Move:
    """Both sides claimed by generation 1."""
    for side in Side:
        claimed(pair, side).close()
    return Move(pair)
