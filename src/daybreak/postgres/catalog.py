"""Which tables a migration moves, and what one has to know of each: one query, whatever their number.

User tables are permanent leaf tables (ordinary ones and partitions that hold rows); system schemas,
Daybreak's own and members of extensions are nobody's. ``include`` and ``exclude`` are patterns
``schema.table`` in which ``*`` matches anything; exclude wins, and a partition follows itself or the
root of its tree. What belongs to a table is looked up by its oid in correlated subqueries: the planner
knows nothing of how many tables pass the filter, and joins came out a thousand times slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from daybreak.model import TableName
from daybreak.postgres.server import Connection

# Every relation of the wanted kinds in user schemas, its partition root included, after the filter.
# pg_partition_root() is null for a table that is in no partition tree (docs, 9.28.8).
SELECTED = sql.SQL(
    """
included (schema, name) AS (
    SELECT * FROM unnest({included_schemas}::text[], {included_names}::text[])
),
excluded (schema, name) AS (
    SELECT * FROM unnest({excluded_schemas}::text[], {excluded_names}::text[])
),
selected AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.relispartition, c.relreplident, c.relpartbound, c.reltuples,
           CASE WHEN r.oid <> c.oid THEN rn.nspname END AS root_schema, r.relname AS root_name
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_class r ON c.relispartition AND r.oid = pg_partition_root(c.oid)
    LEFT JOIN pg_namespace rn ON rn.oid = r.relnamespace
    WHERE c.relkind = ANY({kinds}::"char"[]) AND c.relpersistence = ANY({persistence}::"char"[])
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'daybreak')
      AND NOT EXISTS (
          SELECT FROM pg_depend d
          WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
      AND EXISTS (
          SELECT FROM included p
          WHERE n.nspname LIKE p.schema AND c.relname LIKE p.name
             OR rn.nspname LIKE p.schema AND r.relname LIKE p.name)
      AND NOT EXISTS (
          SELECT FROM excluded p
          WHERE n.nspname LIKE p.schema AND c.relname LIKE p.name
             OR rn.nspname LIKE p.schema AND r.relname LIKE p.name)
)"""
)

# COPY's binary format writes types by their binary send functions, in which arrays and composites
# name their element types by oid and reg* types are oids: those agree on both servers only for what
# initdb made (oid < 16384), and reg* never. Enums send their label. Docs: COPY, "Binary Format".
_TABLES = sql.SQL(
    """
WITH RECURSIVE {selected},
base (oid, base) AS (
    SELECT oid, oid FROM pg_type WHERE typtype <> 'd'
    UNION ALL
    SELECT d.oid, b.base FROM base b JOIN pg_type d ON d.typtype = 'd' AND d.typbasetype = b.oid
),
portable (oid) AS (
    SELECT b.oid
    FROM base b
    JOIN pg_type t ON t.oid = b.base
    LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
    WHERE t.typtype = 'e'
       OR t.oid < 16384 AND t.typtype IN ('b', 'r', 'm') AND t.typsend <> 0 AND t.typreceive <> 0
          AND t.typname !~ '^_?reg' AND (e.oid IS NULL OR e.typtype IN ('b', 'r', 'm') AND e.typsend <> 0)
)
SELECT s.nspname, s.relname, s.oid, pg_table_size(s.oid), greatest(s.reltuples, 0)::bigint, s.relispartition,
       s.root_schema, s.root_name, c.names, coalesce(c.binary_safe, true),
       s.relreplident = 'f' OR EXISTS (
           SELECT FROM pg_index i
           WHERE i.indrelid = s.oid AND i.indisvalid AND i.indimmediate
             AND (s.relreplident = 'd' AND i.indisprimary OR s.relreplident = 'i' AND i.indisreplident))
FROM selected s, LATERAL (
    SELECT array_agg(a.attname::text ORDER BY a.attnum) AS names,
           bool_and(a.atttypid IN (SELECT oid FROM portable)) AS binary_safe
    FROM pg_attribute a
    WHERE a.attrelid = s.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
) c
ORDER BY s.nspname, s.relname
"""
)
_EXCLUDED = sql.SQL(
    """
SELECT oid FROM (WITH {everything} SELECT oid FROM selected) everything
EXCEPT SELECT oid FROM (WITH {wanted} SELECT oid FROM selected) wanted
"""
)
_GUARDABLE = sql.SQL("WITH {selected} SELECT nspname, relname FROM selected ORDER BY 1, 2")

# Names and words only, no oid and nothing of one version, in an order that no collation decides.
# The order of columns is left out: pg_dump may change it in children of an inheritance tree, and
# COPY and replication go by name. Literals in partition bounds come out alike because every session
# of Daybreak pins timezone and datestyle.
_FINGERPRINT = sql.SQL(
    """
