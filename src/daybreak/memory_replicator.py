"""An in-memory ``Replicator`` over a ``memory_world.World``: for tests and dry runs, held to the same contract
tests as the real one. It acts for one ``Process`` and passes a ``point`` between any two effects, in the
order in which the real one has them, so that a test can kill it anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from daybreak.memory_world import Process, World
from daybreak.model import GuardState, Progress, ReplicationStatus, Side, Step
from daybreak.ports import AtFencePoint, Report


@dataclass
class MemoryReplicator:
    """See ``ports.Replicator``. The load's snapshot lives and dies with this object."""

    world: World
    process: Process
    _generation: int = 0
    _snapshot: dict[int, int] | None = None

    def observe(self, primary: Side) -> ReplicationStatus:
        """See ``Replicator.observe``."""
        self.process.point("observe streams")
        world, source, target = self.world, self.world[Side.SOURCE], self.world[Side.TARGET]
        if not (source.up and target.up):
            return ReplicationStatus(problem="a server is down")
        world.flow()
        behind = world.behind(primary)
        return ReplicationStatus(
            prepared="prepare" in world.done,
            schema_transferred="schema" in world.done,
            slot_present=source.slot,
            tables_total=len(source.tables),
            tables_copied=len(world.copied),
            tables_to_join=len(world.to_join),
            load_done=source.slot and bool(source.published) and source.published <= world.copied | world.to_join,
            indexes_built="indexes" in world.done,
            foreign_keys_added="foreign keys" in world.done,
            sequences_synced="sequences" in world.done,
            subscribed=target.subscription is not None,
            forward=world.streams(Side.SOURCE),
            reverse=world.streams(Side.TARGET),
            bidirectional=world.bidirectional,
            tables_unreplicated=tuple(f"t{n}" for n in sorted(world[primary].tables - world[primary].published)),
            lag_seconds=(5.0 if behind else 0.0) if world.streams(primary) else None,
            lag_bytes=behind,
        )

    def perform(self, step: Step, generation: int, report: Report) -> None:
        """See ``Replicator.perform``."""
        self._generation = generation
        self._pass(f"{step}: begin")
        self.effects()[step](report)
        self._pass(f"{step}: end")

    def effects(self) -> dict[Step, Callable[[Report], None]]:
        """What each step does."""
        return {
            Step.PREPARE: self._prepare,
            Step.TRANSFER_SCHEMA: self._transfer_schema,
            Step.CLOSE_TARGET: self._close_target,
            Step.LOAD: self._load,
            Step.BUILD_INDEXES: lambda _report: self._done("indexes"),
            Step.SUBSCRIBE: self._subscribe,
            Step.JOIN_TABLES: self._join,
            Step.ADD_FOREIGN_KEYS: lambda _report: self._done("foreign keys"),
            Step.SYNC_SEQUENCES: self._sync_sequences,
            Step.REVERSE: self._reverse,
        }

    def hand_over(
        self, generation: int, hold: Callable[[AtFencePoint], None], compare: Callable[[], None], report: Report
    ) -> None:
        """See ``Replicator.hand_over``; there is no other engine."""

    def clean_up(self, generation: int, keep_target_data: bool) -> None:
        """See ``Replicator.clean_up``."""
        target, self._generation = self.world[Side.TARGET], generation
        self._pass("clean_up: begin")
        for side in Side:
            self.world[side.other].subscription = None
            self._pass(f"clean_up: {side.other} unsubscribed")
            self.world[side].slot, self.world[side].backlog = False, []
            self._pass(f"clean_up: slot of {side} dropped")
            self.world[side].published = set()
        if not keep_target_data and "schema" in self.world.done:
            target.rows, target.tables, target.guarded = {}, set(), set()
            self._pass("clean_up: target emptied")

    def _pass(self, name: str) -> None:
        """A point; whoever was stopped there finds its sessions ended by a newer generation."""
        self.process.point(name)
        for side in Side:
            self.world.fenced(side, self._generation)

    def _done(self, what: str) -> None:
        self.world.done.add(what)

    def _prepare(self, _report: Report) -> None:
        self.world[Side.SOURCE].published = set(self.world[Side.SOURCE].tables)
        self._pass("prepare: published")
        self._done("prepare")

    def _transfer_schema(self, _report: Report) -> None:
        """Tables appear in one transaction with their guards."""
        target = self.world[Side.TARGET]
        target.guard, target.closed, target.read_only_hint = True, True, True
        self._pass("transfer_schema: flag closed")
        target.tables = set(self.world[Side.SOURCE].tables)
        target.guarded = set(target.tables)
        self._pass("transfer_schema: restored")
        self._done("schema")

    def _close_target(self, _report: Report) -> None:
        target = self.world[Side.TARGET]
        target.guard, target.closed, target.read_only_hint = True, True, True
        for table in sorted(target.tables - target.guarded):
            target.guarded.add(table)
            self._pass("close_target: a table guarded")

    def _load(self, report: Report) -> None:
        world, source, target = self.world, self.world[Side.SOURCE], self.world[Side.TARGET]
        if not source.slot or not world.copied:
            target.subscription, world.to_join, target.rows = None, set(), {}
            source.slot, source.backlog = True, []
            self._snapshot = dict(source.rows)
            self._pass("load: slot made")
        if self._snapshot is None:  # it died with its process
            world.to_join = source.published - world.copied
            return
        for table in sorted(source.published - world.copied):
            target.rows.update({row: t for row, t in self._snapshot.items() if t == table})
            world.copied.add(table)
            report(Progress("copying", tables_done=len(world.copied), tables_total=len(source.published)))
            self._pass("load: a table copied")
        self._snapshot = None

    def _subscribe(self, _report: Report) -> None:
        self.world[Side.TARGET].subscription = True

    def _join(self, _report: Report) -> None:
        world, target = self.world, self.world[Side.TARGET]
        primary = Side.SOURCE if target.guard_state is GuardState.CLOSED else Side.TARGET
        here, there = world[primary], world[primary.other]
        there.guarded = set(there.tables)
        self._pass("join_tables: standby guarded")
        for table in sorted(world.to_join | (here.tables & there.tables) - here.published):
            there.rows.update({row: t for row, t in here.rows.items() if t == table})
            here.backlog = [row for row in here.backlog if here.rows[row] != table]
            here.published.add(table)
            world.to_join.discard(table)
            world.copied.add(table)
            self._pass("join_tables: a table joined")
        if there.slot:
            there.published = set(here.published)

    def _sync_sequences(self, _report: Report) -> None:
        self.world[Side.TARGET].last_id = self.world[Side.SOURCE].last_id
        self._pass("sync_sequences: set")
        self._done("sequences")

    def _reverse(self, _report: Report) -> None:
        source, target = self.world[Side.SOURCE], self.world[Side.TARGET]
        target.published = set(source.published)
        if not target.slot:
            target.slot, target.backlog = True, []
            self._pass("reverse: slot made")
        source.subscription = True
