"""`daybreak rewind` against moto, which answers as RDS does: the plan, doing it, going on with it, refusals."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore import xform_name
from botocore.exceptions import ClientError, NoCredentialsError
from moto import mock_aws
from moto.rds.models import rds_backends
from typer.testing import CliRunner, Result

from daybreak.aws.rds import Rds
from daybreak.entry import rewind
from daybreak.entry.cli import app

if TYPE_CHECKING:
    from types_boto3_rds.client import RDSClient

REGION = "eu-central-1"
ACCOUNT = "123456789012"  # moto's
ORIGINAL = "daybreak-payments-aurora-prod"
AT = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=5)
TIME = AT.strftime("%Y-%m-%dT%H:%M:%SZ")
NEW = f"payments-rewind-{AT:%Y%m%dt%H%M%Sz}-prod"
SERVER = f"payments-rewind-{AT:%Y%m%dt%H%M%Sz}-0-prod"
CONFIGURATION = f"""
name = "payments"
[source]
dsn = "postgresql://daybreak@old.example.net:5432/payments"
[aws]
environment = "prod"
region = "{REGION}"
[aws.network]
vpc_cidr = "10.60.0.0/16"
[aws.aurora]
engine_version = "17.5"
[aws.routing]
zone_name = "payments.internal"
"""


@dataclass
class Site:
    """An emulated account with the cluster that `daybreak infra deploy` makes."""

    configuration: Path
    rds: RDSClient

    def __call__(self, *arguments: str, typed: str | None = None) -> Result:
        return CliRunner().invoke(app, ["rewind", "--config", str(self.configuration), *arguments], input=typed)

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """The one object on standard output."""
        result = self(*arguments, "--json")
        assert result.exit_code == code, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def clusters(self) -> set[str]:
        """The names of all clusters."""
        return {one["DBClusterIdentifier"] for one in self.rds.describe_db_clusters()["DBClusters"]}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The cluster, seven days old as far as its backups go."""
    monkeypatch.setattr(rewind, "_POLL_SECONDS", 0.0)
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_RDS"):
        monkeypatch.delenv(name, raising=False)
    configuration = tmp_path / "daybreak.toml"
    configuration.write_text(CONFIGURATION)
    with mock_aws():
        rds = boto3.client("rds", REGION)
        _deploy(rds)
        yield Site(configuration, rds)


def _deploy(rds: RDSClient) -> None:
    subnets = [one["SubnetId"] for one in boto3.client("ec2", REGION).describe_subnets()["Subnets"]]
    rds.create_db_subnet_group(DBSubnetGroupName=ORIGINAL, DBSubnetGroupDescription="d", SubnetIds=subnets)
    for name in (ORIGINAL, "daybreak-payments-rewind-prod"):
        rds.create_db_cluster_parameter_group(
            DBClusterParameterGroupName=name, DBParameterGroupFamily="aurora-postgresql17", Description="d"
        )
    rds.create_db_cluster(
        DBClusterIdentifier=ORIGINAL,
        Engine="aurora-postgresql",
        EngineVersion="17.5",
        MasterUsername="postgres",
        MasterUserPassword="not-in-any-output",
        DBSubnetGroupName=ORIGINAL,
        DBClusterParameterGroupName=ORIGINAL,
        VpcSecurityGroupIds=["sg-0123"],
        ServerlessV2ScalingConfiguration={"MinCapacity": 0.5, "MaxCapacity": 2},
        BackupRetentionPeriod=7,
        StorageEncrypted=True,
        EnableIAMDatabaseAuthentication=True,
        Tags=[{"Key": "Owner", "Value": "payments"}, {"Key": "daybreak-backup", "Value": "x"}],
    )
    rds.create_db_instance(
        DBInstanceIdentifier="daybreak-payments-aurora-0-prod",
        DBClusterIdentifier=ORIGINAL,
        Engine="aurora-postgresql",
        DBInstanceClass="db.serverless",
    )
    # The emulator's backups begin with the cluster.
    cluster = rds_backends[ACCOUNT][REGION].clusters[ORIGINAL]
    cluster.earliest_restorable_time = datetime.now(UTC) - timedelta(days=7)


def test_the_plan_does_nothing(site: Site) -> None:
    found = site.json("--to", TIME)
    assert (found["kind"], found["cluster"], found["new_cluster"]) == ("restore", ORIGINAL, NEW)
    assert found["to"] == AT.isoformat()
    assert found["expected_seconds"] is None
    assert found["status"] is None
    assert site.clusters() == {ORIGINAL}
    text = site("--to", TIME)
    assert text.exit_code == 0
    assert "not known" in text.stdout
    assert "not-in-any-output" not in text.output
    assert [line for line in text.stdout.splitlines() if line.startswith("   aws rds restore-db-cluster")]


def test_a_restore_is_made_and_asking_again_finds_it(site: Site) -> None:
    found = site.json("--to", TIME, "--execute", "--yes")
    assert (found["status"], found["instance_status"]) == ("available", "available")
    assert found["endpoint"]
    assert site.clusters() == {ORIGINAL, NEW}
    made = site.rds.describe_db_clusters(DBClusterIdentifier=NEW)["DBClusters"][0]
    assert made["DBClusterParameterGroup"] == "daybreak-payments-rewind-prod"
    assert made["DBSubnetGroup"] == ORIGINAL
    assert [one["VpcSecurityGroupId"] for one in made["VpcSecurityGroups"]] == ["sg-0123"]
    assert made["ServerlessV2ScalingConfiguration"]["MaxCapacity"] == 2
    assert {tag["Key"] for tag in made["TagList"]} == {"Owner", "daybreak-rewind-of"}
    assert [one["DBInstanceIdentifier"] for one in made["DBClusterMembers"]] == [SERVER]
    again = site("--to", TIME, "--execute")
    assert again.exit_code == 0, "what is there already needs no question"
    assert f"{NEW} is ready" in again.stdout


