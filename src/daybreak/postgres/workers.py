"""Several threads at one job: the first error, or Ctrl-C, ends them all before it is raised."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress

import psycopg

from daybreak.postgres.server import Connection

_WATCH_SECONDS = 0.3


class Stop:
    """Tells the threads of one job to end, and interrupts what they are waiting for."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()

    @property
    def asked(self) -> bool:
        """Whether the job is to end."""
        return self._event.is_set()

    def ask(self) -> None:
        """End the job: running statements of ``interrupting`` connections are cancelled."""
        self._event.set()
        with self._lock:
            for connection in self._connections:
                with suppress(psycopg.Error):
                    connection.cancel_safe(timeout=5.0)

    @contextmanager
    def interrupting(self, connection: Connection) -> Iterator[Connection]:
        """Within the block, ``ask`` cancels what ``connection`` does."""
        with self._lock:
            self._connections.add(connection)
        try:
            yield connection
        finally:
            with self._lock:
                self._connections.discard(connection)


def in_parallel(count: int, work: Callable[[Stop], None], watch: Callable[[], None]) -> None:
    """Run ``work`` in ``count`` threads and ``watch`` in this one, a few times a second, until all ended.

    ``work`` returns early once ``stop.asked``. Raises the first error of a thread or of ``watch``,
    when every thread has ended."""
    stop = Stop()
    with ThreadPoolExecutor(count, thread_name_prefix="daybreak") as pool:
        running = {pool.submit(work, stop) for _ in range(count)}
        try:
            while running:
                finished, running = wait(running, _WATCH_SECONDS, FIRST_EXCEPTION)
                for future in finished:
                    future.result()
                watch()
        except BaseException:
            # Again and again: a statement that was about to begin escapes the first cancel.
            while running:
                stop.ask()
                _, running = wait(running, _WATCH_SECONDS)
            raise
