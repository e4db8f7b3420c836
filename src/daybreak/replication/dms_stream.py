"""AWS DMS in place of PostgreSQL's own load and first stream: how it is seen, prepared, started and resumed.

What is not DMS's is done as in ``native``, and everything is once DMS has handed over (``dms``). A token that
arrives proves no drain under DMS, so much more is asked of it (``dms_health``)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from daybreak.aws.dms import DmsTask, Start, TableStatistics, Task
from daybreak.errors import DaybreakError, PermanentError
from daybreak.model import Progress, ReplicationStatus, Side, Step
from daybreak.ports import Report
from daybreak.postgres import control, logins
from daybreak.postgres.server import Connection, translated
from daybreak.replication import dms_health, dms_source
from daybreak.replication.health import token_lag_seconds
from daybreak.replication.native import NativeReplicator

# What is remembered in the target's ``daybreak.done``.
_LOAD, _STREAM, _SLOTS, FENCED, HANDED_OVER = "dms_load", "dms_stream", "dms_slots", "dms_fenced", "hand_over"
_OWN_SCHEMA = "daybreak"


@dataclass(frozen=True, slots=True)
class _Look:
    """What AWS said, and when (time.monotonic)."""

    at: float
    task: Task | None
    tables: tuple[TableStatistics, ...]
    latency_seconds: float | None


@dataclass(kw_only=True)
class DmsStream(NativeReplicator):
    """``ports.Replicator`` up to the hand-over. ``role`` is DMS's on both servers; AWS is asked again after
    ``refresh_seconds``."""

    task: DmsTask
    role: str
    refresh_seconds: float = 5.0
    _seen: _Look | None = None
    _begun: set[Step] = field(default_factory=set)
    _slots: set[str] = field(default_factory=set)

    # --- looking

    def observe(self, primary: Side) -> ReplicationStatus:
        """See ``ports.Replicator``."""
        native = super().observe(primary)
        if native.problem:
            return native
        try:
            with translated("replication"):
                marks = control.done_steps(self.sessions.look(Side.TARGET))
                if HANDED_OVER in marks:
                    return replace(native, handed_over_at=datetime.fromisoformat(marks[HANDED_OVER]))
                return self._under_dms(native, marks)
        except DaybreakError as error:
            return ReplicationStatus(problem=error.message, handed_over=False, bidirectional=False)

    def _under_dms(self, native: ReplicationStatus, marks: dict[str, str]) -> ReplicationStatus:
        source, target = self.sessions.look(Side.SOURCE), self.sessions.look(Side.TARGET)
        streaming, look = _STREAM in marks, self._ask()
        fenced = FENCED in marks or logins.may_log_in(target, self.role) is False
        status = replace(native, handed_over=False, handing_over=fenced, bidirectional=False, reverse=False)
        if look.task is None:
            return replace(status, problem=self._missing(streaming))
        task = look.task
        tables = tuple(table for table in look.tables if table.name.schema != _OWN_SCHEMA)
        slots = dms_source.slots(source, self.role, self._known_slots(marks))
        self._slots |= {slot.name for slot in slots}
        running = streaming and task.running and not fenced
        if running or task.loaded:
            self._begun.clear()  # what fails from now on fails anew
        done = dms_health.complete(tables)
        return replace(
            status,
            slot_lost=any(slot.lost for slot in slots),
            tables_total=len(tables) or native.tables_total,
            tables_copied=len(done),
            bytes_copied=native.bytes_total * task.percent // 100 if _LOAD in marks else 0,
            rows_copied=sum(table.loaded_rows for table in tables),
            load_done=streaming or _loaded(task, marks),
            loading=dms_health.loading(task, self.task.identifier, tables, streaming),
            subscribed=streaming and not task.halted,
            forward=running,
            tables_unready=dms_health.incomplete(tables) if running else (),
            tables_unreplicated=self._left_out(source, target) if streaming else (),
            unvalidated=dms_health.unvalidated(tables) if streaming else (),
            lag_seconds=self._lag_seconds(look) if running else None,
            lag_bytes=max((slot.lag_bytes for slot in slots), default=None),
            retained_wal_bytes=max((slot.retained_bytes for slot in slots), default=None),
            apply_error=self._interruption(task, fenced) if streaming else "",
            problem=self._problem(tables, task, target) if streaming else "",
        )

    def _ask(self) -> _Look:
        """AWS limits how often it is asked, and the loop looks often."""
        if self._seen is None or time.monotonic() - self._seen.at > self.refresh_seconds:
            task = self.task.describe()
            tables = () if task is None or task.started_at is None else self.task.tables(task)
            latency = self.task.latency_seconds() if task is not None and task.running else None
            self._seen = _Look(time.monotonic(), task, tables, latency)
        return self._seen

    def _missing(self, streaming: bool) -> str:
        """DMS drops a task's slot together with it, so what comes after is lost to the stream."""
        if not streaming:
            return f"there is no AWS DMS task {self.task.identifier}; run `daybreak infra deploy`"
        return (
            f"AWS DMS's task {self.task.identifier} was deleted, and its place in the stream with it;"
            " `daybreak abort`, `daybreak infra deploy` and `daybreak start` copy everything again"
        )

    def _interruption(self, task: Task, fenced: bool) -> str:
        if fenced:
            return "the hand-over from AWS DMS was cut off; `daybreak cutover` ends it"
        return dms_health.halt(task, self.task.identifier)

    def _problem(self, tables: tuple[TableStatistics, ...], task: Task, target: Connection) -> str:
        if wrong := dms_health.wrong_settings(task):
            return f"AWS DMS's task {self.task.identifier}: {wrong}; run `daybreak infra deploy`"
        return dms_health.broken(tables, dms_source.suspended(target))

    def _lag_seconds(self, look: _Look) -> float | None:
        """Of what DMS says and what a token takes the larger one; unknown where either is."""
        token = token_lag_seconds(self.sessions, Side.SOURCE)
        return None if token is None or look.latency_seconds is None else max(token, look.latency_seconds)

    def _left_out(self, source: Connection, target: Connection) -> tuple[str, ...]:
        return tuple(str(name) for name in sorted(set(self._tables(source)) - self._loaded(target)))

    def _known_slots(self, marks: dict[str, str]) -> list[str]:
        return sorted(self._slots | set(filter(None, marks.get(_SLOTS, "").split(","))))

    # --- the steps

    def perform(self, step: Step, generation: int, report: Report) -> None:
        """See ``ports.Replicator``."""
        super().perform(step, generation, report)
        self._seen = None
        with translated(str(step)):
            self._remember_slots()

    def effects(self) -> dict[Step, Callable[[Report], None]]:
        """What each step does."""
        own = super().effects()
        if HANDED_OVER in self._marks():
            return own
        by_dms: dict[Step, Callable[[Report], None]] = {
            Step.PREPARE: self._prepare_both,
            Step.LOAD: self._load_by_dms,
            Step.SUBSCRIBE: self._stream_by_dms,
            Step.JOIN_TABLES: self._refuse_to_join,
        }
        return {**own, **by_dms}

    def _prepare_both(self, report: Report) -> None:
        for side in Side:
            dms_source.admit(self.sessions.get(side), side, self.role)
        self._prepare(report)

    def _load_by_dms(self, report: Report) -> None:
        """Marked before it is started, with the run before: a start whose outcome nobody heard is known by that."""
        task = self._startable(Step.LOAD)
        if not task.halted or _loaded(task, self._marks()):
            return  # it is at it, or done
        if wrong := dms_health.wrong_settings(task):
            raise PermanentError(f"AWS DMS's task {self.task.identifier}: {wrong}.", "Run `daybreak infra deploy`.")
        self._forget(_LOAD, _STREAM)
        report(Progress("AWS DMS tests its connections to both servers"))
        self.task.test_connections(task)
        if task.started_at is not None:
            report(Progress("AWS DMS ran before: it loads everything anew"))
            self._drop_slots()
        self._done(_LOAD, _run(task))
        self._start(Step.LOAD, task, Start.FIRST if task.started_at is None else Start.RELOAD)

    def _stream_by_dms(self, _report: Report) -> None:
        """What DMS has loaded is what it keeps in step: later tables are not among that.

        Marked before it is started: a stream that runs and is taken for a load never ends."""
        task = self._startable(Step.SUBSCRIBE)
        if _STREAM not in self._marks():
            self._record_tables(dms_health.complete(self.task.tables(task)))
            self._done(_STREAM)
        if task.halted:
            self._start(Step.SUBSCRIBE, task, Start.RESUME)

    def _start(self, step: Step, task: Task, how: Start) -> None:
        self.task.start(task, how)
        self._begun.add(step)

    def _startable(self, step: Step) -> Task:
        """The task; raises PermanentError with DMS's words where it failed since this process started it."""
        task = self.task.describe()
        if task is None:
            raise PermanentError(f"There is no AWS DMS task {self.task.identifier}.", "Run `daybreak infra deploy`.")
        if step in self._begun and task.halted and not task.loaded:
            self._begun.discard(step)
            raise PermanentError(
                f"{dms_health.halt(task, self.task.identifier)}.",
                "`aws dms describe-replication-tasks` and the task's log in CloudWatch say more.",
            )
        return task

    def _record_tables(self, tables: tuple[TableStatistics, ...]) -> None:
        target = self.sessions.get(Side.TARGET)
        here = frozenset(self._tables(self.sessions.get(Side.SOURCE)))
        with control.fenced(target, self.migration, self.sessions.generation):
            target.execute("DELETE FROM daybreak.table_load")
            for table in tables:
                if table.name in here:
                    target.execute(
                        "INSERT INTO daybreak.table_load VALUES (%s, %s, 'copied', %s, 0, 0)",
                        [table.name.schema, table.name.name, table.loaded_rows],
                    )

    def _refuse_to_join(self, _report: Report) -> None:
        names = self._left_out(self.sessions.get(Side.SOURCE), self.sessions.get(Side.TARGET))
        raise PermanentError(
            f"AWS DMS does not take in tables that were made after its load: {', '.join(names[:5])}.",
            "`daybreak cutover` hands over to PostgreSQL's own streams and then stops for them; after that"
            " `daybreak start` joins them. Or put them in replication.exclude.",
        )

    # --- what they share

    def _marks(self) -> dict[str, str]:
        return control.done_steps(self.sessions.get(Side.TARGET))

    def _forget(self, *steps: str) -> None:
        target = self.sessions.get(Side.TARGET)
        with control.fenced(target, self.migration, self.sessions.generation):
            target.execute("DELETE FROM daybreak.done WHERE step = ANY(%s)", [list(steps)])

    def _remember_slots(self) -> None:
        """A slot belongs to nobody: DMS's are known by being in use by its role."""
        marks = self._marks()
        known = self._known_slots(marks)
        found = dms_source.slots(self.sessions.get(Side.SOURCE), self.role, known)
        self._slots |= {slot.name for slot in found}
        if set(self._known_slots(marks)) != set(filter(None, marks.get(_SLOTS, "").split(","))):
            self._done(_SLOTS, ",".join(self._known_slots(marks)))

    def _drop_slots(self) -> None:
        source = self.sessions.get(Side.SOURCE)
        for slot in dms_source.slots(source, self.role, self._known_slots(self._marks())):
            dms_source.drop_slot(source, slot.name)
        self._slots.clear()
        self._forget(_SLOTS)


def _run(task: Task) -> str:
    """Which run of ``task`` was its last, whatever time zone this process has; empty before the first."""
    return "" if task.started_at is None else task.started_at.astimezone(UTC).isoformat()


def _loaded(task: Task, marks: dict[str, str]) -> bool:
    """Whether a run that Daybreak asked for has loaded everything, rather than one before that."""
    return task.loaded and _LOAD in marks and marks[_LOAD] != _run(task)
