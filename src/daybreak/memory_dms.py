"""An in-memory ``Replicator`` whose load and first stream are another engine's (``memory_world.Engine``), handed
over to PostgreSQL's own streams as ``replication.dms`` does it, with a ``point`` between any two effects.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from daybreak.errors import DaybreakError
from daybreak.memory_replicator import MemoryReplicator
from daybreak.memory_world import Engine
from daybreak.model import Progress, ReplicationStatus, Side, Step
from daybreak.ports import AtFencePoint, Report

_FENCED, _HANDED_OVER = "fenced", "handed over "


@dataclass
class MemoryDmsReplicator(MemoryReplicator):
    """See ``ports.Replicator``."""

    def observe(self, primary: Side) -> ReplicationStatus:
        """See ``Replicator.observe``."""
        seen, engine = super().observe(primary), self._engine
        if seen.problem:
            return seen
        if (at := self._handed_over_at) is not None:
            return replace(seen, handed_over_at=at)
        world = self.world
        return replace(
            seen,
            handed_over=False,
            handing_over=_FENCED in world.done or not engine.login,
            bidirectional=False,
            load_done=engine.slot and world.copied >= world[Side.SOURCE].published > set(),
            tables_to_join=0,
            subscribed=engine.running,
            forward=engine.streams,
            reverse=False,
            lag_seconds=(5.0 if world.behind(primary) else 0.0) if engine.streams else None,
        )

    def effects(self) -> dict[Step, Callable[[Report], None]]:
        """What each step does."""
        return {**super().effects(), Step.LOAD: self._load_by_engine, Step.SUBSCRIBE: self._resume}

    def hand_over(
        self, generation: int, hold: Callable[[AtFencePoint], None], compare: Callable[[], None], report: Report
    ) -> None:
        """See ``Replicator.hand_over``."""
        self._generation = generation
        self._pass("hand_over: begin")
        if _FENCED not in self.world.done and not self._engine.login:
            return self._let_the_engine_go_on()
        if _FENCED not in self.world.done:
            self._fence(hold)
        self._pass("hand_over: taking over")
        self._subscribe(report)
        self._pass("hand_over: subscribed")
        if self.world.bidirectional:
            self._reverse(report)
            self._pass("hand_over: reverse")
        compare()
        self._pass("hand_over: compared")
        self._engine.running, self._engine.slot, self._engine.backlog = False, False, []
        self._pass("hand_over: engine stopped")
        self._done(f"{_HANDED_OVER}{self.world.now.isoformat()}")
        return None

    def clean_up(self, generation: int, keep_target_data: bool) -> None:
        """See ``Replicator.clean_up``."""
        self._generation = generation
        self._pass("clean_up: engine")
        self.world.engine = Engine()
        super().clean_up(generation, keep_target_data)

    @property
    def _engine(self) -> Engine:
        assert self.world.engine is not None, "this world has no other engine"
        return self.world.engine

    @property
    def _handed_over_at(self) -> datetime | None:
        found = [done for done in self.world.done if done.startswith(_HANDED_OVER)]
        return datetime.fromisoformat(found[0].removeprefix(_HANDED_OVER)) if found else None

    def _load_by_engine(self, report: Report) -> None:
        """What it did not finish it does again from the start, as one that truncates before it loads."""
        world, source, target, engine = self.world, self.world[Side.SOURCE], self.world[Side.TARGET], self._engine
        target.rows, world.copied = {}, set()
        engine.slot, engine.backlog = True, []
        snapshot = dict(source.rows)
        self._pass("load: engine's slot made")
        for table in sorted(source.published):
            target.rows.update({row: t for row, t in snapshot.items() if t == table})
            world.copied.add(table)
            report(Progress("copying", tables_done=len(world.copied), tables_total=len(source.published)))
            self._pass("load: a table copied")

    def _resume(self, _report: Report) -> None:
        self._engine.running = True

    def _let_the_engine_go_on(self) -> None:
        self._engine.login = True
        self._pass("hand_over: engine may write again")
        self._engine.running = True

    def _fence(self, hold: Callable[[AtFencePoint], None]) -> None:
        source = self.world[Side.SOURCE]
        try:
            if not source.slot:
                source.slot, source.backlog = True, []
            self._pass("hand_over: slot made")
            hold(self._at_fence_point)
        except DaybreakError:
            if _FENCED not in self.world.done:
                with contextlib.suppress(DaybreakError):
                    self._let_the_engine_go_on()
                    source.slot, source.backlog = False, []
            raise

    def _at_fence_point(self, check_held: Callable[[], None]) -> None:
        self._engine.login = False
        self._pass("hand_over: engine fenced")
        self.world[Side.SOURCE].backlog = []
        self._pass("hand_over: slot advanced")
        check_held()
        self._done(_FENCED)
        self._pass("hand_over: fenced")
