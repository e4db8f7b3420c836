"""Flow logs of a VPC that was made here: who spoke to whom, for the day when something can't connect."""

from __future__ import annotations

from dataclasses import dataclass

from cdktn_provider_aws.cloudwatch_log_group import CloudwatchLogGroup
from cdktn_provider_aws.flow_log import FlowLog
from cdktn_provider_aws.vpc import Vpc
from constructs import Construct

from daybreak.infra.encryption import Keys
from daybreak.infra.policies import Statement, service_role
from daybreak.infra.site import Site


@dataclass(frozen=True, slots=True)
class FlowLogsProps:
    """What flow logs need."""

    site: Site
    vpc: Vpc
    keys: Keys


class FlowLogs(Construct):
    """All traffic, accepted and refused, in an encrypted log group that is kept as long as other logs."""

    def __init__(self, scope: Construct, id_: str, props: FlowLogsProps) -> None:
        super().__init__(scope, id_)
        site = props.site
        self.log_group = CloudwatchLogGroup(
            self,
            "group",
            name=site.names.of("flow-logs", limit=512),
            retention_in_days=site.log_days,
            kms_key_id=props.keys.operations.arn,
        )
        # VPC user guide, "IAM role for publishing flow logs to CloudWatch Logs", bound to this group.
        rights = [
            Statement(
                "WriteFlowLogs",
                ("logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"),
                (f"{self.log_group.arn}:*",),
            ),
            # AWS knows no resource for this one (service authorization reference).
            Statement("AnyGroupToFind", ("logs:DescribeLogGroups",), ("*",)),
        ]
        role = service_role(self, "role", site, "flow-logs", "vpc-flow-logs.amazonaws.com", rights)
        FlowLog(
            self,
            "log",
            vpc_id=props.vpc.id,
            traffic_type="ALL",
            log_destination_type="cloud-watch-logs",
            log_destination=self.log_group.arn,
            iam_role_arn=role.arn,
            tags={"Name": site.names.of("flow-logs", limit=256)},
        )
