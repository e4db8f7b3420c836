"""How the load and the streams are: measured, never assumed.

What can't be measured is None, and None is bad. Lag in seconds is the time that a token takes from one
side to the other, because ``confirmed_flush_lsn`` idles hundreds of kilobytes behind a stream that is
milliseconds late; retained WAL is read from the slots (PostgreSQL docs, pg_replication_slots)."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

import psycopg
from psycopg import errors

from daybreak.model import ReplicationStatus, Side, TableName
from daybreak.postgres import catalog, control, tokens
from daybreak.postgres.server import Connection
from daybreak.postgres.sessions import Sessions
from daybreak.replication.streams import Stream, StreamStatus

_TOKEN_WAIT_SECONDS = 1.0
_LOG_BYTES = 65_536


@dataclass(frozen=True)
class Streams:
    """Both directions and the sessions to look with."""

    sessions: Sessions
    forward: Stream
    reverse: Stream
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    bidirectional: bool

    def look(self, primary: Side) -> ReplicationStatus:
        """Everything about load and streams now. Raises psycopg.Error where a server is gone."""
        source, target = self.sessions.look(Side.SOURCE), self.sessions.look(Side.TARGET)
        forward = self.forward.status(source, target)
        reverse = self.reverse.status(target, source)
        done = control.done_steps(target)
        load = _load_progress(target)
        active = forward if primary is Side.SOURCE else reverse
        published = self.forward.published(source)
        join = load.to_join - self.forward.subscribed_tables(target)
        return ReplicationStatus(
            prepared="prepare" in done and published is not None,
            schema_transferred="schema" in done,
            slot_present=forward.slot_present,
            slot_lost=forward.slot_lost or reverse.slot_lost,
            tables_total=len(published or ()) if not load.to_join else load.tables,
            tables_copied=load.copied,
            tables_to_join=len(join) if forward.subscribed else len(load.to_join),
            bytes_total=_published_bytes(source, self.forward),
            bytes_copied=load.bytes,
            rows_copied=load.rows,
            load_done=(published or frozenset()) <= load.known and forward.slot_present and "schema" in done,
            indexes_built="indexes" in done,
            foreign_keys_added="foreign_keys" in done,
            sequences_synced="sequences" in done,
            subscribed=forward.subscribed,
            forward=forward.running,
            reverse=reverse.running,
            bidirectional=self.bidirectional,
            tables_unready=(*forward.unready, *reverse.unready),
            tables_unreplicated=self._unreplicated(primary) if active.subscribed else (),
            lag_seconds=self._lag_seconds(primary) if active.running else None,
            lag_bytes=active.lag_bytes if active.subscribed else None,
            retained_wal_bytes=_most(forward.retained_wal_bytes, reverse.retained_wal_bytes),
            apply_errors=forward.apply_errors + reverse.apply_errors,
            problem=self._problem(primary, active),
        )

    def _unreplicated(self, primary: Side) -> tuple[str, ...]:
        """User tables of the primary that its publication or the standby's subscription leaves out."""
        stream = self.forward if primary is Side.SOURCE else self.reverse
        here, there = self.sessions.look(primary), self.sessions.look(primary.other)
        covered = (stream.published(here) or frozenset()) & stream.subscribed_tables(there)
        tables = {table.name for table in catalog.user_tables(here, self.include, self.exclude)}
        return tuple(str(name) for name in sorted(tables - covered))

    def _lag_seconds(self, primary: Side) -> float | None:
        return token_lag_seconds(self.sessions, primary)

    def _problem(self, primary: Side, active: StreamStatus) -> str:
        """What is wrong with the stream from the primary, in PostgreSQL's words where they can be read."""
        stream = self.forward if primary is Side.SOURCE else self.reverse
        if not active.subscribed:
            return ""
        if active.slot_lost or not active.slot_present:
            return f"slot {stream.slot} on the {primary} is gone; changes since then cannot be streamed"
        if active.apply_errors == 0 or self._applies(primary, active):
            return ""
        text = apply_error(self.sessions.look(primary.other), stream.slot)
        where = f"{primary.other}: {active.apply_errors} apply error(s) of subscription {stream.slot}"
        return f"{where}: {text}" if text else f"{where}; the server's log says which row"

    def _applies(self, primary: Side, active: StreamStatus) -> bool:
        """Whether changes get through in spite of errors in the past."""
        lag = self._lag_seconds(primary) if active.running else None
        return lag is not None and lag < _TOKEN_WAIT_SECONDS


