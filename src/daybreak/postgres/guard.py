"""The guard: a BEFORE STATEMENT trigger on every user table that can hold and refuse writes.

Its function takes a shared advisory lock until the transaction ends and then reads a flag. So whoever
takes that lock exclusively waits for the writers in flight and makes new ones wait; and once the flag is
closed, every write of every session fails with SQLSTATE 25006, whatever its role or settings. The flag
is a *sequence*, because ``setval`` is seen at once by every snapshot (REPEATABLE READ included) and
survives a crash (PostgreSQL docs, "Sequence Manipulation Functions"). Triggers fire in mode origin
only, so logical replication's apply passes (docs, session_replication_role). A superuser who sets
``session_replication_role = replica`` passes too, and so does DDL: the stamp is there for the latter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from psycopg import errors, sql

from daybreak.errors import PermanentError
from daybreak.model import GuardState, TableName
from daybreak.postgres.control import fenced
from daybreak.postgres.server import Connection

TRIGGER = "daybreak_guard"
# "daybreak" in ASCII; advisory locks are per database, and so is a migration.
LOCK_KEY = int.from_bytes(b"daybreak", "big")
_OPEN, _CLOSED = 1, 2
_SLICE_MS = 100

_FUNCTION = sql.SQL(
    """
CREATE OR REPLACE FUNCTION daybreak.guard() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $guard$
DECLARE
    flag bigint;
BEGIN
    IF session_user = {exempt} AND current_setting('application_name') LIKE 'daybreak:%' THEN
        RETURN NULL;
    END IF;
    PERFORM pg_advisory_xact_lock_shared({key});
    SELECT last_value INTO flag FROM daybreak.guard_flag;
    IF flag <> {open} THEN
        RAISE EXCEPTION 'this database is not the primary now (migration {migration})'
            USING ERRCODE = '25006', HINT = 'Connect again: the primary accepts writes.';
    END IF;
    RETURN NULL;
END
$guard$
"""
)

_GUARDED = """
SELECT n.nspname, c.relname
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.tgname = %s AND t.tgenabled IN ('O', 'A')
  AND t.tgfoid = (SELECT p.oid FROM pg_proc p JOIN pg_namespace s ON s.oid = p.pronamespace
                  WHERE s.nspname = 'daybreak' AND p.proname = 'guard')
