"""What the function can be asked, and what it can't, and which events are ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from daybreak.entry.lambda_calls import Call, Event, parse
from daybreak.errors import Refused
from daybreak.model import Verb

SAMPLES = Path(__file__).parents[1] / "infra" / "samples"
TASK = "arn:aws:dms:eu-central-1:123456789012:task:payments-task-test"
SCHEDULE = {"detail-type": "Scheduled Event", "source": "aws.events", "resources": ["arn:aws:events:::rule/x"]}


def sample(name: str) -> Event:
    found = parse(json.loads((SAMPLES / f"{name}.json").read_text()))
    assert isinstance(found, Event)
    return found


@pytest.mark.parametrize(
    ("request_", "verb", "percent"),
    [
        ({"action": "cutover"}, Verb.CUTOVER, None),
        ({"action": "manual_cutover"}, Verb.CUTOVER, None),
        ({"action": "rollback", "request": "r-1"}, Verb.ROLLBACK, None),
        ({"action": "gradual_cutover", "weight": 20}, Verb.SHIFT, 20),
        ({"action": "shift", "percent": 0}, Verb.SHIFT, 0),
        ({"action": "shift"}, Verb.SHIFT, None),
        ({"action": "verify"}, Verb.VERIFY, None),
        ({"action": "abort"}, Verb.ABORT, None),
        ({"action": "finish"}, Verb.FINISH, None),
        ({"action": "status"}, None, None),
        ({"action": "poll"}, None, None),
        ({"action": "postpone", "until": "2026-05-01T06:00:00Z"}, None, None),
    ],
)
def test_calls(request_: dict[str, object], verb: Verb | None, percent: int | None) -> None:
    call = parse(request_)
    assert isinstance(call, Call)
    assert (call.verb, call.percent) == (verb, percent)


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"action": "shift", "percent": 101}, "less than or equal to 100"),
        ({"action": "shift", "percent": -1}, "greater than or equal to 0"),
        ({"action": "shift", "percent": "20"}, "valid integer"),
        ({"action": "shift", "weight": 12.5}, "valid integer"),
        ({"action": "cutover", "percent": 20}, "percent belongs to the action shift"),
        ({"action": "cutover", "until": "2026-05-01T06:00:00Z"}, "until belongs to the action postpone"),
        ({"action": "postpone", "until": "2026-05-01T06:00:00"}, "time zone"),
        ({"action": "drop_everything"}, "action: Input should be"),
        ({"action": "start"}, "action: Input should be"),
        ({"action": "cutover", "password": "tell-nobody"}, "password: Extra inputs"),
        ({}, "action: Field required"),
        ("cutover", "the request"),
        (None, "the request"),
        ({"detail-type": "Scheduled Event"}, "source: Field required"),
    ],
)
def test_what_cannot_be_asked_is_refused_without_its_values(request_: object, why: str) -> None:
    with pytest.raises(Refused) as raised:
        parse(request_)
    assert why in raised.value.message
    assert "tell-nobody" not in str(raised.value)
    assert "Actions are" in raised.value.hint


@pytest.mark.parametrize(
    "name",
    [
        "dms_task_failed",
        "dms_task_failed_documented",
        "dms_task_started",
        "dms_task_started_documented",
        "dms_task_stopped",
        "dms_task_reading_paused",
    ],
)
def test_events_of_the_task_in_both_spellings(name: str) -> None:
    event = sample(name)
    assert event.why(TASK).startswith("DMS says: ")
    assert event.why(TASK.replace("payments", "others")) == ""
    assert event.why("") == "", "without DMS no task is ours"


def test_other_events() -> None:
    schedule = parse(SCHEDULE)
    assert isinstance(schedule, Event)
    assert schedule.why(TASK) == "the schedule"
    alarm = parse({**SCHEDULE, "detail-type": "CloudWatch Alarm State Change", "resources": ["arn:lag"]})
    assert isinstance(alarm, Event)
    assert alarm.why(TASK) == "an alarm changed: arn:lag"
    assert sample("rds_failover_completed").why(TASK) == ""
