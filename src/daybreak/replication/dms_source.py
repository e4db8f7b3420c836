"""What AWS DMS needs of the two servers and leaves on them: its role's rights, its slots, its control tables.

DMS makes its slot itself, under a name of its own; a slot has no owner. So it is known by its user: the role
is DMS's alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import errors, sql

from daybreak.errors import PermanentError, TransientError
from daybreak.model import Side, TableName
from daybreak.postgres import logins
from daybreak.postgres.server import Connection

_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot of DMS on the source, bytes of its WAL."""

    name: str
    lost: bool
    lag_bytes: int
    retained_bytes: int


def slots(source: Connection, role: str, known: Sequence[str]) -> tuple[Slot, ...]:
    """The slots that ``role`` uses now, and those of ``known`` that are still there."""
    rows = source.execute(
        "SELECT s.slot_name, s.wal_status = 'lost',"
        " coalesce(pg_current_wal_lsn() - s.confirmed_flush_lsn, 0)::bigint,"
        " coalesce(pg_current_wal_lsn() - s.restart_lsn, 0)::bigint"
        " FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid"
        " WHERE s.slot_type = 'logical' AND s.database = current_database()"
        " AND (a.usename = %s OR s.slot_name = ANY(%s))",
        [role, list(known)],
    ).fetchall()
    return tuple(Slot(str(name), bool(lost), int(str(lag)), int(str(kept))) for name, lost, lag, kept in rows)


def drop_slot(source: Connection, name: str) -> None:
    """Drop a slot, ending whoever uses it."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        row = source.execute("SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", [name]).fetchone()
        if row is None:
            return
        if time.monotonic() > deadline:
            raise TransientError(f"Slot {name} of AWS DMS is still in use.", "See pg_replication_slots.active_pid.")
        if row[0] is not None:
            source.execute("SELECT pg_terminate_backend(%s, 1000)", [row[0]])
        try:
            source.execute("SELECT pg_drop_replication_slot(%s)", [name])
        except (errors.ObjectInUse, errors.UndefinedObject):
            time.sleep(0.05)


def admit(connection: Connection, side: Side, role: str) -> None:
    """Let ``role`` work on this server: in Daybreak's schema, where it keeps its own tables and carries the
    token, and in spite of the read-only default of a closed side.

    Raises PermanentError where there is no such role."""
    if logins.may_log_in(connection, role) is None:
        raise PermanentError(f"{side}: there is no role {role} for AWS DMS.", "Run what `daybreak grants` prints.")
    who = sql.Identifier(role)
    logins.let_in(connection, role)
    connection.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA daybreak TO {}").format(who))
    connection.execute(sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON daybreak.token TO {}").format(who))
    connection.execute(
        sql.SQL("ALTER ROLE {} IN DATABASE {} SET default_transaction_read_only = off").format(
            who, sql.Identifier(connection.info.dbname)
        )
    )


def dismiss(connection: Connection, role: str) -> None:
    """Shut ``role`` out of this server and take back its setting; its rights go with Daybreak's schema."""
    if logins.may_log_in(connection, role) is None:
        return
    logins.shut_out(connection, role)
    connection.execute(
        sql.SQL("ALTER ROLE {} IN DATABASE {} RESET default_transaction_read_only").format(
            sql.Identifier(role), sql.Identifier(connection.info.dbname)
        )
    )


def readmit(connection: Connection, role: str) -> None:
    """Let ``role`` connect again, where it exists."""
    if logins.may_log_in(connection, role) is not None:
        logins.let_in(connection, role)


def suspended(target: Connection) -> tuple[TableName, ...]:
    """Tables that DMS leaves alone for the rest of the task (DMS user guide, "Control table task settings")."""
    found = target.execute("SELECT to_regclass('daybreak.awsdms_suspended_tables') IS NOT NULL").fetchone()
    if found is None or not found[0]:
        return ()
    rows = target.execute("SELECT DISTINCT table_owner, table_name FROM daybreak.awsdms_suspended_tables")
    return tuple(TableName(str(schema), str(name)) for schema, name in rows)
