"""The port ``Replicator`` by PostgreSQL's own logical replication: full load under the snapshot of the
forward slot, streams in both directions. Resumes by looking: what the catalogs, ``daybreak.done`` and
``daybreak.table_load`` say is what holds (DESIGN: the streams).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from daybreak.errors import DaybreakError, PermanentError
from daybreak.model import GuardState, Policy, Progress, ReplicationStatus, Side, Step, TableName
from daybreak.ports import AtFencePoint, Report
from daybreak.postgres import catalog, control, guard, schema, sequences, settings
from daybreak.postgres.inspect import owners
from daybreak.postgres.installations import Installation, client_tools
from daybreak.postgres.server import Connection, translated
from daybreak.postgres.sessions import Sessions
from daybreak.replication import copy
from daybreak.replication.health import Streams
from daybreak.replication.streams import ORIGIN_FILTER_VERSION, Stream


@dataclass
class NativeReplicator:
    """Implements ``ports.Replicator``."""

    migration: str
    sessions: Sessions
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    jobs: int
    client_bin: Path | None
    policy: Policy
    _snapshot: tuple[Connection, str] | None = None

    def stream(self, publisher: Side) -> Stream:
        """The stream that ``publisher`` feeds."""
        server = self.sessions.server
        return Stream(self.migration, server(publisher), server(publisher.other))

    @property
    def bidirectional(self) -> bool:
        """Whether both streams can exist at once: ``origin = none`` needs 16 on both sides."""
        return all(self.sessions.look(side).info.server_version >= ORIGIN_FILTER_VERSION for side in Side)

    def observe(self, primary: Side) -> ReplicationStatus:
        """See ``ports.Replicator``."""
        try:
            with translated("replication"):
                forward, reverse = self.stream(Side.SOURCE), self.stream(Side.TARGET)
                streams = Streams(self.sessions, forward, reverse, self.include, self.exclude, self.bidirectional)
                return streams.look(primary)
        except DaybreakError as error:
            return ReplicationStatus(problem=error.message)

    def perform(self, step: Step, generation: int, report: Report) -> None:
        """See ``ports.Replicator``."""
        with translated(str(step)):
            self._check_both(generation)
            self.effects()[step](report)

    def effects(self) -> dict[Step, Callable[[Report], None]]:
        """What each step does."""
        return {
            Step.PREPARE: self._prepare,
            Step.TRANSFER_SCHEMA: self._transfer_schema,
            Step.CLOSE_TARGET: self._close_target,
            Step.LOAD: self._load,
            Step.BUILD_INDEXES: self._build_indexes,
            Step.SUBSCRIBE: self._subscribe,
            Step.JOIN_TABLES: self._join_tables,
            Step.ADD_FOREIGN_KEYS: self._add_foreign_keys,
            Step.SYNC_SEQUENCES: self._sync_sequences,
            Step.REVERSE: self._reverse,
        }

    def hand_over(
        self, generation: int, hold: Callable[[AtFencePoint], None], compare: Callable[[], None], report: Report
    ) -> None:
        """See ``ports.Replicator``; there is no other engine."""

    def clean_up(self, generation: int, keep_target_data: bool) -> None:
        """See ``ports.Replicator``."""
        with translated("cleaning up"):
            self.close()
            for side in Side:
                if control.read_control(self.sessions.get(side), self.migration) is not None:
                    self._check(generation, side)
            for publisher in Side:
                stream = self.stream(publisher)
                there, here = self.sessions.get(publisher), self.sessions.get(publisher.other)
                stream.unsubscribe(here)
                stream.drop_slot(there)
                stream.drop_publication(there)
                stream.drop_role(there)
            if not keep_target_data:
                schema.drop_transferred(self.sessions.get(Side.TARGET), self.migration, generation)

    def close(self) -> None:
        """Let go of the load's snapshot, if one is held. May be called again."""
        if self._snapshot is not None:
            with contextlib.suppress(psycopg.Error):
                self._snapshot[0].close()
        self._snapshot = None

    # --- the steps

    def _check(self, generation: int, side: Side) -> None:
        with control.fenced(self.sessions.get(side), self.migration, generation):
            pass

    def _check_both(self, generation: int) -> None:
        for side in Side:
            self._check(generation, side)

    def _done(self, step: str, detail: str = "") -> None:
        with control.fenced(self.sessions.get(Side.TARGET), self.migration, self.sessions.generation):
            control.mark_done(self.sessions.get(Side.TARGET), step, detail)

    def _prepare(self, _report: Report) -> None:
        source = self.sessions.get(Side.SOURCE)
        for side in Side:
            with control.fenced(self.sessions.get(side), self.migration, self.sessions.generation):
                settings.save_and_exempt(self.sessions.get(side), self.migration)
        forward = self.stream(Side.SOURCE)
        forward.ensure_publication(source, self._tables(source))
        forward.ensure_role(source, owners(source))
        self._done("prepare")

    def _transfer_schema(self, report: Report) -> None:
        _tell(schema.transfer_pre_data(self._schema_job(report), close=self._close), report)
        self._done("schema")

    def _close_target(self, _report: Report) -> None:
        self._close()

    def _close(self) -> None:
        target, generation = self.sessions.get(Side.TARGET), self.sessions.generation
        with control.fenced(target, self.migration, generation):
            guard.install_function(target, self.migration, target.info.user)
            guard.set_flag(target, GuardState.CLOSED)
            target.execute(settings.hint_statement(target, True, self.migration))
        tables = catalog.guardable_tables(target, self.include, self.exclude)
        guard.attach(target, sorted(tables), self.migration, generation, self.policy.gate_patience_seconds)

    def _load(self, report: Report) -> None:
        source, target = self.sessions.get(Side.SOURCE), self.sessions.get(Side.TARGET)
        forward = self.stream(Side.SOURCE)
        slot = forward.status(source, target)
        copied = self._loaded(target)
        if not slot.slot_present or slot.slot_lost or not copied:
            self._begin_anew(forward, report, again=bool(copied))
        elif not self._snapshot_alive(source):
            self._leave_rest_to_join(source, target)
            return
        assert self._snapshot is not None
        missing = [t for t in self._published(source) if t.name not in self._loaded(target)]
        copy.copy_tables(
            self.sessions.server(Side.SOURCE),
            self.sessions.server(Side.TARGET),
            self._tools(),
            missing,
            self._snapshot[1],
            jobs=self.jobs,
            generation=self.sessions.generation,
            report=report,
        )
        self.close()

    def _begin_anew(self, forward: Stream, report: Report, *, again: bool) -> None:
        """A new slot, and with it a new snapshot: what was copied under another one is of no use."""
        source, target = self.sessions.get(Side.SOURCE), self.sessions.get(Side.TARGET)
        if again:
            report(Progress("the slot of the first load is gone: everything is copied again"))
        self.close()
        forward.unsubscribe(target)
        forward.drop_slot(source)
        target.execute("DELETE FROM daybreak.table_load")
        self._snapshot = forward.create_slot_with_snapshot(source)

    def _leave_rest_to_join(self, source: Connection, target: Connection) -> None:
        """The snapshot died with its session. Finished tables stay on the slot; the others are emptied
        and joined later by PostgreSQL's own copy."""
        loaded = self._loaded(target)
        for table in self._published(source):
            if table.name not in loaded:
                with control.fenced(target, self.migration, self.sessions.generation):
                    name = sql.Identifier(table.name.schema, table.name.name)
                    target.execute(sql.SQL("TRUNCATE ONLY {}").format(name))
                    target.execute(
                        "INSERT INTO daybreak.table_load VALUES (%s, %s, 'join', 0, 0, 0)",
                        [table.name.schema, table.name.name],
                    )

    def _build_indexes(self, report: Report) -> None:
        _tell(schema.build_indexes(self._schema_job(report)), report)
        self._done("indexes")

    def _subscribe(self, _report: Report) -> None:
        """Publish only what was copied while the subscription is made: it takes all that it finds
        published as being in step with the slot."""
        source, target = self.sessions.get(Side.SOURCE), self.sessions.get(Side.TARGET)
        forward = self.stream(Side.SOURCE)
        there = frozenset(self._tables(source))  # a table may have been dropped since it was copied
        forward.ensure_publication(source, there & self._loaded(target) - self._to_join(target))
        forward.subscribe(source, target, enabled=True, origin_filter=self.bidirectional)

    def _join_tables(self, _report: Report) -> None:
        """While loading: the tables that the load left over. Afterwards: what the primary has new, and
        the standby too, for tables are created by whoever runs the application's DDL."""
        source, target = self.sessions.get(Side.SOURCE), self.sessions.get(Side.TARGET)
        forward = self.stream(Side.SOURCE)
        if self._to_join(target) - forward.subscribed_tables(target):
            forward.ensure_publication(source, self._loaded(target).intersection(self._tables(source)))
            forward.refresh(target, copy_data=True)
            return
        primary = Side.SOURCE if guard.state(target) is GuardState.CLOSED else Side.TARGET
        here, there = self.sessions.get(primary), self.sessions.get(primary.other)
        if absent := sorted(set(self._tables(here)) - set(self._tables(there))):
            raise PermanentError(
                f"{primary.other}: {absent[0]} does not exist there"
                f"{f' (and {len(absent) - 1} more)' if len(absent) > 1 else ''}.",
                "Create it as on the other side (`pg_dump --schema-only --table`), then run the command again.",
            )
        tables = catalog.guardable_tables(there, self.include, self.exclude)
        guard.attach(there, sorted(tables), self.migration, self.sessions.generation, self.policy.gate_patience_seconds)
        onward, back = self.stream(primary), self.stream(primary.other)
        onward.ensure_publication(here, self._tables(here))
        onward.refresh(there, copy_data=True)
        if back.subscription_exists(here):
            back.ensure_publication(there, self._tables(here))
            back.refresh(here, copy_data=False)

    def _add_foreign_keys(self, report: Report) -> None:
        _tell(schema.add_foreign_keys(self._schema_job(report)), report)
        self._done("foreign_keys")

    def _sync_sequences(self, report: Report) -> None:
        source, target = self.sessions.get(Side.SOURCE), self.sessions.get(Side.TARGET)
        with control.fenced(target, self.migration, self.sessions.generation):
            sequences.set_ahead(target, sequences.read(source), 0)
        tables = self._tables(target)
        for number, table in enumerate(tables, 1):
            target.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table.schema, table.name)))
            report(Progress("analyzing the target", tables_done=number, tables_total=len(tables)))
        self._done("sequences")

    def _reverse(self, _report: Report) -> None:
        source, target = self.sessions.get(Side.SOURCE), self.sessions.get(Side.TARGET)
        reverse = self.stream(Side.TARGET)
        reverse.ensure_publication(target, self._tables(target))
        reverse.ensure_role(target, owners(target))
        reverse.ensure_slot(target)
        reverse.subscribe(target, source, enabled=True, origin_filter=True)

    # --- what they share

    def _tables(self, connection: Connection) -> list[TableName]:
        return [table.name for table in catalog.user_tables(connection, self.include, self.exclude)]

    def _published(self, source: Connection) -> list[catalog.Table]:
        published = self.stream(Side.SOURCE).published(source) or frozenset()
        return [t for t in catalog.user_tables(source, self.include, self.exclude) if t.name in published]

    def _loaded(self, target: Connection) -> frozenset[TableName]:
        rows = target.execute("SELECT schema_name, table_name FROM daybreak.table_load")
        return frozenset(TableName(str(a), str(b)) for a, b in rows)

    def _to_join(self, target: Connection) -> frozenset[TableName]:
        rows = target.execute("SELECT schema_name, table_name FROM daybreak.table_load WHERE state = 'join'")
        return frozenset(TableName(str(a), str(b)) for a, b in rows)

    def _schema_job(self, report: Report) -> schema.SchemaJob:
        source, target = self.sessions.server(Side.SOURCE), self.sessions.server(Side.TARGET)
        return schema.SchemaJob(
            source, target, self._tools(), self.sessions.generation, self.include, self.exclude, self.jobs, report
        )

    def _tools(self) -> Installation:
        majors = [self.sessions.get(side).info.server_version // 10000 for side in Side]
        return client_tools(majors[0], majors[1], self.client_bin)

    def _snapshot_alive(self, source: Connection) -> bool:
        """Asked from outside: any statement in the exporting session would end the snapshot."""
        if self._snapshot is None:
            return False
        pid = self._snapshot[0].info.backend_pid
        return source.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone() is not None


def _tell(done: schema.SchemaReport, report: Report) -> None:
    """What could not be taken over is said while it happens; ``check`` has the fix for it."""
    for role in done.missing_roles:
        report(Progress(f"role {role} is missing on the target: what it owns or was granted is left out"))
    for what in done.left_out:
        report(Progress(f"left out: {what}"))
