"""What AWS answers about a DMS task when something is wrong, and what comes of it (botocore checks every request
and every answer against the service's model)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from daybreak.aws.dms import DmsTask, Start, Task
from daybreak.errors import PermanentError, TransientError
from daybreak.model import TableName

ARN = "arn:aws:dms:eu-central-1:123456789012:task:shop-task-test"
REP = "arn:aws:dms:eu-central-1:123456789012:rep:ABC"
ENDPOINTS = tuple(f"arn:aws:dms:eu-central-1:123456789012:endpoint:{name}" for name in ("SOURCE", "TARGET"))
AT = datetime(2026, 3, 1, tzinfo=UTC)
LATER = datetime(2026, 3, 2, tzinfo=UTC)
FILTER = {"Filters": [{"Name": "replication-task-id", "Values": ["daybreak-shop-task-test"]}]}
DESCRIBED: dict[str, Any] = {
    "ReplicationTaskArn": ARN,
    "ReplicationInstanceArn": REP,
    "SourceEndpointArn": ENDPOINTS[0],
    "TargetEndpointArn": ENDPOINTS[1],
    "Status": "running",
    "ReplicationTaskSettings": '{"TargetMetadata": {"BatchApplyEnabled": false}}',
    "ReplicationTaskStartDate": AT,
    "ReplicationTaskStats": {"FullLoadProgressPercent": 40},
}
TASK = Task(ARN, "running", AT, 40, "", "", REP, (ENDPOINTS[0], ENDPOINTS[1]), {})


class Stubbed:
    """The task with recorded answers of both services."""

    def __init__(self) -> None:
        keys = {"region_name": "eu-central-1", "aws_access_key_id": "x", "aws_secret_access_key": "y"}
        self._dms, self._metrics = boto3.client("dms", **keys), boto3.client("cloudwatch", **keys)  # type: ignore[call-overload]
        self.dms, self.metrics = Stubber(self._dms), Stubber(self._metrics)
        self.task = DmsTask(
            self._dms, self._metrics, "daybreak-shop-task-test", "shop-task-test", "daybreak-shop-dms-test", 0.0
        )

    def described(self, **changes: object) -> None:
        """The next description of the task."""
        known = {key: value for key, value in {**DESCRIBED, **changes}.items() if value is not None}
        self.dms.add_response("describe_replication_tasks", {"ReplicationTasks": [known]}, FILTER)

    def tested(self, endpoint: str, *states: str, message: str = "") -> None:
        """A connection's test and the states that it goes through."""
        self.dms.add_response("test_connection", {}, {"ReplicationInstanceArn": REP, "EndpointArn": endpoint})
        for status in states:
            found = {"Status": status, "EndpointIdentifier": "daybreak-shop-dms", "LastFailureMessage": message}
            self.dms.add_response("describe_connections", {"Connections": [found]}, {"Filters": ANY})


@pytest.fixture
def stubbed() -> Iterator[Stubbed]:
    made = Stubbed()
    with made.dms, made.metrics:
        yield made
    made.dms.assert_no_pending_responses()
    made.metrics.assert_no_pending_responses()


def test_a_task_is_described(stubbed: Stubbed) -> None:
    stubbed.described(StopReason="Stop Reason NORMAL", LastFailureMessage="Last\n  Error")
    task = stubbed.task.describe()
    assert task is not None
    assert (task.running, task.percent, task.started_at) == (True, 40, AT)
    assert (task.failure, task.setting("TargetMetadata", "BatchApplyEnabled")) == ("Last Error", False)
    assert task.setting("Nothing", "Known") is None


def test_a_task_that_never_ran_has_no_time(stubbed: Stubbed) -> None:
    stubbed.described(Status="ready", ReplicationTaskStartDate=None, ReplicationTaskSettings=None)
    task = stubbed.task.describe()
    assert task is not None
    assert (task.halted, task.loaded, task.started_at, task.settings) == (True, False, None, {})


def test_a_task_that_does_not_exist_is_none(stubbed: Stubbed) -> None:
    stubbed.dms.add_client_error("describe_replication_tasks", "ResourceNotFoundFault", "No tasks found", 400)
    stubbed.dms.add_response("describe_replication_tasks", {"ReplicationTasks": []}, FILTER)
    assert stubbed.task.describe() is None
    assert stubbed.task.describe() is None


def test_statistics_come_in_pages(stubbed: Stubbed) -> None:
    row = {"SchemaName": "shop", "TableState": "Table completed", "ValidationState": "Validated", "FullLoadRows": 5}
    first: dict[str, Any] = {"ReplicationTaskArn": ARN, "TableStatistics": [{**row, "TableName": "orders"}]}
    stubbed.dms.add_response("describe_table_statistics", {**first, "Marker": "next"}, {"ReplicationTaskArn": ARN})
    stubbed.dms.add_response(
        "describe_table_statistics",
        {"ReplicationTaskArn": ARN, "TableStatistics": [{"SchemaName": "shop", "TableName": "parts"}]},
        {"ReplicationTaskArn": ARN, "Marker": "next"},
    )
    orders, parts = stubbed.task.tables(TASK)
    assert (orders.name, orders.state, orders.validation, orders.loaded_rows) == (
        TableName("shop", "orders"), "Table completed", "Validated", 5,
    )  # fmt: skip
    assert (parts.name, parts.state, parts.loaded_rows) == (TableName("shop", "parts"), "", 0)


