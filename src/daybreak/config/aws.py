"""The section ``[aws]``: what ``daybreak infra`` provisions, and how large."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from daybreak.config.section import Section

_ENVIRONMENT = re.compile(r"[a-z]([a-z0-9]|-(?=[a-z0-9])){0,11}")
_HOST = re.compile(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
# Smaller numbers are larger networks; a security group that admits half the internet protects nothing.
_WIDEST_PREFIX = 12
_UNPROTECTED = ("dev", "test")

Endpoint = Literal["dms", "dynamodb", "events", "monitoring", "route53", "secretsmanager", "sns", "ssm"]


def _network(value: str) -> ipaddress.IPv4Network:
    try:
        return ipaddress.IPv4Network(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is no IPv4 network (10.60.0.0/16): {error}") from None


class Network(Section):
    """Where the AWS side lives, and the way to the source's network."""

    vpc_cidr: str = Field("", description="address range of a new VPC, /16 to /24, for example 10.60.0.0/16")
    vpc_id: str = Field("", description="an existing VPC instead")
    subnet_ids: tuple[str, ...] = Field((), description="its private subnets, in three availability zones")
    source_cidrs: tuple[str, ...] = Field((), description="the source's networks, the narrowest that hold the servers")
    transit_gateway_id: str = Field("", description="way to the source: this transit gateway is attached")
    vpn_gateway_id: str = Field("", description="way to the source: this virtual private gateway is attached")
    peering_connection_id: str = Field("", description="way to the source: this accepted VPC peering")
    existing_endpoints: tuple[Endpoint, ...] = Field(
        (), description="AWS APIs that the existing VPC has endpoints for; Daybreak makes the others"
    )
    endpoint_group_ids: tuple[str, ...] = Field((), description="security groups of those interface endpoints")

    @field_validator("vpc_cidr")
    @classmethod
    def _vpc_cidr(cls, value: str) -> str:
        if value and not 16 <= _network(value).prefixlen <= 24:
            raise ValueError(f"{value} must be a /16 to /24: it is divided into three subnets")
        return value

    @field_validator("source_cidrs")
    @classmethod
    def _source_cidrs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if _network(one).prefixlen < _WIDEST_PREFIX:
                raise ValueError(f"{one} is too wide: name the networks that hold the source's servers")
        # Each becomes a route and several rules, which AWS refuses to hold twice.
        return tuple(str(network) for network in ipaddress.collapse_addresses(map(_network, value)))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.vpc_cidr) == bool(self.vpc_id):
            raise ValueError("set either vpc_cidr (a new VPC) or vpc_id (an existing one)")
        if self.vpc_id and len(self.subnet_ids) < 3:
            raise ValueError("vpc_id needs subnet_ids: three private subnets in three availability zones")
        if self.vpc_cidr and self.subnet_ids:
            raise ValueError("subnet_ids belong to vpc_id; a new VPC gets subnets of its own")
        ways = [self.transit_gateway_id, self.vpn_gateway_id, self.peering_connection_id]
        if sum(map(bool, ways)) > 1:
            raise ValueError("name one way to the source: transit_gateway_id, vpn_gateway_id or peering_connection_id")
        if any(ways) and not self.source_cidrs:
            raise ValueError("a way to the source needs source_cidrs: the networks that are routed there")
        clash = [c for c in self.source_cidrs if self.vpc_cidr and _network(c).overlaps(_network(self.vpc_cidr))]
        if clash:
            raise ValueError(
                f"vpc_cidr {self.vpc_cidr} overlaps the source's {clash[0]}: no route could tell them apart"
            )
        return self

    @model_validator(mode="after")
    def _endpoints(self) -> Self:
        if self.existing_endpoints and not self.vpc_id:
            raise ValueError("existing_endpoints belong to vpc_id; a new VPC gets endpoints of its own")
        if bool(self.endpoint_group_ids) != bool(set(self.existing_endpoints) - {"dynamodb"}):
            raise ValueError(
                "existing_endpoints and endpoint_group_ids go together: name the security groups of those endpoints"
                " (dynamodb alone has none)"
            )
        return self


