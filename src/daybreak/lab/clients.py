"""The clients of the workload, one thread each. They are the plain role ``payments_app`` and behave
like an application that was told about the migration: on an error they connect again, to whoever
takes writes, and repeat the write under its idempotency key."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

from daybreak.lab.ledger import ClientLog, has_document, has_event
from daybreak.lab.pair import APPLICATION, Pair
from daybreak.lab.resolving import Connection
from daybreak.lab.ways import Way
from daybreak.model import Side

_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS = 0.005, 0.1
_READ_PAUSE_SECONDS = 0.005
_LOOK_UP_SECONDS = 0.1
_NOISE = random.Random(0).randbytes(64 * 1024)

_LOCK = "SELECT id, balance_cents FROM payments.accounts WHERE id IN (%s, %s) ORDER BY id FOR UPDATE"
# The rest depends on the key's being new: a write whose first COMMIT had no answer may be repeated.
_WRITE = """
WITH made AS (
    INSERT INTO payments.transfers (key, client, from_account, to_account, amount_cents, status, document_bytes)
    VALUES (%(key)s, %(client)s, %(a)s, %(b)s, %(amount)s, 'settled', %(bytes)s)
    ON CONFLICT (key) DO NOTHING RETURNING id
), booked AS (
    INSERT INTO payments.ledger (bucket, account_id, transfer_id, amount_cents)
    SELECT e.account %% 4, e.account, made.id, e.amount
    FROM made, (VALUES (%(a)s::bigint, -%(amount)s::bigint), (%(b)s, %(amount)s)) e (account, amount)
)
SELECT id FROM made
"""
_BALANCE = """
UPDATE payments.accounts SET balance_cents = balance_cents + CASE id WHEN %(a)s THEN -%(amount)s ELSE %(amount)s END
WHERE id IN (%(a)s, %(b)s)
"""
_DOCUMENT = "INSERT INTO payments.documents (transfer_id, body, scan) VALUES (%s, %s, %s)"
_EVENT = "INSERT INTO payments.events (account_id, note) VALUES (%s, %s)"
_FORGET = "DELETE FROM payments.events WHERE number = %s AND note LIKE 'Opened %%'"
_LIMIT = "UPDATE payments.limits SET limit_cents = limit_cents + 0.01, changed_at = now() WHERE account_id = %s"
_READ = "SELECT inet_server_port(), count(*) FROM payments.ledger WHERE account_id = %s"
_ROUTE = "SELECT read_weight FROM daybreak.route"
_ROUTE_PUBLISHED = """
SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'daybreak' AND c.relname = 'route'
    AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
"""
_READER = "payments-reader"


@dataclass
class Application:
    """What all clients share. ``accounts`` is the number of accounts to choose from, ``run`` marks the
    rows of this workload, ``interval_seconds`` is each writer's time from write to write (0: none)."""

    pair: Pair
    way: Way
    interval_seconds: float
    run: str = field(default_factory=lambda: f"run-{random.SystemRandom().getrandbits(48):012x}")
    accounts: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    def connect(self, name: str, side: Side | None = None, *, read_only: bool = False) -> Connection:
        """A client's session: on ``side``, or else wherever the way leads."""
        dsn = self.way.dsn(read_only=read_only) if side is None else self.pair.dsn(side, APPLICATION)
        connection: Connection = psycopg.connect(dsn, autocommit=True, application_name=name, connect_timeout=5)
        if self.way.pooled:
            # In transaction pooling the next statement may run in another server session.
            connection.prepare_threshold = None
        return connection


