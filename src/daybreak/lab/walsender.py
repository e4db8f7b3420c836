"""Reading a logical slot as a client of PostgreSQL's streaming replication protocol, which psycopg has no call for.

PostgreSQL docs, "Streaming Replication Protocol": START_REPLICATION answers with CopyBoth; ``w`` is WAL data, ``k`` a
keepalive, ``r`` what the client has secured."""

from __future__ import annotations

import select
import struct
import time
from dataclasses import dataclass, field

import psycopg
from psycopg import pq, sql

from daybreak.model import Lsn

# Seconds from 1970 to 2000, from which PostgreSQL counts.
_EPOCH = 946_684_800
_OPTIONS = sql.SQL("(\"include-xids\" '0', \"include-timestamp\" '1', \"skip-empty-xacts\" '1')")
_STATUS_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Message:
    """A line of the output plugin; ``at`` is where the transaction ends for a COMMIT."""

    at: Lsn
    text: str


@dataclass
class WalSender:
    """What a slot captures with ``test_decoding``, from where it was confirmed. Raises psycopg.OperationalError
    when the connection ends."""

    conninfo: str
    slot: str
    _secured: Lsn = field(default=Lsn(0))
    _told_at: float = 0.0

    def __post_init__(self) -> None:
        self._connection = psycopg.connect(self.conninfo, autocommit=True, replication="database")
        start = sql.SQL("START_REPLICATION SLOT {} LOGICAL 0/0 {}").format(sql.Identifier(self.slot), _OPTIONS)
        result = self._connection.pgconn.exec_(start.as_bytes(self._connection))
        if result.status != pq.ExecStatus.COPY_BOTH:
            message = result.error_message.decode(errors="replace")
            self.close()
            raise psycopg.OperationalError(message)

    def read(self, seconds: float) -> Message | None:
        """The next message, or None where none came within ``seconds``."""
        deadline = time.monotonic() + seconds
        while True:
            self._tell()
            size, data = self._connection.pgconn.get_copy_data(1)
            if size < 0:
                raise psycopg.OperationalError("the walsender ended")
            if size == 0:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([self._connection.pgconn.socket], [], [], left)[0]:
                    return None
                self._connection.pgconn.consume_input()
                continue
            body = bytes(data)
            if body[:1] == b"w":
                (at,) = struct.unpack("!Q", body[9:17])
                return Message(Lsn(at), body[25:].decode())
            if body[:1] == b"k" and body[17]:
                self._told_at = 0.0

    def confirm(self, at: Lsn) -> None:
        """Everything up to ``at`` is secured: it will not be sent again."""
        self._secured, self._told_at = max(self._secured, at), 0.0

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _tell(self) -> None:
        if time.monotonic() - self._told_at < _STATUS_SECONDS:
            return
        secured, now = self._secured.bytes, int((time.time() - _EPOCH) * 1_000_000)
        self._connection.pgconn.put_copy_data(b"r" + struct.pack("!QQQQB", secured, secured, secured, now, 0))
        self._connection.pgconn.flush()
        self._told_at = time.monotonic()
