"""Checks of the network that the configuration names: existing VPC, subnets, the way to the source, the zone."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING

from daybreak.config import InfraSettings
from daybreak.errors import Finding
from daybreak.infra.findings import blocker, missing, raise_unless_missing

if TYPE_CHECKING:
    from boto3.session import Session

ZONES = 3


def vpc(settings: InfraSettings, session: Session) -> Iterator[Finding]:
    """The VPC exists, and none of its ranges overlaps what is routed elsewhere. Without a way nothing is: the source
    is in the VPC itself, or is reached by routes that are there."""
    ec2 = session.client("ec2")
    network = settings.aws.network
    try:
        (vpc,) = ec2.describe_vpcs(VpcIds=[network.vpc_id])["Vpcs"]
    except ec2.exceptions.ClientError as error:
        raise_unless_missing(error)
        yield missing("vpc", "aws.network.vpc_id", network.vpc_id, settings)
        return
    if not (network.transit_gateway_id or network.vpn_gateway_id or network.peering_connection_id):
        return
    ranges = [ipaddress.IPv4Network(one["CidrBlock"]) for one in vpc.get("CidrBlockAssociationSet", [])]
    for cidr in network.source_cidrs:
        clash = next((one for one in ranges if one.overlaps(ipaddress.IPv4Network(cidr))), None)
        if clash is not None:
            yield blocker(
                "vpc",
                network.vpc_id,
                f"Its range {clash} overlaps the source's {cidr}: no route could tell them apart.",
                "Narrow aws.network.source_cidrs to the servers' own networks, or take another VPC. For a source in "
                "this very VPC name no way: no transit_gateway_id, vpn_gateway_id or peering_connection_id.",
            )


def subnets(settings: InfraSettings, session: Session) -> Iterator[Finding]:
    """The subnets exist, in that VPC and in three availability zones."""
    ec2 = session.client("ec2")
    network = settings.aws.network
    key = "aws.network.subnet_ids"
    try:
        subnets = ec2.describe_subnets(SubnetIds=list(network.subnet_ids))["Subnets"]
    except ec2.exceptions.ClientError as error:
        raise_unless_missing(error)
        yield missing("subnets", key, ", ".join(network.subnet_ids), settings)
        return
    for one in subnets:
        if one["VpcId"] != network.vpc_id:
            yield blocker("subnets", one["SubnetId"], f"It is in {one['VpcId']}.", f"Name subnets of {network.vpc_id}.")
    zones = {one["AvailabilityZone"] for one in subnets}
    if len(zones) < ZONES:
        message = f"They span {len(zones)} availability zones ({', '.join(sorted(zones))}); {ZONES} are needed."
        yield blocker("subnets", key, message, "Name one subnet in each of three zones.")


def way(settings: InfraSettings, session: Session) -> Iterator[Finding]:
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
        raise_unless_missing(error)
    if id_ and not states:
        yield missing("way", key, id_, settings)
    elif id_ and states[0] not in ("available", "active"):
        yield blocker("way", id_, f"Its state is {states[0]}.", "Wait until it is available, or have it accepted.")


def hosted_zone(settings: InfraSettings, session: Session) -> Iterator[Finding]:
    """The zone exists, is private and has the name that applications are told."""
    route53 = session.client("route53")
    routing = settings.aws.routing
    try:
        zone = route53.get_hosted_zone(Id=routing.zone_id)["HostedZone"]
    except route53.exceptions.NoSuchHostedZone:
        message, fix = f"There is no zone {routing.zone_id}.", "Mend it, or leave it out to have a zone made."
        yield blocker("hosted-zone", "aws.routing.zone_id", message, fix)
        return
    name = zone["Name"].rstrip(".")
    if not zone.get("Config", {}).get("PrivateZone"):
        fix = "Name a private zone, or leave zone_id out to have one made."
        yield blocker("hosted-zone", routing.zone_id, f"The zone {name} is public; a database's is not.", fix)
    if name != routing.zone_name:
        fix = f'Set aws.routing.zone_name = "{name}".'
        yield blocker("hosted-zone", routing.zone_id, f"It is {name}, not {routing.zone_name}.", fix)
