"""Checks of server and database settings that replication or the application depends on."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from daybreak.model import Side
from daybreak.postgres.server import Connection
from daybreak.preflight.context import Context, Found, set_parameter, statement


def wal_level(context: Context) -> Iterator[Found]:
    """wal_level is logical."""
    for side, connection in context.each():
        row = connection.execute(
            "SELECT current_setting('wal_level'), to_regrole('rds_superuser') IS NOT NULL"
        ).fetchone()
        assert row is not None
        if row[0] != "logical":
            message = f"wal_level is {row[0]}: changes can't be streamed from here."
            name, value = ("rds.logical_replication", "1") if row[1] else ("wal_level", "logical")
            yield Found("blocker", str(side), message, set_parameter(connection, name, value))


def read_only_default(context: Context) -> Iterator[Found]:
    """No default_transaction_read_only is set on the database or on roles: Daybreak uses it to tell
    clients which side is closed."""
    query = """
        SELECT r.rolname, d.datname
        FROM pg_db_role_setting s
        LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase,
        unnest(s.setconfig) AS entry
        WHERE split_part(entry, '=', 1) = 'default_transaction_read_only'
          AND split_part(entry, '=', 2) NOT IN ('off', 'false', 'no', '0', 'f')
          AND (s.setdatabase = 0 OR d.datname = current_database())"""
    for side, connection in context.each():
        if context.begun(side):
            continue
        for role, database in connection.execute(query):
            reset = "RESET default_transaction_read_only;"
            if role is None:
                what, fix = f"database {database}", statement(f"ALTER DATABASE {{}} {reset}", str(database))
            elif database is None:
                what, fix = f"role {role}", statement(f"ALTER ROLE {{}} {reset}", str(role))
            else:
                what = f"role {role} in database {database}"
                fix = statement(f"ALTER ROLE {{}} IN DATABASE {{}} {reset}", str(role), str(database))
            message = f"default_transaction_read_only is on for {what}: clients would take this side for closed."
            yield Found("blocker", f"{side} {what}", message, fix)


def encoding(context: Context) -> Iterator[Found]:
    """Both databases have one encoding."""
    source, target = (_one(context.connections[side], "SHOW server_encoding") for side in Side)
    if source != target:
        message = f"The source is encoded in {source}, the target in {target}."
        fix = f"CREATE DATABASE {{}} ENCODING '{source}' TEMPLATE template0;"
        yield Found("blocker", "target", message, statement(fix, context.servers[Side.TARGET].database))


def locale(context: Context) -> Iterator[Found]:
    """Both databases sort and compare text alike."""
    query = """
        SELECT jsonb_build_object('provider', coalesce(d->>'datlocprovider', 'c'), 'collate', d->>'datcollate',
          'ctype', d->>'datctype', 'locale', coalesce(d->>'datlocale', d->>'daticulocale'))
        FROM (SELECT to_jsonb(d) AS d FROM pg_database d WHERE datname = current_database()) AS here"""
    found = {}
    for side, connection in context.each():
        row = connection.execute(query).fetchone()
        assert row is not None
        assert isinstance(row[0], dict)
        found[side] = {name: normal_locale(value) for name, value in row[0].items()}
    source, target = found[Side.SOURCE], found[Side.TARGET]
    for name in source:
        if source[name] != target[name]:
            message = f"The {name} of the source database is {source[name]}, of the target {target[name]}:"
            message += " text may sort otherwise, and ranges of text partitions may differ."
            fix = (
                "Create the target database with the source's locale (CREATE DATABASE .. LOCALE .. TEMPLATE template0),"
            )
            yield Found("warning", f"target {name}", message, f"{fix} or make sure that no query depends on it.")


def normal_locale(name: str | None) -> str:
    """A locale's name without the freedom of spelling that operating systems take. Pure."""
    if name is None:
        return "none"
    language, dot, charset = name.partition(".")
    return "C" if language == "POSIX" else language + dot + charset.lower().replace("-", "")


def database_settings(context: Context) -> Iterator[Found]:
    """What ALTER DATABASE .. SET and ALTER ROLE .. SET gave the source, the target has, too: a dump of
    one database leaves it out."""
    query = """
        SELECT r.rolname, s.setdatabase <> 0, split_part(entry, '=', 1), substr(entry, strpos(entry, '=') + 1)
        FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) AS entry
        WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
          AND split_part(entry, '=', 1) <> 'default_transaction_read_only'
          AND (s.setdatabase <> 0 OR r.oid IN (
            SELECT refobjid FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass
              AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())))
        ORDER BY 1, 2, 3"""
    have = set(context.target.execute(query))
    database = context.servers[Side.TARGET].database
    for role, local, name, value in context.source.execute(query):
        if (role, local, name, value) in have:
            continue
        where = sql.SQL("{} {}").format(sql.SQL("DATABASE"), sql.Identifier(database))
        if role is not None:
            inside = sql.SQL(" IN DATABASE {}").format(sql.Identifier(database)) if local else sql.SQL("")
            where = sql.SQL("ROLE {}{}").format(sql.Identifier(str(role)), inside)
        # Names of settings may have dots, and lists must stay lists: neither is quoted as a whole.
        alter = sql.SQL("ALTER {} SET {} = {};").format(
            where, sql.SQL(str(name)), _setting_value(str(name), str(value))
        )
        who = "the database" if role is None else f"role {role}"
        message = f"{who} has {name} = {value} on the source and not on the target."
        yield Found("warning", f"target {name}", message, alter.as_string(None))


def _setting_value(name: str, value: str) -> sql.Composable:
    # Settings that are lists of names are stored in the form that SET takes (docs: pg_dump does the same).
    lists = ("search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries")
    return sql.SQL(value) if name in lists else sql.Literal(value)


def _one(connection: Connection, query: str) -> str:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return str(row[0])
