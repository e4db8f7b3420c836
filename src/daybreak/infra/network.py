"""The network: private subnets, the way to the source, endpoints for AWS's APIs, and who may speak to whom.

Nothing in it has a public address: no internet gateway, no NAT."""

from __future__ import annotations

from dataclasses import dataclass

from constructs import Construct

from daybreak.config.aws import Network as Settings
from daybreak.infra.encryption import Keys
from daybreak.infra.endpoints import GATEWAY, Endpoints, EndpointsProps, interface_services
from daybreak.infra.flow_logs import FlowLogs, FlowLogsProps
from daybreak.infra.security_groups import SecurityGroups, SecurityGroupsProps
from daybreak.infra.site import Site
from daybreak.infra.subnets import ExistingSubnets, ExistingSubnetsProps, NewSubnets, NewSubnetsProps, Subnets
from daybreak.infra.way import Way, WayProps


@dataclass(frozen=True, slots=True)
class NetworkProps:
    """``source_port`` is the port that the source's PostgreSQL listens on."""

    site: Site
    settings: Settings
    keys: Keys
    source_port: int
    with_dms: bool


class Network(Construct):
    """Where everything else is put: ``vpc_id``, ``subnet_ids`` in three zones and a security group for each part.

    ``is_new`` tells a VPC made here from an existing one, whose flow logs, default group and DNS are its
    owner's. ``endpoints_group`` is None where all endpoints exist, ``dms_group`` without DMS."""

    def __init__(self, scope: Construct, id_: str, props: NetworkProps) -> None:
        super().__init__(scope, id_)
        site, settings = props.site, props.settings
        subnets = self._subnets(props)
        self.vpc_id = subnets.vpc_id
        self.subnet_ids = subnets.subnet_ids
        self.is_new = isinstance(subnets, NewSubnets)
        Way(self, "way", WayProps(site, settings, subnets))
        services = interface_services(props.with_dms, settings.existing_endpoints)
        groups = SecurityGroups(
            self,
            "groups",
            SecurityGroupsProps(
                site=site,
                vpc_id=subnets.vpc_id,
                source_cidrs=settings.source_cidrs,
                source_port=props.source_port,
                with_dms=props.with_dms,
                own_endpoints=bool(services),
                endpoint_group_ids=settings.endpoint_group_ids,
            ),
        )
        self.controller_group = groups.controller
        self.database_group = groups.database
        self.endpoints_group = groups.endpoints
        self.dms_group = groups.dms
        gateway = GATEWAY not in settings.existing_endpoints
        Endpoints(self, "endpoints", EndpointsProps(site, subnets, services, groups.endpoints, gateway))

    def _subnets(self, props: NetworkProps) -> Subnets:
        settings = props.settings
        if settings.vpc_id:
            return ExistingSubnets(self, "subnets", ExistingSubnetsProps(settings.vpc_id, settings.subnet_ids))
        subnets = NewSubnets(self, "subnets", NewSubnetsProps(props.site, settings.vpc_cidr))
        FlowLogs(self, "flow-logs", FlowLogsProps(props.site, subnets.vpc, props.keys))
        return subnets
