"""Checks of roles and rights: those of Daybreak's role, item by item as ``daybreak grants`` gives them,
and those that the owners and the application need on the target."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from daybreak.model import Side
from daybreak.postgres.catalog import selected
from daybreak.postgres.grants import GrantItem, grant_items, missing_items
from daybreak.postgres.inspect import grant_kind, owners
from daybreak.postgres.server import Connection
from daybreak.preflight.context import Context, Found, listed, statement

_TABLE_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER")


def is_superuser(connection: Connection) -> bool:
    """Whether the session's role is a superuser."""
    return connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (True,)


def needed_grants(context: Context, side: Side) -> tuple[GrantItem, ...]:
    """What Daybreak's role needs on ``side``: membership in whoever owns something there or will."""
    connection = context.connections[side]
    names = {name for one in context.connections.values() for name in owners(one)}
    known = tuple(sorted(names & _roles(connection)))
    return grant_items(grant_kind(connection), context.servers[side].user, known, connection.info.server_version)


def _roles(connection: Connection) -> set[str]:
    return {str(name) for (name,) in connection.execute("SELECT rolname FROM pg_roles")}


def privileges(context: Context) -> Iterator[Found]:
    """Daybreak's role holds every right that ``daybreak grants`` prints; each is a finding of its own."""
    for side, connection in context.each():
        for item in missing_items(connection, needed_grants(context, side)):
            message = f"The role {connection.info.user} lacks a right on the {side}. {item.why}"
            object_ = f"{side} role {item.object}"
            yield Found("info" if item.optional else "blocker", object_, message, item.statement, item.id)


def superuser_owners(context: Context) -> Iterator[Found]:
    """Nothing to migrate belongs to a superuser: membership in one is as good as being one."""
    query = "SELECT rolname FROM pg_roles WHERE rolsuper AND rolname = ANY(%s) ORDER BY 1"
    if is_superuser(context.source):
        return
    for (name,) in context.source.execute(query, [list(owners(context.source))]):
        message = f"The superuser {name} owns the database or objects in it; Daybreak's role has to be a member of it."
        fix = statement("REASSIGN OWNED BY {} TO another role; or accept that.", str(name))
        yield Found("info", f"source role {name}", message, fix)


def superuser_sessions(context: Context) -> Iterator[Found]:
    """The application does not connect as a superuser, whose sessions Daybreak may not end."""
    query = """
        SELECT a.usename, count(*) FROM pg_stat_activity a JOIN pg_roles r ON r.rolname = a.usename AND r.rolsuper
        WHERE a.datname = current_database() AND a.backend_type = 'client backend' GROUP BY 1"""
    for side, connection in context.each():
        if is_superuser(connection):
            continue
        for name, count in connection.execute(query):
            message = f"{count} sessions of the superuser {name}: Daybreak can't end them when this side is closed."
            fix = "Connect as a plain role; or end these sessions by hand after a switchover."
            yield Found("warning", f"{side} role {name}", message, fix)


def missing_roles(context: Context) -> Iterator[Found]:
    """Every role that owns something, was granted something or is connected to the source exists on the
    target."""
    owning = set(owners(context.source))
    query = """
        SELECT r.rolname, r.rolcanlogin FROM pg_roles r
        WHERE r.rolname <> current_user AND r.rolname !~ '^(pg_|rds|daybreak_)' AND r.oid IN (
          SELECT d.refobjid FROM pg_shdepend d, pg_database b
          WHERE b.datname = current_database() AND d.refclassid = 'pg_authid'::regclass
            AND (d.dbid = b.oid OR d.classid = 'pg_database'::regclass AND d.objid = b.oid)
          UNION
          SELECT usesysid FROM pg_stat_activity WHERE datname = current_database() AND NOT EXISTS (
            SELECT FROM pg_roles s WHERE s.oid = usesysid AND s.rolsuper))"""
    logins = {str(name): bool(login) for name, login in context.source.execute(query)}
    for name in sorted((owning | logins.keys()) - _roles(context.target) - {context.source.info.user}):
        create = statement("CREATE ROLE {}" + (" LOGIN;" if logins.get(name) else ";"), name)
        if name in owning:
            message = "This role owns objects of the source and does not exist on the target."
            fix = f"On the target: {create} Then run what `daybreak grants --side target` prints."
            yield Found("blocker", f"target role {name}", message, fix)
        elif logins[name]:
            message = "This role has rights in the source, can log in, and does not exist on the target."
            fix = f"On the target: {create} with the password it has (pg_dumpall --roles-only shows it to superusers)."
            yield Found("blocker", f"target role {name}", message, fix)
        else:
            message = "This role has rights in the source and does not exist on the target: they would be left out."
            yield Found("warning", f"target role {name}", message, f"On the target: {create}")


