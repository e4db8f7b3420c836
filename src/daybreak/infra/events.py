"""Rules that wake the controller and tell people: DMS's events about the one task, Aurora's about the one
cluster, this stack's alarms, and the schedule.

Events are matched by the resource they are about. DMS spells ``detail.type`` in two ways
(``REPLICATION_TASK``, ``ReplicationTask``), so nothing here looks at it; a failure shows in ``category`` or
``eventType``, so either will do. Delivery is best effort (DMS user guide, "Working with Amazon EventBridge
events"), which is why there is a schedule beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cdktn import TerraformResourceLifecycle
from cdktn_provider_aws.cloudwatch_event_rule import CloudwatchEventRule
from cdktn_provider_aws.cloudwatch_event_target import (
    CloudwatchEventTarget,
    CloudwatchEventTargetDeadLetterConfig,
    CloudwatchEventTargetInputTransformer,
    CloudwatchEventTargetRetryPolicy,
)
from cdktn_provider_aws.lambda_permission import LambdaPermission
from cdktn_provider_aws.sqs_queue_policy import SqsQueuePolicy
from constructs import Construct

from daybreak.config.aws import Watch
from daybreak.infra.alarms import Alarms
from daybreak.infra.aurora import Aurora
from daybreak.infra.controller import Controller, schedule_name
from daybreak.infra.dms import Dms
from daybreak.infra.notices import Notices, runbook
from daybreak.infra.policies import Condition, Statement, document
from daybreak.infra.site import Site

_TASK_EVENT = "DMS Replication Task State Change"
_CLUSTER_EVENT = "RDS DB Cluster Event"
_ALARM_EVENT = "CloudWatch Alarm State Change"
# How long EventBridge tries to hand something over. News an hour old is still news; a look that could not be handed
# over is made up for by the next one. What Lambda has taken waits in its own queue (``controller``).
_NEWS_SECONDS, _LOOK_SECONDS = 3600, 60
_NEWS_ATTEMPTS, _LOOK_ATTEMPTS = 8, 1


@dataclass(frozen=True, slots=True)
class EventsProps:
    """What the rules need. The controller looks every ``poll_minutes`` while a migration is active."""

    site: Site
    settings: Watch
    poll_minutes: int
    controller: Controller
    dms: Dms | None
    notices: Notices
    aurora: Aurora
    alarms: Alarms


class Events(Construct):
    """``schedule``, ``alarm_changes``, ``cluster_news`` and, with DMS, ``task_changes`` (to the controller) and
    ``task_news`` (to people). The schedule is made disabled and stays as the controller turns it."""

    def __init__(self, scope: Construct, id_: str, props: EventsProps) -> None:
        super().__init__(scope, id_)
        self._props = props
        self.schedule = self._schedule()
        self.alarm_changes = self._alarm_changes(props.alarms)
        self.cluster_news = self._cluster_news(props.aurora)
        self.task_changes = self._task_changes(props.dms) if props.dms else None
        self.task_news = self._task_news(props.dms) if props.dms else None
        rules = (self.schedule, self.alarm_changes, self.cluster_news, self.task_changes, self.task_news)
        self._queue_policy([rule for rule in rules if rule])

    def _schedule(self) -> CloudwatchEventRule:
        minutes = self._props.poll_minutes
        rule = CloudwatchEventRule(
            self,
            "schedule",
            name=schedule_name(self._props.site),
            description="Wakes the controller while a migration is active; the controller turns it on and off",
            schedule_expression=f"rate({minutes} {'minute' if minutes == 1 else 'minutes'})",
            state="DISABLED",
            lifecycle=TerraformResourceLifecycle(ignore_changes=["state"]),
        )
        self._wake("schedule", rule, _LOOK_SECONDS, _LOOK_ATTEMPTS)
        return rule

    def _alarm_changes(self, alarms: Alarms) -> CloudwatchEventRule:
        # Were the function woken over its own trouble, that could keep itself going.
        pattern = alarm_pattern([one.alarm_name for one in alarms.of_the_migration])
        rule = self._rule("alarm-changes", "Wakes the controller when an alarm of this migration begins", pattern)
        self._wake("alarm-changes", rule, _NEWS_SECONDS, _NEWS_ATTEMPTS)
        return rule

    def _task_changes(self, dms: Dms) -> CloudwatchEventRule:
        pattern = task_pattern(dms.task.replication_task_arn)
        rule = self._rule("task-changes", "Wakes the controller when DMS has something to say of its task", pattern)
        self._wake("task-changes", rule, _NEWS_SECONDS, _NEWS_ATTEMPTS)
        return rule

    def _task_news(self, dms: Dms) -> CloudwatchEventRule:
        pattern = task_trouble_pattern(dms.task.replication_task_arn)
        rule = self._rule("task-news", "Tells people that the DMS task has failed or has paused reading", pattern)
        self._tell("task-news", rule, "DMS task", "$.detail.detailMessage", "task-failed")
        return rule

    def _cluster_news(self, aurora: Aurora) -> CloudwatchEventRule:
        pattern = cluster_pattern(aurora.cluster.arn)
        rule = self._rule("cluster-news", "Tells people of failovers and failures of the Aurora cluster", pattern)
        self._tell("cluster-news", rule, "Aurora cluster", "$.detail.Message", "cluster-news")
        return rule

    def _rule(self, what: str, description: str, pattern: Mapping[str, object]) -> CloudwatchEventRule:
        return CloudwatchEventRule(
            self,
            what,
            name=self._props.site.names.of(what, limit=64),
            description=description,
            event_pattern=json.dumps(pattern),
        )

    def _wake(self, what: str, rule: CloudwatchEventRule, seconds: int, attempts: int) -> None:
        function = self._props.controller.function
        LambdaPermission(
            self,
            f"{what}-permission",
            statement_id=self._props.site.names.of(what, limit=100),
            action="lambda:InvokeFunction",
            function_name=function.function_name,
            principal="events.amazonaws.com",
            source_arn=rule.arn,
        )
        self._target(what, rule, function.arn, (seconds, attempts), None)

    def _tell(self, what: str, rule: CloudwatchEventRule, about: str, message: str, anchor: str) -> None:
        names, where = self._props.site.names, runbook(self._props.settings, anchor)
        text = f"Daybreak {names.migration} ({names.environment}), {about} at <time>: <message> {where}"
        transformer = CloudwatchEventTargetInputTransformer(
            input_paths={"message": message, "time": "$.time"}, input_template=json.dumps(text)
        )
        self._target(what, rule, self._props.notices.topic.arn, (_NEWS_SECONDS, _NEWS_ATTEMPTS), transformer)

    def _target(
        self,
        what: str,
        rule: CloudwatchEventRule,
        arn: str,
        retry: tuple[int, int],
        transformer: CloudwatchEventTargetInputTransformer | None,
    ) -> None:
        seconds, attempts = retry
        CloudwatchEventTarget(
            self,
            f"{what}-target",
            rule=rule.name,
            arn=arn,
            input_transformer=transformer,
            retry_policy=CloudwatchEventTargetRetryPolicy(
                maximum_event_age_in_seconds=seconds, maximum_retry_attempts=attempts
            ),
            dead_letter_config=CloudwatchEventTargetDeadLetterConfig(arn=self._props.controller.dead_letters.arn),
        )

    def _queue_policy(self, rules: Sequence[CloudwatchEventRule]) -> None:
        """Who may leave dead letters, beside the controller's own role: these rules, over TLS."""
        queue = self._props.controller.dead_letters
        only_these = Condition("ArnEquals", "aws:SourceArn", tuple(rule.arn for rule in rules))
        statements = [
            Statement(
                "RulesSend",
                ("sqs:SendMessage",),
                (queue.arn,),
                services=("events.amazonaws.com",),
                conditions=(only_these,),
            ),
            Statement(
                "OnlyOverTls",
                ("sqs:*",),
                (queue.arn,),
                accounts=("*",),
                conditions=(Condition("Bool", "aws:SecureTransport", ("false",)),),
                effect="Deny",
            ),
        ]
        policy = document(self, "dead-letters-policy", statements)
        SqsQueuePolicy(self, "dead-letters", queue_url=queue.url, policy=policy.json)


