"""Every call that Daybreak can make to AWS, with botocore as the judge of request and answer; that none is missing
here; and what comes of each where AWS throttles or refuses it."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import boto3
import pytest
from aws_calls import (
    AT,
    LATER,
    RECORD,
    TABLE,
    TASK,
    Call,
    Scenario,
    Stubs,
    change,
    journal_row,
    swap,
    task,
    weighted,
)
from aws_scenarios import SCENARIOS

import daybreak
from daybreak.aws.dms import Start
from daybreak.errors import AdapterError, PermanentError, StateConflict, TransientError
from daybreak.model import Side
from daybreak.replication import dms_health
from daybreak.traffic import zone

_SOURCE = Path(daybreak.__file__).parent
# Made by people at their desk (infra), or to an emulator (lab).
_ELSEWHERE = ("infra", "lab")
# Words of Daybreak's own that are operations of KMS and SNS, too.
_OWN = frozenset({"verify", "subscribe", "unsubscribe"})
# How the services spell these two ("Common errors" in the API references).
_THROTTLED = {
    "dynamodb": "ThrottlingException",
    "lambda": "TooManyRequestsException",
    "route53": "Throttling",
    "rds": "Throttling",
    "cloudwatch": "Throttling",
    "sns": "Throttled",
}
_DENIED = {"sns": "AuthorizationError", "route53": "AccessDenied", "rds": "AccessDenied", "cloudwatch": "AccessDenied"}
# Where the action is not called as the operation is (Service Authorization Reference).
_ACTION = {"lambda.invoke": "lambda:InvokeFunction", "dynamodb.transact_write_items": "dynamodb:PutItem"}
_EACH = [(scenario, number) for scenario in SCENARIOS for number in range(len(scenario.calls))]


def _named(value: object) -> str | None:
    return value.name if isinstance(value, Scenario) else None


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubs]:
    made = Stubs()
    monkeypatch.setattr(boto3, "client", made.client)
    monkeypatch.setattr(zone, "_POLL_SECONDS", 0.0)
    yield made
    made.done()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=_named)
def test_requests_and_answers_are_as_the_service_s_model_has_them(stubs: Stubs, scenario: Scenario) -> None:
    for call in scenario.calls:
        call.expect(stubs)
    scenario.act(stubs)


def test_no_call_is_missing_here() -> None:
    known = {call.operation for scenario in SCENARIOS for call in scenario.calls}
    assert {operation for tree in _trees() for operation in _operations(tree)} == known


@cache
def _trees() -> tuple[ast.AST, ...]:
    """Of every module that runs against AWS."""
    paths = (path for path in _SOURCE.rglob("*.py") if path.relative_to(_SOURCE).parts[0] not in _ELSEWHERE)
    return tuple(ast.parse(path.read_text()) for path in paths)


def _operations(tree: ast.AST) -> Iterator[str]:
    """Whatever is called like an operation of a service that is used anywhere, and what is paged."""
    named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} - _OWN
    for name in named | set(_constants(tree, "get_paginator")) | set(_constants(tree, "get_waiter")):
        if name in _methods():
            yield f"{_methods()[name]}.{name}"


def _constants(tree: ast.AST, method: str) -> Iterator[str]:
    """The first argument of every call of ``method``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method:
            yield from (str(first.value) for first in node.args[:1] if isinstance(first, ast.Constant))


@cache
def _methods() -> dict[str, str]:
    """The methods of every service that a client is made for, and whose they are."""
    services = {service for tree in _trees() for service in _constants(tree, "client")}
    stubs = Stubs()
    return {method: service for service in services for method in stubs.client(service).meta.method_to_api_mapping}


# --- where AWS does not do it


def _fail(stubs: Stubs, scenario: Scenario, number: int, code: str, text: str) -> str:
    """What is said where the call ``number`` fails in this way; the calls before it go well."""
    for call in scenario.calls[:number]:
        call.expect(stubs)
    failing = scenario.calls[number]
    stubs.stub(failing.service).add_client_error(failing.method, code, text, 400)
    if scenario.quiet:
        scenario.act(stubs)
        return ""
    with pytest.raises((AdapterError, *([scenario.raises] if scenario.raises else ()))) as raised:
        scenario.act(stubs)
    assert isinstance(raised.value, scenario.raises or (TransientError if "Rate" in text else PermanentError))
    return str(raised.value)


