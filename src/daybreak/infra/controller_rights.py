"""What the controller's role may do.

"*" stands only where AWS knows no narrower resource for an action (service authorization reference), and
says so in its Sid: interfaces in the VPC, traces, reading metrics and DMS's descriptions. Writing metrics is
bound to Daybreak's namespace."""

from __future__ import annotations

from dataclasses import dataclass

from cdktn_provider_aws.cloudwatch_log_group import CloudwatchLogGroup
from cdktn_provider_aws.sqs_queue import SqsQueue

from daybreak.aws.metrics import NAMESPACE
from daybreak.infra.dms import Dms
from daybreak.infra.encryption import Keys
from daybreak.infra.notices import Notices
from daybreak.infra.policies import Condition, Statement
from daybreak.infra.routing import Routing
from daybreak.infra.secrets import Secrets
from daybreak.infra.site import Site
from daybreak.infra.state import State

# What Lambda does with the role to reach the subnets (Lambda developer guide, "Giving Lambda functions
# access to resources in an Amazon VPC", required IAM permissions).
_INTERFACES = (
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
)
# What DynamoDB asks of its callers where the key is theirs (DynamoDB developer guide, "Authorizing use of your
# KMS key"); it covers parameters (kms:Encrypt), messages and the environment.
_KEY = (
    "kms:Encrypt",
    "kms:Decrypt",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:DescribeKey",
)


@dataclass(frozen=True, slots=True)
class RightsProps:
    """What the controller may touch. ``schedule_name`` is the rule that it turns on and off."""

    site: Site
    keys: Keys
    secrets: Secrets
    state: State
    routing: Routing
    dms: Dms | None
    notices: Notices
    function_name: str
    dead_letters: SqsQueue
    log_group: CloudwatchLogGroup
    schedule_name: str


def rights(props: RightsProps) -> list[Statement]:
    """The role's statements."""
    return [
        *_runtime(props),
        *_state(props),
        *_data(props),
        *_traffic(props),
        *_telling(props),
        *([] if props.dms is None else _dms(props.dms)),
    ]


def _runtime(props: RightsProps) -> list[Statement]:
    """What running a function takes. Its own code may not use the interfaces of the VPC."""
    function = props.site.arn("lambda", f"function:{props.function_name}")
    return [
        Statement("WriteLog", ("logs:CreateLogStream", "logs:PutLogEvents"), (f"{props.log_group.arn}:*",)),
        Statement("AnyInterfaceOfLambda", _INTERFACES, ("*",)),
        Statement(
            "NoInterfaceForTheCode",
            _INTERFACES,
            ("*",),
            conditions=(Condition("ArnEquals", "lambda:SourceFunctionArn", (function,)),),
            effect="Deny",
        ),
        Statement("AnyTrace", ("xray:PutTraceSegments", "xray:PutTelemetryRecords"), ("*",)),
        Statement("LeaveDeadLetters", ("sqs:SendMessage",), (props.dead_letters.arn,)),
    ]


def _state(props: RightsProps) -> list[Statement]:
    state = props.state
    return [
        Statement("ReadConfiguration", ("ssm:GetParameter",), (state.config_parameter.arn,)),
        Statement("PublishState", ("ssm:GetParameter", "ssm:PutParameter"), (state.state_parameter.arn,)),
        Statement("KeepRecord", ("dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem"), (state.table.arn,)),
        Statement("UseOperationsKey", _KEY, (props.keys.operations.arn,)),
    ]


def _data(props: RightsProps) -> list[Statement]:
    """The databases: how to sign in."""
    via = Condition("StringEquals", "kms:ViaService", (props.site.service("secretsmanager"),))
    secrets = (props.secrets.source.arn, props.secrets.target.arn)
    return [
        Statement("ReadSecrets", ("secretsmanager:GetSecretValue",), secrets),
        Statement("DecryptSecrets", ("kms:Decrypt",), (props.keys.secrets.arn,), conditions=(via,)),
    ]


def _traffic(props: RightsProps) -> list[Statement]:
    """Only the two names that Daybreak routes, in its zone. A change's id is known only once it is made."""
    partition = props.site.partition
    names = (props.routing.writer_name, props.routing.reader_name)
    zone = (f"arn:{partition}:route53:::hostedzone/{props.routing.zone_id}",)
    return [
        Statement(
            "MoveTraffic",
            ("route53:ChangeResourceRecordSets",),
            zone,
            conditions=(
                Condition("ForAllValues:StringEquals", "route53:ChangeResourceRecordSetsNormalizedRecordNames", names),
            ),
        ),
        Statement("ReadRecords", ("route53:ListResourceRecordSets",), zone),
        Statement("AwaitChange", ("route53:GetChange",), (f"arn:{partition}:route53:::change/*",)),
    ]


def _telling(props: RightsProps) -> list[Statement]:
    only_ours = Condition("StringEquals", "cloudwatch:namespace", (NAMESPACE,))
    rule = props.site.arn("events", f"rule/{props.schedule_name}")
    return [
        Statement("TellPeople", ("sns:Publish",), (props.notices.topic.arn,)),
        Statement("AnyMetricOfDaybreak", ("cloudwatch:PutMetricData",), ("*",), conditions=(only_ours,)),
        Statement("TurnSchedule", ("events:EnableRule", "events:DisableRule"), (rule,)),
    ]


def _dms(dms: Dms) -> list[Statement]:
    task, instance = dms.task.replication_task_arn, dms.instance.replication_instance_arn
    endpoints = (dms.source.endpoint_arn, dms.target.endpoint_arn)
    return [
        Statement(
            "RunTask",
            ("dms:StartReplicationTask", "dms:StopReplicationTask", "dms:DescribeTableStatistics"),
            (task,),
        ),
        Statement("TestEndpoints", ("dms:TestConnection",), (instance, *endpoints)),
        Statement("AnyDescriptionOfDms", ("dms:DescribeReplicationTasks", "dms:DescribeConnections"), ("*",)),
        Statement("AnyMetricToRead", ("cloudwatch:GetMetricData",), ("*",)),
    ]
