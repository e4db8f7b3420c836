"""What the function does with a call or an event: it asks for what was wanted, acts on whatever is asked
for, and tells people and CloudWatch what came of it.

An invocation may die at any point. What it was asked for stands in the record, so the next one goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from daybreak.aws.errors import translated
from daybreak.aws.metrics import Metrics, Own, measured
from daybreak.entry.lambda_calls import Call
from daybreak.entry.status_report import StatusReport
from daybreak.errors import AdapterError, ControllerAtWork, DaybreakError
from daybreak.events import Event as Heard
from daybreak.events import outcome, utc_now
from daybreak.milestones import Milestone, milestones, told
from daybreak.model import MigrationRecord, Step, Verb
from daybreak.schedule import propose, recounts, share_to_take
from daybreak.wiring import Runtime

if TYPE_CHECKING:
    from types_boto3_sns import SNSClient

_LOG = logging.getLogger(__name__)
ACTOR = "the function on AWS"
# Waiting costs money and the schedule comes every minute; but what is waited for with limited patience has to be
# waited for in one invocation, or nobody would ever lose it.
_PATIENCE_SECONDS = 50.0
_MORE_THAN_THE_GATES_SECONDS = 5.0
_MOVING = frozenset({Step.HAND_OVER, Step.ENTER_SWITCHING, Step.ARM, Step.SWITCH})


class OutOfTime(DaybreakError):
    """This invocation ends here; what is asked for stays asked for."""


@dataclass
class Watch:
    """Hears what the controller does, logs it, and ends the invocation in time by raising OutOfTime."""

    remaining_seconds: Callable[[], float]
    needed_seconds: float
    gate_patience_seconds: float = 0.0
    clock: Callable[[], datetime] = utc_now
    _waiting_since: datetime | None = None

    def __call__(self, heard: Heard) -> None:
        """See ``controller.Listener``."""
        if heard.kind != "progress":
            _LOG.info("%s %s %s", heard.kind, heard.step or "", heard.text)
        if heard.kind == "mark":
            return
        if heard.kind == "wait":
            self._waiting_since = self._waiting_since or self.clock()
            patience = max(_PATIENCE_SECONDS, self.gate_patience_seconds + _MORE_THAN_THE_GATES_SECONDS)
            waited = (self.clock() - self._waiting_since).total_seconds()
            if waited > patience and not heard.urgent:
                raise OutOfTime(f"Still waiting: {heard.text}", "The next invocation goes on.")
        else:
            self._waiting_since = None
        moving = heard.kind == "intend" and heard.step in _MOVING
        if self.remaining_seconds() < (self.needed_seconds if moving else 10.0):
            raise OutOfTime("This invocation has too little time left.", "The next one goes on.")


@dataclass(frozen=True)
class App:
    """One invocation's work on one migration. ``notices_topic`` is where people are told."""

    runtime: Runtime
    sns: SNSClient
    metrics: Metrics
    notices_topic: str

    def call(self, call: Call) -> dict[str, Any]:
        """Answer a person or a tool. Raises DaybreakError where it was refused or not done."""
        if call.action == "status":
            return self._status()
        if call.action == "check":
            return {"findings": [asdict(found) for found in self.runtime.preflight()]}
        if call.action == "postpone":
            return _short(self.runtime.remote.postpone(call.until))
        if call.verb is None:
            return self.look("asked to")
        remote, percent = self.runtime.remote, call.percent
        asked = remote.known(call.request, call.verb) if call.request else None
        if asked is None:
            if call.verb is Verb.SHIFT and percent is None:
                percent = share_to_take(self.runtime.controller.record(), self.runtime.settings.schedule())
            asked = remote.ask(call.verb, percent, call.request)
        if asked.intent is None or asked.intent.verb is not call.verb:
            return _short(asked)  # the end is reached, or this very request was carried out before
        after = self._serve()
        return _short(after) if after.intent is not None else _short(outcome(after, call.verb))

    def look(self, why: str) -> dict[str, Any]:
        """Act on what is asked for, or begin what begins by itself; publish how things stand."""
        _LOG.info("looking: %s", why)
        controller, settings = self.runtime.controller, self.runtime.settings
        before = controller.record()
        if before.phase.ended and before.told != told(before):
            self._publish(before)
        if before.version == 0 or before.phase.ended:
            self._sleep()
            return _short(before)
        seen = controller.observe(before)
        proposal = propose(before, seen, settings.policy(), settings.schedule())
        _LOG.info("by itself: %s", proposal.why)
        if (proposal.intent is None or proposal.intent.percent != 0) and recounts(before, seen):
            before = self.runtime.remote.recount(before, seen)
        if proposal.intent is not None:
            self.runtime.remote.begin(before, proposal.intent, proposal.why)
        return _short(self._serve())

    def _serve(self) -> MigrationRecord:
        controller = self.runtime.controller
        before = controller.record()
        try:
            if before.intent is not None and before.intent.verb is Verb.START:
                # It needs pg_dump and may take hours.
                _LOG.info("`daybreak start` was cut off, or runs elsewhere; only that command goes on with it.")
            else:
                controller.serve(take_over=before.owner == ACTOR)
        except OutOfTime as error:
            _LOG.info("%s %s", error.message, error.hint)
        except ControllerAtWork as error:
            # `daybreak start` on somebody's machine: it acts on what is asked for.
            _LOG.info("%s It acts on what is asked for.", error.message)
        finally:
            after = controller.record()
            self._publish(after)
        return after

    def _publish(self, after: MigrationRecord) -> None:
        """Telling is worth trying and no reason to fail."""
        news = milestones(after)
        heard = [self._tell(milestone) for milestone in news]
        if all(heard):
            self.runtime.remote.remember(after, told(after))
        else:
            news = ()  # the next look tells and counts them
        seen = self.runtime.controller.seen or self.runtime.controller.observe(after)
        values = measured(after, seen)
        values |= {Own(one.metric): 1.0 for one in news if one.metric}
        last = after.last_switchover
        if last is not None and last.number > after.told.switchover and last.timings is not None:
            values[Own.WRITE_PAUSE_MS] = last.timings.write_pause_ms
        try:
            self.metrics.publish(values)
        except AdapterError as error:
            _LOG.warning("Metrics were not published: %s", error.message)
        self.runtime.refresh()
        if after.phase.ended:
            self._sleep()

    def _sleep(self) -> None:
        try:
            self.runtime.schedule(False)
        except AdapterError as error:
            _LOG.warning("%s", error.message)

    def _tell(self, milestone: Milestone) -> bool:
        _LOG.info("milestone: %s", milestone.subject)
        try:
            with translated(f"telling {self.notices_topic}"):
                self.sns.publish(TopicArn=self.notices_topic, Subject=milestone.subject[:100], Message=milestone.text)
        except AdapterError as error:
            _LOG.warning("Nobody was told: %s", error.message)
            return False
        return True

    def _status(self) -> dict[str, Any]:
        controller = self.runtime.controller
        record = controller.record()
        seen = controller.observe(record)
        report = StatusReport.of(record, seen, self.runtime.settings.policy(), self.runtime.store.journal(record.name))
        return asdict(report)


def _short(record: MigrationRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "phase": record.phase,
        "primary": record.primary,
        "read_weight": record.read_weight,
        "under_way": None if record.intent is None else record.intent.verb,
        "last_error": record.last_error,
        "postponed_until": record.postponed_until,
        "version": record.version,
    }
