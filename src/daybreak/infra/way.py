"""The way from the private subnets to the source's network.

A transit gateway and a virtual private gateway are attached here; a peering connection exists already.
Either way only the source's networks are routed, statically: what else a VPN announces stays out."""

from __future__ import annotations

from dataclasses import dataclass

from cdktn import ITerraformDependable
from cdktn_provider_aws.ec2_transit_gateway_vpc_attachment import Ec2TransitGatewayVpcAttachment
from cdktn_provider_aws.route import Route
from cdktn_provider_aws.vpn_gateway_attachment import VpnGatewayAttachment
from constructs import Construct

from daybreak.config.aws import Network as Settings
from daybreak.infra.site import Site
from daybreak.infra.subnets import Subnets


@dataclass(frozen=True, slots=True)
class WayProps:
    """What the way needs: ``settings`` names at most one gateway or connection."""

    site: Site
    settings: Settings
    subnets: Subnets


class Way(Construct):
    """A route to each of the source's networks in every route table; nothing where no way is named.

    The way back is the other side's: its own routes, and acceptance of an attachment by a gateway of
    another account."""

    def __init__(self, scope: Construct, id_: str, props: WayProps) -> None:
        super().__init__(scope, id_)
        settings = props.settings
        attachments = self._attachments(props)
        if not (attachments or settings.peering_connection_id):
            return
        for cidr in settings.source_cidrs:
            Route(
                self,
                f"to-{cidr.replace('/', '-')}",
                for_each=props.subnets.tables.each,
                route_table_id=props.subnets.tables.id,
                destination_cidr_block=cidr,
                transit_gateway_id=settings.transit_gateway_id or None,
                gateway_id=settings.vpn_gateway_id or None,
                vpc_peering_connection_id=settings.peering_connection_id or None,
                # A route to a gateway that is not attached yet is refused.
                depends_on=attachments,
            )

    def _attachments(self, props: WayProps) -> list[ITerraformDependable]:
        settings, subnets = props.settings, props.subnets
        if settings.transit_gateway_id:
            return [
                Ec2TransitGatewayVpcAttachment(
                    self,
                    "transit-gateway",
                    transit_gateway_id=settings.transit_gateway_id,
                    vpc_id=subnets.vpc_id,
                    subnet_ids=subnets.subnet_ids,
                    tags={"Name": props.site.names.of("source", limit=256)},
                )
            ]
        if settings.vpn_gateway_id:
            return [
                VpnGatewayAttachment(self, "vpn-gateway", vpn_gateway_id=settings.vpn_gateway_id, vpc_id=subnets.vpc_id)
            ]
        return []