def table_rights(context: Context) -> Iterator[Found]:
    """The owner of each table still has all rights on it: as owner rows are copied, guarded and applied."""
    query = sql.SQL("""
        WITH {selected}
        SELECT s.nspname, s.relname, r.rolname,
          (SELECT array_agg(p) FROM unnest({rights}::text[]) p WHERE NOT has_table_privilege(r.oid, s.oid, p))
        FROM selected s JOIN pg_class c ON c.oid = s.oid JOIN pg_roles r ON r.oid = c.relowner
        WHERE EXISTS (SELECT FROM unnest({rights}::text[]) p WHERE NOT has_table_privilege(r.oid, s.oid, p))
        ORDER BY 1, 2""").format(
        selected=selected("rp", context.include, context.exclude), rights=sql.Literal(list(_TABLE_RIGHTS))
    )
    for schema, name, owner, rights in context.source.execute(query):
        assert isinstance(rights, list)
        lacking = ", ".join(map(str, rights))
        message = f"Its owner {owner} lacks {lacking} on it, and Daybreak works with the owner's rights."
        fix = statement(f"GRANT {lacking} ON {{}} TO {{}};", sql.Identifier(str(schema), str(name)), str(owner))
        yield Found("blocker", f"{schema}.{name}", message, fix)


def schema_rights(context: Context) -> Iterator[Found]:
    """The owner of each table may use its schema, or no row can be applied in the owner's name."""
    query = sql.SQL("""
        WITH {selected}
        SELECT DISTINCT s.nspname, r.rolname
        FROM selected s JOIN pg_class c ON c.oid = s.oid JOIN pg_roles r ON r.oid = c.relowner
        WHERE NOT has_schema_privilege(r.oid, c.relnamespace, 'USAGE')
          OR NOT has_schema_privilege(current_user, c.relnamespace, 'USAGE')
        ORDER BY 1, 2""").format(selected=selected("rp", context.include, context.exclude))
    for schema, owner in context.source.execute(query):
        message = f"{owner} owns tables in it, but may not use it."
        fix = statement("GRANT USAGE ON SCHEMA {} TO {};", str(schema), str(owner))
        yield Found("blocker", f"source schema {schema}", message, fix)


def row_security(context: Context) -> Iterator[Found]:
    """No table hides rows from Daybreak: a forced row-level security policy holds for the owner, too, in
    whose name rows are read and applied."""
    query = sql.SQL("""
        WITH {selected}
        SELECT s.nspname, s.relname FROM selected s JOIN pg_class c ON c.oid = s.oid
        JOIN pg_roles o ON o.oid = c.relowner, pg_roles me
        WHERE c.relrowsecurity AND c.relforcerowsecurity AND me.rolname = current_user
          AND NOT ((me.rolsuper OR me.rolbypassrls) AND (o.rolsuper OR o.rolbypassrls))
        ORDER BY 1, 2""").format(selected=selected("r", context.include, context.exclude))
    for schema, name in context.source.execute(query):
        message = "FORCE ROW LEVEL SECURITY: rows would be left out of the copy, and changes could not be applied."
        fix = statement("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY;", sql.Identifier(str(schema), str(name)))
        yield Found("blocker", f"{schema}.{name}", message, f"Until `daybreak finish`: {fix}")


def needs_superuser(context: Context) -> Iterator[Found]:
    """Nothing has to be created on the target that only a superuser can create."""
    if is_superuser(context.target):
        return
    query = """
        WITH found(class, oid, what) AS (
          SELECT 'pg_proc'::regclass, p.oid, format('function %s', p.oid::regprocedure) FROM pg_proc p
          JOIN pg_language l ON l.oid = p.prolang WHERE l.lanname IN ('c', 'internal') OR NOT l.lanpltrusted
          UNION ALL SELECT 'pg_language'::regclass, oid, format('language %s', lanname) FROM pg_language
          UNION ALL SELECT 'pg_type'::regclass, oid, format('base type %s', oid::regtype) FROM pg_type
          WHERE typtype = 'b' AND typelem = 0
          UNION ALL SELECT 'pg_opclass'::regclass, oid, format('operator class %s', opcname) FROM pg_opclass
          UNION ALL SELECT 'pg_opfamily'::regclass, oid, format('operator family %s', opfname) FROM pg_opfamily
          UNION ALL SELECT 'pg_am'::regclass, oid, format('access method %s', amname) FROM pg_am
          UNION ALL SELECT 'pg_ts_parser'::regclass, oid, format('text search parser %s', prsname) FROM pg_ts_parser
          UNION ALL SELECT 'pg_ts_template'::regclass, oid, format('text search template %s', tmplname)
          FROM pg_ts_template
          UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid, format('foreign data wrapper %s', fdwname)
          FROM pg_foreign_data_wrapper
          UNION ALL SELECT 'pg_event_trigger'::regclass, oid, format('event trigger %s', evtname) FROM pg_event_trigger)
        SELECT what FROM found f WHERE f.oid >= 16384 AND NOT EXISTS (
          SELECT FROM pg_depend d WHERE d.classid = f.class AND d.objid = f.oid AND d.deptype = 'e')
        ORDER BY what"""
    if names := [str(name) for (name,) in context.source.execute(query)]:
        message = f"Only a superuser can create: {listed(names)}."
        fix = statement(
            "For `daybreak start`, on the target: ALTER ROLE {} SUPERUSER; and NOSUPERUSER afterwards.",
            context.target.info.user,
        )
        yield Found("blocker", "target", message, fix)
