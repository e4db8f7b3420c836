"""Each reason for a failed apply that can be known beforehand, found in an emulated account."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from boto3.session import Session
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.backends import get_backend

from daybreak.aws.session import open_session
from daybreak.config import InfraSettings, load_infra_settings
from daybreak.errors import ConfigError, Finding, PermanentError
from daybreak.infra.checks import in_the_account, on_this_machine
from daybreak.infra.passwords import passwords
from daybreak.lab import moto_shim

REGION = "eu-central-1"
# The emulator loads its services and policies when they are first asked for.
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def session() -> Session:
    """One for all: what boto3 knows of the services it reads once for each session."""
    moto_shim.mend()
    return open_session(REGION)


@pytest.fixture(autouse=True)
def account(session: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """An empty account."""
    for name in [key for key in os.environ if key.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with mock_aws():
        yield session


@pytest.fixture
def settings(tmp_path: Path) -> Any:
    """A function that gives settings with the keys of ``[aws]`` in its sections replaced."""

    def make(engine: str = "native", **sections: dict[str, Any]) -> InfraSettings:
        aws: dict[str, dict[str, Any]] = {
            "network": {"vpc_cidr": "10.60.0.0/16"},
            "aurora": {"engine_version": "17.4"},
            "routing": {"zone_name": "payments.internal"},
        }
        lines = [
            'name = "payments"', '[source]', 'dsn = "postgresql://daybreak@old.example.net/payments"',
            "[replication]", f'engine = "{engine}"', "[aws]", 'environment = "test"', f'region = "{REGION}"',
        ]  # fmt: skip
        for name, values in {**aws, **sections}.items():
            lines.append(f"[aws.{name}]")
            lines += [f"{key} = {_toml(value)}" for key, value in values.items()]
        path = tmp_path / "daybreak.toml"
        path.write_text("\n".join(lines))
        return load_infra_settings(path)

    return make


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def found(settings: InfraSettings, account: Session) -> dict[str, Finding]:
    return {one.id: one for one in in_the_account(settings, account)}


def test_nothing_in_a_fitting_account(settings: Any, account: Session) -> None:
    assert found(settings(), account) == {}
    assert found(settings("dms"), account) == {}


def test_without_credentials_that_is_all(settings: Any) -> None:
    with pytest.MonkeyPatch.context() as patched:
        for name in [key for key in os.environ if key.startswith("AWS_")]:
            patched.delenv(name)
        patched.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patched.setenv("AWS_EC2_METADATA_DISABLED", "true")
        (only,) = in_the_account(settings(), open_session(REGION))
    assert (only.id, only.severity) == ("credentials", "blocker")
    assert "aws sso login" in only.fix


def test_what_may_not_be_looked_at_is_a_warning(settings: Any, account: Session) -> None:
    def refuse(*_arguments: object, **_more: object) -> None:
        answer = {"Error": {"Code": "UnauthorizedOperation", "Message": "You are not authorized"}}
        raise ClientError(answer, "DescribeAvailabilityZones")  # type: ignore[arg-type]

    backend = type(get_backend("ec2")["123456789012"][REGION])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(backend, "describe_availability_zones", refuse)
        (only,) = in_the_account(settings(), account)
    assert (only.id, only.severity) == ("zones", "warning")
    assert "DescribeAvailabilityZones" in only.message


def test_a_version_that_the_region_lacks_names_near_ones(settings: Any, account: Session) -> None:
    one = found(settings(aurora={"engine_version": "17.99"}), account)["engine-version"]
    assert one.severity == "blocker"
    assert "17.5, 17.4;" in one.fix
    other = found(settings(aurora={"engine_version": "14.1"}), account)["engine-version"]
    assert "17.5, 17.4, 16.8, 15.10" in other.fix


def test_what_dms_is_offered_in(settings: Any, account: Session) -> None:
    classes = found(settings("dms", dms={"instance_class": "dms.x9.huge"}), account)["dms-instance-class"]
    assert "dms.r5.large, dms.t3.medium" in classes.fix
    versions = found(settings("dms", dms={"engine_version": "3.5.2"}), account)["dms-engine-version"]
    assert "3.5.4, 3.6.1" in versions.fix


def test_account_roles_are_made_once(settings: Any, account: Session) -> None:
    missing = in_the_account(settings("dms", dms={"create_account_roles": False}), account)
    assert {one.object for one in missing} == {"dms-vpc-role", "dms-cloudwatch-logs-role"}
    iam = account.client("iam")
    iam.create_role(RoleName="dms-vpc-role", AssumeRolePolicyDocument="{}")
    (other,) = in_the_account(settings("dms"), account)
    assert "create_account_roles = false" in other.fix


def test_an_existing_network(settings: Any, account: Session) -> None:
    ec2 = account.client("ec2")
    nothing = {"vpc_id": "vpc-0", "subnet_ids": ["subnet-0", "subnet-1", "subnet-2"]}
    assert found(settings(network=nothing), account).keys() == {"vpc", "subnets"}
    vpc = ec2.create_vpc(CidrBlock="10.61.0.0/16")["Vpc"]["VpcId"]
    zones = [one["ZoneName"] for one in ec2.describe_availability_zones()["AvailabilityZones"]]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.61.{number}.0/24", AvailabilityZone=zone)["Subnet"]["SubnetId"]
        for number, zone in enumerate([*zones[:3], zones[0]])
    ]
    assert found(settings(network={"vpc_id": vpc, "subnet_ids": subnets[:3]}), account) == {}
    two_zones = found(settings(network={"vpc_id": vpc, "subnet_ids": [subnets[0], subnets[1], subnets[3]]}), account)
    assert "2 availability zones" in two_zones["subnets"].message
    inside = {"vpc_id": vpc, "subnet_ids": subnets[:3], "source_cidrs": ["10.0.0.0/12", "10.61.9.0/24"]}
    assert found(settings(network=inside), account) == {}, "a source in the same network"
    clash = found(settings(network={**inside, "transit_gateway_id": "tgw-0"}), account)
    assert "overlaps the source's 10.61.9.0/24" in clash["vpc"].message
    assert "name no way" in clash["vpc"].fix


@pytest.mark.parametrize(
    ("key", "id_"),
    [("transit_gateway_id", "tgw-0"), ("vpn_gateway_id", "vgw-0"), ("peering_connection_id", "pcx-0")],
)
def test_a_way_to_the_source_that_is_not_there(settings: Any, account: Session, key: str, id_: str) -> None:
    way = found(settings(network={"vpc_cidr": "10.60.0.0/16", "source_cidrs": ["10.9.0.0/24"], key: id_}), account)[
        "way"
    ]
    assert way.severity == "blocker"
    assert key in way.fix


def test_a_peering_that_nobody_accepted(settings: Any, account: Session) -> None:
    ec2 = account.client("ec2")
    ours, theirs = (ec2.create_vpc(CidrBlock=cidr)["Vpc"]["VpcId"] for cidr in ("10.70.0.0/16", "10.71.0.0/16"))
    peering = ec2.create_vpc_peering_connection(VpcId=ours, PeerVpcId=theirs)["VpcPeeringConnection"]
    network = {
        "vpc_cidr": "10.60.0.0/16", "source_cidrs": ["10.71.0.0/24"],
        "peering_connection_id": peering["VpcPeeringConnectionId"],
    }  # fmt: skip
    assert "accepted" in found(settings(network=network), account)["way"].fix
    ec2.accept_vpc_peering_connection(VpcPeeringConnectionId=peering["VpcPeeringConnectionId"])
    assert found(settings(network=network), account) == {}


def test_an_existing_zone_is_private_and_has_that_name(settings: Any, account: Session) -> None:
    route53, vpc = account.client("route53"), account.client("ec2").create_vpc(CidrBlock="10.62.0.0/16")["Vpc"]["VpcId"]

    def of(zone_id: str) -> str:
        return found(settings(routing={"zone_name": "payments.internal", "zone_id": zone_id}), account)[
            "hosted-zone"
        ].message

    assert "no zone Z0NONE" in of("Z0NONE")
    public = route53.create_hosted_zone(Name="payments.internal", CallerReference="1")["HostedZone"]["Id"]
    assert "public" in of(public.rpartition("/")[2])
    private = route53.create_hosted_zone(
        Name="other.internal", CallerReference="2", VPC={"VPCRegion": "eu-central-1", "VPCId": vpc}
    )
    assert "other.internal, not payments.internal" in of(private["HostedZone"]["Id"].rpartition("/")[2])


def test_the_bucket_of_the_state(settings: Any, account: Session) -> None:
    wanted = settings(terraform={"bucket": "state-of-payments"})
    assert "aws s3 mb s3://state-of-payments" in found(wanted, account)["state-bucket"].fix
    account.client("s3").create_bucket(
        Bucket="state-of-payments", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    assert found(wanted, account) == {}


def test_a_deleted_secret_keeps_its_name(settings: Any, account: Session) -> None:
    manager = account.client("secretsmanager")
    names = {what: f"daybreak-payments-{what}-test" for what in ("source", "target", "dms-source")}
    for name in names.values():
        manager.create_secret(Name=name, SecretString="{}")
    assert found(settings("dms"), account) == {}
    for what in ("target", "dms-source"):
        manager.delete_secret(SecretId=names[what], RecoveryWindowInDays=30)
    native, dms = in_the_account(settings(), account), in_the_account(settings("dms"), account)
    assert [one.object for one in native] == [names["target"]]
    assert [one.object for one in dms] == [names["target"], names["dms-source"]]
    assert all(one.severity == "blocker" for one in dms)
    assert f"delete-secret --secret-id {names['target']} --region {REGION} --force-delete" in native[0].fix
    assert "aws secretsmanager restore-secret" in native[0].fix
    with pytest.raises(PermanentError, match="marked"):
        passwords(("target_password",), settings(), account)


def test_an_environment_has_one_migration(settings: Any, account: Session) -> None:
    ssm = account.client("ssm")

    def put(what: str, **tags: str) -> None:
        named = [{"Key": key.replace("_", ":"), "Value": value} for key, value in tags.items()]
        ssm.put_parameter(Name=f"/migration/test/{what}", Value="{}", Type="SecureString", Tags=named)  # type: ignore[arg-type]

    put("state", daybreak_migration="payments", daybreak_environment="test")
    assert found(settings(), account) == {}
    put("config", daybreak_migration="invoices", daybreak_environment="test")
    (other,) = in_the_account(settings(), account)
    assert (other.id, other.severity, other.object) == ("parameters", "blocker", "/migration/test/config")
    assert "the migration invoices" in other.message
    ssm.delete_parameter(Name="/migration/test/config")
    put("config")
    assert "something else" in found(settings(), account)["parameters"].message


@pytest.mark.parametrize("region", ["cn-north-1", "us-iso-east-1", "us-isob-east-1", "eu-isoe-west-1"])
def test_a_partition_with_other_names_is_refused(settings: Any, monkeypatch: pytest.MonkeyPatch, region: str) -> None:
    monkeypatch.setenv("DAYBREAK_AWS__REGION", region)
    with pytest.raises(ConfigError, match=r"aws\.region: .*other names in that partition"):
        settings()


def test_the_function_looks_often_enough(settings: Any) -> None:
    assert settings(controller={"poll_minutes": 5}).aws.controller.poll_minutes == 5
    with pytest.raises(ConfigError, match="poll_minutes"):
        settings(controller={"poll_minutes": 6})


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("JSII_NODE", "/nowhere/node")
    terraform, node = on_this_machine()
    assert "hashicorp.com/terraform/install" in terraform.fix
    assert "/nowhere/node" in node.message
