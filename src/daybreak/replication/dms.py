"""The port ``Replicator`` with AWS DMS for the full load and the first stream (docs/adr/0013).

The hand-over to PostgreSQL's own streams: at a fence point DMS is shut out of the target, and from that very
point on a slot keeps what is written; both sides are compared as they were there. Nobody waits for AWS."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from daybreak.aws.dms import Start
from daybreak.errors import AdapterError, DaybreakError, TransientError
from daybreak.model import Progress, ReplicationStatus, Side
from daybreak.ports import AtFencePoint, Report
from daybreak.postgres import control, logins
from daybreak.postgres.server import translated
from daybreak.replication import dms_source
from daybreak.replication.dms_stream import FENCED, HANDED_OVER, DmsStream
from daybreak.replication.native import NativeReplicator


@dataclass(kw_only=True)
class DmsReplicator(DmsStream):
    """Implements ``ports.Replicator``. A task may take ``stop_seconds`` to stop before it is cut off."""

    stop_seconds: float = 300.0

    # --- handing over

    def hand_over(
        self, generation: int, hold: Callable[[AtFencePoint], None], compare: Callable[[], None], report: Report
    ) -> None:
        """See ``ports.Replicator``. Once ``FENCED`` is marked DMS never writes again."""
        self._seen = None
        with translated("handing over"):
            self._check_both(generation)
            self._remember_slots()
            if FENCED not in self._marks():
                if not logins.may_log_in(self.sessions.get(Side.TARGET), self.role):
                    return self._let_dms_go_on()
                self._fence(hold)
            self._take_over(report)
            at = datetime.now(UTC).isoformat()
            compare()
            self._retire(report)
            self._done(HANDED_OVER, at)
        return None

    def _fence(self, hold: Callable[[AtFencePoint], None]) -> None:
        """The slot is made while writers run: that waits for every open transaction, and one that holds a row
        may be waiting for the hold. Under the hold it is only moved on."""
        source, forward = self.sessions.get(Side.SOURCE), self.stream(Side.SOURCE)
        try:
            forward.ensure_slot(source)
            forward.advance_slot(source)
            hold(self._at_fence_point)
        except BaseException:
            with contextlib.suppress(DaybreakError), translated("letting AWS DMS go on"):
                if FENCED not in self._marks():
                    self._let_dms_go_on()
                    forward.drop_slot(self.sessions.get(Side.SOURCE))
            raise

    def _at_fence_point(self, check_held: Callable[[], None]) -> None:
        """All that was committed has arrived, and nobody writes: from here on it is the slot that keeps it."""
        source = self.sessions.get(Side.SOURCE)
        logins.shut_out(self.sessions.get(Side.TARGET), self.role)
        self.stream(Side.SOURCE).advance_slot(source)
        check_held()  # or something was committed between that DMS has lost and the slot has skipped
        self._done(FENCED)

    def _let_dms_go_on(self) -> None:
        logins.let_in(self.sessions.get(Side.TARGET), self.role)
        task = self.task.describe()
        if task is not None and task.halted:
            self.task.start(task, Start.RESUME)

    def _take_over(self, report: Report) -> None:
        report(Progress("PostgreSQL takes over the stream"))
        self._subscribe(report)
        if self.bidirectional:
            self._reverse(report)
        deadline = time.monotonic() + self.policy.gate_patience_seconds
        while not self._runs(seen := NativeReplicator.observe(self, Side.SOURCE)):
            if time.monotonic() > deadline:
                raise TransientError(
                    f"PostgreSQL's own stream does not run yet: {seen.problem or 'its lag is not measurable'}",
                    "See pg_stat_subscription on both servers. Nothing is lost: its slot keeps what was written.",
                )
            time.sleep(0.1)

    def _runs(self, seen: ReplicationStatus) -> bool:
        lag = seen.lag_seconds
        return seen.forward and (seen.reverse or not self.bidirectional) and lag is not None and lag < 1.0

    def _retire(self, report: Report) -> None:
        """DMS can do no harm any more; where AWS does not answer, its sessions and slots go all the same."""
        try:
            self._stop(report)
        except AdapterError as error:
            report(Progress(f"AWS DMS was not stopped: {error.message}"))
        logins.shut_out(self.sessions.get(Side.SOURCE), self.role)
        self._drop_slots()

    def _stop(self, report: Report) -> None:
        report(Progress("AWS DMS stops its task"))
        task = self.task.describe()
        if task is not None and not self.task.stop(task, self.stop_seconds):
            report(Progress("AWS DMS did not stop its task in time; it is cut off"))

    # --- the end

    def clean_up(self, generation: int, keep_target_data: bool) -> None:
        """See ``ports.Replicator``. Task and endpoints are Terraform's. After ``finish`` DMS stays shut out of
        both servers; after ``abort`` its role is as it was."""
        with translated("cleaning up"):
            for side in Side:
                if control.read_control(self.sessions.get(side), self.migration) is not None:
                    self._check(generation, side)
            self._remember_slots()
            self._stop(lambda _progress: None)
            for side in Side:
                dms_source.dismiss(self.sessions.get(side), self.role)
            self._drop_slots()
            if not keep_target_data:
                for side in Side:
                    dms_source.readmit(self.sessions.get(side), self.role)
        super().clean_up(generation, keep_target_data)
