"""What each step does, through the ports, and what the record says afterwards. The loop around it is in
``controller``; when a step is taken is decided in ``machine``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from daybreak.errors import AdapterError, DaybreakError, TransientError
from daybreak.model import MigrationRecord, Phase, Policy, Side, Step, Switchover, Verb
from daybreak.ports import Replicator, Report, Router, Switch

_REPLICATOR_STEPS = frozenset(
    {
        Step.PREPARE,
        Step.TRANSFER_SCHEMA,
        Step.CLOSE_TARGET,
        Step.LOAD,
        Step.BUILD_INDEXES,
        Step.SUBSCRIBE,
        Step.JOIN_TABLES,
        Step.ADD_FOREIGN_KEYS,
        Step.SYNC_SEQUENCES,
        Step.REVERSE,
    }
)


@dataclass(frozen=True)
class Effects:
    """The ports, and the listeners of long work (``report``), of the hot part (``mark``) and of what
    failed without harm and will be tried again (``failed``)."""

    replicator: Replicator
    router: Router
    switch: Switch
    policy: Policy
    clock: Callable[[], datetime]
    report: Report
    mark: Callable[[str], None]
    failed: Callable[[Step, str], None]

    def execute(self, record: MigrationRecord, step: Step) -> MigrationRecord:
        """Run the effect of ``step``; returns the record as it shall be stored."""
        if step in _REPLICATOR_STEPS:
            self.replicator.perform(step, record.generation, self.report)
            return record
        effects: dict[Step, Callable[[MigrationRecord], MigrationRecord]] = {
            Step.BEGIN: lambda r: replace(r, phase=Phase.LOADING),
            Step.ENTER_STREAMING: lambda r: replace(r, phase=Phase.STREAMING),
            Step.VERIFY: lambda r: replace(r, verification=self.switch.verify(r, self.report)),
            Step.HAND_OVER: self._hand_over,
            Step.SHIFT_READS: self._shift,
            Step.LOWER_TTL: self._lower_ttl,
            Step.ENTER_SWITCHING: self._enter_switching,
            Step.ARM: self._arm,
            Step.SWITCH: self._hot,
            Step.OPEN: self._open,
            Step.REOPEN: self._reopen,
            Step.ROUTE: self._route,
            Step.SETTLE: self._settle,
            Step.CERTIFY: self._certify,
            Step.DISARM: self._disarm,
            Step.END_SWITCH: self._end_switch,
            Step.CLEAN_UP: self._clean_up,
            Step.END: self._end,
        }
        return effects[step](record)

    def _hand_over(self, record: MigrationRecord) -> MigrationRecord:
        """None, where the snapshots died with their process: then `verified` asks for a new comparison."""
        found = [record.verification]
        self.replicator.hand_over(
            record.generation,
            lambda act: self.switch.at_fence_point(record, act),
            lambda: found.append(self.switch.compare(record, self.report)),
            self.report,
        )
        return replace(record, verification=found[-1])

    def _shift(self, record: MigrationRecord) -> MigrationRecord:
        percent = record.intent.percent if record.intent is not None and record.intent.percent is not None else 0
        self.router.shift_reads(percent)
        # Counted from here on: what failed there before, readers had nothing to do with.
        rollbacks = self.switch.observe(Side.TARGET).rollbacks
        now = self.clock()
        return replace(record, read_weight=percent, shifted_at=now, rollbacks_at=now, rollbacks_then=rollbacks)

    def _lower_ttl(self, record: MigrationRecord) -> MigrationRecord:
        seconds = self.router.lower_ttl()
        return replace(record, old_ttl_until=self.clock() + timedelta(seconds=seconds))

    def _enter_switching(self, record: MigrationRecord) -> MigrationRecord:
        number = record.switchovers + 1
        switch = Switchover(number=number, to=record.primary.other, started_at=self.clock())
        return replace(record, phase=Phase.SWITCHING, switchover=switch, switchovers=number)

    def _arm(self, record: MigrationRecord) -> MigrationRecord:
        self.switch.arm(record)
        return record

    def _hot(self, record: MigrationRecord) -> MigrationRecord:
        """Pause where the router can, switch, and route at once: clients wait for the last line."""
        switch = _under_way(record)

        def mark(name: str) -> None:
            if name == "ready":  # not before: connecting takes longer than all the rest
                self._pause()
            self.mark(name)

        try:
            switched = self.switch.switch(record, mark)
        except BaseException:
            # On a side that was closed clients would be refused: let them wait for ROUTE.
            if self.switch.observe(record.primary).closed_by != switch.number:
                self._try_resume()
            raise
        if switched.backed_out:
            self._try_resume()
        else:
            switched = self._try_route(switched)
        return replace(record, switchover=switched)

    def _pause(self) -> None:
        try:
            self.router.pause(self.policy.max_write_pause_seconds)
        except AdapterError as error:
            raise TransientError(f"Clients were not paused: {error.message}", error.hint) from error

    def _try_resume(self) -> None:
        """A pause ends by itself as well, so that a router's failure is no reason to fail."""
        try:
            self.router.resume()
        except AdapterError as error:
            self.failed(Step.SWITCH, error.message)

    def _try_route(self, switched: Switchover) -> Switchover:
        """Opening is never undone for a router: where it fails, the ROUTE step tries again."""
        try:
            self.router.point_writer(switched.to)
        except DaybreakError as error:
            self.failed(Step.ROUTE, error.message)
            return switched
        self.mark("routed")
        return replace(switched, routed=True)

    def _open(self, record: MigrationRecord) -> MigrationRecord:
        self.switch.open(record)
        return record

    def _reopen(self, record: MigrationRecord) -> MigrationRecord:
        self.switch.reopen(record)
        self._try_resume()
        return record

    def _route(self, record: MigrationRecord) -> MigrationRecord:
        switch = _under_way(record)
        self.router.point_writer(switch.to)
        return replace(record, switchover=replace(switch, routed=True))

    def _settle(self, record: MigrationRecord) -> MigrationRecord:
        """Only what was opened is settled, so that whatever was believed before, it was not backed out of."""
        self.switch.settle(record)
        return replace(record, switchover=replace(_under_way(record), settled=True, backed_out=""))

    def _certify(self, record: MigrationRecord) -> MigrationRecord:
        found = self.switch.compare(record, self.report)
        switch = replace(_under_way(record), certified=True, certificate=found)
        # A comparison that ran out of time without a difference says nothing against an earlier one.
        telling = found is not None and (found.complete or found.differences)
        return replace(record, switchover=switch, verification=found if telling else record.verification)

    def _disarm(self, record: MigrationRecord) -> MigrationRecord:
        self.switch.disarm(record)
        switch = record.switchover
        if switch is None:
            return record
        if switch.backed_out:  # perhaps by a controller that came after the one that paused
            self._try_resume()
        return replace(record, switchover=replace(switch, disarmed=True))

    def _end_switch(self, record: MigrationRecord) -> MigrationRecord:
        switch = _under_way(record)
        switched = switch.settled
        primary = switch.to if switched else record.primary
        aborting = record.intent is not None and record.intent.verb is Verb.ABORT
        if aborting and switched:
            error = f"Not aborted: the commit point had been passed, so {primary} is the primary now."
        else:
            error = "" if switched or aborting else switch.backed_out
        return replace(
            record,
            phase=Phase.STREAMING,
            primary=primary,
            switchover=None,
            last_switchover=replace(switch, outcome="switched" if switched else f"backed out: {switch.backed_out}"),
            intent=record.intent if aborting and not switched and primary is Side.SOURCE else None,
            last_error=error,
        )

    def _clean_up(self, record: MigrationRecord) -> MigrationRecord:
        finishing = record.intent is not None and record.intent.verb is Verb.FINISH
        # Reads must leave the side that is cleaned or left behind.
        home = 100 if record.primary is Side.TARGET else 0
        if self.router.observe().read_weight != home and not self.router.refuse_shift(home):
            self.router.shift_reads(home)
        self.router.clean_up()
        self.replicator.clean_up(record.generation, keep_target_data=finishing)
        self.switch.clean_up(record, unfence=not finishing)
        return record

    def _end(self, record: MigrationRecord) -> MigrationRecord:
        finishing = record.intent is not None and record.intent.verb is Verb.FINISH
        return replace(record, phase=Phase.FINISHED if finishing else Phase.ABORTED, intent=None, last_error="")


def _under_way(record: MigrationRecord) -> Switchover:
    assert record.switchover is not None, "only reached in phase switching"
    return record.switchover