@pytest.mark.parametrize(("scenario", "number"), _EACH, ids=_named)
def test_what_aws_throttles_is_worth_trying_again(
    stubs: Stubs, scenario: Scenario, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    code = _THROTTLED.get(scenario.calls[number].service, "ThrottlingException")
    with caplog.at_level(logging.WARNING):
        said = _fail(stubs, scenario, number, code, "Rate exceeded")
    assert "Rate exceeded" in said + caplog.text


@pytest.mark.parametrize(("scenario", "number"), _EACH, ids=_named)
def test_what_aws_does_not_permit_is_named_with_its_resource(
    stubs: Stubs, scenario: Scenario, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    call = scenario.calls[number]
    action, resource = _action(stubs, call), f"arn:aws:{call.service}:eu-central-1:123456789012:it"
    text = (
        f"User: arn:aws:sts::123456789012:assumed-role/controller/x is not authorized to perform: {action} on resource:"
        f" {resource} because no identity-based policy allows the {action} action"
    )
    with caplog.at_level(logging.WARNING):
        said = _fail(stubs, scenario, number, _DENIED.get(call.service, "AccessDeniedException"), text)
    assert action in said + caplog.text
    assert resource in said + caplog.text


def _action(stubs: Stubs, call: Call) -> str:
    operation = stubs.client(call.service).meta.method_to_api_mapping[call.method]
    return _ACTION.get(call.operation, f"{call.service}:{operation}")


# --- other answers that were recorded


def test_a_condition_that_does_not_hold_is_a_conflict(stubs: Stubs) -> None:
    reasons = [{"Code": "ConditionalCheckFailed", "Message": "The conditional request failed"}, {"Code": "None"}]
    stubs.stub("dynamodb").add_client_error(
        "transact_write_items",
        "TransactionCanceledException",
        "Transaction cancelled, please refer cancellation reasons for specific reasons [ConditionalCheckFailed, None]",
        modeled_fields={"CancellationReasons": reasons},
    )
    SCENARIOS[0].calls[0].expect(stubs)
    with pytest.raises(StateConflict, match=rf"{TABLE}: another process moved shop \(version {RECORD.version}, not 3"):
        swap(stubs, 3)


def test_a_record_behind_its_journal_is_written_after_the_last_row(stubs: Stubs) -> None:
    reasons = [{"Code": "None"}, {"Code": "ConditionalCheckFailed", "Message": "The conditional request failed"}]
    dynamodb = stubs.stub("dynamodb")
    dynamodb.add_client_error(
        "transact_write_items",
        "TransactionCanceledException",
        "Transaction cancelled, please refer cancellation reasons for specific reasons [None, ConditionalCheckFailed]",
        modeled_fields={"CancellationReasons": reasons},
    )
    asked = {**SCENARIOS[1].calls[0].asked, "ScanIndexForward": False, "Limit": 1}
    dynamodb.add_response("query", {"Items": [journal_row(9)], "Count": 1, "ScannedCount": 1}, asked)
    dynamodb.add_response("transact_write_items", {})
    assert swap(stubs, 4).version == 10


def test_a_change_that_is_pending_is_waited_for(stubs: Stubs) -> None:
    (shift,) = (scenario for scenario in SCENARIOS if scenario.name == "reads are shifted")
    for call in shift.calls[:-1]:
        call.expect(stubs)
    for status in ("PENDING", "PENDING", "INSYNC"):
        stubs.stub("route53").add_response("get_change", change(status), shift.calls[-1].asked)
    shift.act(stubs)


def test_a_writer_on_the_target_is_seen(stubs: Stubs) -> None:
    (shift,) = (scenario for scenario in SCENARIOS if scenario.name == "reads are shifted")
    shift.calls[0].expect(stubs)
    records = [*weighted("db-ro", 60, 40), *weighted("db-rw", 0, 100)]
    answer = {"ResourceRecordSets": records, "IsTruncated": False, "MaxItems": "300"}
    stubs.stub("route53").add_response("list_resource_record_sets", answer)
    seen = stubs.router.observe()
    assert (seen.writer, seen.read_weight, seen.problem) == (Side.TARGET, 40, "")


def test_a_task_that_failed_says_why_in_dms_s_words(stubs: Stubs) -> None:
    said = "Last Error  Stop Reason FATAL_ERROR Error Level FATAL: replication slot does not exist"
    failed = task("failed", StopReason="Stop Reason FATAL_ERROR", LastFailureMessage=said, ReplicationTaskStartDate=AT)
    stubs.stub("dms").add_response("describe_replication_tasks", failed)
    one = stubs.account.dms_task()
    found = one.describe()
    assert found is not None
    assert "replication slot does not exist" in dms_health.halt(found, one.identifier)
    assert found.halted


def test_a_start_that_was_sent_twice_is_one_start(stubs: Stubs) -> None:
    text = f"Replication Task {TASK} is already running"
    dms = stubs.stub("dms")
    dms.add_response("describe_replication_tasks", task("stopped", ReplicationTaskStartDate=AT))
    dms.add_client_error("start_replication_task", "InvalidResourceStateFault", text)
    for _ in range(2):
        dms.add_response("describe_replication_tasks", task("running", ReplicationTaskStartDate=LATER))
    one = stubs.account.dms_task()
    found = one.describe()
    assert found is not None
    one.start(found, Start.RESUME)