"""

# What decides whether replication and guard still cover everything, and nothing that plain work
# (TRUNCATE, VACUUM, ANALYZE) changes.
_STAMP = """
SELECT md5(coalesce(string_agg(part, ',' ORDER BY part), ''))
FROM (
    SELECT concat_ws(':', 'c', c.oid, c.relname, c.relkind, c.relreplident, c.relnamespace) AS part
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    UNION ALL
    SELECT concat_ws(':', 'a', a.attrelid, sum(hashtext(concat_ws(':', a.attnum, a.xmin))))
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND a.attnum > 0
    GROUP BY a.attrelid
    UNION ALL
    SELECT concat_ws(':', 't', t.oid, t.xmin, t.tgenabled) FROM pg_trigger t
    UNION ALL
    SELECT concat_ws(':', 'p', oid, xmin) FROM pg_publication_rel
) AS parts
"""


def state(connection: Connection) -> GuardState:
    """What the flag says: OPEN or CLOSED; ABSENT where this database has no guard function."""
    found = connection.execute("SELECT to_regprocedure('daybreak.guard()') IS NOT NULL").fetchone()
    if found is None or not found[0]:
        return GuardState.ABSENT
    row = connection.execute("SELECT last_value FROM daybreak.guard_flag").fetchone()
    return GuardState.OPEN if row is not None and row[0] == _OPEN else GuardState.CLOSED


def guarded(connection: Connection) -> frozenset[TableName]:
    """Tables that carry an enabled guard."""
    return frozenset(TableName(str(a), str(b)) for a, b in connection.execute(_GUARDED, [TRIGGER]))


def stamp(connection: Connection) -> str:
    """A digest that any DDL on user tables, triggers or publications changes; local to this server."""
    row = connection.execute(_STAMP).fetchone()
    return "" if row is None else str(row[0])


def install_function(connection: Connection, migration: str, exempt: str) -> None:
    """Create or replace the trigger function; Daybreak's own sessions (role ``exempt``) pass it.

    Others of that role do not: somebody may have given an application the migration role."""
    connection.execute(
        _FUNCTION.format(
            exempt=sql.Literal(exempt),
            key=sql.Literal(LOCK_KEY),
            open=sql.Literal(_OPEN),
            migration=sql.SQL(migration),  # letters, digits and _ only: validated in config
        )
    )


def set_flag(connection: Connection, state: GuardState) -> None:
    """Open or close; at once, for everybody, and not undone by a rollback."""
    connection.execute(flag_statement(state))


def flag_statement(state: GuardState) -> sql.Composed:
    """The statement behind ``set_flag``, for a batch."""
    value = _OPEN if state is GuardState.OPEN else _CLOSED
    return sql.SQL("SELECT setval('daybreak.guard_flag', {})").format(sql.Literal(value))


def attach(
    connection: Connection, tables: Iterable[TableName], migration: str, generation: int, patience_seconds: float
) -> None:
    """Put the trigger on every table of ``tables`` that lacks it, one short transaction each.

    CREATE TRIGGER waits for writers in flight on that table, so that afterwards no transaction has
    written to it unguarded. Raises PermanentError naming the blocking session after the patience."""
    covered = guarded(connection)
    statement = sql.SQL(
        "CREATE OR REPLACE TRIGGER {} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {}"
        " FOR EACH STATEMENT EXECUTE FUNCTION daybreak.guard()"
    )
    enable = sql.SQL("ALTER TABLE {} ENABLE TRIGGER {}")

    for table in tables:
        if table in covered:
            continue
        name, trigger = sql.Identifier(table.schema, table.name), sql.Identifier(TRIGGER)

        def put(name: sql.Identifier = name, trigger: sql.Identifier = trigger) -> None:
            with fenced(connection, migration, generation):
                connection.execute(_slice())
                connection.execute(statement.format(trigger, name))
                connection.execute(enable.format(name, trigger))

        with_short_locks(connection, put, f"guarding {table}", patience_seconds)


def detach(connection: Connection, migration: str, generation: int, patience_seconds: float) -> None:
    """Drop the trigger from every table that has it, one short transaction each, with retries."""
    statement = sql.SQL("DROP TRIGGER IF EXISTS {} ON {}")
    for table in sorted(_all_with_trigger(connection)):
        name = sql.Identifier(table.schema, table.name)

        def drop(name: sql.Identifier = name) -> None:
            with fenced(connection, migration, generation):
                connection.execute(_slice())
                connection.execute(statement.format(sql.Identifier(TRIGGER), name))

        with_short_locks(connection, drop, f"dropping the guard of {table}", patience_seconds)


def _all_with_trigger(connection: Connection) -> frozenset[TableName]:
    rows = connection.execute(_GUARDED.replace("AND t.tgenabled IN ('O', 'A')", ""), [TRIGGER])
    return frozenset(TableName(str(a), str(b)) for a, b in rows)


def _slice() -> sql.Composed:
    return sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(_SLICE_MS))


def with_short_locks(connection: Connection, act: Callable[[], None], what: str, patience_seconds: float) -> None:
    """Run ``act`` until it gets its locks: waits of at most 100 ms with pauses between, so that nobody
    queues behind a lock that is not to be had. Raises PermanentError after ``patience_seconds``."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return act()
        except (errors.LockNotAvailable, errors.DeadlockDetected) as error:
            if time.monotonic() > deadline:
                holder = longest_transaction(connection)[1]
                raise PermanentError(
                    f"{what}: another session kept its lock for {patience_seconds:g} s. {holder}".rstrip(),
                    "End that transaction, then run the same command again.",
                ) from error
            time.sleep(_SLICE_MS / 1000)


def longest_transaction(connection: Connection) -> tuple[float, str]:
    """Age in seconds and description of the oldest open transaction of the application, if any."""
    row = connection.execute(
        "SELECT extract(epoch FROM clock_timestamp() - xact_start)::float8, pid, usename, state"
        " FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL"
        " AND backend_type = 'client backend' AND application_name NOT LIKE 'daybreak:%%'"
        " ORDER BY xact_start LIMIT 1",
        [],
    ).fetchone()
    return (0.0, "") if row is None else (float(str(row[0])), f"(pid {row[1]}, user {row[2]}, {row[3]})")


def rollbacks(connection: Connection) -> int:
    """How many transactions of this database failed or were rolled back since its statistics began
    (PostgreSQL docs, pg_stat_database)."""
    row = connection.execute("SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()").fetchone()
    return 0 if row is None else int(str(row[0]))


def prepared_transactions(connection: Connection) -> int:
    """How many prepared transactions of this database wait for their second phase."""
    row = connection.execute("SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()").fetchone()
    return 0 if row is None else int(str(row[0]))
