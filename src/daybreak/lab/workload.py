"""An application under load: concurrent clients that write with a ledger of what they were told, and
one that reads. Lives in threads of this process, so that a controller in another one can be killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Self

import psycopg

from daybreak.lab.clients import Application, Reader, Writer
from daybreak.lab.ledger import Failure, Ledger, LedgerReport, Row
from daybreak.lab.pair import Pair
from daybreak.lab.resolving import Connection
from daybreak.lab.ways import ByHosts, Way
from daybreak.model import Side

_STOP_SECONDS = 20.0
_UNBALANCED = """
SELECT count(*) FROM payments.accounts a
LEFT JOIN (SELECT account_id, sum(amount_cents) AS total FROM payments.ledger GROUP BY account_id) l
    ON l.account_id = a.id
WHERE a.balance_cents <> coalesce(l.total, 0)
"""


class Workload:
    """``clients`` writers and a reader on the payments schema of ``pair``.

    They find the database by ``way``, which is by both hosts unless another is given. ``rate_per_second``
    limits all writers together. The ledger is kept in memory."""

    def __init__(
        self, pair: Pair, *, clients: int = 8, rate_per_second: float | None = None, way: Way | None = None
    ) -> None:
        self._application = Application(
            pair, way or ByHosts(pair), clients / rate_per_second if rate_per_second else 0.0
        )
        self._writers = [Writer(self._application, number) for number in range(clients)]
        self._reader = Reader(self._application)
        self._threads: list[threading.Thread] = []
        self.ledger = Ledger(writer.log for writer in self._writers)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin, or go on after ``stop``. Raises psycopg.Error where the primary can't be reached."""
        with self._application.connect("payments-start") as connection:
            row = connection.execute("SELECT max(id) FROM payments.accounts").fetchone()
            self._application.accounts = int(str(row[0])) if row else 0
        self._application.stopping.clear()
        jobs = [*(writer.run for writer in self._writers), self._reader.run]
        self._threads = [threading.Thread(target=job, daemon=True) for job in jobs]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all clients after their current write. May be called again.

        One whose server doesn't answer is cut off; its write then counts as refused or ambiguous."""
        self._application.stopping.set()
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for writer in self._writers:
            writer.hang_up()
        self._reader.hang_up()
        for thread in self._threads:
            thread.join()
        self._threads = []

    def wait_for_writes(self, number: int, timeout_seconds: float = 60.0) -> None:
        """Wait until ``number`` more writes are acknowledged; raises TimeoutError."""
        goal, deadline = self.ledger.acknowledged + number, time.monotonic() + timeout_seconds
        while self.ledger.acknowledged < goal:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{goal - self.ledger.acknowledged} of {number} writes not acknowledged in time")
            time.sleep(0.01)

    @property
    def reads(self) -> Mapping[Side, int]:
        """Number of reads that each side answered."""
        return {side: self._reader.reads[self._application.pair.cluster(side).port] for side in Side}

    @property
    def reader_failures(self) -> tuple[Failure, ...]:
        """Errors that the reader saw."""
        return tuple(self._reader.log.failures)

    def report(self, primary_dsn: str) -> LedgerReport:
        """Hold the ledger against the database at ``primary_dsn`` (any role that may read it).

        Call it after ``stop``. Raises psycopg.Error where it can't be read."""
        with psycopg.connect(primary_dsn, autocommit=True) as connection:
            # Right after a load, statistics are missing, and a nested loop over these would take minutes.
            connection.execute("SET enable_nestloop = off")
            row = connection.execute(_UNBALANCED).fetchone()
            assert row is not None
            return self.ledger.judge(self._rows(connection), int(str(row[0])))

    def _rows(self, connection: Connection) -> Iterator[Row]:
        query = (files(__package__) / "audit.sql").read_bytes()
        cursor = connection.cursor(row_factory=psycopg.rows.args_row(Row))
        yield from cursor.execute(query, (self._application.run,))