def test_both_endpoints_are_tested_and_waited_for(stubbed: Stubbed) -> None:
    stubbed.tested(ENDPOINTS[0], "testing", "successful")
    stubbed.tested(ENDPOINTS[1], "successful")
    stubbed.task.test_connections(TASK)


def test_an_endpoint_that_does_not_connect_says_why(stubbed: Stubbed) -> None:
    message = "Test Endpoint failed: Application-Status: 1020912, password authentication failed"
    stubbed.tested(ENDPOINTS[0], "testing", "failed", message=message)
    with pytest.raises(PermanentError, match=r"endpoint daybreak-shop-dms: .*password authentication failed") as error:
        stubbed.task.test_connections(TASK)
    assert "pg_hba.conf" in error.value.hint


def test_a_test_that_is_under_way_is_as_good(stubbed: Stubbed) -> None:
    for endpoint in ENDPOINTS:
        stubbed.dms.add_client_error("test_connection", "InvalidResourceStateFault", "is already being tested", 400)
        found = {"Status": "successful", "EndpointArn": endpoint}
        stubbed.dms.add_response("describe_connections", {"Connections": [found]}, {"Filters": ANY})
    stubbed.task.test_connections(TASK)


@pytest.mark.parametrize("how", Start)
def test_a_start_is_awaited(stubbed: Stubbed, how: Start) -> None:
    asked = {"ReplicationTaskArn": ARN, "StartReplicationTaskType": how.value}
    stubbed.dms.add_response("start_replication_task", {"ReplicationTask": DESCRIBED}, asked)
    stubbed.described(Status="stopped")  # not told everywhere yet
    stubbed.described(Status="starting", ReplicationTaskStartDate=LATER)
    stubbed.task.start(TASK, how)


def test_a_start_whose_answer_was_lost_and_that_was_sent_again_is_a_start(stubbed: Stubbed) -> None:
    stubbed.dms.add_client_error("start_replication_task", "InvalidResourceStateFault", "is already running", 400)
    stubbed.described(Status="starting", ReplicationTaskStartDate=LATER)
    stubbed.described(Status="running", ReplicationTaskStartDate=LATER)
    stubbed.task.start(TASK, Start.RESUME)


def test_a_task_that_dms_does_not_start_as_it_is_says_why_and_is_looked_at_again(stubbed: Stubbed) -> None:
    message = "Test connection for replication instance and endpoint should be successful for starting the task"
    stubbed.dms.add_client_error("start_replication_task", "InvalidResourceStateFault", message, 400)
    stubbed.described(Status="stopped")
    with pytest.raises(TransientError, match=message):
        stubbed.task.start(TASK, Start.RESUME)


@pytest.mark.parametrize("stops", [True, False])
def test_a_stop_is_awaited_but_not_for_ever(stubbed: Stubbed, stops: bool) -> None:
    stubbed.dms.add_response("stop_replication_task", {}, {"ReplicationTaskArn": ARN})
    stubbed.described(Status="stopping")
    if stops:
        stubbed.described(Status="stopped")
    assert stubbed.task.stop(TASK, 60.0 if stops else -1.0) is stops


def test_a_task_that_stopped_by_itself_need_not_be_stopped(stubbed: Stubbed) -> None:
    stubbed.dms.add_client_error("stop_replication_task", "InvalidResourceStateFault", "is not running", 400)
    stubbed.described(Status="failed")
    assert stubbed.task.stop(TASK, 60.0)


@pytest.mark.parametrize(
    ("call", "operation"),
    [
        (lambda task: task.describe(), "describe_replication_tasks"),
        (lambda task: task.tables(TASK), "describe_table_statistics"),
        (lambda task: task.test_connections(TASK), "test_connection"),
        (lambda task: task.start(TASK, Start.FIRST), "start_replication_task"),
        (lambda task: task.stop(TASK, 1.0), "stop_replication_task"),
    ],
)
def test_what_is_not_allowed_is_named_and_what_is_throttled_is_transient(
    stubbed: Stubbed, call: Callable[[DmsTask], object], operation: str
) -> None:
    action = "dms:" + "".join(word.capitalize() for word in operation.split("_"))
    text = f"User: arn:aws:sts::1:assumed-role/controller/x is not authorized to perform: {action} on resource: {ARN}"
    stubbed.dms.add_client_error(operation, "AccessDeniedException", text, 400)
    with pytest.raises(PermanentError, match=f"refuses {action} on {ARN}"):
        call(stubbed.task)
    stubbed.dms.add_client_error(operation, "ThrottlingException", "Rate exceeded", 400)
    with pytest.raises(TransientError, match="daybreak-shop-task-test: Rate exceeded"):
        call(stubbed.task)


@pytest.mark.parametrize(("source", "target", "latency"), [([2.0, 9.0], [1.5], 3.5), ([], [1.0], None), ([], [], None)])
def test_latency_is_both_parts_or_unknown(
    stubbed: Stubbed, source: list[float], target: list[float], latency: float | None
) -> None:
    results = [
        {"Id": "cdclatencysource", "Values": source, "Timestamps": [AT] * len(source)},
        {"Id": "cdclatencytarget", "Values": target, "Timestamps": [AT] * len(target)},
    ]
    stubbed.metrics.add_response("get_metric_data", {"MetricDataResults": results})
    assert stubbed.task.latency_seconds() == latency
