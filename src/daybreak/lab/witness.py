"""What can be seen of the function on AWS from outside: why it looked, by its log, and how it found things, by the
metrics that it publishes."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from daybreak.aws.metrics import NAMESPACE, PHASE_NUMBER, Own
from daybreak.config.names import FUNCTION, FUNCTION_LIMIT, Names
from daybreak.errors import PermanentError
from daybreak.model import Phase

if TYPE_CHECKING:
    from boto3.session import Session

# How the reasons begin that ``App.look`` writes into its log, and who is behind each.
_LOOKING = "looking: "
_SENDERS = {"DMS says:": "dms", "the schedule": "schedule", "an alarm changed:": "alarm"}
_POLL_SECONDS = 0.5
_WINDOW = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Witness:
    """Watches the function of one migration; needs nothing of Daybreak's but its names."""

    session: Session
    names: Names

    def events(self) -> dict[str, int]:
        """How often an event made the function look, by who sent it: ``dms``, ``schedule``, ``alarm``.

        A look is in the log once its invocation has ended. Calls are not counted."""
        group = f"/aws/lambda/{self.names.of(FUNCTION, FUNCTION_LIMIT)}"
        pages = self.session.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
        return senders(event["message"] for page in pages for event in page["events"])

    def phase(self) -> Phase | None:
        """The phase that the function measured last; None where it has measured none within an hour."""
        dimensions = {"Migration": self.names.migration, "Environment": self.names.environment}
        now = datetime.now(UTC)
        found = self.session.client("cloudwatch").get_metric_statistics(
            Namespace=NAMESPACE,
            MetricName=Own.PHASE,
            Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
            StartTime=now - _WINDOW,
            EndTime=now + _WINDOW,
            Period=60,
            Statistics=["Maximum"],
        )["Datapoints"]
        if not found:
            return None
        number = max(found, key=lambda point: point["Timestamp"])["Maximum"]
        return next(phase for phase, place in PHASE_NUMBER.items() if place == number)

    def wait_for(self, sender: str, phase: Phase, patience_seconds: float) -> None:
        """Wait until an event of ``sender`` made the function look and it has measured ``phase``.

        Raises PermanentError where that does not come about."""
        deadline = time.monotonic() + patience_seconds
        while True:
            events, measured = self.events(), self.phase()
            if events.get(sender) and measured is phase:
                return
            if time.monotonic() > deadline:
                raise PermanentError(
                    f"No event of {sender} made the function look and find the migration {phase} within"
                    f" {patience_seconds:g} s: it looked for {events or 'no event at all'} and measured"
                    f" {measured or 'no phase'}.",
                    "The stack's rules, their targets and the function's rights are what lies between.",
                )
            time.sleep(_POLL_SECONDS)


def senders(lines: Iterable[str]) -> dict[str, int]:
    """Counts the looks in ``lines`` of the function's log by who sent the event."""
    found = Counter[str]()
    for line in lines:
        try:
            said = str(json.loads(line).get("message", ""))
        except (ValueError, AttributeError):  # Lambda's own lines are no JSON
            continue
        why = said.removeprefix(_LOOKING)
        found.update(sender for begin, sender in _SENDERS.items() if said != why and why.startswith(begin))
    return dict(found)
