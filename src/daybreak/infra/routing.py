"""Private DNS: one name for writers, one for readers, and one for each side.

``db-rw`` and ``db-ro`` are weighted CNAMEs. Terraform makes them pointing at the source and never moves
them again: weights and TTL are the controller's. They lead to the source by way of ``db-source``, because
weighted records of one name have one type, and a source may be known by its address only.

A certificate speaks for the names that are in it. Aurora's holds the cluster's own names and none of these,
so clients of these names use ``sslmode=verify-ca``; ``verify-full`` needs the server's own name."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cdktn import Fn, Op, Postcondition, TerraformResourceLifecycle, TerraformSelf
from cdktn_provider_aws.data_aws_route53_zone import DataAwsRoute53Zone
from cdktn_provider_aws.route53_record import Route53Record, Route53RecordWeightedRoutingPolicy
from cdktn_provider_aws.route53_resolver_endpoint import Route53ResolverEndpoint, Route53ResolverEndpointIpAddress
from cdktn_provider_aws.route53_zone import Route53Zone, Route53ZoneVpc
from cdktn_provider_aws.route53_zone_association import Route53ZoneAssociation
from cdktn_provider_aws.security_group import SecurityGroup
from constructs import Construct

from daybreak.config.aws import Routing as Settings
from daybreak.errors import ConfigError, InvariantViolated
from daybreak.infra.aurora import Aurora
from daybreak.infra.network import Network
from daybreak.infra.rules import Port, admits, network
from daybreak.infra.site import Site

_DNS = 53


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the zone. ``side`` is the set identifier of a weighted one; a simple one has no weight."""

    name: str
    type: Literal["A", "AAAA", "CNAME"]
    value: str
    side: Literal["source", "target"]
    weight: int | None = None


def check(records: Sequence[Record]) -> None:
    """Refuse what Route 53 refuses and emulators accept; raises InvariantViolated.

    A weight is 0 to 255; a weighted name has no other kind of record and each side once (Route 53 API,
    ResourceRecordSet)."""
    for one in records:
        same = [other for other in records if other.name == one.name]
        if one.weight is not None and not 0 <= one.weight <= 255:
            raise InvariantViolated(f"{one.name} has the weight {one.weight}; Route 53 takes 0 to 255.")
        if len(same) > 1 and (any(other.weight is None for other in same) or len({o.type for o in same}) > 1):
            raise InvariantViolated(f"{one.name} has weighted records beside others.")
        if len({other.side for other in same}) < len(same):
            raise InvariantViolated(f"{one.name} has two records for the {one.side}.")


@dataclass(frozen=True, slots=True)
class RoutingProps:
    """``source_host`` is the source's host name or address; ``source_cidrs`` are its clients' networks."""

    site: Site
    settings: Settings
    network: Network
    aurora: Aurora
    source_host: str
    source_cidrs: tuple[str, ...]


class Routing(Construct):
    """The zone's id, the full names in it, and ``resolver`` (None without the option), whose addresses
    on-premises name servers forward the zone to.

    Raises ConfigError where the resolver is wanted and no network is named that may ask it."""

    def __init__(self, scope: Construct, id_: str, props: RoutingProps) -> None:
        super().__init__(scope, id_)
        self._props = props
        self.writer_name, self.reader_name = props.settings.writer_name, props.settings.reader_name
        self.source_direct, self.target_direct = props.settings.source_name, props.settings.target_name
        self.zone_id = self._existing_zone() if props.settings.zone_id else self._new_zone()
        records = self._records()
        check(records)
        for record in records:
            self._record(record)
        self.resolver = self._resolver() if props.settings.resolver_endpoint else None

    def _new_zone(self) -> str:
        settings, site = self._props.settings, self._props.site
        zone = Route53Zone(
            self,
            "zone",
            name=settings.zone_name,
            comment=f"Daybreak {site.names.migration} {site.names.environment}",
            vpc=[Route53ZoneVpc(vpc_id=self._props.network.vpc_id)],
            # Applications' networks are associated by their owners.
            lifecycle=TerraformResourceLifecycle(ignore_changes=["vpc"]),
        )
        return zone.zone_id

    def _existing_zone(self) -> str:
        settings = self._props.settings
        same = Postcondition(
            condition=Op.and_(
                TerraformSelf.get_any("private_zone"),
                Op.eq(Fn.trimsuffix(TerraformSelf.get_string("name"), "."), settings.zone_name),
            ),
            error_message=f"Zone {settings.zone_id} is not a private zone of the name {settings.zone_name}. "
            "Mend aws.routing.zone_id or zone_name.",
        )
        zone = DataAwsRoute53Zone(
            self,
            "zone",
            zone_id=settings.zone_id,
            lifecycle=TerraformResourceLifecycle(postcondition=[same]),
        )
        if self._props.network.is_new:
            Route53ZoneAssociation(self, "association", zone_id=zone.zone_id, vpc_id=self._props.network.vpc_id)
        return zone.zone_id

    def _records(self) -> tuple[Record, ...]:
        cluster = self._props.aurora.cluster
        host = self._props.source_host
        return (
            Record(self.source_direct, _type(host), host, "source"),
            Record(self.target_direct, "CNAME", cluster.endpoint, "target"),
            Record(self.writer_name, "CNAME", self.source_direct, "source", 100),
            Record(self.writer_name, "CNAME", self.target_direct, "target", 0),
            Record(self.reader_name, "CNAME", self.source_direct, "source", 100),
            Record(self.reader_name, "CNAME", cluster.reader_endpoint, "target", 0),
        )

    def _record(self, record: Record) -> None:
        label = record.name.partition(".")[0]
        weighted = record.weight is not None
        Route53Record(
            self,
            f"{label}-{record.side}" if weighted else label,
            zone_id=self.zone_id,
            name=record.name,
            type=record.type,
            records=[record.value],
            ttl=self._props.settings.ttl_seconds,
            set_identifier=record.side if weighted else None,
            weighted_routing_policy=(
                Route53RecordWeightedRoutingPolicy(weight=record.weight) if record.weight is not None else None
            ),
            # The controller's. Without this an apply would put traffic back where Terraform remembers it.
            lifecycle=(
                TerraformResourceLifecycle(ignore_changes=["weighted_routing_policy", "ttl"]) if weighted else None
            ),
        )

    def _resolver(self) -> Route53ResolverEndpoint:
        props = self._props
        if not props.source_cidrs:
            raise ConfigError(
                "aws.routing.resolver_endpoint is on, but no network may ask it.",
                "Set aws.network.source_cidrs, or turn resolver_endpoint off.",
            )
        name = props.site.names.of("resolver", limit=64)
        group = SecurityGroup(
            self,
            "resolver",
            name=name,
            description="Daybreak: the inbound Resolver endpoint",
            vpc_id=props.network.vpc_id,
            tags={"Name": name},
        )
        for cidr in props.source_cidrs:
            admits(self, group, network(cidr), Port(_DNS, "Names for clients of the source", "tcp"))
            admits(self, group, network(cidr), Port(_DNS, "Names for clients of the source", "udp"))
        return Route53ResolverEndpoint(
            self,
            "resolver-endpoint",
            name=name,
            direction="INBOUND",
            security_group_ids=[group.id],
            ip_address=[Route53ResolverEndpointIpAddress(subnet_id=subnet) for subnet in props.network.subnet_ids],
        )


def _type(host: str) -> Literal["A", "AAAA", "CNAME"]:
    """The kind of record that can hold ``host``."""
    try:
        return "A" if ipaddress.ip_address(host).version == 4 else "AAAA"
    except ValueError:
        return "CNAME"
