"""Taking away from the target what a migration brought there, and nothing else.

Before the first object is made, ``remember_baseline`` writes down in Daybreak's own schema what the
database holds. ``drop_transferred`` drops what has come since and restores what the transfer may have
changed in what was there: privileges and comment of schema ``public`` and default privileges.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from psycopg import sql

from daybreak.postgres.control import done_steps, fenced, mark_done
from daybreak.postgres.objects import DatabaseObject, inventory
from daybreak.postgres.server import Connection

_STEP = "baseline"
_PUBLIC = "public"
# One DROP TABLE for many tables saves round trips; a transaction's locks must fit the lock table.
_BATCH = 100
_LOCK_TIMEOUT = "10s"

_PUBLIC_STATE = """
SELECT coalesce(nspacl::text, ''), coalesce(obj_description(oid, 'pg_namespace'), '')
FROM pg_namespace WHERE nspname = 'public'
"""
_DEFAULT_ACLS = """
SELECT pg_get_userbyid(a.defaclrole), coalesce(n.nspname, ''), a.defaclobjtype, a.defaclacl::text
FROM pg_default_acl a LEFT JOIN pg_namespace n ON n.oid = a.defaclnamespace
"""
# acldefault() calls sequences s, pg_default_acl S; the other letters agree.
_BUILT_IN = "SELECT acldefault(replace(%s, 'S', 's')::\"char\", oid)::text FROM pg_roles WHERE rolname = %s"
_GRANTS = """
SELECT CASE WHEN grantee <> 0 THEN pg_get_userbyid(grantee) END, privilege_type, is_grantable
FROM aclexplode(%s::text::aclitem[])
"""
_DEFAULT_KINDS = {"r": "TABLES", "S": "SEQUENCES", "f": "FUNCTIONS", "T": "TYPES", "n": "SCHEMAS", "L": "LARGE OBJECTS"}

DefaultAcls = dict[tuple[str, str, str], str]


def remember_baseline(connection: Connection, migration: str, generation: int) -> None:
    """Write down what the database holds before the transfer; does nothing the second time."""
    if _STEP in done_steps(connection):
        return
    public = connection.execute(_PUBLIC_STATE).fetchone()
    baseline = {
        "objects": [one.key for one in inventory(connection)],
        "public": public,
        "defaults": [[*key, acl] for key, acl in _default_acls(connection).items()],
    }
    with fenced(connection, migration, generation):
        mark_done(connection, _STEP, json.dumps(baseline))


def drop_transferred(connection: Connection, migration: str, generation: int) -> None:
    """Drop everything that came after ``remember_baseline``; does nothing where that never ran.

    Can be run again after being killed. Raises TransientError where somebody keeps a table locked."""
    remembered = done_steps(connection).get(_STEP)
    if remembered is None:
        return
    baseline = json.loads(remembered)
    kept = {(kind, identity) for kind, identity in baseline["objects"]}
    ours = [one for one in inventory(connection) if one.key not in kept]
    for statement in _drops(ours):
        with fenced(connection, migration, generation):
            connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(_LOCK_TIMEOUT))
            connection.execute(sql.SQL("SET LOCAL client_min_messages = error"))
            connection.execute(statement)
    with fenced(connection, migration, generation):
        for (role, schema, kind), acl in _changed_defaults(connection, baseline["defaults"]).items():
            _restore_default(connection, role, schema, kind, acl)
        if baseline["public"] is not None:
            _restore_public(connection, *baseline["public"])
        connection.execute("DELETE FROM daybreak.statement")


def _drops(objects: Sequence[DatabaseObject]) -> Iterator[sql.Composed]:
    """CASCADE takes what hangs on them; IF EXISTS passes what an earlier one took along."""
    tables = [one for one in objects if one.kind == "table"]
    groups = [tables[start : start + _BATCH] for start in range(0, len(tables), _BATCH)]
    groups += [[one] for one in objects if one.kind != "table"]
    for group in groups:
        names = sql.SQL(", ").join(sql.SQL(one.identity) for one in group)
        yield sql.SQL("DROP {} IF EXISTS {} CASCADE").format(sql.SQL(group[0].keyword), names)


def _default_acls(connection: Connection) -> DefaultAcls:
    rows = connection.execute(_DEFAULT_ACLS)
    return {(str(role), str(schema), str(kind)): str(acl) for role, schema, kind, acl in rows}


def _changed_defaults(connection: Connection, remembered: Sequence[Sequence[str]]) -> DefaultAcls:
    """What the default privileges must become where they are not what they were (empty: none)."""
    before = {(role, schema, kind): acl for role, schema, kind, acl in remembered}
    now = _default_acls(connection)
    return {key: before.get(key, "") for key in now.keys() | before.keys() if now.get(key) != before.get(key)}


def _restore_default(connection: Connection, role: str, schema: str, kind: str, acl: str) -> None:
    where = sql.SQL("IN SCHEMA {}").format(sql.Identifier(schema)) if schema else sql.SQL("")
    head = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} {} ").format(sql.Identifier(role), where)
    now = _default_acls(connection).get((role, schema, kind), "")
    if not schema:
        # Without an entry of their own, global defaults are the built-in ones (docs, pg_default_acl).
        built_in = connection.execute(_BUILT_IN, [kind, role]).fetchone()
        acl, now = acl or _text(built_in), now or _text(built_in)
    for statement in _replacing(connection, now, acl, sql.SQL(_DEFAULT_KINDS[kind])):
        connection.execute(head + statement)


def _restore_public(connection: Connection, acl: str, comment: str) -> None:
    row = connection.execute(_PUBLIC_STATE).fetchone()
    if row is None or row == (acl, comment):
        return
    schema = sql.SQL("SCHEMA {}").format(sql.Identifier(_PUBLIC))
    if row[0] != acl:
        for statement in _replacing(connection, str(row[0]), acl, schema):
            connection.execute(statement)
    if row[1] != comment:
        connection.execute(sql.SQL("COMMENT ON {} IS {}").format(schema, sql.Literal(comment or None)))


def _replacing(connection: Connection, now: str, wanted: str, target: sql.Composable) -> Iterator[sql.Composed]:
    """REVOKE and GRANT that turn the privileges ``now`` into ``wanted`` (both as aclitem[] text)."""
    for grantee in sorted({name for name, _, _ in _grants(connection, now)}, key=str):
        yield sql.SQL("REVOKE ALL ON {} FROM {}").format(target, _role(grantee))
    for grantee, privilege, grantable in _grants(connection, wanted):
        option = sql.SQL(" WITH GRANT OPTION" if grantable else "")
        yield sql.SQL("GRANT {} ON {} TO {}{}").format(sql.SQL(privilege), target, _role(grantee), option)


def _grants(connection: Connection, acl: str) -> list[tuple[str | None, str, bool]]:
    rows = connection.execute(_GRANTS, [acl or "{}"]).fetchall()
    return [(None if who is None else str(who), str(what), bool(grantable)) for who, what, grantable in rows]


def _role(name: str | None) -> sql.Composable:
    return sql.SQL("PUBLIC") if name is None else sql.Identifier(name)


def _text(row: tuple[object, ...] | None) -> str:
    return "" if row is None else str(row[0])
