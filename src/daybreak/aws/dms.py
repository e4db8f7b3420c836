"""The calls to AWS DMS that a migration needs, for one task: how it is, its tables, its latency; test, start, stop.

A task belongs to Terraform; nothing here makes or deletes one. Source: DMS API reference, and DMS user guide,
"Monitoring AWS DMS tasks"."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from daybreak.aws.errors import translated
from daybreak.errors import PermanentError, TransientError
from daybreak.model import TableName

if TYPE_CHECKING:
    from types_boto3_cloudwatch import CloudWatchClient
    from types_boto3_cloudwatch.type_defs import MetricDataQueryTypeDef
    from types_boto3_dms import DatabaseMigrationServiceClient
    from types_boto3_dms.type_defs import ReplicationTaskTypeDef, TableStatisticsTypeDef

_METRICS = ("CDCLatencySource", "CDCLatencyTarget")
# Older measurements say nothing about now.
_FRESH = timedelta(minutes=5)
_STOPPED_AFTER_LOAD = "STOPPED_AFTER_FULL_LOAD"
_TEST_SECONDS = 300.0
_START_SECONDS = 120.0
_SEE_TASK = "See `aws dms describe-replication-tasks`; run the same command again once it is as it should be."


class Start(StrEnum):
    """How a task is started (DMS API, StartReplicationTask): the first time, from where it stopped, or with
    everything loaded once more."""

    FIRST = "start-replication"
    RESUME = "resume-processing"
    RELOAD = "reload-target"


@dataclass(frozen=True, slots=True)
class Task:
    """A replication task. ``percent`` is that of the full load; ``failure`` and ``stop_reason`` are DMS's words.

    ``started_at`` is when it was started last, None before the first time; ``settings`` are those that DMS
    reports, by section."""

    arn: str
    status: str
    started_at: datetime | None
    percent: int
    stop_reason: str
    failure: str
    instance: str
    endpoints: tuple[str, str]
    settings: dict[str, dict[str, object]]

    @property
    def running(self) -> bool:
        """Whether it loads or streams."""
        return self.status == "running"

    @property
    def halted(self) -> bool:
        """Whether it does nothing and will do nothing by itself."""
        return self.status in {"ready", "stopped", "failed"}

    @property
    def loaded(self) -> bool:
        """Whether it stopped by itself because everything is loaded."""
        return self.status == "stopped" and _STOPPED_AFTER_LOAD in self.stop_reason

    def setting(self, section: str, name: str) -> object:
        """The setting ``name``, or None where DMS reports none."""
        return self.settings.get(section, {}).get(name)


@dataclass(frozen=True, slots=True)
class TableStatistics:
    """One table of a task, in DMS's words (DMS API, TableStatistics)."""

    name: TableName
    state: str
    loaded_rows: int
    validation: str


