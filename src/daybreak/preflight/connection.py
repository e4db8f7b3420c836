"""Checks of the connections themselves: reaching both servers, from here and from each other."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator

from psycopg import Error, conninfo, errors, sql

from daybreak.errors import ConfigError
from daybreak.model import Side
from daybreak.postgres.installations import client_tools
from daybreak.postgres.server import Connection
from daybreak.preflight.context import Context, Found

MINIMUM_VERSION = 140000
_PEER_SECONDS = "5"

# In the order in which they are looked for; the texts are libpq's and the server's.
_CONNECT_FIXES = (
    (
        "password authentication failed",
        "Correct user or password of [{side}] in daybreak.toml, or set it: \\password {user}",
    ),
    ("no password supplied", 'Give [{side}] a password in daybreak.toml: password = "env:NAME" or "file:PATH".'),
    (
        "pg_hba.conf",
        "Allow it in the server's pg_hba.conf: hostssl {dbname} {user} ADDRESS scram-sha-256; then reload.",
    ),
    ("is not permitted to log in", "As a superuser: ALTER ROLE {user} LOGIN;"),
    ("certificate", "Name the server's certificate authority with sslrootcert in the DSN of [{side}]."),
    ("SSL", "Make the DSN's sslmode of [{side}] and the server's ssl setting agree."),
    ("translate host name", "Correct the host in the DSN of [{side}]: it has no address."),
    ("resolve host", "Correct the host in the DSN of [{side}]: it has no address."),
    ("too many", "Raise max_connections or the limits of the role and the database, or end idle sessions."),
    ("connection slots", "Raise max_connections, or end idle sessions."),
    ("starting up", "Wait until the server is up, then run the command again."),
    ("shutting down", "Start the server, then run the command again."),
    ("Connection refused", "Start the server, or correct host and port in the DSN of [{side}]."),
)
_MISSING = (
    ("database", "Correct dbname in the DSN of [{side}], or create it: CREATE DATABASE {dbname} TEMPLATE template0;"),
    (
        "role",
        "Correct user in the DSN of [{side}], or create it: CREATE ROLE {user} LOGIN; then see `daybreak grants`.",
    ),
)


def connect_fix(message: str, side: Side, parameters: dict[str, str]) -> str:
    """What to do about a connection that failed with ``message``. Pure; shows no password."""
    words = {"side": side, "user": parameters["user"], "dbname": parameters["dbname"]}
    for text, fix in _CONNECT_FIXES:
        if text in message:
            return fix.format(**words)
    for kind, fix in _MISSING:
        if re.search(rf'{kind} "[^"]*" does not exist', message):
            return fix.format(**words)
    return (
        f"Check that the server runs, that host and port of [{side}] are right and that firewalls let this machine in."
    )


def server_version(context: Context) -> Iterator[Found]:
    """Both servers are PostgreSQL 14 or newer, and the target is not older than the source, because a
    dump of a newer server is not made to load into an older one (docs: pg_dump, Notes)."""
    versions = {side: connection.info.server_version for side, connection in context.each()}
    for side, version in versions.items():
        if version < MINIMUM_VERSION:
            message = f"PostgreSQL {version // 10000} is too old: Daybreak needs 14 or newer."
            yield Found("blocker", str(side), message, f"Upgrade the {side} to PostgreSQL 14 or newer.")
    source, target = (versions.get(side, 0) // 10000 for side in Side)
    if source and target and target < source:
        message = f"The target is PostgreSQL {target}, older than the source ({source})."
        yield Found("blocker", "target", message, f"Name a target of PostgreSQL {source} or newer.")


def standby(context: Context) -> Iterator[Found]:
    """Neither server is a read-only standby."""
    for side, connection in context.each():
        if connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,):
            message = "This server is a standby (or an Aurora reader): it takes no writes."
            yield Found("blocker", str(side), message, f"Name the writer of the cluster in the DSN of [{side}].")


def same_server(context: Context) -> Iterator[Found]:
    """Source and target are two servers."""
    # A restored snapshot shares the system identifier, but hardly the microsecond of its start.
    query = "SELECT system_identifier, pg_postmaster_start_time() FROM pg_control_system()"
    rows = {side: connection.execute(query).fetchone() for side, connection in context.each()}
    if rows[Side.SOURCE] == rows[Side.TARGET]:
        message = "Source and target are one and the same server."
        yield Found("blocker", "target", message, "Name another server in the DSN of [target].")


def client_programs(context: Context) -> Iterator[Found]:
    """This machine has pg_dump, pg_restore and psql, at least as new as the source."""
    source, target = (context.connections[side].info.server_version // 10000 for side in Side)
    try:
        tools = client_tools(source, target, context.settings.replication.client_bin)
    except ConfigError as error:
        yield Found("blocker", "this machine", error.message, error.hint)
        return
    if tools.major < target:
        message = f"The newest client programs here are of version {tools.major}, older than the target ({target})."
        yield Found("warning", "this machine", message, f"Install postgresql-client-{target}.")


def password_in_dsn(context: Context) -> Iterator[Found]:
    """Passwords are not written into daybreak.toml."""
    for side in context.servers:
        if context.settings.server(side).has_inline_password:
            message = "The DSN in daybreak.toml contains the password."
            fix = f'Take it out of the DSN and set [{side}] password = "env:NAME" or "file:PATH".'
            yield Found("warning", str(side), message, fix)


def peer_reachable(context: Context) -> Iterator[Found]:
    """Each server reaches the other one over the network, through its pg_hba.conf as far as the
    password prompt, as its subscription will. Nothing is left behind but one refused login in the log."""
    for publisher in Side:
        yield from _reach(context, publisher)


def _reach(context: Context, publisher: Side) -> Iterator[Found]:
    # With a password that is certainly wrong: a true one would reach the log of the subscriber, where
    # CREATE SUBSCRIPTION warns of a missing publication and quotes itself.
    role = f"daybreak_{context.settings.name}_repl"
    address = context.servers[publisher].peer_conninfo(role, secrets.token_hex(8), "daybreak:check")
    connection = context.connections[publisher.other]
    try:
        _try_subscription(connection, conninfo.make_conninfo(address, connect_timeout=_PEER_SECONDS))
        answer = "no password was asked for"
    except errors.InsufficientPrivilege:
        return  # The checks of the rights say so.
    except Error as error:
        answer = error.diag.message_primary or str(error)
    found = judge_answer(answer, publisher, role)
    if found is not None:
        yield found


def _try_subscription(connection: Connection, address: str) -> None:
    create = sql.SQL(
        "CREATE SUBSCRIPTION daybreak_check CONNECTION {} PUBLICATION daybreak_check"
        " WITH (create_slot = false, copy_data = false, enabled = false)"
    )
    with connection.transaction(force_rollback=True):
        connection.execute(create.format(address))


def judge_answer(answer: str, publisher: Side, role: str) -> Found | None:
    """What the failed attempt of the other server to log in on ``publisher`` as ``role`` shows. Pure.

    A message that names the role comes from the publisher itself, whatever its language."""
    subscriber = publisher.other
    if "password authentication failed" in answer or "max_wal_senders" in answer:
        return None  # It answered; whether it has a WAL sender left is another check.
    object_ = f"{subscriber} to {publisher}"
    if "pg_hba.conf" in answer:
        message = f"The {publisher} refuses the {subscriber} server: {answer}"
        line = f"hostssl all {role} ADDRESS_OF_THE_{subscriber.upper()} scram-sha-256"
        return Found("blocker", object_, message, f"Add to pg_hba.conf of the {publisher}, then reload: {line}")
    if f'"{role}"' in answer or answer.startswith("no password"):
        if "does not exist" not in answer and not answer.startswith("no password"):
            return None
        message = f"The {publisher} lets the {subscriber} server in without asking for a password, which PostgreSQL"
        message += " forbids to subscriptions of roles that are no superusers."
        fix = f"Let pg_hba.conf of the {publisher} ask {role} for a password: scram-sha-256."
        return Found("blocker", object_, message, fix)
    message = f"The {subscriber} server does not reach the {publisher}: {answer}"
    fix = f"Open the way between the servers, or set [{publisher}] peer_host (and peer_port) to the address by which"
    return Found(
        "blocker", object_, message, f"{fix} the {subscriber} reaches it; certificates are looked up there, too."
    )
