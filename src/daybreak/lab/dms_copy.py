"""How the stand-in for AWS DMS moves rows: a full load under the snapshot of its slot, then changes in the source's
order, one transaction for each of the source's, each applied exactly once.

Where the target is, it keeps in a table of its own there (``daybreak.awsdms_txn_state``, as DMS with
``TaskRecoveryTableEnabled``), written with the changes themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from daybreak.lab.decoding import Change, Kind, Row
from daybreak.model import Lsn, TableName

Connection = psycopg.Connection[tuple[object, ...]]

_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
ORDER BY 1, 2
"""
_COLUMNS = """
SELECT a.attname,
  EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY (i.indkey))
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
ORDER BY a.attnum
"""
_STATE = """
CREATE TABLE IF NOT EXISTS daybreak.awsdms_txn_state (task text PRIMARY KEY, lsn pg_lsn NOT NULL);
CREATE TABLE IF NOT EXISTS daybreak.awsdms_suspended_tables (
    table_owner text, table_name text, suspend_reason text, suspend_timestamp timestamptz,
    PRIMARY KEY (table_owner, table_name)
);
"""


@dataclass
class TableCount:
    """What was done to one table."""

    name: TableName
    state: str = "Before load"
    validation: str = "Not enabled"
    loaded: int = 0
    inserts: int = 0
    updates: int = 0
    deletes: int = 0

    def as_statistics(self) -> dict[str, object]:
        """As DescribeTableStatistics has it."""
        return {
            "SchemaName": self.name.schema,
            "TableName": self.name.name,
            "TableState": self.state,
            "ValidationState": self.validation,
            "FullLoadRows": self.loaded,
            "Inserts": self.inserts,
            "Updates": self.updates,
            "Deletes": self.deletes,
        }


def selected(source: Connection, mappings: str) -> list[TableName]:
    """The source's tables that the table mappings of a task select; exclusion wins."""
    rules = [rule for rule in json.loads(mappings)["rules"] if rule["rule-type"] == "selection"]
    names = [TableName(str(schema), str(name)) for schema, name in source.execute(_TABLES)]

    def matches(name: TableName, action: str) -> bool:
        return any(
            rule["rule-action"] == action
            and _pattern(rule["object-locator"]["schema-name"]).fullmatch(name.schema)
            and _pattern(rule["object-locator"]["table-name"]).fullmatch(name.name)
            for rule in rules
        )

    return [name for name in names if matches(name, "include") and not matches(name, "exclude")]


def _pattern(wildcards: str) -> re.Pattern[str]:
    parts = re.findall(r"\[.\]|.", wildcards)
    wild = {"%": ".*", "_": "."}
    return re.compile("".join(wild.get(part) or re.escape(part.strip("[]") or part) for part in parts))


