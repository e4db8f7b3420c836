"""``Router`` over PgBouncer: one file of database entries that Daybreak owns and pgbouncer.ini
includes, and the admin console. For a switchover it holds new transactions back (PAUSE), rewrites
the file, makes PgBouncer read it (RELOAD; entries that changed get new server connections) and lets
the transactions go on at the new primary (RESUME): clients see a pause and no error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from daybreak.config import PgBouncer
from daybreak.errors import AdapterError, PermanentError, TransientError
from daybreak.model import RoutingStatus, Side
from daybreak.postgres.server import Server
from daybreak.traffic.console import Console, Entry, console_dsn
from daybreak.traffic.deadman import Deadman
from daybreak.traffic.entries import checked_name, checked_options, write_entries

_MEND = (
    "pgbouncer.ini must have a line `%include FILE` with traffic.pgbouncer.databases_file, define the entries"
    " nowhere else, and its user must be able to read the file. PgBouncer's log says what it didn't like."
)
# A report that runs for long on the reading entry shall not keep a switchover from happening.
_READER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Pause:
    """A pause under way: its console session stays open, for max_client_conn may be reached."""

    console: Console
    deadman: Deadman


class PgBouncerRouter:
    """Routes the writing entry and, where there is one, the reading entry of one PgBouncer process.

    ``check`` is called before and after every change and raises StateConflict where a newer
    generation acts. Raises ConfigError for entry names and options that can't be written.
    """

    def __init__(self, settings: PgBouncer, servers: Mapping[Side, Server], check: Callable[[], None]) -> None:
        password = settings.password.get_secret_value() if settings.password else ""
        self._dsn = console_dsn(settings.admin_dsn.get_secret_value(), password)
        self._file = settings.databases_file
        self._writer = checked_name(settings.writer)
        self._reader = checked_name(settings.reader) if settings.reader else ""
        self._options = checked_options(settings.options)
        self._servers = servers
        self._check = check
        self._pause: _Pause | None = None

    def observe(self) -> RoutingStatus:
        """See ``Router.observe``: what PgBouncer itself says, whatever the file says."""
        try:
            with self._console() as console:
                entries = console.databases()
        except AdapterError as error:
            return RoutingStatus(problem=error.message)
        writer = entries.get(self._writer)
        side = self._side_of(writer)
        weight = 100 if self._side_of(entries.get(self._reader)) is Side.TARGET else 0
        paused = writer is not None and writer.paused
        return RoutingStatus(side, weight, paused, problem="" if side else self._lost(self._writer, writer))

    def refuse_shift(self, percent: int) -> str:
        """See ``Router.refuse_shift``: an entry leads to one side, so only 0 and 100 can be had."""
        if not self._reader:
            return "PgBouncer has no read-only entry (traffic.pgbouncer.reader)."
        if percent not in (0, 100):
            return f"PgBouncer's entry {self._reader} leads to one side: reads go to the target by 0 or 100 percent."
        return ""

    def shift_reads(self, percent: int) -> None:
        """See ``Router.shift_reads``: reading transactions that begin from now on go there."""
        if reason := self.refuse_shift(percent):
            raise PermanentError(reason, "Ask for 0 or 100, or leave reads with the primary.")
        with self._console() as console:
            entry = console.databases().get(self._writer)
            writer = self._side_of(entry)
            if writer is None:
                raise PermanentError(self._lost(self._writer, entry), _MEND)
            self._route(console, writer, Side.TARGET if percent else Side.SOURCE)

    def lower_ttl(self) -> float:
        """Nothing to lower: no name is moved."""
        return 0.0

    def pause(self, seconds: float) -> None:
        """See ``Router.pause``. At most half of ``seconds`` is spent on waiting for running
        transactions; raises TransientError, with the pause undone, where they take longer."""
        self.resume()
        deadman = Deadman.start(self._dsn, self._entries, seconds)
        deadline = time.monotonic() + seconds / 2
        try:
            console = Console(self._dsn)
        except BaseException:
            deadman.dismiss()
            raise
        self._pause = _Pause(console, deadman)
        try:
            if self._reader:
                self._try_to_pause_reader(console, min(_READER_SECONDS, seconds / 4))
            console.pause(self._writer, deadline - time.monotonic())
        except BaseException:
            self.resume()
            raise

    def resume(self) -> None:
        """See ``Router.resume``; also ends a pause that an earlier process left behind."""
        with self._console() as console:
            console.resume(self._entries)
        self._end_pause()

    def point_writer(self, side: Side) -> None:
        """See ``Router.point_writer``. Where PgBouncer does not take the change, raises PermanentError
        and leaves a pause to its dead-man's switch: waiting is better than the closed side's refusal."""
        with self._console() as console:
            reader = self._side_of(console.databases().get(self._reader)) or Side.SOURCE
            self._route(console, side, reader)
            console.resume(self._entries)
        self._end_pause()
        self._check()

    def clean_up(self) -> None:
        """Does nothing: the entries are the operator's way to the primary now."""

    @property
    def _entries(self) -> tuple[str, ...]:
        return (self._writer, self._reader) if self._reader else (self._writer,)

    @contextmanager
    def _console(self) -> Iterator[Console]:
        if self._pause is not None:
            yield self._pause.console
            return
        console = Console(self._dsn)
        try:
            yield console
        finally:
            console.close()

    def _end_pause(self) -> None:
        if self._pause is not None:
            self._pause.deadman.dismiss()
            self._pause.console.close()
            self._pause = None

    def _try_to_pause_reader(self, console: Console, seconds: float) -> None:
        """Paused readers don't notice when the switchover ends sessions on the old primary; those
        whose query runs for longer than ``seconds`` may."""
        try:
            console.pause(self._reader, seconds)
        except TransientError:
            return

    def _route(self, console: Console, writer: Side, reader: Side) -> None:
        self._check()
        wanted = {self._writer: writer, **({self._reader: reader} if self._reader else {})}
        write_entries(self._file, {name: self._keywords(side) for name, side in wanted.items()})
        console.reload()
        entries = console.databases()
        for name, side in wanted.items():
            if self._side_of(entries.get(name)) is not side:
                raise PermanentError(f"After RELOAD, {self._lost(name, entries.get(name))}", _MEND)

    def _keywords(self, side: Side) -> dict[str, str]:
        host, port, database = self._place(side)
        return {"host": host, "port": str(port), "dbname": database, **self._options}

    def _place(self, side: Side) -> tuple[str, int, str]:
        parts = self._servers[side].parameters
        return parts.get("hostaddr", parts["host"]), int(parts.get("port", "5432")), parts["dbname"]

    def _side_of(self, entry: Entry | None) -> Side | None:
        if entry is None:
            return None
        place = (entry.host, entry.port, entry.database)
        return next((side for side in Side if self._place(side) == place), None)

    def _lost(self, name: str, entry: Entry | None) -> str:
        if entry is None:
            return f"PgBouncer has no database entry {name}."
        return f"PgBouncer's entry {name} leads to {entry.host}:{entry.port}/{entry.database}, not where it should."