class DmsTask:
    """The task called ``identifier`` on the replication instance ``instance``; ``resource`` is its resource
    identifier, under which its metrics are filed.

    Every method raises TransientError (throttled, unreachable) or PermanentError (not permitted: action and
    resource are named)."""

    def __init__(
        self,
        client: DatabaseMigrationServiceClient,
        metrics: CloudWatchClient,
        identifier: str,
        resource: str,
        instance: str,
        poll_seconds: float = 5.0,
    ) -> None:
        self.identifier = identifier
        self._client = client
        self._metrics = metrics
        self._dimensions = {"ReplicationInstanceIdentifier": instance, "ReplicationTaskIdentifier": resource}
        self.poll_seconds = poll_seconds
        self._where = f"AWS DMS task {identifier}"

    def describe(self) -> Task | None:
        """The task as it is now; None where there is none of this name."""
        with translated(self._where):
            try:
                found = self._client.describe_replication_tasks(
                    Filters=[{"Name": "replication-task-id", "Values": [self.identifier]}]
                )["ReplicationTasks"]
            except self._client.exceptions.ResourceNotFoundFault:
                return None
        return _task(found[0]) if found else None

    def tables(self, task: Task) -> tuple[TableStatistics, ...]:
        """All tables of ``task``."""
        with translated(self._where):
            pages = self._client.get_paginator("describe_table_statistics").paginate(ReplicationTaskArn=task.arn)
            return tuple(_table(row) for page in pages for row in page["TableStatistics"])

    def test_connections(self, task: Task) -> None:
        """Have DMS connect to both endpoints; raises PermanentError with its message where it can't."""
        for endpoint in task.endpoints:
            with translated(self._where):
                # Where a test is under way, its outcome is as good.
                with suppress(self._client.exceptions.InvalidResourceStateFault):
                    self._client.test_connection(ReplicationInstanceArn=task.instance, EndpointArn=endpoint)
                self._await_test(task, endpoint)

    def _await_test(self, task: Task, endpoint: str) -> None:
        deadline = time.monotonic() + _TEST_SECONDS
        while True:
            (found, *_) = self._client.describe_connections(
                Filters=[
                    {"Name": "endpoint-arn", "Values": [endpoint]},
                    {"Name": "replication-instance-arn", "Values": [task.instance]},
                ]
            )["Connections"]
            name, status = found.get("EndpointIdentifier", endpoint), found.get("Status")
            if status == "successful":
                return
            if status == "failed":
                raise PermanentError(
                    f"AWS DMS can't connect to its endpoint {name}: {found.get('LastFailureMessage', 'no message')}",
                    "Check the endpoint's secret, its security groups and the server's pg_hba.conf.",
                )
            if time.monotonic() > deadline:
                raise TransientError(
                    f"AWS DMS still tests its endpoint {name} after {_TEST_SECONDS:.0f} s.",
                    "See `aws dms describe-connections`.",
                )
            time.sleep(self.poll_seconds)

    def start(self, task: Task, how: Start) -> None:
        """Start ``task``, which gets going within minutes, and wait until DMS says so. Where it was started since
        ``task`` was looked at (by a call whose answer was lost, or by somebody else), that is as good.

        Raises TransientError where DMS refuses it as it is, or doesn't say that it runs: look again."""
        with translated(self._where):
            try:
                self._client.start_replication_task(ReplicationTaskArn=task.arn, StartReplicationTaskType=how.value)
            except self._client.exceptions.InvalidResourceStateFault as error:
                if not self._started(task):
                    text = error.response.get("Error", {}).get("Message", "no message")
                    raise TransientError(f"{self._where} can't be started now: {text}", _SEE_TASK) from error
        deadline = time.monotonic() + _START_SECONDS
        while not self._started(task):
            if time.monotonic() > deadline:
                raise TransientError(f"{self._where} does not start.", _SEE_TASK)
            time.sleep(self.poll_seconds)

    def _started(self, before: Task) -> bool:
        """Whether it does something, or did since it was ``before``."""
        now = self.describe()
        return now is not None and not (now.halted and now.started_at == before.started_at)

    def stop(self, task: Task, seconds: float) -> bool:
        """Have ``task`` stop and wait so long; whether it has stopped. Does nothing where it does not run."""
        if task.halted:
            return True
        self._ask_to_stop(task)
        deadline = time.monotonic() + seconds
        while (now := self.describe()) is not None and not now.halted:
            if time.monotonic() > deadline:
                return False
            time.sleep(self.poll_seconds)
        return True

    def _ask_to_stop(self, task: Task) -> None:
        with translated(self._where), suppress(self._client.exceptions.InvalidResourceStateFault):
            self._client.stop_replication_task(ReplicationTaskArn=task.arn)

    def latency_seconds(self) -> float | None:
        """How far behind the source the task last said to be, reading and applying together; None where it
        said nothing of late (DMS user guide, "Replication task metrics")."""
        queries: list[MetricDataQueryTypeDef] = [
            {
                "Id": name.lower(),
                "MetricStat": {
                    "Metric": {
                        "Namespace": "AWS/DMS",
                        "MetricName": name,
                        "Dimensions": [{"Name": key, "Value": value} for key, value in self._dimensions.items()],
                    },
                    "Period": 60,
                    "Stat": "Minimum",  # of one value: DMS publishes once a minute
                },
            }
            for name in _METRICS
        ]
        now = datetime.now(UTC)
        with translated(self._where):
            found = self._metrics.get_metric_data(
                MetricDataQueries=queries, StartTime=now - _FRESH, EndTime=now, ScanBy="TimestampDescending"
            )["MetricDataResults"]
        values = [result["Values"][0] for result in found if result["Values"]]
        return sum(values) if len(values) == len(_METRICS) else None


def _task(found: ReplicationTaskTypeDef) -> Task:
    text = found.get("ReplicationTaskSettings")
    loaded = json.loads(text) if text else {}
    return Task(
        arn=found["ReplicationTaskArn"],
        status=found["Status"],
        started_at=found.get("ReplicationTaskStartDate"),
        percent=found.get("ReplicationTaskStats", {}).get("FullLoadProgressPercent", 0),
        stop_reason=found.get("StopReason", ""),
        failure=" ".join(found.get("LastFailureMessage", "").split()),
        instance=found["ReplicationInstanceArn"],
        endpoints=(found["SourceEndpointArn"], found["TargetEndpointArn"]),
        settings={name: section for name, section in loaded.items() if isinstance(section, dict)},
    )


def _table(row: TableStatisticsTypeDef) -> TableStatistics:
    return TableStatistics(
        name=TableName(row["SchemaName"], row["TableName"]),
        state=row.get("TableState", ""),
        loaded_rows=row.get("FullLoadRows", 0),
        validation=row.get("ValidationState", ""),
    )
