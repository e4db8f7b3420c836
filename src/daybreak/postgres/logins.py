"""Whether a role may connect: how another engine is kept off a server, at once and for good.

Docs: ALTER ROLE, pg_terminate_backend. Needs the attribute CREATEROLE and, from PostgreSQL 16 on, the ADMIN
option on that role."""

from __future__ import annotations

import time

from psycopg import sql

from daybreak.errors import TransientError
from daybreak.postgres.server import Connection

_PATIENCE_SECONDS = 5.0
_LOOK_SECONDS = 0.01


def may_log_in(connection: Connection, role: str) -> bool | None:
    """Whether ``role`` may connect; None where it does not exist."""
    row = connection.execute("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", [role]).fetchone()
    return None if row is None else bool(row[0])


def let_in(connection: Connection, role: str) -> None:
    """Let ``role`` connect."""
    connection.execute(sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(role)))


def shut_out(connection: Connection, role: str) -> None:
    """Let ``role`` connect no more and end its sessions; what they had not committed is undone.

    Raises TransientError where one of them does not end."""
    connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(role)))
    deadline = time.monotonic() + _PATIENCE_SECONDS
    quiet = 0
    while quiet < 2:  # one that was let in at the last moment may show only now
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [role]
        ).fetchall()
        quiet = 0 if ended else quiet + 1
        if time.monotonic() > deadline:
            raise TransientError(f"Sessions of {role} do not end.", "See pg_stat_activity.")
        time.sleep(_LOOK_SECONDS)