def test_a_clone_is_of_now(site: Site) -> None:
    found = site.json("--clone", "--execute", "--yes")
    assert (found["kind"], found["to"], found["new_cluster"]) == ("clone", None, "payments-clone-prod")
    assert site.clusters() == {ORIGINAL, "payments-clone-prod"}


def test_it_goes_on_where_it_was_interrupted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = Rds.create_instance

    def interrupted(*_arguments: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Rds, "create_instance", interrupted)
    stopped = site("--to", TIME, "--execute", "--yes")
    assert stopped.exit_code == 130
    assert "goes on at AWS" in stopped.stderr
    found = site.json("--to", TIME)
    assert (found["status"], found["instance_status"]) == ("available", None)
    monkeypatch.setattr(Rds, "create_instance", instance)
    # Meanwhile its time has left the backups: what was begun goes on all the same.
    cluster = rds_backends[ACCOUNT][REGION].clusters[ORIGINAL]
    cluster.earliest_restorable_time = datetime.now(UTC)
    assert site.json("--to", TIME, "--execute", "--yes")["instance_status"] == "available"


def test_it_asks_for_the_name(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert site("--to", TIME, "--execute").exit_code == 2, "without a terminal"
    monkeypatch.setattr("daybreak.entry.command.on_terminal", lambda: True)
    assert site("--to", TIME, "--execute", typed="other\n").exit_code == 1
    assert site.clusters() == {ORIGINAL}
    assert site("--to", TIME, "--execute", typed="payments\n").exit_code == 0
    assert NEW in site.clusters()


@pytest.mark.parametrize(
    ("arguments", "code", "kind", "text"),
    [
        ((), 2, "config", "either --to TIME or --clone"),
        (("--to", TIME, "--clone"), 2, "config", "either --to TIME or --clone"),
        (("--to", TIME.rstrip("Z")), 2, "config", "no time zone"),
        (("--to", "2019-01-01T00:00:00Z"), 1, "refused", "any more"),
        (("--to", "2199-01-01T00:00:00Z"), 1, "refused", "in the future"),
    ],
)
def test_what_can_not_be_is_refused(site: Site, arguments: tuple[str, ...], code: int, kind: str, text: str) -> None:
    error = site.json(*arguments, code=code)["error"]
    assert error["kind"] == kind
    assert text in error["message"]


def test_another_environment_has_no_cluster(site: Site) -> None:
    site.configuration.write_text(CONFIGURATION.replace('"prod"', '"dev"'))
    error = site.json("--to", TIME, code=1)["error"]
    assert "daybreak-payments-aurora-dev" in error["message"]
    assert "aws.environment" in error["hint"]


def test_a_cluster_that_fails_is_not_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.json("--to", TIME, "--execute", "--yes")
    site.rds.delete_db_instance(DBInstanceIdentifier=SERVER)
    monkeypatch.setattr("moto.rds.models.DBCluster.status", "cloning-failed")
    error = site.json("--to", TIME, "--execute", "--yes", code=1)["error"]
    assert error["kind"] == "permanent"
    assert "cloning-failed" in error["message"]


def test_a_refusal_names_action_and_resource(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    arn = f"arn:aws:rds:{REGION}:{ACCOUNT}:cluster:{ORIGINAL}"
    refusal = (
        f"User: arn:aws:iam::123456789012:user/eve is not authorized to perform: rds:DescribeDBClusters on resource: "
        f"{arn} because no identity-based policy allows the rds:DescribeDBClusters action"
    )
    response: Any = {"Error": {"Code": "AccessDenied", "Message": refusal}, "ResponseMetadata": {"HTTPStatusCode": 403}}

    def refused(*_arguments: object, **_more: object) -> None:
        raise ClientError(response, "DescribeDBClusters")

    monkeypatch.setattr("botocore.client.BaseClient._make_api_call", refused)
    error = site.json("--to", TIME, code=1)["error"]
    assert "rds:DescribeDBClusters" in error["message"]
    assert arn in error["hint"]
    assert "user/eve" in error["message"]


def test_missing_credentials_are_said(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_arguments: object, **_more: object) -> None:
        raise NoCredentialsError

    monkeypatch.setattr("botocore.client.BaseClient._make_api_call", none)
    error = site.json("--to", TIME, code=1)["error"]
    assert error["kind"] == "permanent"
    assert "AWS_PROFILE" in error["hint"]


def test_without_boto3_it_says_what_to_install(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "boto3.session", None)
    error = site.json("--to", TIME, code=2)["error"]
    assert "daybreak[aws]" in error["hint"]


def test_printed_commands_are_the_ones_that_aws_knows(site: Site) -> None:
    found = site.json("--to", TIME)
    lines = [one for step in (*found["steps"], *found["afterwards"]) for one in step["commands"]]
    model = site.rds.meta.service_model
    operations = {xform_name(name, "-"): model.operation_model(name) for name in model.operation_names}
    for words in (shlex.split(line) for line in lines if line.startswith("aws rds") and " wait " not in line):
        shape = operations[words[2]].input_shape
        assert shape is not None
        known = {f"--{xform_name(name, '-')}" for name in shape.members}
        asked = {word.replace("--no-", "--") for word in words[3:] if word.startswith("--")} - {"--region"}
        assert asked <= known, words[2]
    waiters = {xform_name(name, "-") for name in site.rds.waiter_names}
    assert {shlex.split(line)[3] for line in lines if " wait " in line} <= {name.replace("_", "-") for name in waiters}
