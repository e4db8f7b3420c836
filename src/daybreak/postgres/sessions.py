"""The controller's standing connections: one per server, opened when first needed, replaced when broken.

Their purpose ``controller`` in ``application_name`` is what a rival is recognised by; before a generation
is claimed they only look and are called ``observer``."""

from __future__ import annotations

from daybreak.model import Side
from daybreak.postgres.server import Connection, Server


class Sessions:
    """Standing connections to both sides under one generation (0: only looking)."""

    def __init__(self, source: Server, target: Server) -> None:
        self._servers = {Side.SOURCE: source, Side.TARGET: target}
        self._open: dict[Side, Connection] = {}
        self.generation = 0

    def server(self, side: Side) -> Server:
        """How ``side`` is reached."""
        return self._servers[side]

    def get(self, side: Side) -> Connection:
        """The standing connection to ``side``, autocommit. Raises TransientError or PermanentError."""
        connection = self._open.get(side)
        if connection is None or connection.closed:
            connection = self.connect(side, "controller" if self.generation else "observer")
            self._open[side] = connection
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
