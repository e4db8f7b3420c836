"""Owners and privileges as on the source, as far as the target's roles allow.

A role that is missing on the target, or that the migration role may not act as, costs ownership or
grants but never the migration: what could not be done is returned as text for a person. Restored
objects first belong to the migration role.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import psycopg
from psycopg import errors, sql

from daybreak.postgres.control import fenced
from daybreak.postgres.dump import Entry
from daybreak.postgres.objects import DatabaseObject, inventory
from daybreak.postgres.server import Connection

# Privileges, comments and labels: without them the data is complete.
OPTIONAL_KINDS = frozenset({"ACL", "DEFAULT ACL", "COMMENT", "SECURITY LABEL"})
# A right or a role is missing; a sequence has to stay with its table's owner; a label's provider is
# not loaded.
_FORGIVEN = (
    errors.InsufficientPrivilege,
    errors.UndefinedObject,
    errors.FeatureNotSupported,
    errors.InvalidParameterValue,
)
_SET_ROLE = 160000
# A transaction locks every object that it alters, and the lock table is finite.
_BATCH = 100

# Roles that own something here, have privileges on it or are named by a policy.
_ROLES = """
SELECT DISTINCT r.rolname FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid
WHERE s.refclassid = 'pg_authid'::regclass AND s.deptype IN ('o', 'a', 'r')
  AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = s.classid AND d.objid = s.objid AND d.deptype = 'e')
ORDER BY 1
"""
# As whom the session's role may act; MEMBER meant that too before 16 split it.
_ACTABLE = "SELECT rolname FROM pg_roles WHERE pg_has_role(oid, %s)"
# Owners must be allowed to create in the schema (docs, ALTER TABLE .. OWNER TO).
_LACKING_CREATE = """
SELECT DISTINCT n.nspname, r.rolname
FROM unnest(%s::text[], %s::text[]) w (schema, role)
JOIN pg_namespace n ON n.nspname = w.schema JOIN pg_roles r ON r.rolname = w.role
WHERE NOT has_schema_privilege(r.oid, n.oid, 'CREATE')
"""
# pg_dump writes one statement for each grant, with nothing in it but words and identifiers.
_STATEMENT = re.compile(r'(?:"(?:[^"]|"")*"|[^";])+;')
_AS_GRANTOR = ("SET SESSION AUTHORIZATION", "RESET SESSION AUTHORIZATION")


def missing_roles(source: Connection, target: Connection) -> tuple[str, ...]:
    """Roles that own or may use something in the source database and don't exist on the target."""
    wanted = [str(name) for (name,) in source.execute(_ROLES)]
    there = {str(name) for (name,) in target.execute("SELECT rolname FROM pg_roles")}
    return tuple(name for name in wanted if name not in there)


def run_optional(connection: Connection, migration: str, generation: int, entry: Entry) -> list[str]:
    """Run privileges or a comment; statements that need a missing role or right are left out and
    returned. Any other error is raised."""
    try:
        with fenced(connection, migration, generation):
            connection.execute(entry.sql.encode(errors="surrogateescape"))
    except _FORGIVEN as error:
        if "ACL" not in entry.kind:
            return [f"{entry}: {_reason(error)}"]
    else:
        return []
    return list(_one_by_one(connection, migration, generation, entry.sql))


def _one_by_one(connection: Connection, migration: str, generation: int, script: str) -> Iterator[str]:
    """Grants made by a grantee with grant option are made by the owner instead: to act as the grantor
    takes a superuser."""
    for statement in _STATEMENT.findall(script):
        text = statement.strip()
        if text.startswith(_AS_GRANTOR):
            continue
        try:
            with fenced(connection, migration, generation):
                connection.execute(text.encode(errors="surrogateescape"))
        except _FORGIVEN as error:
            yield f"{text} ({_reason(error)})"


def apply_owners(source: Connection, target: Connection, migration: str, generation: int) -> list[str]:
    """Give every object of the target that is also on the source the owner it has there.

    Returns what could not be; those objects stay with their present owner, the migration role."""
    theirs = {one.key: one.owner for one in inventory(source)}
    wrong = [one for one in inventory(target) if one.has_owner and theirs.get(one.key, one.owner) != one.owner]
    kind = "SET" if target.info.server_version >= _SET_ROLE else "MEMBER"
    actable = {str(name) for (name,) in target.execute(_ACTABLE, [kind])}
    left_out = [
        f"{one.kind} {one.identity} stays with {one.owner}: {target.info.user} may not act as {theirs[one.key]}"
        for one in wrong
        if theirs[one.key] not in actable
    ]
    possible = [(one, theirs[one.key]) for one in wrong if theirs[one.key] in actable]
    # Sequences follow their tables. Schemas come last: until then we may change what is in them.
    for batch in _batches([pair for pair in possible if pair[0].kind != "schema"]):
        left_out += _give(target, migration, generation, batch)
    for batch in _batches([pair for pair in possible if pair[0].kind == "schema"]):
        left_out += _give(target, migration, generation, batch)
    return left_out


def _give(
    connection: Connection, migration: str, generation: int, batch: Sequence[tuple[DatabaseObject, str]]
) -> list[str]:
    """One transaction, in which the new owners may also create in the objects' schemas."""
    left_out = []
    create = sql.SQL("{} CREATE ON SCHEMA {} {} {}")
    with fenced(connection, migration, generation):
        schemas, owners = [one.schema for one, _ in batch], [owner for _, owner in batch]
        lent = []
        for schema, owner in connection.execute(_LACKING_CREATE, [schemas, owners]).fetchall():
            pair = sql.Identifier(str(schema)), sql.Identifier(str(owner))
            if not _refusal(connection, create.format(sql.SQL("GRANT"), pair[0], sql.SQL("TO"), pair[1])):
                lent.append(pair)
        for one, owner in batch:
            statement = sql.SQL("ALTER {} {} OWNER TO {}").format(
                sql.SQL(one.keyword), sql.SQL(one.identity), sql.Identifier(owner)
            )
            if reason := _refusal(connection, statement):
                left_out.append(f"{one.kind} {one.identity} stays with {one.owner}, not {owner}: {reason}")
        for pair in lent:
            connection.execute(create.format(sql.SQL("REVOKE"), pair[0], sql.SQL("FROM"), pair[1]))
    return left_out


def _refusal(connection: Connection, statement: sql.Composed) -> str:
    """Run ``statement``; why it was refused, or nothing."""
    try:
        with connection.transaction():
            connection.execute(statement)
    except _FORGIVEN as error:
        return _reason(error)
    return ""


def _batches(pairs: Sequence[tuple[DatabaseObject, str]]) -> Iterator[Sequence[tuple[DatabaseObject, str]]]:
    for start in range(0, len(pairs), _BATCH):
        yield pairs[start : start + _BATCH]


def _reason(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error)