def token_lag_seconds(sessions: Sessions, primary: Side) -> float | None:
    """Seconds that a token took from ``primary``; where it doesn't arrive within a second, the age of the last
    that did, which is never less than the lag. None where none ever did."""
    here, there = sessions.look(primary), sessions.look(primary.other)
    before = tokens.age_seconds(here, there, primary)
    began = time.monotonic()
    at = tokens.write_timed(here, primary, "lag")
    # A later one will do, for two people may watch at the same time; an older one would hide a long lag.
    while not tokens.seen_since(there, primary, "lag", at):
        waited = time.monotonic() - began
        if waited > _TOKEN_WAIT_SECONDS:
            return None if before is None else before + waited
        time.sleep(0.001)
    return time.monotonic() - began


@dataclass(frozen=True, slots=True)
class _Load:
    tables: int = 0
    copied: int = 0
    rows: int = 0
    bytes: int = 0
    to_join: frozenset[TableName] = frozenset()
    known: frozenset[TableName] = frozenset()


def _load_progress(target: Connection) -> _Load:
    try:
        rows = target.execute("SELECT schema_name, table_name, state, rows, bytes FROM daybreak.table_load").fetchall()
    except (errors.UndefinedTable, errors.InvalidSchemaName):
        return _Load()
    copied = [row for row in rows if row[2] == "copied"]
    return _Load(
        len(rows),
        len(copied),
        sum(int(str(row[3])) for row in copied),
        sum(int(str(row[4])) for row in copied),
        frozenset(TableName(str(row[0]), str(row[1])) for row in rows if row[2] == "join"),
        frozenset(TableName(str(row[0]), str(row[1])) for row in rows),
    )


def _published_bytes(source: Connection, forward: Stream) -> int:
    row = source.execute(
        "SELECT coalesce(sum(pg_table_size(format('%%I.%%I', schemaname, tablename)::regclass)), 0)"
        " FROM pg_publication_tables WHERE pubname = %s AND schemaname <> 'daybreak'",
        [forward.publication],
    ).fetchone()
    return 0 if row is None else int(str(row[0]))


def _most(*values: int | None) -> int | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None


def apply_error(subscriber: Connection, subscription: str) -> str:
    """PostgreSQL's own message of the last apply error of ``subscription``, from the server's log.

    No catalog keeps it. Empty where the log can't be read (``daybreak grants`` has the optional right),
    is not collected, or says nothing of it."""
    # From the end; a file shorter than that can't be sought so far back and is read from its start.
    for offset in (-_LOG_BYTES, 0):
        try:
            row = subscriber.execute(
                "SELECT pg_read_file(pg_current_logfile('stderr'), %s, %s),"
                " (SELECT oid FROM pg_subscription WHERE subname = %s)",
                [offset, _LOG_BYTES, subscription],
            ).fetchone()
        except psycopg.DatabaseError:
            continue
        if row is not None and row[0] is not None:
            return find_apply_error(str(row[0]), subscription, int(str(row[1])))
    return ""


def find_apply_error(log: str, subscription: str, oid: int) -> str:
    """The last ERROR (with DETAIL) in ``log`` whose CONTEXT names the subscription's origin. Pure."""
    # Further lines of one message begin with a tab (since 18 conflicts are told in several).
    lines = r"[^\n]*(?:\n\t[^\n]*)*"
    pattern = re.compile(
        rf"ERROR:  (?P<error>{lines})\n(?:[^\n]*DETAIL:  (?P<detail>{lines})\n)?[^\n]*CONTEXT:  (?P<context>{lines})"
    )
    found = ""
    for match in pattern.finditer(log):
        if f'"pg_{oid}"' in match["context"] or subscription in match["context"]:
            parts = (match["error"], match["detail"], match["context"])
            found = " ".join(" ".join(part.split()) for part in parts if part)
    return found