WITH {selected},
enums AS (
    SELECT format('enum %s (%s)', format_type(t.oid, NULL),
        string_agg(quote_literal(e.enumlabel), ',' ORDER BY e.enumsortorder)) AS text
    FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE n.nspname <> 'daybreak' AND NOT EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
    GROUP BY t.oid
),
-- Since 17 partitions inherit identity columns, before it they did not: the parent's say it all.
parts AS (
    SELECT format('table %I.%I %s %s (%s) (%s) %s %s', s.nspname, s.relname, s.relkind, s.relreplident,
        (
            SELECT string_agg(format('%I %s %s %s %s %s', a.attname, format_type(a.atttypid, a.atttypmod),
                a.attnotnull, CASE WHEN NOT s.relispartition THEN a.attidentity END, a.attgenerated,
                CASE WHEN a.attcollation <> t.typcollation THEN a.attcollation::regcollation END
                ), ',' ORDER BY a.attname)
            FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
            WHERE a.attrelid = s.oid AND a.attnum > 0 AND NOT a.attisdropped
        ), (
            SELECT string_agg(format('%s %s %s %s', i.indisprimary, i.indisreplident, i.indimmediate, (
                SELECT string_agg(quote_ident(a.attname), ',' ORDER BY k.position)
                FROM unnest(i.indkey) WITH ORDINALITY k (number, position)
                JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
                WHERE k.position <= i.indnkeyatts
                )), ';' ORDER BY i.indisprimary)
            FROM pg_index i
            WHERE i.indrelid = s.oid AND (i.indisprimary OR i.indisreplident) AND i.indisvalid
        ),
        CASE WHEN s.relkind = 'p' THEN pg_get_partkeydef(s.oid) END,
        CASE WHEN s.relispartition THEN pg_get_expr(s.relpartbound, s.oid) || ' of ' || (
            SELECT i.inhparent::regclass::text FROM pg_inherits i WHERE i.inhrelid = s.oid) END) AS text
    FROM selected s
    UNION ALL
    SELECT text FROM enums
)
SELECT encode(sha256(convert_to(coalesce(string_agg(text, chr(10) ORDER BY text COLLATE "C"), ''), 'UTF8')), 'hex')
FROM parts
"""
)


@dataclass(frozen=True, slots=True)
class Table:
    """One leaf table as the catalog knows it.

    ``bytes`` is heap and TOAST without indexes, ``estimated_rows`` the planner's number (0 where it
    has none). ``columns`` are those that COPY can name, in order: generated ones are missing.
    ``root`` is the top of its partition tree, None outside of one. ``has_identity``: UPDATE and
    DELETE can be replicated. ``binary_safe``: COPY's binary format means the same on another server.
    """

    name: TableName
    oid: int
    bytes: int
    estimated_rows: int
    is_partition: bool
    root: TableName | None
    columns: tuple[str, ...]
    binary_safe: bool
    has_identity: bool


def user_tables(connection: Connection, include: Sequence[str], exclude: Sequence[str]) -> tuple[Table, ...]:
    """The tables that hold the rows of this migration, sorted by name.

    Asks only for what any role may read; 2,000 tables take some tens of milliseconds."""
    rows = connection.execute(_TABLES.format(selected=selected("r", include, exclude))).fetchall()
    return tuple(_table(row) for row in rows)


def guardable_tables(connection: Connection, include: Sequence[str], exclude: Sequence[str]) -> tuple[TableName, ...]:
    """The user tables and their partitioned parents, sorted: everything that a write can name."""
    query = _GUARDABLE.format(selected=selected("rp", include, exclude))
    return tuple(TableName(str(schema), str(name)) for schema, name in connection.execute(query))


def excluded_relations(connection: Connection, include: Sequence[str], exclude: Sequence[str]) -> tuple[int, ...]:
    """Oids of the tables and partitioned parents that the patterns leave out. Unlogged ones count as
    being in where they match: their definition is moved, their rows are not."""
    query = _EXCLUDED.format(
        everything=selected("rp", ("*.*",), (), "pu"), wanted=selected("rp", include, exclude, "pu")
    )
    return tuple(int(str(oid)) for (oid,) in connection.execute(query))


def fingerprint(connection: Connection, include: Sequence[str], exclude: Sequence[str]) -> str:
    """A digest of the structure that replication depends on, equal on two servers of any versions that
    hold the same: tables, partitions, columns with types and generation, keys, enum labels.

    One query of some tens of milliseconds for 2,000 tables: it runs while writers are held."""
    row = connection.execute(_FINGERPRINT.format(selected=selected("rp", include, exclude))).fetchone()
    assert row is not None
    return str(row[0])


def selected(kinds: str, include: Sequence[str], exclude: Sequence[str], persistence: str = "p") -> sql.Composed:
    """Common table expressions of which the last, ``selected``, holds the wanted relations (``kinds``
    and ``persistence``: letters of pg_class.relkind and relpersistence)."""
    included, excluded = (tuple(map(like_patterns, patterns)) for patterns in (include, exclude))
    return SELECTED.format(
        included_schemas=sql.Literal([schema for schema, _ in included]),
        included_names=sql.Literal([name for _, name in included]),
        excluded_schemas=sql.Literal([schema for schema, _ in excluded]),
        excluded_names=sql.Literal([name for _, name in excluded]),
        kinds=sql.Literal(list(kinds)),
        persistence=sql.Literal(list(persistence)),
    )


def like_patterns(pattern: str) -> tuple[str, str]:
    """``schema.table`` with ``*`` as two patterns of LIKE, in which everything else is literal."""
    schema, _, table = pattern.partition(".")
    return _like(schema), _like(table)


def _like(pattern: str) -> str:
    for special in "\\%_":
        pattern = pattern.replace(special, "\\" + special)
    return pattern.replace("*", "%")


def _table(row: tuple[object, ...]) -> Table:
    schema, name, oid, size, rows, is_partition, root_schema, root_name, columns, binary_safe, has_identity = row
    return Table(
        name=TableName(str(schema), str(name)),
        oid=int(str(oid)),
        bytes=int(str(size)),
        estimated_rows=int(str(rows)),
        is_partition=bool(is_partition),
        root=None if root_schema is None else TableName(str(root_schema), str(root_name)),
        columns=tuple(map(str, columns)) if isinstance(columns, list) else (),
        binary_safe=bool(binary_safe),
        has_identity=bool(has_identity),
    )