class Writer:
    """One client; its thread runs ``run``."""

    def __init__(self, application: Application, number: int) -> None:
        self.log = ClientLog(number)
        self._connection: Connection | None = None
        self._application = application
        self._random = random.Random(f"{application.run}/{number}")
        self._committing = False

    def run(self) -> None:
        """Write until the workload stops."""
        stopping, interval = self._application.stopping, self._application.interval_seconds
        due = time.monotonic() + self._random.random() * interval
        while not stopping.is_set():
            if self.log.open_key is None:
                self.log.attempt(UUID(int=self._random.getrandbits(128)))
            self._until_acknowledged()
            if interval:
                due = max(due + interval, time.monotonic() - interval)
                stopping.wait(due - time.monotonic())
        self._disconnect()

    def _until_acknowledged(self) -> None:
        pause = _FIRST_RETRY_SECONDS
        while True:
            self._committing = False
            try:
                self._transaction()
            except psycopg.Error as error:
                self.log.fail(error, self._committing, time.monotonic())
                self._disconnect()
                if self._application.stopping.wait(pause * (0.5 + self._random.random())):
                    return
                pause = min(pause * 2, _LAST_RETRY_SECONDS)
                continue
            self.log.acknowledge(time.monotonic())
            return

    def _transaction(self) -> None:
        if self._connection is None:
            self._connection = self._application.connect(f"payments-client-{self.log.client}")
        key, execute = self.log.open_key, self._connection.execute
        assert key is not None
        # Drawn from the key, so that a repeated write is the same write.
        draw = random.Random(key.int)
        a, b = draw.sample(range(1, self._application.accounts + 1), 2)
        size = draw.randrange(3000, 9000) if has_document(key) else 0
        execute("BEGIN")
        execute(_LOCK, (a, b))
        values = {
            "key": key,
            "client": self._application.run,
            "a": a,
            "b": b,
            "amount": draw.randrange(1, 999),
            "bytes": size,
        }
        made = execute(_WRITE, values).fetchone()
        if made is not None:
            execute(_BALANCE, values)
            if size:
                start = draw.randrange(len(_NOISE) - size)
                body = {"number": made[0], "lines": _NOISE[start : start + 1500].hex()}
                execute(_DOCUMENT, (made[0], Jsonb(body), _NOISE[start : start + size]))
            if has_event(key):
                execute(_EVENT, (a, str(key)))
                execute(_FORGET, (draw.randrange(1, self._application.accounts + 1),))
                execute(_LIMIT, (a,))
        self._committing = True
        execute("COMMIT")

    def hang_up(self) -> None:
        """From another thread: end the wait for a server that doesn't answer."""
        _shut_down(self._connection)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Reader:
    """The client that only reads, from where the published read weight or its way's pool sends it."""

    def __init__(self, application: Application) -> None:
        self.reads: Counter[int] = Counter()
        self.log = ClientLog(-1)
        self._application = application
        self._connections: dict[Side | None, Connection] = {}
        self._lent: Connection | None = None
        self._weight: int | None = None
        self._looked_up_at = 0.0

    def run(self) -> None:
        """Read until the workload stops."""
        with ExitStack() as stack:
            stack.callback(self._disconnect)
            pool = self._application.way.readers(_READER)
            if pool is not None:
                stack.enter_context(pool)
            while not self._application.stopping.wait(_READ_PAUSE_SECONDS):
                try:
                    self._read_from(pool)
                except psycopg.Error as error:
                    self.log.fail(error, False, time.monotonic())
                    self._disconnect()

    def _read_from(self, pool: ConnectionPool[Connection] | None) -> None:
        if pool is None:
            self._read(self._connection(self._choose()))
            return
        with pool.connection() as self._lent:
            self._read(self._lent)

    def _read(self, connection: Connection) -> None:
        row = connection.execute(_READ, (random.randrange(1, 1000),)).fetchone()
        assert row is not None
        self.reads[int(str(row[0]))] += 1

    def _choose(self) -> Side | None:
        """A side by the published weight; None where the way leads there by itself."""
        if not self._application.way.by_route:
            return None
        if time.monotonic() - self._looked_up_at > _LOOK_UP_SECONDS:
            self._weight = self._look_up()
            self._looked_up_at = time.monotonic()
        if self._weight is None:
            return None
        return Side.TARGET if random.random() * 100 < self._weight else Side.SOURCE

    def _look_up(self) -> int | None:
        for side in Side:
            try:
                connection = self._connection(side)
                if connection.execute(_ROUTE_PUBLISHED).fetchone() is None:
                    continue
                row = connection.execute(_ROUTE).fetchone()
            except psycopg.Error:
                # Gone since the look-up, or this side is down: the other one knows as well.
                self._disconnect()
                continue
            if row is not None:
                return int(str(row[0]))
        return None

    def _connection(self, side: Side | None) -> Connection:
        if side not in self._connections:
            self._connections[side] = self._application.connect(_READER, side, read_only=True)
        return self._connections[side]

    def hang_up(self) -> None:
        """From another thread: end the wait for a server that doesn't answer."""
        _shut_down(self._lent, *tuple(self._connections.values()))

    def _disconnect(self) -> None:
        while self._connections:
            self._connections.popitem()[1].close()


def _shut_down(*connections: Connection | None) -> None:
    for connection in connections:
        # Its thread may close it at this very moment.
        with suppress(psycopg.Error, OSError):
            if connection is not None:
                with socket.socket(fileno=os.dup(connection.fileno())) as endpoint:
                    endpoint.shutdown(socket.SHUT_RDWR)
