"""Who takes writes, asked all the time on both sides at once by an application that knows each of them
by its own address (I1)."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import datetime
from typing import Self

import psycopg

from daybreak.lab.pair import APPLICATION, Pair
from daybreak.model import Side

_PAUSE_SECONDS = 0.02
# The routing hint of a closed side is for well-behaved clients; these are not.
_IGNORE_HINT = "-c default_transaction_read_only=off"
# The clock is read behind the guard (its trigger fires before the row is made) and before COMMIT.
_WRITE = "INSERT INTO payments.events (account_id, note) VALUES (-1, 'probe') RETURNING clock_timestamp()"


class Probes:
    """A thread for each side that writes whenever it can."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._stopping = threading.Event()
        self._accepted: list[tuple[datetime, Side]] = []
        self._threads = [threading.Thread(target=self._run, args=(side,), daemon=True) for side in Side]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def primaries(self) -> list[Side]:
        """The sides that took writes, in the order of time; one entry for each stretch.

        Both servers read the clock of the same machine, so that two sides that take writes at the same
        time show as a stretch too many."""
        found: list[Side] = []
        for _, side in sorted(self._accepted.copy()):
            if not found or found[-1] is not side:
                found.append(side)
        return found

    def _run(self, side: Side) -> None:
        while not self._stopping.wait(_PAUSE_SECONDS):
            dsn = self._pair.dsn(side, APPLICATION)
            with suppress(psycopg.Error), psycopg.connect(dsn, autocommit=True, options=_IGNORE_HINT) as session:
                while not self._stopping.wait(_PAUSE_SECONDS):
                    self._write(session, side)

    def _write(self, session: psycopg.Connection[tuple[object, ...]], side: Side) -> None:
        """Raises psycopg.OperationalError where the session is gone; a refusal is an answer."""
        with suppress(psycopg.errors.ReadOnlySqlTransaction, psycopg.ProgrammingError):
            row = session.execute(_WRITE).fetchone()
            if row is not None and isinstance(row[0], datetime):
                self._accepted.append((row[0], side))
