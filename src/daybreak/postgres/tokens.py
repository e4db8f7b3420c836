"""Token rows: the proof that one side has applied everything that the other had committed.

A token is written on the primary and replicated like any row; once the standby shows exactly that
token, all transactions that committed before it are there, because logical replication applies in
commit order (PostgreSQL docs, "Logical Replication"). Each side writes its own row only, so tokens never
conflict.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Literal

from daybreak.model import Side
from daybreak.postgres.server import Connection

Purpose = Literal["lag", "drain", "canary"]


def write(connection: Connection, side: Side, purpose: Purpose) -> str:
    """Commit a new token as ``side`` and return it. Each purpose has a row of its own: somebody who
    watches the lag must not write over the token that a drain waits for."""
    return _write(connection, side, purpose)[0]


def write_timed(connection: Connection, side: Side, purpose: Purpose) -> datetime:
    """The same; returns its time by that server's clock, for ``seen_since``."""
    return _write(connection, side, purpose)[1]


def _write(connection: Connection, side: Side, purpose: Purpose) -> tuple[str, datetime]:
    row = connection.execute(
        "INSERT INTO daybreak.token VALUES (%s, %s, clock_timestamp())"
        " ON CONFLICT (side) DO UPDATE SET token = excluded.token, at = excluded.at RETURNING token, at",
        [f"{side} {purpose}", secrets.token_hex(8)],
    ).fetchone()
    assert row is not None, "INSERT .. RETURNING returns one row"
    assert isinstance(row[1], datetime)
    return str(row[0]), row[1]


def seen(connection: Connection, side: Side, purpose: Purpose) -> str | None:
    """The last token of ``side`` for ``purpose`` that has arrived here."""
    row = connection.execute("SELECT token FROM daybreak.token WHERE side = %s", [f"{side} {purpose}"]).fetchone()
    return None if row is None else str(row[0])


def seen_since(connection: Connection, side: Side, purpose: Purpose, at: datetime) -> bool:
    """Whether the token of that time, or a later one that wrote over it, has arrived here."""
    query = "SELECT 1 FROM daybreak.token WHERE side = %s AND at >= %s"
    return connection.execute(query, [f"{side} {purpose}", at]).fetchone() is not None


def age_seconds(primary: Connection, standby: Connection, side: Side) -> float | None:
    """Seconds between the primary's clock now and the commit of the last token that arrived, or None.

    An upper bound of the lag: nothing may have been written since."""
    row = standby.execute("SELECT at FROM daybreak.token WHERE side = %s", [f"{side} lag"]).fetchone()
    if row is None:
        return None
    age = primary.execute("SELECT extract(epoch FROM clock_timestamp() - %s)::float8", [row[0]]).fetchone()
    return None if age is None else max(0.0, float(str(age[0])))
