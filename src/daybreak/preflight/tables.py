"""Checks of the source's tables that are in scope (``replication.include`` and ``exclude``): whether
their rows can be streamed, and which of them logical replication leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from daybreak.model import TableName
from daybreak.postgres import sequences
from daybreak.postgres.catalog import selected
from daybreak.postgres.sequences import SequenceValue
from daybreak.preflight.context import Context, Found, listed, statement

# A table's identity is the index that is named or the primary key, where it is valid and immediate
# (docs: ALTER TABLE, REPLICA IDENTITY). ``spare`` is another index that could be named instead.
_IDENTITY = """
WITH {selected}
SELECT s.nspname, s.relname, s.relreplident, k.relname, k.indisvalid, k.indimmediate, k.generated, (
    SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
    WHERE i.indrelid = s.oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
      AND i.indexprs IS NULL AND NOT EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = s.oid AND a.attnum = ANY(i.indkey)
          AND (NOT a.attnotnull OR a.attgenerated <> ''))
    ORDER BY i.indisprimary DESC, i.indnkeyatts, x.relname LIMIT 1) AS spare
FROM selected s LEFT JOIN LATERAL (
    SELECT x.relname, i.indisvalid, i.indimmediate, EXISTS (
        SELECT FROM pg_attribute a
        WHERE a.attrelid = s.oid AND a.attnum = ANY(i.indkey) AND a.attgenerated <> '') AS generated
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
    WHERE i.indrelid = s.oid
      AND (s.relreplident = 'd' AND i.indisprimary OR s.relreplident = 'i' AND i.indisreplident)) k ON true
