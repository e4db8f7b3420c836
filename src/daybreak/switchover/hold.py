"""The hold: every writer of the old primary has finished or waits, and no longer than agreed.

One transaction takes the guard's advisory lock exclusively. It asks in slices of 100 ms with pauses
between, because a single long wait would deadlock softly with clients that SELECT FOR UPDATE first and
UPDATE later, until ``deadlock_timeout``. ``idle_in_transaction_session_timeout`` is the dead-man's
switch: if this process dies or stops, the server ends the transaction and writers go on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import psycopg
from psycopg import errors, sql

from daybreak.postgres import guard
from daybreak.postgres.control import stale_is_conflict
from daybreak.postgres.server import Connection

_SLICE_MS = 100
_PAUSE_SECONDS = 0.1


class GaveUp(Exception):
    """The switch can't go on before its commit point; ``str()`` is the reason for people."""


@dataclass
class Hold:
    """The holding transaction on ``connection`` (a session of its own), for at most ``budget_seconds``.

    Taking it counts. Times are of ``time.monotonic``; ``began`` is when writers began to wait."""

    connection: Connection
    migration: str
    generation: int
    budget_seconds: float
    began: float = 0.0
    _deadline: float = 0.0

    def acquire(self, expected_stamp: str) -> None:
        """Take the lock and check generation and stamp under it.

        Raises GaveUp naming the oldest transaction when the budget passes, or when DDL was run since
        the stamp was taken; StateConflict when a newer generation acts. Then nothing is held."""
        self._deadline = time.monotonic() + self.budget_seconds
        while not self._try():
            if self.remaining_seconds() <= 0:
                raise GaveUp(
                    f"the hold could not be taken within {self.budget_seconds:g} s: a writer did not finish"
                    f" {guard.longest_transaction(self.connection)[1]}".rstrip()
                )
            time.sleep(_PAUSE_SECONDS)
        try:
            with stale_is_conflict():
                check = sql.SQL("SELECT daybreak.check_generation({}, {})")
                self.connection.execute(check.format(sql.Literal(self.migration), sql.Literal(self.generation)))
            self.check_stamp(expected_stamp)
        except BaseException:
            self.release()
            raise

    def check_stamp(self, expected: str) -> None:
        """Raises GaveUp when tables, triggers or publications are not what was judged any more."""
        if guard.stamp(self.connection) != expected:
            raise GaveUp("tables, triggers or publications were changed (DDL) while the switch was prepared")

    def remaining_seconds(self) -> float:
        """What is left of the pause that was agreed."""
        return self._deadline - time.monotonic()

    def elapsed_ms(self) -> float:
        """Milliseconds since writers began to wait."""
        return (time.monotonic() - self.began) * 1000

    def check_deadline(self, doing: str) -> None:
        """Raises GaveUp when the agreed pause is over."""
        if self.remaining_seconds() <= 0:
            raise GaveUp(f"{doing} was not done within cutover.max_write_pause_seconds ({self.budget_seconds:g} s)")

    def check_held(self) -> None:
        """Raises GaveUp when the server has ended the hold, or may do so any moment."""
        self.check_deadline("what has to be done under the hold")
        try:
            self.connection.execute("SELECT 1")
        except psycopg.Error as error:
            raise GaveUp("the hold was ended before everything was done under it") from error

    def release(self) -> None:
        """End the transaction without a trace; writers go on. Never raises."""
        try:
            self.connection.execute("ROLLBACK")
        except Exception:
            # The session is gone, and with it the hold.
            self.connection.close()

    def _try(self) -> bool:
        """One slice. The dead-man's switch is set before the lock is asked for, in the same message: this
        process may be stopped at any moment after that. Each statement in the session restarts the idle
        timer, and there are few; from 17 on an absolute limit exists too (docs, transaction_timeout)."""
        began, left = time.monotonic(), sql.Literal(max(1, int(self.remaining_seconds() * 1000)))
        statements = [
            sql.SQL("BEGIN"),
            sql.SQL("SET LOCAL idle_in_transaction_session_timeout = {}").format(left),
            sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(_SLICE_MS)),
        ]
        if self.connection.info.server_version >= 170000:
            statements.append(sql.SQL("SET LOCAL transaction_timeout = {}").format(left))
        statements.append(sql.SQL("SELECT pg_advisory_xact_lock({})").format(sql.Literal(guard.LOCK_KEY)))
        statements.append(sql.SQL("SET LOCAL lock_timeout = {}").format(left))
        try:
            self.connection.execute(sql.SQL("; ").join(statements))
        except errors.LockNotAvailable:
            self.connection.execute("ROLLBACK")
            return False
        self.began = began
        return True
