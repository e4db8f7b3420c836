"""``Router`` for clients that know both hosts and let libpq find the writer by
``target_session_attrs=read-write`` (PostgreSQL docs, "Parameter Key Words"): a server whose
``default_transaction_read_only`` is on is passed over. The fence sets that on the closed side, so
there is nothing to move here. What can be published is: the primary and the weight of reads, in
``daybreak.route`` of both databases, for clients that look them up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import LiteralString

from daybreak.errors import AdapterError, PermanentError, TransientError
from daybreak.model import RoutingStatus, Side
from daybreak.postgres.server import Connection, Server

# What a fresh session of an ordinary role would find: settings of the database outrank those of
# all roles (PostgreSQL docs, ALTER ROLE). This session's own value says nothing: Daybreak sets it.
_READ_ONLY = """
SELECT pg_is_in_recovery() OR coalesce(
    (SELECT split_part(setting, '=', 2)::boolean
     FROM pg_db_role_setting, unnest(setconfig) AS setting
     WHERE setrole = 0 AND split_part(setting, '=', 1) = 'default_transaction_read_only'
       AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
     ORDER BY setdatabase DESC LIMIT 1), false)
"""
_HAS_ROUTE = "SELECT to_regclass('daybreak.route') IS NOT NULL"


@dataclass(frozen=True, slots=True)
class _Seen:
    """One database as its clients see it; ``read_weight`` None where nothing is published."""

    writable: bool
    read_weight: int | None


class MultihostRouter:
    """Publishes the route in both databases and reads from them where libpq sends writers.

    ``check`` is called inside every publishing transaction and raises StateConflict where a newer
    generation acts.
    """

    def __init__(self, servers: Mapping[Side, Server], check: Callable[[Connection], None]) -> None:
        self._servers = servers
        self._check = check

    def observe(self) -> RoutingStatus:
        """See ``Router.observe``: the writer is the one side that tells clients to write there."""
        try:
            seen = {side: self._look(side) for side in Side}
        except AdapterError as error:
            return RoutingStatus(problem=error.message)
        writers = [side for side in Side if seen[side].writable]
        weights = [seen[side].read_weight for side in (*writers, *Side)]
        weight = next((weight for weight in weights if weight is not None), 0)
        if len(writers) == 1:
            return RoutingStatus(writers[0], weight)
        which = "Both sides" if writers else "Neither side"
        return RoutingStatus(
            None, weight, problem=f"{which} tell clients with target_session_attrs=read-write to stay."
        )

    def refuse_shift(self, percent: int) -> str:
        """See ``Router.refuse_shift``: every percentage can be published."""
        return "" if 0 <= percent <= 100 else f"{percent} is not a percentage (0 to 100)."

    def shift_reads(self, percent: int) -> None:
        """See ``Router.shift_reads``: clients that look up ``daybreak.route`` follow, libpq alone doesn't."""
        if reason := self.refuse_shift(percent):
            raise PermanentError(reason, "Ask for another percentage.")
        status = self.observe()
        if status.writer is None:
            raise TransientError(f"Reads were not shifted: {status.problem}", "See `daybreak status`.")
        self._publish(
            "UPDATE daybreak.route SET read_weight = %(weight)s, at = now()",
            {"weight": percent, "primary": status.writer},
        )

    def lower_ttl(self) -> float:
        """Nothing to lower: no name is moved."""
        return 0.0

    def pause(self, seconds: float) -> None:
        """Does nothing: these clients can't be held back; the fence makes their writes wait."""

    def resume(self) -> None:
        """Does nothing."""

    def point_writer(self, side: Side) -> None:
        """Publish ``side`` as primary; libpq finds it by itself."""
        self._publish(
            "UPDATE daybreak.route SET primary_side = %(primary)s, at = now()", {"weight": 0, "primary": side}
        )

    def clean_up(self) -> None:
        """Unpublish the route. Clients stay where they are."""

        def unpublish(connection: Connection) -> None:
            if _value(connection, _HAS_ROUTE):  # else an earlier clean-up came this far
                self._check(connection)
                connection.execute("DELETE FROM daybreak.route")

        self._everywhere(unpublish)

    def _look(self, side: Side) -> _Seen:
        with self._servers[side].session("route") as connection:
            read_only = _value(connection, _READ_ONLY)
            weight = None
            if _value(connection, _HAS_ROUTE):
                row = connection.execute("SELECT read_weight FROM daybreak.route").fetchone()
                weight = None if row is None else int(str(row[0]))
        return _Seen(writable=not read_only, read_weight=weight)

    def _publish(self, update: LiteralString, values: dict[str, object]) -> None:
        def write(connection: Connection) -> None:
            self._check(connection)
            if connection.execute(update, values).rowcount == 0:
                connection.execute(
                    "INSERT INTO daybreak.route (primary_side, read_weight, at)"
                    " VALUES (%(primary)s, %(weight)s, now())",
                    values,
                )

        self._everywhere(write)

    def _everywhere(self, act: Callable[[Connection], None]) -> None:
        """``act`` on both sides; a side that fails doesn't keep the other from it, then it is raised."""
        failed: list[AdapterError] = []
        for side in Side:
            try:
                with self._servers[side].session("route") as connection, connection.transaction():
                    act(connection)
            except AdapterError as error:
                failed.append(error)
        if failed:
            raise failed[0]


def _value(connection: Connection, query: LiteralString) -> bool:
    row = connection.execute(query).fetchone()
    return row is not None and bool(row[0])