WHERE s.relreplident <> 'f' AND (k.relname IS NULL OR NOT k.indisvalid OR NOT k.indimmediate OR k.generated)
ORDER BY 1, 2
"""
# Types without an operator class that says what is equal, by name because their arrays are so, too.
_FULL = """
WITH RECURSIVE {selected}, base (oid, base) AS (
    SELECT oid, oid FROM pg_type WHERE typtype <> 'd'
    UNION ALL
    SELECT d.oid, b.base FROM base b JOIN pg_type d ON d.typtype = 'd' AND d.typbasetype = b.oid
)
SELECT s.nspname, s.relname, (
    SELECT string_agg(format('%s %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum)
    FROM pg_attribute a JOIN base b ON b.oid = a.atttypid JOIN pg_type t ON t.oid = b.base
    WHERE a.attrelid = s.oid AND a.attnum > 0 AND NOT a.attisdropped AND ltrim(t.typname, '_') = ANY({types}::text[])
      AND t.typnamespace = 'pg_catalog'::regnamespace)
FROM selected s WHERE s.relreplident = 'f' ORDER BY 1, 2
"""
_NO_EQUALITY = (
    *("json", "xml", "point", "line", "lseg", "box", "path", "polygon", "circle"),
    *("jsonpath", "pg_snapshot", "txid_snapshot"),
)
# Kinds that ``selected`` leaves out, filtered by the same patterns.
_OTHER_KINDS = """
SELECT n.nspname, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = ANY(%s::"char"[]) AND c.relpersistence = ANY(%s::"char"[])
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'daybreak')
  AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
  AND EXISTS (SELECT FROM unnest(%s::text[], %s::text[]) p (s, t) WHERE n.nspname LIKE p.s AND c.relname LIKE p.t)
  AND NOT EXISTS (SELECT FROM unnest(%s::text[], %s::text[]) p (s, t) WHERE n.nspname LIKE p.s AND c.relname LIKE p.t)
ORDER BY 1, 2
"""
_COLUMNS = """
WITH {selected}
SELECT s.nspname, s.relname, string_agg(a.attname, ', ' ORDER BY a.attnum)
FROM selected s JOIN pg_attribute a ON a.attrelid = s.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE {which} GROUP BY 1, 2 ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Identity:
    """A table without usable identity: pg_class.relreplident, the index that should be it, and why it
    can't; ``spare`` is an index that could."""

    table: TableName
    setting: str
    index: str | None
    valid: bool
    immediate: bool
    generated: bool
    spare: str | None

    def problem(self) -> tuple[str, str]:
        """What is wrong and the statement that mends it. Pure."""
        names = (self.table.schema, self.table.name)
        table = sql.Identifier(*names)
        full = statement("ALTER TABLE {} REPLICA IDENTITY FULL;", table)
        if self.spare is not None:
            mend = statement("ALTER TABLE {} REPLICA IDENTITY USING INDEX {};", table, self.spare)
        else:
            mend = f"Add a primary key; or, where the table is small or rarely updated: {full}"
        if self.setting == "n":
            return "its REPLICA IDENTITY is NOTHING", mend
        if self.index is None:
            return ("it has no primary key" if self.setting == "d" else "the index of its identity is gone"), mend
        if not self.valid:
            index = sql.Identifier(self.table.schema, self.index)
            return f"the index {self.index} is invalid", statement("REINDEX INDEX CONCURRENTLY {};", index)
        if not self.immediate:
            return f"the constraint {self.index} is DEFERRABLE", mend
        return f"the key {self.index} contains a generated column, which is not streamed", mend


def replica_identity(context: Context) -> Iterator[Found]:
    """Every table has an identity by which updates find their row: a valid, immediate primary key, an
    index named by REPLICA IDENTITY, or FULL. Without one UPDATE and DELETE fail *on the source* as soon
    as the table is published."""
    query = sql.SQL(_IDENTITY).format(selected=selected("r", context.include, context.exclude))
    for schema, name, setting, index, valid, immediate, generated, spare in context.source.execute(query):
        identity = Identity(
            TableName(str(schema), str(name)),
            str(setting),
            None if index is None else str(index),
            bool(valid),
            bool(immediate),
            bool(generated),
            None if spare is None else str(spare),
        )
        reason, fix = identity.problem()
        message = f"No row of it can be told from another: {reason}. Once it is published, UPDATE and DELETE"
        yield Found("blocker", str(identity.table), f"{message} of the application would fail on the source.", fix)


def replica_identity_full(context: Context) -> Iterator[Found]:
    """REPLICA IDENTITY FULL works, but slowly, and not with types that know no equality."""
    chosen = selected("r", context.include, context.exclude)
    query = sql.SQL(_FULL).format(selected=chosen, types=sql.Literal(list(_NO_EQUALITY)))
    for schema, name, columns in context.source.execute(query):
        table = sql.Identifier(str(schema), str(name))
        fix = statement("Add a primary key, then: ALTER TABLE {} REPLICA IDENTITY DEFAULT;", table)
        if columns is None:
            message = "REPLICA IDENTITY FULL: each update or delete may read the whole table on the other side."
            yield Found("warning", f"{schema}.{name}", message, fix)
        else:
            message = (
                f"REPLICA IDENTITY FULL, but nothing says when two values are equal: {columns}. Updates and deletes"
            )
            yield Found("blocker", f"{schema}.{name}", f"{message} of it could not be applied.", fix)


def _of_kind(context: Context, kinds: str, persistence: str) -> list[tuple[str, str]]:
    rows = context.source.execute(_OTHER_KINDS, [list(kinds), list(persistence), *context.patterns()])
    return [(str(schema), str(name)) for schema, name in rows]


def unlogged_tables(context: Context) -> Iterator[Found]:
    """No table is UNLOGGED: nothing of it is streamed."""
    for schema, name in _of_kind(context, "r", "u"):
        message = "It is UNLOGGED: its rows can't be streamed and would be missing after a cutover."
        fix = statement("ALTER TABLE {} SET LOGGED;", sql.Identifier(schema, name))
        yield Found("blocker", f"{schema}.{name}", message, f"{fix} Or leave it out: replication.exclude.")


def materialized_views(context: Context) -> Iterator[Found]:
    """There are no materialized views: on the target they are filled once, after the load."""
    for schema, name in _of_kind(context, "m", "p"):
        message = "A materialized view: on the target it is filled after the load and then grows old."
        fix = statement(
            "Before the cutover, on the target: REFRESH MATERIALIZED VIEW {};", sql.Identifier(schema, name)
        )
        yield Found("warning", f"{schema}.{name}", message, fix)


def foreign_tables(context: Context) -> Iterator[Found]:
    """Foreign tables keep their rows elsewhere, which the target has to reach as well."""
    for schema, name in _of_kind(context, "f", "p"):
        message = "A foreign table: its rows stay where they are, and the target must reach them, too."
        fix = "Check its server's options and user mappings on the target: passwords in them are not moved."
        yield Found("warning", f"{schema}.{name}", message, fix)


def large_objects(context: Context) -> Iterator[Found]:
    """There are no large objects: logical replication does not know them."""
    row = context.source.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone()
    assert row is not None
    if row[0]:
        message = f"{row[0]} large objects: they are neither copied nor streamed."
        fix = "Move them into bytea columns, or remove those that nothing refers to with vacuumlo."
        yield Found("blocker", "pg_largeobject", message, fix)


def inherited_tables(context: Context) -> Iterator[Found]:
    """Tables that inherit without being partitions are moved each by itself; a child that is excluded
    while its parent is not would be streamed all the same."""
    query = sql.SQL("""
        WITH {selected}
        SELECT s.nspname, s.relname, i.inhrelid::regclass::text,
          EXISTS (SELECT FROM selected x WHERE x.oid = i.inhrelid)
        FROM pg_inherits i JOIN selected s ON s.oid = i.inhparent ORDER BY 1, 2, 3
        """).format(selected=selected("r", context.include, context.exclude))
    rows = list(context.source.execute(query))
    for schema, name, child, chosen in rows:
        if not chosen:
            message = f"Its child {child} is excluded, but publishing a table publishes what inherits from it."
            fix = f"Include {child}, or exclude {schema}.{name} as well (replication.include, replication.exclude)."
            yield Found("blocker", f"{schema}.{name}", message, fix)
    if parents := sorted({f"{schema}.{name}" for schema, name, _, _ in rows}):
        message = (
            f"Inherited from without partitioning: {listed(parents)}. Each table is copied and compared by itself."
        )
        yield Found("info", "source", message, "Nothing to do.")


def oid_columns(context: Context) -> Iterator[Found]:
    """No column holds object numbers, which mean something else on another server."""
    which = sql.SQL("a.atttypid IN ('oid'::regtype, 'oid[]'::regtype)")
    query = sql.SQL(_COLUMNS).format(selected=selected("r", context.include, context.exclude), which=which)
    for schema, name, columns in context.source.execute(query):
        message = (
            f"Columns of type oid: {columns}. Numbers of large objects or catalog rows mean nothing on the target."
        )
        fix = "Make sure that they are plain numbers of the application, or change their type."
        yield Found("warning", f"{schema}.{name}", message, fix)


def generated_columns(context: Context) -> Iterator[Found]:
    """Generated columns are not streamed but computed again, from the same expression."""
    which = sql.SQL("a.attgenerated <> ''")
    query = sql.SQL(_COLUMNS).format(selected=selected("r", context.include, context.exclude), which=which)
    if tables := [f"{schema}.{name} ({columns})" for schema, name, columns in context.source.execute(query)]:
        message = f"Generated columns are computed anew on the target: {listed(tables)}."
        yield Found("info", "source", message, "Nothing to do; the verification compares them, too.")


def special_constraints(context: Context) -> Iterator[Found]:
    """Exclusion and deferrable constraints hold on the primary alone; what it accepted is applied."""
    query = sql.SQL("""
        WITH {selected}
        SELECT format('%s.%s (%s)', s.nspname, s.relname, k.conname) FROM selected s
        JOIN pg_constraint k ON k.conrelid = s.oid AND (k.contype = 'x' OR k.contype IN ('u', 'p') AND k.condeferrable)
        ORDER BY 1""").format(selected=selected("r", context.include, context.exclude))
    if names := [str(name) for (name,) in context.source.execute(query)]:
        message = f"Exclusion or deferrable constraints: {listed(names)}. Replication applies rows without deferring."
        fix = "Nothing to do unless updates of such keys swap values; then apply stops with a duplicate key."
        yield Found("info", "source", message, fix)


def always_triggers(context: Context) -> Iterator[Found]:
    """No trigger or rule is ENABLE ALWAYS or REPLICA: it would fire again where its rows are applied."""
    query = sql.SQL("""
        WITH {selected}
        SELECT s.nspname, s.relname, 'TRIGGER', t.tgname FROM selected s
        JOIN pg_trigger t ON t.tgrelid = s.oid AND NOT t.tgisinternal AND t.tgenabled IN ('A', 'R')
        UNION ALL
        SELECT s.nspname, s.relname, 'RULE', r.rulename FROM selected s
        JOIN pg_rewrite r ON r.ev_class = s.oid AND r.ev_enabled IN ('A', 'R')
        ORDER BY 1, 2, 3, 4""").format(selected=selected("rp", context.include, context.exclude))
    for schema, name, kind, trigger in context.source.execute(query):
        message = f"{kind} {trigger} is ENABLE ALWAYS or REPLICA: it fires again for rows that replication applies."
        fix = statement(f"ALTER TABLE {{}} ENABLE {kind} {{}};", sql.Identifier(str(schema), str(name)), str(trigger))
        yield Found("warning", f"{schema}.{name}", message, f"Unless that is what it is for: {fix}")


def sequence_room(context: Context) -> Iterator[Found]:
    """Every sequence has values left for the margin that is skipped at each switchover."""
    margin = context.settings.cutover.sequence_margin
    for sequence in sequences.read(context.source):
        left = steps_left(sequence)
        if left is None or left > 10 * margin:
            continue
        fix = statement("ALTER SEQUENCE {} AS bigint NO MAXVALUE;", sql.Identifier(sequence.schema, sequence.name))
        fix += " (and its column), or lower cutover.sequence_margin."
        message = f"{left} values are left, and {margin} are skipped at each switchover."
        yield Found("blocker" if left <= margin else "warning", f"{sequence.schema}.{sequence.name}", message, fix)


def steps_left(sequence: SequenceValue) -> int | None:
    """How often the sequence can still be drawn; None where it never ends or was never used. Pure."""
    if sequence.last is None or sequence.cycle:
        return None
    end = sequence.maximum if sequence.increment > 0 else sequence.minimum
    return abs(end - sequence.last) // abs(sequence.increment)
