"""Checks of what else is in the two databases: extensions, whatever fills the target already, other
streams, and transactions that would be waited for."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from daybreak.model import Side
from daybreak.preflight.context import Context, Found, listed, statement
from daybreak.preflight.privileges import is_superuser
from daybreak.replication.streams import ORIGIN_FILTER_VERSION


def extensions(context: Context) -> Iterator[Found]:
    """Every extension of the source is on the target, or can be created there by Daybreak's role."""
    have = "SELECT extname, extversion FROM pg_extension"
    offer = """
        SELECT e.name, bool_or(v.trusted) FROM pg_available_extensions e
        JOIN pg_available_extension_versions v ON v.name = e.name AND v.version = e.default_version GROUP BY 1"""
    installed = {str(name): str(version) for name, version in context.target.execute(have)}
    offered = {str(name): bool(trusted) for name, trusted in context.target.execute(offer)}
    superuser = is_superuser(context.target)
    query = """
        SELECT e.extname, e.extversion, n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
        ORDER BY 1"""
    for row in context.source.execute(query):
        name, version, schema = (str(value) for value in row)
        create = statement("CREATE SCHEMA IF NOT EXISTS {0}; CREATE EXTENSION {1} SCHEMA {0};", schema, name)
        if name not in installed and name not in offered:
            message = f"The extension {name} is not available on the target server."
            fix = statement("Install its package on the target server, or on the source: DROP EXTENSION {};", name)
            yield Found("blocker", f"target extension {name}", message, fix)
        elif name not in installed and not offered[name] and not superuser:
            message = f"The extension {name} is missing on the target, and only a superuser can create it."
            yield Found("blocker", f"target extension {name}", message, f"On the target, as a superuser: {create}")
        elif name in installed and _older(installed[name], version):
            message = f"The extension {name} is {installed[name]} on the target, older than {version} on the source."
            yield Found("warning", f"target extension {name}", message, statement("ALTER EXTENSION {} UPDATE;", name))


def _older(one: str, other: str) -> bool:
    """Whether version ``one`` is older; False where they are not plain numbers."""
    try:
        left, right = ([int(part) for part in version.split(".")] for version in (one, other))
    except ValueError:
        return False
    return left < right


def event_triggers(context: Context) -> Iterator[Found]:
    """No event trigger interferes with the schema changes that Daybreak makes."""
    query = """
        SELECT evtname FROM pg_event_trigger t WHERE evtenabled <> 'D' AND NOT EXISTS (
          SELECT FROM pg_depend d
          WHERE d.classid = 'pg_event_trigger'::regclass AND d.objid = t.oid AND d.deptype = 'e')
        ORDER BY 1"""
    for side, connection in context.each():
        for (name,) in connection.execute(query):
            message = "An event trigger: it fires when Daybreak creates its schema, triggers and streams."
            fix = statement(
                "Make sure that it lets them pass, or as a superuser: ALTER EVENT TRIGGER {} DISABLE;", str(name)
            )
            yield Found("warning", f"{side} event trigger {name}", message, fix)


