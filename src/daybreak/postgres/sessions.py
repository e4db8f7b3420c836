"""The controller's standing connections: one per server, opened when first needed, replaced when broken.

Their purpose ``controller`` in ``application_name`` is what a rival is recognised by; before a generation
is claimed they only look and are called ``observer``."""

from __future__ import annotations

from daybreak.errors import StateConflict
from daybreak.model import Side
from daybreak.postgres.control import read_control
from daybreak.postgres.server import Connection, Server, translated


class Sessions:
    """Standing connections to both sides under one generation (0: only looking)."""

    def __init__(self, source: Server, target: Server) -> None:
        self._servers = {Side.SOURCE: source, Side.TARGET: target}
        self._open: dict[Side, Connection] = {}
        self._current: set[Side] = set()
        self.generation = 0

    def server(self, side: Side) -> Server:
        """How ``side`` is reached."""
        return self._servers[side]

    def look(self, side: Side) -> Connection:
        """The standing connection to ``side``, autocommit, for looking only: whoever acts may look.

        Raises TransientError or PermanentError."""
        connection = self._open.get(side)
        if connection is None or connection.closed:
            self._current.discard(side)
            connection = self.connect(side, "controller" if self.generation else "observer")
            self._open[side] = connection
        return connection

    def get(self, side: Side) -> Connection:
        """The standing connection to ``side``, autocommit, for acting.

        A newer generation ends the sessions of older ones; so a connection that is new here is asked once
        whether it comes too late. Raises StateConflict then, or TransientError or PermanentError."""
        connection = self.look(side)
        if self.generation and side not in self._current:
            server = self._servers[side]
            with translated(str(side)):
                row = read_control(connection, server.migration)
            if row is not None and row.generation > self.generation:
                raise StateConflict(
                    f"A newer Daybreak took charge of {server.migration}: {row.owner}, generation {row.generation}.",
                    "This one changed nothing more. See `daybreak status`.",
                )
            self._current.add(side)
        return connection

    def connect(self, side: Side, purpose: str) -> Connection:
        """A further connection, the caller's to close."""
        return self._servers[side].connect(purpose, self.generation)

    def rename(self, generation: int) -> None:
        """Reconnect under ``generation`` from now on."""
        self.close()
        self.generation = generation

    def close(self) -> None:
        """Close all; they are opened again when asked for."""
        for connection in self._open.values():
            connection.close()
        self._open.clear()
        self._current.clear()
