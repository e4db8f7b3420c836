"""What the tests of the whole stack let pass, and why. Nothing else may be found, and nothing that is written
here may have become superfluous."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Excuse:
    """``what`` was found may pass where ``where`` (a regular expression) matches the beginning of its place."""

    what: str
    where: str
    why: str


def unexcused(found: Iterable[tuple[str, str]], excuses: Iterable[Excuse]) -> list[str]:
    """What is ``found`` (what, where) without an excuse, and excuses that nothing needs."""
    left, unused = [], set(excuses)
    for what, where in sorted(set(found)):
        fitting = {one for one in excuses if one.what == what and re.match(one.where, where)}
        unused -= fitting
        if not fitting:
            left.append(f"{what} at {where}")
    return left + [f"not needed any more: {one.what} at {one.where}" for one in unused]


_THIS_KEY = "in a key's policy * means this key; its account administers it, services are bound by conditions"
_ENDPOINT = "an endpoint says whose principals and resources may pass it; what they may do is for the roles to say"
_LAMBDA_VPC = "AWS's own way for a function in a VPC; the code of the function itself is denied the same actions"

# Statements (sid) that may act on every resource, or do everything of a service.
STARS = (
    Excuse("AccountAdministers", "keys_", _THIS_KEY),
    Excuse("ServicesPublish", "keys_operations", _THIS_KEY),
    Excuse("RulesPublish", "keys_operations", _THIS_KEY),
    Excuse("RulesQueue", "keys_operations", _THIS_KEY),
    Excuse("LogsEncrypt", "keys_operations", _THIS_KEY),
    Excuse("ThisAccount", "network_endpoints_", _ENDPOINT),
    Excuse("AnyInterfaceOfLambda", "controller_", _LAMBDA_VPC),
    Excuse("AnyTrace", "controller_", "traces are no resource"),
    Excuse("AnyMetricOfDaybreak", "controller_", "metrics are no resource; bound to Daybreak's namespace"),
    Excuse("AnyMetricToRead", "controller_", "metrics are no resource"),
    Excuse("AnyDescriptionOfDms", "controller_", "AWS knows no resource for DMS's Describe actions"),
    Excuse("FindByTag", "backup_role", "AWS knows no resource for tag:GetResources"),
    Excuse("AnyGroupToFind", "network_flow-logs", "AWS knows no resource for DescribeLogGroups"),
)

# Statements (sid) that admit a service whatever account it acts for.
ADMITTED = (
    Excuse("Assume", "dms_dms-cloudwatch-logs-role-trust", "under a condition DMS does not take it on: no task logs"),
    Excuse("RulesPublish", "notices_", "EventBridge doesn't say for whom it publishes: nothing would arrive"),
)

# Findings of parliament.
PARLIAMENT = (
    Excuse("RESOURCE_STAR", "keys_", _THIS_KEY),
    Excuse("RESOURCE_STAR", "network_endpoints_", _ENDPOINT),
    Excuse("RESOURCE_STAR", "controller_role-rights", _LAMBDA_VPC),
    Excuse(
        "MISMATCHED_TYPE",
        "keys_operations",
        "encryption contexts are strings to parliament; these are ARNs, and AWS's own examples use ArnLike",
    ),
    Excuse(
        "UNKNOWN_CONDITION_FOR_ACTION",
        "controller_role-rights",
        "lambda:SourceFunctionArn is in every call that a function's code makes (Lambda developer guide)",
    ),
)

# Findings of checkov, for an environment with all protection on.
CHECKOV = (
    Excuse("CKV_AWS_109", "data.keys_", _THIS_KEY),
    Excuse("CKV_AWS_111", "data.keys_", _THIS_KEY),
    Excuse("CKV_AWS_356", "data.keys_", _THIS_KEY),
    Excuse("CKV_AWS_111", "data.controller_role-rights", _LAMBDA_VPC),
    Excuse("CKV_AWS_394", "data.network_subnets", "subnets keep their zones, whatever zones AWS adds"),
    Excuse("CKV_AWS_338", "resource", "a migration's logs serve while it lasts: aws.watch.log_days, by input"),
    Excuse("CKV_AWS_222", "resource.dms_instance", "an upgrade stops the task; somebody has to choose when"),
    Excuse("CKV_AWS_226", "resource.aurora_instance", "an upgrade restarts the server; not in a migration"),
    Excuse("CKV_AWS_272", "resource.controller_function", "whoever deploys builds the package, and is who would sign"),
    Excuse("CKV2_AWS_8", "aws_rds_cluster.aurora", "the plan selects by tag, which checkov does not follow"),
    Excuse("CKV2_AWS_27", "aws_rds_cluster.aurora", "logged statements would carry the application's rows"),
    Excuse(
        "CKV2_AWS_57",
        "aws_secretsmanager_secret.secrets_",
        "rotated together with the role on a server that AWS may not reach (docs/infrastructure/index.md)",
    ),
)

# Names that do not end with the environment.
NAMES = (
    Excuse("aws_iam_role", "dms-vpc-role|dms-cloudwatch-logs-role", "DMS looks for these very names in an account"),
    Excuse("aws_cloudwatch_log_group", "/aws/rds/cluster/daybreak-payments-aurora-test/", "RDS names it"),
    Excuse("aws_ssm_parameter", "/migration/test/", "paths have the environment in the middle"),
    Excuse("aws_route53_zone", r"payments\.internal", "its name is an input"),
    Excuse("aws_route53_record", r"db-(rw|ro|source|target)\.payments\.internal", "names in that zone"),
)
