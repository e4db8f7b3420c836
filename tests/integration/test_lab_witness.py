"""What the lab sees of the function from outside, on emulated AWS."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping

import pytest
from boto3.session import Session

from daybreak.aws.metrics import PHASE_NUMBER, Metrics, Own
from daybreak.config.names import FUNCTION, FUNCTION_LIMIT, Names
from daybreak.entry.lambda_calls import Event
from daybreak.errors import PermanentError
from daybreak.lab.aws import EmulatedAws
from daybreak.lab.cloud import ENVIRONMENT, REGION
from daybreak.lab.witness import Witness, senders
from daybreak.model import Phase

NAMES = Names("seen", ENVIRONMENT)
TASK = "arn:aws:dms:eu-central-1:123456789012:task:SEEN"
DMS = {
    "detail-type": "DMS Replication Task State Change",
    "source": "aws.dms",
    "resources": [TASK],
    "detail": {"eventType": "REPLICATION_TASK_STARTED", "detailMessage": "Replication task started"},
}
SCHEDULE = {"detail-type": "Scheduled Event", "source": "aws.events"}
ALARM = {"detail-type": "CloudWatch Alarm State Change", "source": "aws.cloudwatch", "resources": ["arn:alarm"]}


def looking(event: Mapping[str, object]) -> str:
    """What the function writes when ``event`` makes it look."""
    return json.dumps({"level": "INFO", "message": f"looking: {Event.model_validate(event).why(TASK)}"})


@pytest.fixture
def witness(emulated_account: EmulatedAws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Witness]:
    for name, value in emulated_account.environment().items():
        monkeypatch.setenv(name, value)
    session, group = Session(region_name=REGION), f"/aws/lambda/{NAMES.of(FUNCTION, FUNCTION_LIMIT)}"
    logs = session.client("logs")
    logs.create_log_group(logGroupName=group)
    yield Witness(session, NAMES)
    logs.delete_log_group(logGroupName=group)


def write(witness: Witness, *lines: str) -> None:
    """As the function's log."""
    logs, group = witness.session.client("logs"), f"/aws/lambda/{NAMES.of(FUNCTION, FUNCTION_LIMIT)}"
    logs.create_log_stream(logGroupName=group, logStreamName="one")
    at = round(time.time() * 1000)
    events = [{"timestamp": at, "message": line} for line in lines]
    logs.put_log_events(logGroupName=group, logStreamName="one", logEvents=events)


def test_looks_are_counted_by_who_sent_the_event() -> None:
    called = json.dumps({"level": "INFO", "message": "looking: asked to"})
    other = json.dumps({"level": "INFO", "message": "DMS says: this is no look"})
    lines = [looking(DMS), looking(SCHEDULE), called, looking(ALARM), other, "START RequestId: 1", '"text"', "[]"]
    assert senders([*lines, looking(DMS)]) == {"dms": 2, "schedule": 1, "alarm": 1}


def test_an_event_and_what_was_measured_then_are_seen(witness: Witness) -> None:
    assert (witness.events(), witness.phase()) == ({}, None)
    write(witness, "START RequestId: 1", looking(DMS))
    metrics = Metrics(witness.session.client("cloudwatch"), NAMES.migration, NAMES.environment)
    metrics.publish({Own.PHASE: PHASE_NUMBER[Phase.STREAMING]})
    witness.wait_for("dms", Phase.STREAMING, 30.0)
    assert witness.events() == {"dms": 1}
    with pytest.raises(PermanentError, match=r"No event of schedule .*streaming.*'dms': 1.*measured streaming"):
        witness.wait_for("schedule", Phase.STREAMING, 0.0)
