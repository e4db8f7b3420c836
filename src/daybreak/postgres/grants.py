"""The rights that Daybreak needs, as one list: ``daybreak grants`` prints it as a script, ``daybreak
check`` asks the server for each item. Both sides need the same, because both publish and subscribe
in turn. Each item was found by trying: tests/integration/test_grants.py takes every one away and
sees what fails without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from daybreak.model import Side
from daybreak.postgres.server import Connection

Kind = Literal["postgres", "rds"]

# CREATE SUBSCRIPTION without superuser, REPLICATION handed on by a role that has it, and GRANT ..
# WITH SET/INHERIT all came with 16 (release notes).
_DELEGATED = 160000
# GRANT SET ON PARAMETER came with 15.
_PARAMETERS = 150000

_READ_FILE = "pg_catalog.pg_read_file(text, bigint, bigint)"


@dataclass(frozen=True, slots=True)
class GrantItem:
    """One right: why it is needed, the statement that gives it (safe to run again), and the SQL
    expression that says whether ``role`` has it. Without an ``optional`` one Daybreak works, less well."""

    id: str
    object: str
    why: str
    statement: str
    held: sql.Composable
    optional: bool = False


def grant_items(kind: Kind, role: str, owners: tuple[str, ...], version_num: int) -> tuple[GrantItem, ...]:
    """What ``role`` needs on either side, in the order in which a superuser (``postgres``) or the
    master user (``rds``) gives it while connected to the database to migrate.

    ``owners`` are the roles that own the database or anything in it (``inspect.owners``);
    ``version_num`` is the server's (170010). A plain server before 16 needs a superuser and nothing else.
    """
    login = _attribute(role, "login", "LOGIN", "rolcanlogin", "Daybreak connects with it.")
    if version_num < _DELEGATED and kind == "postgres":
        why = "Before PostgreSQL 16 only superusers may create subscriptions and replication roles."
        return (login, _attribute(role, "superuser", "SUPERUSER", "rolsuper", why))
    modern = version_num >= _DELEGATED
    members = tuple(_owner(role, owner, modern) for owner in owners if owner != role)
    return (
        login,
        _attribute(role, "createrole", "CREATEROLE", "rolcreaterole", "It makes the role of the streams."),
        *(_rds(role, modern) if kind == "rds" else (_replication(role),)),
        *((_member(role, "pg_create_subscription", "It creates subscriptions."),) if modern else ()),
        *members,
        _member(role, "pg_signal_backend", "It ends the application's sessions on the side that was closed."),
        _member(role, "pg_monitor", "It sees other sessions, walsenders and progress."),
        *((_log(role),) if kind == "postgres" else ()),
    )


def dms_items(
    kind: Kind, side: Side, dms: str, role: str, owners: tuple[str, ...], version_num: int
) -> tuple[GrantItem, ...]:
    """What AWS DMS's role ``dms`` needs on ``side``, and Daybreak's ``role`` to shut it out.

    On RDS membership in ``rds_superuser`` stands for what only superusers may set."""
    applies = "It applies changes as replication does: foreign keys and triggers have fired on the source."
    replicates = "It streams from a slot of its own."
    needed = [_attribute(dms, "login", "LOGIN", "rolcanlogin", "AWS DMS connects with it.")]
    needed += [_member(dms, owner, "It reads and writes this role's tables.") for owner in owners if owner != dms]
    if side is Side.SOURCE:
        attribute = _attribute(dms, "replication", "REPLICATION", "rolreplication", replicates)
        needed.append(_member(dms, "rds_replication", replicates) if kind == "rds" else attribute)
    elif kind == "rds":
        needed.append(_member(dms, "rds_superuser", applies))
    elif version_num < _PARAMETERS:
        needed.append(_attribute(dms, "superuser", "SUPERUSER", "rolsuper", applies))
    else:
        needed.append(_parameter(dms, "session_replication_role", applies))
    if version_num >= _DELEGATED:
        needed.append(_member(role, dms, "It shuts DMS out once PostgreSQL's own streams take over.", admin=True))
    return tuple(needed)


def grant_script(
    kind: Kind, side: Side, role: str, database: str, owners: tuple[str, ...], version_num: int, dms: str = ""
) -> str:
    """The script that gives exactly ``grant_items``, and with AWS DMS's role ``dms`` also ``dms_items``, all or
    nothing; running it again changes nothing.

    It holds no secret: its header says how to set the password. It refuses to run in another
    database, because rights on functions are each database's own."""
    items = grant_items(kind, role, owners, version_num)
    roles = _create_role(role)
    if dms:
        items += dms_items(kind, side, dms, role, owners, version_num)
        roles += f"\n{_create_role(dms)}"
    who = "a superuser" if kind == "postgres" else "the master user"
    head = (
        f"-- The rights of Daybreak's role on the {side} server. Run as {who}, in the database to migrate:\n"
        "--   psql --no-psqlrc --set ON_ERROR_STOP=1 --dbname DATABASE --file THIS_FILE\n"
        "-- Then set the role's password with psql's \\password, which sends no clear text.\n"
        "-- To take everything back after the migration: DROP OWNED BY the role; DROP ROLE the role;\n"
    )
    body = "".join(f"\n-- {item.why}\n{item.statement}\n" for item in items)
    return f"{head}\nBEGIN;\n\n{_in_database(database)}\n\n{roles}\n{body}\nCOMMIT;\n"