def target_empty(context: Context) -> Iterator[Found]:
    """The schemas that are migrated hold nothing on the target, unless this migration put it there."""
    if context.begun(Side.TARGET):
        return
    query = """
        SELECT n.nspname, count(*), (array_agg(o.name::text ORDER BY o.name))[1:5]
        FROM (
          SELECT 'pg_class'::regclass AS class, oid, relnamespace AS schema, relname AS name FROM pg_class
          WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
          UNION ALL SELECT 'pg_proc'::regclass, oid, pronamespace, proname FROM pg_proc
          UNION ALL SELECT 'pg_type'::regclass, oid, typnamespace, typname FROM pg_type
          WHERE typrelid = 0 AND typelem = 0
        ) o JOIN pg_namespace n ON n.oid = o.schema
        WHERE o.oid >= 16384 AND n.nspname = ANY(%s) AND NOT EXISTS (
          SELECT FROM pg_depend d WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e')
        GROUP BY 1 ORDER BY 1"""
    schemas = """
        SELECT DISTINCT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid >= 16384 AND n.nspname <> 'daybreak' AND n.nspname !~ '^pg_'"""
    names = [name for (name,) in context.source.execute(schemas)]
    for schema, count, some in context.target.execute(query, [names]):
        assert isinstance(some, list)
        message = f"The target is not empty: its schema {schema} holds {count} objects ({listed(some)}"
        message += f"{', ...' if int(str(count)) > len(some) else ''})."
        create = " CREATE SCHEMA {0};" if schema == "public" else ""
        drop = statement("DROP SCHEMA {0} CASCADE;" + create, str(schema))
        fix = f"Name an empty database in [target]; or, if nobody needs what is there, on the target: {drop}"
        yield Found("blocker", f"target schema {schema}", message, fix)


def other_migration(context: Context) -> Iterator[Found]:
    """Neither database belongs to another migration or carries what is left of one."""
    for side, connection in context.each():
        found = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'daybreak'").fetchone()
        if found is None:
            continue
        object_ = f"{side} schema daybreak"
        try:
            rows = list(
                connection.execute("SELECT migration, side, to_regclass('daybreak.token') FROM daybreak.control")
            )
        except psycopg.errors.ProgrammingError as error:
            message = f"There is a schema daybreak that can't be read as Daybreak's: {error.diag.message_primary}."
            fix = "Use the role of the migration it belongs to; or, if it is something else, rename it."
            yield Found("blocker", object_, message, fix)
            continue
        for name, where, token in rows:
            if name == context.settings.name and where == side and token is not None:
                continue
            if token is None:
                message = f"The finished migration {name} left its fence here."
                fix = f"With the configuration of {name}: daybreak finish --unfence"
            else:
                message = f"This database is the {where} of the migration {name}."
                fix = f"With the configuration of {name}: daybreak abort, or daybreak finish."
            yield Found("blocker", object_, message, fix)


def name_taken(context: Context) -> Iterator[Found]:
    """No migration of another database uses the same name: slots and roles are the whole server's."""
    name = context.settings.name
    query = """
        SELECT format('slot %%s of database %%s', slot_name, database) FROM pg_replication_slots
        WHERE slot_name = ANY(%(slots)s) AND database <> current_database()
        UNION ALL
        SELECT format('role %%s', rolname) FROM pg_roles WHERE rolname = %(role)s AND NOT %(begun)s"""
    for side, connection in context.each():
        wanted = {
            "slots": [f"daybreak_{name}_fwd", f"daybreak_{name}_rev"],
            "role": f"daybreak_{name}_repl",
            "begun": context.begun(side),
        }
        for (what,) in connection.execute(query, wanted).fetchall():
            message = f"There is a {what} already: another migration has the name {name}."
            yield Found("blocker", str(side), message, "Choose another name in daybreak.toml, or end that migration.")


def prepared_transactions(context: Context) -> Iterator[Found]:
    """No transaction is prepared: making a slot waits for those of every database of the server."""
    query = "SELECT gid, database, owner, prepared FROM pg_prepared_xacts ORDER BY prepared"
    for side, connection in context.each():
        for gid, database, owner, at in connection.execute(query):
            message = f"A transaction of {owner} in {database} is prepared since {at}: the start waits until it ends."
            literal = psycopg.sql.Literal(gid)
            fix = statement("In {}: COMMIT PREPARED {} or ROLLBACK PREPARED {}", str(database), literal, literal)
            yield Found("blocker", f"{side} transaction {gid}", message, fix)


