"""A table's content as two numbers, count and sum of row hashes, that two servers can compare.

What makes the numbers sound:

- Each value goes in exactly as stored. Types whose hash is blind to something are hashed by their
  output text instead: numeric (1.0 = 1.00), floats (0 = -0), interval (1 month = 30 days), char(n),
  arrays (shape), enums (oid), and whatever is not in ``_PLAIN``, json and extension types included.
  The text is made by the type's output function, as part of a record, because a cast to text may
  be the user's own. Text is hashed in collation "C", so that no two strings are equal.
- ``hash_record_extended`` is linear in the columns' hashes (31 * a + b), so that two rows which
  swap a value keep its sum. It is therefore mixed once more, ``hashint8extended(h, h)``, before the
  sum. A sum, with the count, sees doubled rows, which XOR does not.
- These functions are those of hash partitioning: their results are kept from release to release.
  The servers must be of equal byte order and encoding (PostgreSQL docs, pg_dump,
  ``--load-via-partition-root``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from daybreak.model import TableName
from daybreak.postgres.server import Connection

# What the text of a value depends on.
_PINS = (
    "SET extra_float_digits = 1",
    "SET timezone = 'UTC'",
    "SET datestyle = 'ISO, YMD'",
    "SET intervalstyle = 'postgres'",
    "SET bytea_output = 'hex'",
    "SET lc_monetary = 'C'",
    "SET quote_all_identifiers = off",
    # An error instead of silently fewer rows (PostgreSQL docs, row_security).
    "SET row_security = off",
    # Predictable load: as many processes as jobs.
    "SET max_parallel_workers_per_gather = 0",
    "SET jit = off",
)
# bool, bytea, int8, int2, int4, oid, date, time, timestamp, timestamptz, uuid: equal means identical.
_PLAIN = (16, 17, 20, 21, 23, 26, 1082, 1083, 1114, 1184, 2950)
# text, varchar: the same in collation "C".
_TEXT = (25, 1043)

_TABLES = """
WITH RECURSIVE asked AS (
  SELECT n.nspname, c.relname, c.oid, c.relam
  FROM unnest(%s::text[], %s::text[]) AS a(nspname, relname)
  JOIN pg_namespace n ON n.nspname = a.nspname
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = a.relname AND c.relkind = 'r'
), base(typid, basetypid) AS (
  SELECT t.oid, t.oid FROM pg_type t
  UNION ALL
  SELECT b.typid, t.typbasetype FROM base b JOIN pg_type t ON t.oid = b.basetypid AND t.typtype = 'd'
)
SELECT nspname, relname, coalesce(pg_table_size(asked.oid), 0),
  CASE WHEN relam = (SELECT oid FROM pg_am WHERE amname = 'heap')
    THEN coalesce(pg_relation_size(asked.oid), 0) / current_setting('block_size')::int ELSE 0 END,
  (SELECT coalesce(array_agg(a.attname::text ORDER BY a.attname COLLATE "C"), '{}') FROM pg_attribute a
   WHERE a.attrelid = asked.oid AND a.attnum > 0 AND NOT a.attisdropped),
  (SELECT coalesce(array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY a.attname COLLATE "C"), '{}')
   FROM pg_attribute a WHERE a.attrelid = asked.oid AND a.attnum > 0 AND NOT a.attisdropped),
  (SELECT coalesce(array_agg(b.basetypid::int8 ORDER BY a.attname COLLATE "C"), '{}') FROM pg_attribute a
   JOIN base b ON b.typid = a.atttypid JOIN pg_type t ON t.oid = b.basetypid AND t.typtype <> 'd'
   WHERE a.attrelid = asked.oid AND a.attnum > 0 AND NOT a.attisdropped)
FROM asked
"""


@dataclass(frozen=True, slots=True)
class Column:
    """A column, its declared type as PostgreSQL writes it, and the oid of its type below all domains."""

    name: str
    declared: str
    base_type: int


@dataclass(frozen=True, slots=True)
class Table:
    """A table of one server: its columns in order of their names, its size with TOAST, and its
    length in blocks (0 where it can't be read by blocks)."""

    name: TableName
    columns: tuple[Column, ...]
    size_bytes: int
    blocks: int


@dataclass(frozen=True, slots=True)
class Digest:
    """What one table, or a range of its blocks, comes to; the digests of its ranges add up."""

    rows: int
    hash_sum: int

    def __add__(self, other: Digest) -> Digest:
        return Digest(self.rows + other.rows, self.hash_sum + other.hash_sum)


def pin(connection: Connection) -> None:
    """Set everything that the text of a value depends on to the same on both servers."""
    for statement in _PINS:
        connection.execute(statement.encode())


def read_tables(connection: Connection, names: Sequence[TableName]) -> dict[TableName, Table]:
    """Those of ``names`` that exist, in one query."""
    schemas, tables = [name.schema for name in names], [name.name for name in names]
    found = {}
    for schema, name, size, blocks, *columns in connection.execute(_TABLES, (schemas, tables)):
        table = TableName(str(schema), str(name))
        parts = tuple(Column(*one) for one in zip(*columns, strict=True))
        found[table] = Table(table, parts, int(str(size)), int(str(blocks)))
    return found


def digest_query(table: Table, first_block: int | None, end_block: int | None) -> sql.Composed:
    """The query for one ``Digest``; of the blocks from ``first_block`` up to and without ``end_block``,
    None meaning no limit. It reads the table alone, not its children."""
    limits = [
        sql.SQL("ctid {} {}").format(sql.SQL(operator), sql.Literal(f"({block},0)"))
        for operator, block in ((">=", first_block), ("<", end_block))
        if block is not None
    ]
    where = sql.SQL(" WHERE {}").format(sql.SQL(" AND ").join(limits)) if limits else sql.SQL("")
    # OFFSET 0 keeps the planner from computing the hash once for each mention of h.
    return sql.SQL(
        "SELECT count(*), coalesce(sum(hashint8extended(h, h)), 0) FROM"
        " (SELECT {} AS h FROM ONLY {}{} OFFSET 0) AS rows"
    ).format(_row_hash(table), sql.Identifier(table.name.schema, table.name.name), where)


def read_digest(connection: Connection, query: sql.Composed) -> Digest:
    """Run a ``digest_query``."""
    row = connection.execute(query).fetchone()
    assert row is not None
    return Digest(int(str(row[0])), int(str(row[1])))


def _row_hash(table: Table) -> sql.Composable:
    plain: list[sql.Composable] = []
    by_text: list[sql.Composable] = []
    for column in table.columns:
        name = sql.Identifier(column.name)
        if column.base_type in _PLAIN:
            plain.append(name)
        elif column.base_type in _TEXT:
            plain.append(sql.SQL('{} COLLATE "C"').format(name))
        else:
            by_text.append(name)
    if by_text:
        plain.append(sql.SQL('ROW({})::text COLLATE "C"').format(sql.SQL(", ").join(by_text)))
    if not plain:
        return sql.SQL("0::bigint")
    return sql.SQL("hash_record_extended(ROW({}), 0)").format(sql.SQL(", ").join(plain))