class Aurora(Section):
    """The Aurora PostgreSQL cluster."""

    engine_version: str = Field(description="a version that the region offers: `aws rds describe-db-engine-versions`")
    min_acu: float = Field(0.5, ge=0.5, le=256, multiple_of=0.5, description="Serverless v2: smallest capacity")
    max_acu: float = Field(2.0, ge=1, le=256, multiple_of=0.5, description="Serverless v2: largest capacity")
    instance_class: str = Field("", description="instances of this class (db.r8g.large) instead of Serverless v2")
    readers: int = Field(2, ge=0, le=15, description="readers beside the writer, over the availability zones")
    backup_days: int = Field(7, ge=3, le=35, description="days that `daybreak rewind` can go back")
    deletion_protection: bool | None = Field(
        None, description="refuse to delete the cluster; default: true unless environment is dev or test"
    )
    final_snapshot: bool | None = Field(
        None, description="snapshot on deletion; default: true unless environment is dev or test"
    )

    @field_validator("engine_version")
    @classmethod
    def _version(cls, value: str) -> str:
        if not re.fullmatch(r"1[4-9]\.\d{1,2}", value):
            raise ValueError("must be MAJOR.MINOR of PostgreSQL 14 or newer, for example 17.5")
        return value

    @model_validator(mode="after")
    def _capacity(self) -> Self:
        if self.min_acu > self.max_acu:
            raise ValueError("min_acu is larger than max_acu")
        return self

    @property
    def family(self) -> str:
        """The parameter group family, for example ``aurora-postgresql17``."""
        return f"aurora-postgresql{self.engine_version.partition('.')[0]}"


class Dms(Section):
    """AWS DMS; provisioned only where ``replication.engine`` is ``dms``."""

    instance_class: str = Field("dms.r5.large", description="class of the replication instance")
    storage_gb: int = Field(100, ge=5, le=6144, description="its storage, GB")
    engine_version: str = Field("", description="DMS engine version; empty: the region's default")
    multi_az: bool = Field(False, description="a standby replication instance in another availability zone")
    create_account_roles: bool = Field(True, description="make dms-vpc-role and dms-cloudwatch-logs-role")
    user: str = Field("daybreak_dms", description="DMS's own role on both servers")
    max_lob_kb: int = Field(
        0, ge=0, le=102_400, description="limited LOB mode up to this size, KB, proved by `check`; 0: full LOB mode"
    )
    source_ca_file: Path | None = Field(
        None,
        description="PEM file of the CA of the source's certificate; default: sslrootcert of source.dsn; needed with"
        " DMS where source.dsn verifies without one",
    )
    target_ca_file: Path | None = Field(
        None, description="PEM file of the region's RDS CAs (truststore.pki.rds.amazonaws.com/REGION/REGION-bundle.pem)"
    )


class Routing(Section):
    """Private DNS: ``db-rw`` for writers, ``db-ro`` for readers."""

    zone_name: str = Field("", description="private hosted zone to make, for example payments.internal")
    zone_id: str = Field("", description="an existing private hosted zone instead")
    ttl_seconds: int = Field(60, ge=1, le=86_400, description="time to live of both names, seconds")
    resolver_endpoint: bool = Field(False, description="an inbound Resolver endpoint for clients in source_cidrs")

    @field_validator("zone_name")
    @classmethod
    def _zone(cls, value: str) -> str:
        if value and not _HOST.fullmatch(value):
            raise ValueError(f"{value!r} is no DNS name in lower case (payments.internal)")
        return value

    @model_validator(mode="after")
    def _one(self) -> Self:
        # An existing zone's name is needed too: names in it are given to applications in full.
        if not self.zone_name:
            raise ValueError("zone_name is needed (with zone_id: that zone's name)")
        return self

    @property
    def writer_name(self) -> str:
        """The name that applications write through."""
        return f"db-rw.{self.zone_name}"

    @property
    def reader_name(self) -> str:
        """The name that applications read through."""
        return f"db-ro.{self.zone_name}"

    @property
    def source_name(self) -> str:
        """The name of the source, whoever is primary."""
        return f"db-source.{self.zone_name}"

    @property
    def target_name(self) -> str:
        """The name of the target, whoever is primary."""
        return f"db-target.{self.zone_name}"


