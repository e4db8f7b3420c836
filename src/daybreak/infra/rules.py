"""Rules of security groups, each a resource of its own with a description.

The provider advises so: inline rules and others of the same group undo each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cdktn_provider_aws.security_group import SecurityGroup
from cdktn_provider_aws.vpc_security_group_egress_rule import VpcSecurityGroupEgressRule
from cdktn_provider_aws.vpc_security_group_ingress_rule import VpcSecurityGroupIngressRule
from constructs import Construct


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end: one of a security group, an IPv4 network or a prefix list. ``name`` tells peers apart."""

    name: str
    group_id: str | None = None
    cidr: str | None = None
    prefix_list_id: str | None = None


@dataclass(frozen=True, slots=True)
class Port:
    """What is spoken; ``why`` is the rule's description, in letters that EC2 takes (no apostrophe)."""

    number: int
    why: str
    protocol: Literal["tcp", "udp"] = "tcp"


def network(cidr: str) -> Peer:
    """The peer that is the IPv4 network ``cidr``."""
    return Peer(cidr.replace("/", "-"), cidr=cidr)


def may_call(scope: Construct, client: SecurityGroup, peer: Peer, port: Port) -> None:
    """Members of ``client`` open connections to ``peer``."""
    VpcSecurityGroupEgressRule(
        scope,
        f"{client.node.id}-to-{peer.name}-{port.number}-{port.protocol}",
        security_group_id=client.id,
        referenced_security_group_id=peer.group_id,
        cidr_ipv4=peer.cidr,
        prefix_list_id=peer.prefix_list_id,
        from_port=port.number,
        to_port=port.number,
        ip_protocol=port.protocol,
        description=port.why,
    )


def admits(scope: Construct, server: SecurityGroup, peer: Peer, port: Port) -> None:
    """Members of ``server`` take connections from ``peer``."""
    VpcSecurityGroupIngressRule(
        scope,
        f"{server.node.id}-from-{peer.name}-{port.number}-{port.protocol}",
        security_group_id=server.id,
        referenced_security_group_id=peer.group_id,
        cidr_ipv4=peer.cidr,
        prefix_list_id=peer.prefix_list_id,
        from_port=port.number,
        to_port=port.number,
        ip_protocol=port.protocol,
        description=port.why,
    )


def between(scope: Construct, client: SecurityGroup, server: SecurityGroup, port: Port) -> None:
    """Members of ``client`` reach those of ``server``: the rules of both ends."""
    may_call(scope, client, Peer(server.node.id, group_id=server.id), port)
    admits(scope, server, Peer(client.node.id, group_id=client.id), port)