def missing_items(connection: Connection, items: tuple[GrantItem, ...]) -> tuple[GrantItem, ...]:
    """Those of ``items`` that are not held on the server, asked in one query."""
    columns = sql.SQL(", ").join(item.held for item in items)
    row = connection.execute(sql.SQL("SELECT {}").format(columns)).fetchone()
    assert row is not None
    return tuple(item for item, held in zip(items, row, strict=True) if not held)


def _text(query: sql.Composable) -> str:
    return query.as_string(None)


def _in_database(database: str) -> str:
    body = sql.SQL(
        "BEGIN IF current_database() <> {} THEN RAISE EXCEPTION"
        " 'this script is for another database, not for %', current_database(); END IF; END"
    ).format(database)
    return _text(sql.SQL("DO {};").format(_text(body)))


def _create_role(role: str) -> str:
    body = sql.SQL(
        "BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {}) THEN CREATE ROLE {}; END IF; END"
    ).format(role, sql.Identifier(role))
    return _text(sql.SQL("DO {};").format(_text(body)))


def _attribute(role: str, name: str, attribute: str, column: str, why: str) -> GrantItem:
    statement = sql.SQL("ALTER ROLE {} {};").format(sql.Identifier(role), sql.SQL(attribute))
    # Superusers may do everything but log in without LOGIN.
    any_of = sql.SQL("{}" if column == "rolcanlogin" else "({} OR rolsuper)").format(sql.Identifier(column))
    held = sql.SQL("EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {} AND {})").format(role, any_of)
    return GrantItem(f"role-{name}", role, why, _text(statement), held)


def _replication(role: str) -> GrantItem:
    why = "It creates slots, streams from them and makes a role that may."
    return _attribute(role, "replication", "REPLICATION", "rolreplication", why)


def _parameter(role: str, name: str, why: str) -> GrantItem:
    statement = sql.SQL("GRANT SET ON PARAMETER {} TO {};").format(sql.Identifier(name), sql.Identifier(role))
    held = sql.SQL(
        "COALESCE((SELECT pg_catalog.has_parameter_privilege(oid, {}, 'SET') FROM pg_catalog.pg_roles"
        " WHERE rolname = {}), false)"
    ).format(name, role)
    return GrantItem(f"parameter-{name.replace('_', '-')}", role, why, _text(statement), held)


def _member(role: str, group: str, why: str, admin: bool = False) -> GrantItem:
    suffix = sql.SQL(" WITH ADMIN OPTION" if admin else "")
    statement = sql.SQL("GRANT {} TO {}{};").format(sql.Identifier(group), sql.Identifier(role), suffix)
    held = _has_role(role, group, "MEMBER WITH ADMIN OPTION" if admin else "USAGE")
    return GrantItem(f"member-{group.replace('_', '-')}", role, why, _text(statement), held)


def _owner(role: str, owner: str, modern: bool) -> GrantItem:
    # ADMIN: the streams' role becomes a member too, so that PostgreSQL's own copy of a table reads
    # it past row-level security. SET: the apply worker acts as each table's owner (docs, 29.11).
    options = sql.SQL(" WITH ADMIN TRUE, INHERIT TRUE, SET TRUE" if modern else " WITH ADMIN OPTION")
    statement = sql.SQL("GRANT {} TO {}{};").format(sql.Identifier(owner), sql.Identifier(role), options)
    kinds = ("USAGE", "SET", "MEMBER WITH ADMIN OPTION") if modern else ("USAGE", "MEMBER WITH ADMIN OPTION")
    held = sql.SQL(" AND ").join(_has_role(role, owner, kind) for kind in kinds)
    why = "It publishes, guards, reads and applies to this role's tables, and sets the database's read-only default."
    return GrantItem("member-of-owner", owner, why, _text(statement), sql.SQL("({})").format(held))


def _has_role(role: str, group: str, kind: str) -> sql.Composed:
    # By oid, because the function raises where a name does not exist.
    return sql.SQL(
        "COALESCE((SELECT pg_catalog.pg_has_role(r.oid, g.oid, {}) FROM pg_catalog.pg_roles r, pg_catalog.pg_roles g"
        " WHERE r.rolname = {} AND g.rolname = {}), false)"
    ).format(kind, role, group)


def _rds(role: str, modern: bool) -> tuple[GrantItem, ...]:
    why = "It creates slots, streams from them and makes a role that may."
    replication = _member(role, "rds_replication", why, admin=True)
    if modern:
        return (replication,)
    why = "Before PostgreSQL 16 only rds_superuser may create subscriptions."
    return (_member(role, "rds_superuser", why), replication)


def _log(role: str) -> GrantItem:
    # REPLICATION already allows a base backup of these files, so this opens nothing new.
    why = "Optional: it quotes the server log where applying a change failed; PostgreSQL says it nowhere else."
    statement = sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {};").format(sql.SQL(_READ_FILE), sql.Identifier(role))
    held = sql.SQL(
        "COALESCE((SELECT pg_catalog.has_function_privilege(oid, {}, 'EXECUTE')"
        " FROM pg_catalog.pg_roles WHERE rolname = {}), false)"
    ).format(_READ_FILE, role)
    return GrantItem("execute-read-log", role, why, _text(statement), held, optional=True)
