"""Who may speak to whom. Groups refer to each other; addresses appear for the source's networks only."""

from __future__ import annotations

from dataclasses import dataclass

from cdktn_provider_aws.data_aws_ec2_managed_prefix_list import DataAwsEc2ManagedPrefixList
from cdktn_provider_aws.security_group import SecurityGroup
from constructs import Construct

from daybreak.infra.rules import Peer, Port, admits, between, may_call, network
from daybreak.infra.site import Site

# Aurora's port, which aurora.py leaves at its default.
_POSTGRES = 5432
_HTTPS = 443


@dataclass(frozen=True, slots=True)
class SecurityGroupsProps:
    """``own_endpoints``: interface endpoints are made here. ``endpoint_group_ids``: groups of existing ones."""

    site: Site
    vpc_id: str
    source_cidrs: tuple[str, ...]
    source_port: int
    with_dms: bool
    own_endpoints: bool
    endpoint_group_ids: tuple[str, ...]


class SecurityGroups(Construct):
    """Groups of the controller, the database, the endpoints and DMS; all else is refused, both ways.

    Applications in the source's networks reach the database; others bring a rule that names its group."""

    def __init__(self, scope: Construct, id_: str, props: SecurityGroupsProps) -> None:
        super().__init__(scope, id_)
        self._props = props
        self._source = [network(cidr) for cidr in props.source_cidrs]
        self.controller = self._group("controller", "the function that moves the migration on")
        self.database = self._group("database", "the Aurora cluster")
        self.endpoints = self._group("endpoints", "VPC endpoints") if props.own_endpoints else None
        self.dms = self._group("dms", "the replication instance") if props.with_dms else None
        self._rules_of_database()
        for client in filter(None, (self.controller, self.dms)):
            self._rules_of_client(client)
        dynamodb = DataAwsEc2ManagedPrefixList(self, "dynamodb", name=f"com.amazonaws.{props.site.region}.dynamodb")
        port = Port(_HTTPS, "Record and journal in DynamoDB")
        may_call(self, self.controller, Peer("dynamodb", prefix_list_id=dynamodb.id), port)

    def _rules_of_database(self) -> None:
        """Native replication: the target's workers call the source, after a cutover the source's call it."""
        for peer in self._source:
            may_call(self, self.database, peer, Port(self._props.source_port, "Replication from the source"))
            admits(self, self.database, peer, Port(_POSTGRES, "Applications, and replication to the source"))

    def _rules_of_client(self, client: SecurityGroup) -> None:
        name = client.node.id
        between(self, client, self.database, Port(_POSTGRES, f"{name} to the target"))
        for peer in self._source:
            may_call(self, client, peer, Port(self._props.source_port, f"{name} to the source"))
        if self.endpoints:
            between(self, client, self.endpoints, Port(_HTTPS, f"{name} to AWS APIs"))
        for group_id in self._props.endpoint_group_ids:
            may_call(self, client, Peer(group_id, group_id=group_id), Port(_HTTPS, f"{name} to AWS APIs"))

    def _group(self, what: str, whose: str) -> SecurityGroup:
        name = self._props.site.names.of(what, limit=255)
        return SecurityGroup(
            self, what, name=name, description=f"Daybreak: {whose}", vpc_id=self._props.vpc_id, tags={"Name": name}
        )