class Controller(Section):
    """The Lambda function that moves the migration on."""

    architecture: Literal["arm64", "x86_64"] = Field("arm64", description="the Lambda's processor")
    runtime: Literal["python3.11", "python3.12", "python3.13", "python3.14"] = Field(
        "python3.13", description="its runtime"
    )
    memory_mb: int = Field(512, ge=256, le=10_240, description="its memory, MB")
    poll_minutes: int = Field(
        1,
        ge=1,
        le=5,
        description="it looks this often while a migration is active, minutes: what an invocation that died left"
        " half-done waits for the next look",
    )


class Watch(Section):
    """Alarms, log retention and who hears of them."""

    email: str = Field("", description="address that is subscribed to the topic of alarms and milestones")
    log_days: Literal[7, 14, 30, 60, 90, 180, 365] = Field(30, description="days that logs are kept")
    lag_seconds: float = Field(30.0, gt=0, description="alarm above this replication lag, seconds")
    retained_wal_gb: float = Field(20.0, gt=0, description="alarm above this much WAL kept by a slot, GB")
    cpu_percent: float = Field(85.0, gt=0, le=100, description="alarm above this CPU load, percent")
    connections_percent: float = Field(
        80.0, gt=0, le=100, description="alarm above this part of the connections that the capacity allows, percent"
    )
    runbook_url: str = Field(
        "",
        description="address of your runbook, which alarms end with; default: docs/infrastructure/runbook.md",
    )


class Terraform(Section):
    """Where Terraform keeps its state."""

    bucket: str = Field("", description="S3 bucket of the state, with a lock file; empty: a local file")
    directory: str = Field(".daybreak/infra", description="working directory, relative to the configuration")


class Aws(Section):
    """The AWS side."""

    environment: str = Field(
        description="suffix of every name, such as prod or dev: a-z, 0-9, -, at most 12 characters"
    )
    region: str = Field(description="AWS region, for example eu-central-1")
    tags: dict[str, str] = Field({}, description="tags on everything, beside Daybreak's own")
    secrets_version: int = Field(
        1, ge=1, le=1_000_000, description="raise it to have the passwords in the secrets written again"
    )
    network: Network
    aurora: Aurora
    dms: Dms = Dms()
    routing: Routing
    controller: Controller = Controller()
    watch: Watch = Watch()
    terraform: Terraform = Terraform()

    @field_validator("environment")
    @classmethod
    def _suffix(cls, value: str) -> str:
        if not _ENVIRONMENT.fullmatch(value):
            raise ValueError("use a-z, 0-9 and single hyphens, beginning with a letter, at most 12 characters")
        return value

    @field_validator("region")
    @classmethod
    def _region(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", value):
            raise ValueError("is no region's name (eu-central-1)")
        if value.startswith("cn-") or "-iso" in value:
            raise ValueError("services have other names in that partition of AWS: take a region outside it")
        return value

    @field_validator("tags")
    @classmethod
    def _tags(cls, value: dict[str, str]) -> dict[str, str]:
        for key in value:
            if key.lower().startswith("aws:") or not 1 <= len(key) <= 128:
                raise ValueError(f"{key!r} is no usable tag key: 1 to 128 characters, not beginning with aws:")
        return value

    @property
    def protected(self) -> bool:
        """Whether deleting needs more than a command, by default: every environment but dev and test."""
        return self.environment not in _UNPROTECTED