@dataclass
class Copier:
    """Loads and applies over two sessions; ``close`` them."""

    task: str
    source: Connection
    target: Connection
    _columns: dict[TableName, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)
    _statements: dict[tuple[object, ...], bytes] = field(default_factory=dict)

    @classmethod
    def connect(cls, task: str, source: str, target: str) -> Copier:
        """With connection strings of DMS's role."""
        there = psycopg.connect(target, autocommit=True)
        try:
            here = psycopg.connect(source, autocommit=True)
        except BaseException:
            there.close()
            raise
        copier = cls(task, here, there)
        try:
            copier._set_up()
        except BaseException:
            copier.close()
            raise
        return copier

    def _set_up(self) -> None:
        there = self.target
        there.execute("SET session_replication_role = replica")  # AfterConnectScript of the endpoint
        there.execute("SET synchronous_commit = off")  # where it is, it knows from the same transaction
        there.execute(_STATE)

    def close(self) -> None:
        """End both sessions."""
        self.source.close()
        self.target.close()

    def load(self, tables: list[TableName], snapshot: str) -> Iterator[tuple[TableName, int]]:
        """Empty ``tables``, then copy one after the other as ``snapshot`` shows them: table and rows."""
        self.target.execute("DELETE FROM daybreak.awsdms_txn_state")
        self.target.execute("DELETE FROM daybreak.awsdms_suspended_tables")
        for table in tables:
            self.target.execute(sql.SQL("TRUNCATE {}").format(_name(table)))
        with self.source.transaction():
            self.source.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self.source.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
            for table in tables:
                yield table, self._copy(table)

    def _copy(self, table: TableName) -> int:
        names = sql.SQL(", ").join(map(sql.Identifier, self.columns(table)[0]))
        out = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT binary)").format(names, _name(table))
        into = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(_name(table), names)
        with self.source.cursor() as reader, self.target.cursor() as writer:
            with reader.copy(out) as rows, writer.copy(into) as copy:
                for piece in rows:
                    copy.write(piece)
            return writer.rowcount

    def columns(self, table: TableName) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """All columns but generated ones, and those of the primary key."""
        if table not in self._columns:
            rows = self.source.execute(_COLUMNS, [table.schema, table.name]).fetchall()
            self._columns[table] = (
                tuple(str(name) for name, _ in rows),
                tuple(str(name) for name, key in rows if key),
            )
        return self._columns[table]

    def position(self) -> Lsn:
        """Up to where the target has everything of the source."""
        row = self.target.execute("SELECT lsn::text FROM daybreak.awsdms_txn_state").fetchone()
        return Lsn(0) if row is None else Lsn.parse(str(row[0]))

    def apply(self, changes: list[Change], at: Lsn) -> None:
        """The changes of one transaction that ended at ``at``."""
        with self.target.pipeline(), self.target.transaction():
            for change in changes:
                self._apply(change)
            self.target.execute(
                "INSERT INTO daybreak.awsdms_txn_state VALUES (%s, %s)"
                " ON CONFLICT (task) DO UPDATE SET lsn = greatest(awsdms_txn_state.lsn, excluded.lsn)",
                [self.task, str(at)],
            )

    def suspend(self, table: TableName, why: str) -> None:
        """Write down that ``table`` is left alone from now on."""
        self.target.execute(
            "INSERT INTO daybreak.awsdms_suspended_tables VALUES (%s, %s, %s, now()) ON CONFLICT DO NOTHING",
            [table.schema, table.name, why],
        )

    def _apply(self, change: Change) -> None:
        if change.kind == "TRUNCATE":
            names = sql.SQL(", ").join(map(_name, change.tables))
            self.target.execute(sql.SQL("TRUNCATE {}").format(names))
            return
        (table,) = change.tables
        every, key = self.columns(table)
        new = {name: value for name, value in change.new.items() if name in every}
        old = {} if change.kind == "INSERT" else change.old_key or {name: new[name] for name in key}
        # A key that is generated always can't be set, and need not be where it stayed as it was.
        new = {name: value for name, value in new.items() if old.get(name, ...) != value}
        if new or change.kind == "DELETE":
            self._execute(change.kind, table, new, old)

    def _execute(self, kind: Kind, table: TableName, new: Row, old: Row) -> None:
        """Statements of one form are composed once, and prepared by psycopg after some time."""
        nulls = frozenset(name for name, value in old.items() if value is None)
        form = (kind, table, tuple(new), tuple(old), nulls)
        if form not in self._statements:
            compose = {"INSERT": _insert, "UPDATE": _update, "DELETE": _delete}[kind]
            self._statements[form] = compose(table, tuple(new), _where(tuple(old), nulls)).as_bytes(self.target)
        values = [*new.values(), *(value for value in old.values() if value is not None)]
        self.target.execute(self._statements[form], values)


def _insert(table: TableName, names: tuple[str, ...], _where: sql.Composed) -> sql.Composed:
    values = sql.SQL(", ").join([sql.Placeholder()] * len(names))
    return sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})").format(
        _name(table), sql.SQL(", ").join(map(sql.Identifier, names)), values
    )


def _update(table: TableName, names: tuple[str, ...], where: sql.Composed) -> sql.Composed:
    sets = sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder()) for name in names)
    return sql.SQL("UPDATE {} SET {} WHERE {}").format(_name(table), sets, where)


def _delete(table: TableName, _names: tuple[str, ...], where: sql.Composed) -> sql.Composed:
    return sql.SQL("DELETE FROM {} WHERE {}").format(_name(table), where)


def _where(names: tuple[str, ...], nulls: frozenset[str]) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("{} IS NULL").format(sql.Identifier(name))
        if name in nulls
        else sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder())
        for name in names
    )


def _name(table: TableName) -> sql.Identifier:
    return sql.Identifier(table.schema, table.name)
