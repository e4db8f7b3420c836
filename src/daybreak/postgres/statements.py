"""Statements of a schema dump, each run exactly once on the target, whatever is killed when.

A statement commits together with the note that it is done, and only if the generation that ran it is
still the acting one at that moment. So nothing half-done (an invalid index, say) can be left behind,
and nobody who takes over has to wait for a lock of ours while a long statement runs.
"""

from __future__ import annotations

import hashlib

from psycopg import errors
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_fixed

from daybreak.postgres.control import stale_is_conflict
from daybreak.postgres.dump import Entry
from daybreak.postgres.server import Connection, translated

# As in the head of pg_dump's own scripts; notices are nobody's business here.
_SETTINGS = {
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "search_path": "",
    "check_function_bodies": "off",
    "xmloption": "content",
    "client_min_messages": "error",
    # The note of the whole step is committed with a flush, after all of these.
    "synchronous_commit": "off",
}


def prepare_session(connection: Connection) -> None:
    """Make ``connection`` read statements as pg_dump wrote them."""
    for name, value in _SETTINGS.items():
        connection.execute("SELECT set_config(%s, %s, false)", [name, value])


def digest(entry: Entry) -> str:
    """By what ``daybreak.statement`` knows the entry: its statements."""
    return hashlib.sha256(entry.sql.encode(errors="surrogateescape")).hexdigest()


def done_digests(connection: Connection) -> frozenset[str]:
    """The statements that are done in this database."""
    return frozenset(str(row[0]) for row in connection.execute("SELECT digest FROM daybreak.statement"))


def run_once(connection: Connection, migration: str, generation: int, entry: Entry) -> None:
    """Run ``entry`` and note it. A lost deadlock is tried again.

    Raises StateConflict where a newer generation acts, and TransientError or PermanentError with
    PostgreSQL's message; then nothing of it was done."""
    with translated(f"target: {entry}"), stale_is_conflict():
        _attempt(connection, migration, generation, entry)


@retry(
    retry=retry_if_exception_type(errors.DeadlockDetected),
    stop=stop_after_attempt(5),
    wait=wait_fixed(0.5),
    reraise=True,
)
def _attempt(connection: Connection, migration: str, generation: int, entry: Entry) -> None:
    with connection.transaction():
        connection.execute(entry.sql.encode(errors="surrogateescape"))
        connection.execute("SELECT daybreak.check_generation(%s, %s)", [migration, generation])
        connection.execute("INSERT INTO daybreak.statement VALUES (%s) ON CONFLICT DO NOTHING", [digest(entry)])
