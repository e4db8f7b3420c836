"""One controller at a time, in private subnets, that may do what its migration takes and nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from infra.conftest import Bench
from infra.parts import Parts, certificate

from daybreak.config import aws
from daybreak.infra.controller import HANDLER, Controller

# Actions for which AWS knows no resource (service authorization reference).
_WITHOUT_RESOURCE = {
    "ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets",
    "ec2:DeleteNetworkInterface", "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses",
    "xray:PutTraceSegments", "xray:PutTelemetryRecords", "cloudwatch:PutMetricData", "cloudwatch:GetMetricData",
    "dms:DescribeReplicationTasks", "dms:DescribeConnections",
}  # fmt: skip


@pytest.fixture(params=["dms", "native"])
def controller(request: pytest.FixtureRequest, bench: Bench, tmp_path: Path) -> Controller:
    """The controller of a stack with each engine."""
    settings = aws.Dms(target_ca_file=certificate(tmp_path)) if request.param == "dms" else None
    package = tmp_path / "controller.zip"
    package.write_bytes(b"a package")
    return Parts.on(bench, settings).events(package)[0]


def _rights(bench: Bench) -> dict[str, dict[str, Any]]:
    documents = bench.synth()["data"]["aws_iam_policy_document"]
    (policy,) = (d for key, d in documents.items() if key.startswith("controller_role-rights"))
    return {statement["sid"]: statement for statement in policy["statement"]}


@pytest.mark.usefixtures("controller")
def test_function_runs_alone_in_the_subnets(bench: Bench) -> None:
    function = bench.only("aws_lambda_function")
    assert function["reserved_concurrent_executions"] == 1
    assert function["timeout"] == 900
    assert len(function["vpc_config"]["subnet_ids"]) == 3
    assert "controller" in function["vpc_config"]["security_group_ids"][0]
    assert function["tracing_config"] == {"mode": "Active"}
    assert "dead-letters" in function["dead_letter_config"]["target_arn"]
    assert (function["runtime"], function["architectures"]) == ("python3.13", ["arm64"])
    assert function["handler"] == HANDLER


@pytest.mark.usefixtures("controller")
def test_what_waits_for_the_function_outlives_two_of_the_longest_runs_and_no_more(bench: Bench) -> None:
    """Looks that wait behind a comparison are no dead letters; a cutover that was asked for does not come hours
    later. Without this Lambda keeps both six hours, and runs each failure twice more."""
    function, queue = bench.only("aws_lambda_function"), bench.only("aws_lambda_function_event_invoke_config")
    assert "controller_function" in queue["function_name"]
    assert queue["maximum_event_age_in_seconds"] == 2 * function["timeout"]
    assert queue["maximum_retry_attempts"] == 0


@pytest.mark.usefixtures("controller")
def test_rights_come_before_the_function(bench: Bench) -> None:
    """Lambda checks them when it makes one in a VPC."""
    (policy,) = (one for one in bench.only("aws_lambda_function")["depends_on"] if "aws_iam_role_policy" in one)
    assert "controller_role-policy" in policy


@pytest.mark.usefixtures("controller")
def test_code_changes_with_the_package_only(bench: Bench) -> None:
    function = bench.only("aws_lambda_function")
    digest = hashlib.sha256(b"a package").digest()
    assert function["source_code_hash"] == base64.b64encode(digest).decode()
    assert not Path(function["filename"]).is_absolute()


@pytest.mark.usefixtures("controller")
def test_environment_names_things_and_holds_no_secret(bench: Bench) -> None:
    function = bench.only("aws_lambda_function")
    assert "keys_operations" in function["kms_key_arn"]
    variables = function["environment"]["variables"]
    assert set(variables) == {
        "CONFIG_PARAMETER", "STATE_TABLE", "STATE_KEY", "SCHEDULE", "NOTICES_TOPIC", "SOURCE_SECRET",
        "TARGET_SECRET", "LOG_LEVEL",
    }  # fmt: skip
    written = {value for value in variables.values() if not value.startswith("${aws_")}
    assert written == {"INFO", "daybreak-payments-poll-test"}


@pytest.mark.usefixtures("controller")
def test_output_is_kept_encrypted_and_not_for_ever(bench: Bench) -> None:
    function = bench.only("aws_lambda_function")
    groups = {group["name"]: group for group in bench.resources("aws_cloudwatch_log_group")}
    group = groups[f"/aws/lambda/{function['function_name']}"]
    assert group["retention_in_days"] == 30
    assert "keys_operations" in group["kms_key_id"]


@pytest.mark.usefixtures("controller")
def test_dead_letters_are_encrypted_and_kept(bench: Bench) -> None:
    queue = bench.only("aws_sqs_queue")
    assert "keys_operations" in queue["kms_master_key_id"]
    assert queue["message_retention_seconds"] == 14 * 86_400
    assert queue["name"].endswith("-test")


@pytest.mark.usefixtures("controller")
def test_any_resource_only_where_aws_knows_none(bench: Bench) -> None:
    for sid, statement in _rights(bench).items():
        if "*" in statement["resources"]:
            assert set(statement["actions"]) <= _WITHOUT_RESOURCE, sid
            assert sid == "NoInterfaceForTheCode" or sid.startswith("Any")
        assert not any(action.endswith("*") for action in statement["actions"]), sid


@pytest.mark.usefixtures("controller")
def test_metrics_are_daybreaks_and_traffic_is_the_two_names(bench: Bench) -> None:
    rights = _rights(bench)
    (condition,) = rights["AnyMetricOfDaybreak"]["condition"]
    assert (condition["variable"], condition["values"]) == ("cloudwatch:namespace", ["Daybreak"])
    (condition,) = rights["MoveTraffic"]["condition"]
    assert condition["values"] == ["db-rw.payments.internal", "db-ro.payments.internal"]


@pytest.mark.usefixtures("controller")
def test_code_cannot_use_the_rights_of_the_network(bench: Bench) -> None:
    rights = _rights(bench)
    deny = rights["NoInterfaceForTheCode"]
    assert deny["effect"] == "Deny"
    assert deny["actions"] == rights["AnyInterfaceOfLambda"]["actions"]
    name = bench.only("aws_lambda_function")["function_name"]
    assert deny["condition"][0]["values"] == [f"arn:aws:lambda:eu-central-1:123456789012:function:{name}"]


def test_dms_is_touched_only_where_there_is_one(bench: Bench, controller: Controller) -> None:
    assert controller.function
    actions = {action for statement in _rights(bench).values() for action in statement["actions"]}
    engines = bool(bench.resources("aws_dms_replication_task"))
    assert ("dms:StartReplicationTask" in actions) is engines
    assert not {"dms:DeleteReplicationTask", "dms:ModifyReplicationTask"} & actions


@pytest.mark.usefixtures("controller")
def test_no_password_is_in_the_stack(bench: Bench) -> None:
    text = json.dumps(bench.synth()["resource"]["aws_lambda_function"]).lower()
    assert "password" not in text