def long_transactions(context: Context) -> Iterator[Found]:
    """No transaction is open for long: making a slot waits for those that write anywhere on the server,
    a switchover for those of this database."""
    query = """
        SELECT pid, usename, datname, extract(epoch FROM clock_timestamp() - xact_start)::int FROM pg_stat_activity
        WHERE xact_start < clock_timestamp() - make_interval(secs => %s) AND pid <> pg_backend_pid()
          AND backend_type = 'client backend' AND application_name !~ '^daybreak:'
          AND (backend_xid IS NOT NULL OR datname = current_database())
        ORDER BY xact_start"""
    limit = context.settings.cutover.max_transaction_seconds
    for side, connection in context.each():
        for pid, user, database, seconds in connection.execute(query, [limit]):
            message = f"A transaction of {user} in {database} is open for {seconds} s and will be waited for."
            fix = f"End it in the application, or: SELECT pg_terminate_backend({pid});"
            yield Found("warning", f"{side} session {pid}", message, fix)


def other_subscriptions(context: Context) -> Iterator[Found]:
    """No other subscription writes into either database: what it applies is not sent on."""
    query = """
        SELECT subname FROM pg_subscription WHERE NOT starts_with(subname, %s)
          AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1"""
    for side, connection in context.each():
        for (name,) in connection.execute(query, [_ours(context)]):
            message = f"The subscription {name} writes into this database, and rows that came by replication are not"
            message += " sent on: they would be missing on the other side."
            fix = statement(
                "Let the target subscribe instead after the cutover; here: DROP SUBSCRIPTION {};", str(name)
            )
            yield Found("blocker", f"{side} subscription {name}", message, fix)


def replication_origin_users(context: Context) -> Iterator[Found]:
    """No other tool writes under a replication origin: such rows are not sent on."""
    query = """
        SELECT roname FROM pg_replication_origin
        WHERE roname NOT IN (SELECT 'pg_' || oid FROM pg_subscription) AND roname !~ '^pg_[0-9]+(_[0-9]+)+$'
        ORDER BY 1"""
    filtered = min(one.info.server_version for one in context.connections.values()) >= ORIGIN_FILTER_VERSION
    for side, connection in context.each():
        for (name,) in connection.execute(query):
            message = "A replication origin of another tool: rows written under it are not sent to the other side."
            fix = statement(
                "If nothing uses it any more: SELECT pg_replication_origin_drop({});", psycopg.sql.Literal(name)
            )
            yield Found("blocker" if filtered else "info", f"{side} origin {name}", message, fix)


def other_publications(context: Context) -> Iterator[Found]:
    """Who receives changes of the source by logical replication is told to follow the primary."""
    ours = _ours(context).removesuffix("_")
    publications = "SELECT pubname FROM pg_publication WHERE pubname <> %s ORDER BY 1"
    slots = """
        SELECT slot_name FROM pg_replication_slots
        WHERE slot_type = 'logical' AND database = current_database() AND NOT starts_with(slot_name, %s) ORDER BY 1"""
    fix = "Plan to make it anew on the target at the cutover; Daybreak moves no publications and no slots."
    for (name,) in context.source.execute(publications, [ours]):
        message = "Somebody may receive changes through this publication; the target will not have it."
        yield Found("warning", f"source publication {name}", message, fix)
    for (name,) in context.source.execute(slots, [_ours(context)]):
        message = "Somebody receives changes through this slot; after a cutover nothing new comes out of it."
        yield Found("warning", f"source slot {name}", message, fix)


def _ours(context: Context) -> str:
    return f"daybreak_{context.settings.name}_"


def tablespaces(context: Context) -> Iterator[Found]:
    """Everything lies in the default tablespace, as it will on the target."""
    query = """
        SELECT DISTINCT t.spcname FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace
        WHERE c.oid >= 16384 AND c.relpersistence <> 't' ORDER BY 1"""
    for (name,) in context.source.execute(query):
        message = "Tables or indexes lie in this tablespace; on the target everything goes into the default one."
        fix = "Nothing to do, or ALTER TABLE .. SET TABLESPACE on the target before the cutover."
        yield Found("info", f"source tablespace {name}", message, fix)
