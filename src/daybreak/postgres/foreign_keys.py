"""Foreign keys, added last: while changes already stream in, and without stopping them for long.

Each is added NOT VALID, which takes its locks for an instant, and validated afterwards under a lock
that lets writers pass (docs, ALTER TABLE .. VALIDATE CONSTRAINT). Both steps are told from the
target's catalog, so they may be killed and run again.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

from psycopg import sql

from daybreak.model import Progress, TableName
from daybreak.ports import Report
from daybreak.postgres.control import fenced, stale_is_conflict
from daybreak.postgres.guard import with_short_locks
from daybreak.postgres.server import Connection, Server, translated
from daybreak.postgres.workers import Stop, in_parallel

_PATIENCE_SECONDS = 60.0
# A partitioned table may have a foreign key that is not valid from 18 on (release notes).
_PARTITIONED_NOT_VALID = 180000

# Those of partitions come with their parent's (conparentid).
_WANTED = """
SELECT n.nspname, c.relname, c.relkind, k.conname, pg_get_constraintdef(k.oid), k.convalidated,
       obj_description(k.oid, 'pg_constraint'), k.confrelid = ANY(%s)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0 AND NOT k.conrelid = ANY(%s)
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'daybreak')
  AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.reltuples DESC
"""
_PRESENT = """
SELECT n.nspname, c.relname, k.conname, k.convalidated
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0
"""


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """One foreign key as the source has it; ``definition`` is PostgreSQL's own rendering."""

    table: TableName
    partitioned: bool
    name: str
    definition: str
    valid: bool
    comment: str | None


def wanted_foreign_keys(source: Connection, excluded: Sequence[int]) -> tuple[list[ForeignKey], list[ForeignKey]]:
    """The source's foreign keys, those of large tables first: those that the target can have, and those
    that refer to one of ``excluded`` (oids)."""
    with source.transaction():
        # Words that the target's newer version reserves have to be quoted.
        source.execute("SET LOCAL quote_all_identifiers = on")
        rows = source.execute(_WANTED, [list(excluded), list(excluded)]).fetchall()
    found = [
        ForeignKey(
            TableName(str(schema), str(table)),
            kind == "p",
            str(name),
            str(definition),
            bool(valid),
            None if comment is None else str(comment),
        )
        for schema, table, kind, name, definition, valid, comment, _ in rows
    ]
    cut = [bool(row[-1]) for row in rows]
    return list(compress(found, [not one for one in cut])), list(compress(found, cut))


class ForeignKeyBuilder:
    """Adds foreign keys to the target, then validates them with several sessions."""

    def __init__(self, target: Server, generation: int, jobs: int, report: Report) -> None:
        self._target, self._generation, self._jobs, self._report = target, generation, jobs, report
        self._lock = threading.Lock()
        self._waiting: list[ForeignKey] = []
        self._done = 0

    def run(self, keys: Sequence[ForeignKey]) -> None:
        """Bring the target to having all ``keys``.

        Raises PermanentError where a lock is not to be had within a minute, or with
        PostgreSQL's message where rows violate one."""
        with self._target.session("foreign keys", self._generation) as connection:
            present = {(str(a), str(b), str(c)): bool(valid) for a, b, c, valid in connection.execute(_PRESENT)}
            for number, key in enumerate(keys, 1):
                if _key(key) not in present:
                    self._add(connection, key)
                self._report(Progress("adding foreign keys", tables_done=number, tables_total=len(keys)))
        self._waiting = [key for key in keys if key.valid and not present.get(_key(key), False)]
        if self._waiting:
            total = len(self._waiting)
            in_parallel(min(self._jobs, total), self._validate, lambda: self._tell(total))

    def _add(self, connection: Connection, key: ForeignKey) -> None:
        deferred = key.valid and not (key.partitioned and connection.info.server_version < _PARTITIONED_NOT_VALID)
        table = sql.Identifier(key.table.schema, key.table.name)
        statement = sql.SQL("ALTER TABLE {}{} ADD CONSTRAINT {} {}{}").format(
            sql.SQL("" if key.partitioned else "ONLY "),
            table,
            sql.Identifier(key.name),
            sql.SQL(key.definition),
            sql.SQL(" NOT VALID" if deferred else ""),
        )

        def add() -> None:
            with fenced(connection, self._target.migration, self._generation):
                connection.execute("SET LOCAL lock_timeout = '100ms'")
                connection.execute(statement)
                if key.comment is not None:
                    connection.execute(
                        sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}").format(
                            sql.Identifier(key.name), table, key.comment
                        )
                    )

        with translated(f"target: foreign key {key.name} of {key.table}"):
            with_short_locks(connection, add, f"adding foreign key {key.name} of {key.table}", _PATIENCE_SECONDS)

    def _validate(self, stop: Stop) -> None:
        with self._target.session("foreign keys", self._generation) as connection, stop.interrupting(connection):
            while not stop.asked and (key := self._next()) is not None:
                with translated(f"target: foreign key {key.name} of {key.table}"), stale_is_conflict():
                    self._validate_one(connection, key)
                with self._lock:
                    self._done += 1

    def _validate_one(self, connection: Connection, key: ForeignKey) -> None:
        statement = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(
            sql.Identifier(key.table.schema, key.table.name), sql.Identifier(key.name)
        )
        with connection.transaction():
            connection.execute(statement)
            # Last, so that nobody who takes over waits for this transaction.
            connection.execute("SELECT daybreak.check_generation(%s, %s)", [self._target.migration, self._generation])

    def _next(self) -> ForeignKey | None:
        with self._lock:
            return self._waiting.pop(0) if self._waiting else None

    def _tell(self, total: int) -> None:
        self._report(Progress("validating foreign keys", tables_done=self._done, tables_total=total))


def _key(key: ForeignKey) -> tuple[str, str, str]:
    return key.table.schema, key.table.name, key.name
