"""The schema ``daybreak`` that both databases carry: who may act, what was closed and opened.

The control row fences effects: whoever takes charge raises its generation, and every effect checks
it in its own transaction, so that a paused controller that wakes up changes nothing (I5). The row also
holds what a restarted controller needs to finish a half-done switchover, and the settings to restore.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import errors, sql

from daybreak.errors import StateConflict
from daybreak.model import Side
from daybreak.postgres.server import Connection

# Raised by daybreak.check_generation; class "DB" is not used by PostgreSQL (docs, Appendix A).
STALE_GENERATION = "DB001"

_TABLES = """
CREATE SCHEMA IF NOT EXISTS daybreak;
CREATE TABLE IF NOT EXISTS daybreak.control (
    migration text PRIMARY KEY,
    side text NOT NULL,
    owner text NOT NULL,
    generation bigint NOT NULL,
    closed_by integer NOT NULL DEFAULT 0,
    closed_at timestamptz,
    opened_by integer NOT NULL DEFAULT 0,
    settings_saved boolean NOT NULL DEFAULT false,
    saved_database_setting text,
    saved_role_setting text
);
CREATE TABLE IF NOT EXISTS daybreak.token (side text PRIMARY KEY, token text NOT NULL, at timestamptz NOT NULL);
CREATE TABLE IF NOT EXISTS daybreak.route (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    primary_side text NOT NULL,
    read_weight integer NOT NULL,
    at timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS daybreak.done (step text PRIMARY KEY, detail text NOT NULL, at timestamptz NOT NULL);
CREATE TABLE IF NOT EXISTS daybreak.table_load (
    schema_name text,
    table_name text,
    state text NOT NULL CHECK (state IN ('copied', 'join')),
    rows bigint NOT NULL,
    bytes bigint NOT NULL,
    seconds double precision NOT NULL,
    PRIMARY KEY (schema_name, table_name)
);
CREATE TABLE IF NOT EXISTS daybreak.statement (digest text PRIMARY KEY);
CREATE SEQUENCE IF NOT EXISTS daybreak.guard_flag MINVALUE 1 MAXVALUE 2 START 1;
GRANT USAGE ON SCHEMA daybreak TO PUBLIC;
GRANT SELECT ON daybreak.route TO PUBLIC;
CREATE OR REPLACE FUNCTION daybreak.check_generation(wanted_migration text, wanted bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    found bigint;
BEGIN
    SELECT generation INTO found FROM daybreak.control WHERE migration = wanted_migration FOR SHARE;
    IF found IS DISTINCT FROM wanted THEN
        RAISE EXCEPTION 'generation % acts on this database, not %', found, wanted USING ERRCODE = 'DB001';
    END IF;
END
$$;
"""

_SELECT = """
SELECT side, owner, generation, closed_by, opened_by FROM daybreak.control WHERE migration = %s
"""


@dataclass(frozen=True, slots=True)
class Control:
    """One side's control row. ``closed_by`` and ``opened_by`` are switchover numbers, 0 = never."""

    side: Side
    owner: str
    generation: int
    closed_by: int
    opened_by: int


def read_control(connection: Connection, migration: str) -> Control | None:
    """The control row of ``migration``, or None where this database has none."""
    try:
        row = connection.execute(_SELECT, [migration]).fetchone()
    except (errors.UndefinedTable, errors.InvalidSchemaName):
        return None
    return None if row is None else Control(Side(str(row[0])), str(row[1]), *(int(str(n)) for n in row[2:]))


def install(connection: Connection, migration: str, side: Side) -> None:
    """Create schema, tables and this side's control row (generation 0) where they are missing.

    Raises StateConflict where the database belongs to another migration or is its other side."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('daybreak install'))")
        connection.execute(_TABLES)
        row = connection.execute("SELECT migration, side FROM daybreak.control").fetchone()
        if row is None:
            connection.execute(
                "INSERT INTO daybreak.control (migration, side, owner, generation) VALUES (%s, %s, '', 0)",
                [migration, side],
            )
        elif row != (migration, side):
            raise StateConflict(
                f"The {side} database already is the {row[1]} of migration {row[0]}.",
                f"Abort or finish {row[0]} first, or correct daybreak.toml.",
            )


def raise_generation(connection: Connection, migration: str, owner: str, generation: int) -> None:
    """Make ``generation`` the only one that may act; raises StateConflict where it is not the highest."""
    row = connection.execute(
        "UPDATE daybreak.control SET owner = %s, generation = %s WHERE migration = %s AND generation < %s RETURNING 1",
        [owner, generation, migration, generation],
    ).fetchone()
    if row is None:
        raise StateConflict(
            "Another Daybreak took charge at the same moment.", "Look at `daybreak status`, then run the command again."
        )


@contextmanager
def fenced(connection: Connection, migration: str, generation: int) -> Iterator[Connection]:
    """A transaction in which ``generation`` is known to be the acting one, until it ends.

    Raises StateConflict where it is not; then nothing was done."""
    with stale_is_conflict(), connection.transaction():
        connection.execute("SELECT daybreak.check_generation(%s, %s)", [migration, generation])
        yield connection


@contextmanager
def stale_is_conflict() -> Iterator[None]:
    """Turn the error of ``daybreak.check_generation`` into StateConflict."""
    try:
        yield
    except errors.Error as error:
        if error.sqlstate == STALE_GENERATION:
            raise StateConflict(
                f"A newer Daybreak took charge: {error.diag.message_primary}.",
                "This one changed nothing more. See `daybreak status`.",
            ) from error
        if isinstance(error, errors.UndefinedFunction | errors.InvalidSchemaName) and "daybreak" in str(error):
            raise StateConflict("The migration was cleaned up by somebody else.", "See `daybreak status`.") from error
        raise


def rivals(connection: Connection, migration: str) -> tuple[str, ...]:
    """Names of controllers of ``migration`` that are connected to this server right now."""
    rows = connection.execute(
        "SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name ~ %s AND pid <> pg_backend_pid()",
        [f"^daybreak:{migration}:[0-9]+:controller$"],
    ).fetchall()
    return tuple(str(row[0]) for row in rows)


def end_sessions(connection: Connection, migration: str, below: int) -> int:
    """End Daybreak's own sessions of generations 1 to ``below`` - 1; returns how many there were.

    Generation 0 only looks (``daybreak status``) and is left alone."""
    rows = connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name ~ %s AND split_part(application_name, ':', 3)::bigint BETWEEN 1 AND %s - 1"
        " AND pid <> pg_backend_pid()",
        [f"^daybreak:{migration}:[0-9]+:", below],
    ).fetchall()
    return len(rows)


def mark_done(connection: Connection, step: str, detail: str = "") -> None:
    """Remember in this database that ``step`` holds."""
    connection.execute(
        "INSERT INTO daybreak.done VALUES (%s, %s, now()) ON CONFLICT (step) DO UPDATE SET detail = excluded.detail",
        [step, detail],
    )


def done_steps(connection: Connection) -> dict[str, str]:
    """Steps that hold in this database, with their details; empty where there is no schema."""
    try:
        return {str(step): str(detail) for step, detail in connection.execute("SELECT step, detail FROM daybreak.done")}
    except (errors.UndefinedTable, errors.InvalidSchemaName):
        return {}


def retire(connection: Connection) -> None:
    """Of a side that stays fenced keep only what the fence needs, under generation 0 (nobody acts)."""
    with connection.transaction():
        connection.execute("UPDATE daybreak.control SET generation = 0, owner = ''")
        connection.execute(
            "DROP TABLE IF EXISTS daybreak.token, daybreak.route, daybreak.done, daybreak.table_load,"
            " daybreak.statement"
        )


def drop_schema(connection: Connection) -> None:
    """Remove the schema and all in it, the guard's triggers on user tables included."""
    connection.execute(sql.SQL("DROP SCHEMA IF EXISTS daybreak CASCADE"))
