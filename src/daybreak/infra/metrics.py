"""Typed references to CloudWatch metrics: one name, and the forms that dashboards and alarms want.

A metric is its namespace, its name and *all* of its dimensions; a dimension too many or too few names
another metric, which has no data (CloudWatch user guide, "Dimensions"). So every reference of the stack is
made here, from the constructs themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from cdktn_provider_aws.cloudwatch_metric_alarm import (
    CloudwatchMetricAlarmMetricQuery,
    CloudwatchMetricAlarmMetricQueryMetric,
)

from daybreak.aws.metrics import NAMESPACE, Own
from daybreak.infra.aurora import Aurora
from daybreak.infra.controller import Controller, schedule_name
from daybreak.infra.dms import Dms
from daybreak.infra.site import Site


class Role(StrEnum):
    """What an instance of a cluster is at the moment. Metrics by role follow a failover; those by instance
    don't (Aurora user guide, "Creating CloudWatch alarms to monitor Amazon Aurora")."""

    WRITER = "WRITER"
    READER = "READER"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric and how it is put together: ``statistic`` over each ``period`` (seconds)."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    statistic: str = "Average"
    period: int = 60
    label: str = ""

    def by(self, statistic: str, period: int | None = None) -> Self:
        """The same metric by another statistic, and over another period where one is given (seconds)."""
        return replace(self, statistic=statistic, period=period or self.period)

    def called(self, label: str) -> Self:
        """The same metric under the name ``label`` in a graph."""
        return replace(self, label=label)

    def array(self, right: bool = False) -> list[object]:
        """The form of a dashboard: namespace, name and dimensions in one array, rendering at its end.

        CloudWatch API reference, "Dashboard Body Structure and Syntax"."""
        flat = [text for pair in self.dimensions for text in pair]
        rendering: dict[str, object] = {"stat": self.statistic, "period": self.period}
        if self.label:
            rendering["label"] = self.label
        if right:
            rendering["yAxis"] = "right"
        return [self.namespace, self.name, *flat, rendering]

    def query(self, id_: str) -> CloudwatchMetricAlarmMetricQuery:
        """The form of an alarm on an expression, in which this metric is called ``id_``."""
        return CloudwatchMetricAlarmMetricQuery(
            id=id_,
            metric=CloudwatchMetricAlarmMetricQueryMetric(
                namespace=self.namespace,
                metric_name=self.name,
                dimensions=dict(self.dimensions),
                stat=self.statistic,
                period=self.period,
            ),
        )


def own(site: Site, migration: str, name: Own, statistic: str = "Maximum") -> Metric:
    """A metric of the controller."""
    dimensions = (("Migration", migration), ("Environment", site.names.environment))
    return Metric(NAMESPACE, name.value, dimensions, statistic)


def aurora(cluster: Aurora, role: Role, name: str, statistic: str = "Average") -> Metric:
    """A metric of the writer, or of all readers (Aurora user guide, "CloudWatch metrics for Amazon Aurora")."""
    dimensions = (("DBClusterIdentifier", cluster.cluster.cluster_identifier), ("Role", role.value))
    return Metric("AWS/RDS", name, dimensions, statistic)


def dms_task(dms: Dms, name: str, statistic: str = "Average") -> Metric:
    """A metric of the task, which DMS names by the *resource* identifier (DMS user guide, "Monitoring")."""
    dimensions = (*_instance(dms), ("ReplicationTaskIdentifier", dms.resource_identifier))
    return Metric("AWS/DMS", name, dimensions, statistic, period=300)


def dms_instance(dms: Dms, name: str, statistic: str = "Average") -> Metric:
    """A metric of the replication instance (DMS user guide, "Monitoring")."""
    return Metric("AWS/DMS", name, _instance(dms), statistic, period=300)


def function(controller: Controller, name: str, statistic: str = "Sum") -> Metric:
    """A metric of the controller's function (Lambda developer guide, "Types of metrics")."""
    return Metric("AWS/Lambda", name, (("FunctionName", controller.function.function_name),), statistic, period=300)


def schedule(site: Site) -> Metric:
    """How often the schedule woke the controller; it does while a migration is active (EventBridge user guide,
    "Monitoring Amazon EventBridge")."""
    return Metric("AWS/Events", "Invocations", (("RuleName", schedule_name(site)),), "Sum", period=300)


def dead_letters(controller: Controller) -> Metric:
    """How many events wait that nobody could handle (SQS developer guide, "Available CloudWatch metrics")."""
    dimensions = (("QueueName", controller.dead_letters.name),)
    return Metric("AWS/SQS", "ApproximateNumberOfMessagesVisible", dimensions, "Maximum")


def _instance(dms: Dms) -> tuple[tuple[str, str], ...]:
    return (("ReplicationInstanceIdentifier", dms.instance.replication_instance_id),)
