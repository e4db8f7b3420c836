"""The database-level settings that Daybreak touches, saved before and restored exactly.

Only ``default_transaction_read_only`` is touched: ``on`` for the database while a side is closed (the
routing hint that libpq's ``target_session_attrs=read-write`` follows), ``off`` for the migration role
in that database, or a restarted apply worker would inherit the hint and stop applying.
PostgreSQL docs: ALTER DATABASE, ALTER ROLE, pg_db_role_setting.
"""

from __future__ import annotations

from psycopg import sql

from daybreak.postgres.server import Connection

_SETTING = "default_transaction_read_only"
_READ = """
SELECT split_part(entry, '=', 2)
FROM pg_db_role_setting s, unnest(s.setconfig) AS entry
WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND s.setrole = coalesce((SELECT oid FROM pg_roles WHERE rolname = %s), 0)
  AND split_part(entry, '=', 1) = 'default_transaction_read_only'
"""


def database_default(connection: Connection) -> str | None:
    """The database's own value of the setting, or None where it has none."""
    row = connection.execute(_READ, [None]).fetchone()
    return None if row is None else str(row[0])


def save_and_exempt(connection: Connection, migration: str) -> None:
    """Remember the present settings (once) and exempt the migration role from the routing hint."""
    saved = connection.execute(
        "SELECT 1 FROM daybreak.control WHERE migration = %s AND settings_saved", [migration]
    ).fetchone()
    if saved is None:
        row = connection.execute(_READ, [connection.info.user]).fetchone()
        connection.execute(
            "UPDATE daybreak.control SET settings_saved = true, saved_database_setting = %s, saved_role_setting = %s"
            " WHERE migration = %s",
            [database_default(connection), None if row is None else row[0], migration],
        )
    connection.execute(_set_role(connection, "off"))


def hint_statement(connection: Connection, closed: bool, migration: str) -> sql.Composed:
    """The statement that sets the routing hint of a closed side, or restores what was before."""
    if closed:
        return _set_database(connection, "on")
    row = connection.execute(
        "SELECT saved_database_setting FROM daybreak.control WHERE migration = %s", [migration]
    ).fetchone()
    return _set_database(connection, None if row is None or row[0] is None else str(row[0]))


def restore(connection: Connection, migration: str, keep_hint: bool) -> None:
    """Put both settings back; with ``keep_hint`` the database stays read-only by default."""
    row = connection.execute(
        "SELECT settings_saved, saved_role_setting FROM daybreak.control WHERE migration = %s", [migration]
    ).fetchone()
    if row is None or not row[0]:
        return
    if not keep_hint:
        connection.execute(hint_statement(connection, False, migration))
    connection.execute(_set_role(connection, None if row[1] is None else str(row[1])))


def _set_database(connection: Connection, value: str | None) -> sql.Composed:
    return _alter(sql.SQL("ALTER DATABASE {}").format(sql.Identifier(connection.info.dbname)), value)


def _set_role(connection: Connection, value: str | None) -> sql.Composed:
    info = connection.info
    target = sql.SQL("ALTER ROLE {} IN DATABASE {}").format(sql.Identifier(info.user), sql.Identifier(info.dbname))
    return _alter(target, value)


def _alter(target: sql.Composed, value: str | None) -> sql.Composed:
    if value is None:
        return sql.SQL("{} RESET {}").format(target, sql.Identifier(_SETTING))
    return sql.SQL("{} SET {} = {}").format(target, sql.Identifier(_SETTING), sql.Literal(value))