def task_pattern(task_arn: str) -> dict[str, object]:
    """Whatever DMS says of the state of this task."""
    return {"source": ["aws.dms"], "detail-type": [_TASK_EVENT], "resources": [task_arn]}


def task_trouble_pattern(task_arn: str) -> dict[str, object]:
    """This task has failed, or has paused reading because its instance runs out of memory or disk."""
    signs = [{"category": ["Failure"]}, {"eventType": ["REPLICATION_TASK_FAILED", {"prefix": "READING_PAUSED"}]}]
    return {**task_pattern(task_arn), "detail": {"$or": signs}}


def alarm_pattern(names: Sequence[str]) -> dict[str, object]:
    """One of the alarms called ``names`` begins (CloudWatch user guide, "Alarm events and EventBridge"). By name, for
    their ARNs together are longer than a pattern may be (2,048 characters)."""
    detail = {"alarmName": list(names), "state": {"value": ["ALARM"]}}
    return {"source": ["aws.cloudwatch"], "detail-type": [_ALARM_EVENT], "detail": detail}


def cluster_pattern(cluster_arn: str) -> dict[str, object]:
    """A failover or a failure of this cluster (RDS user guide, "Amazon RDS event categories and messages")."""
    return {
        "source": ["aws.rds"],
        "detail-type": [_CLUSTER_EVENT],
        "resources": [cluster_arn],
        "detail": {"EventCategories": ["failover", "failure"]},
    }
