"""Subnets, the way to the source, endpoints and rules: for a new VPC and an existing one."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

import pytest
from infra.conftest import Bench
from pydantic import ValidationError

from daybreak.config.aws import Network as Settings
from daybreak.infra.encryption import Keys, KeysProps
from daybreak.infra.network import Network, NetworkProps

_SOURCE = ("10.1.0.0/16", "192.168.20.0/24")
_NEW: dict[str, Any] = {"vpc_cidr": "10.60.0.0/16", "source_cidrs": _SOURCE}
_EXISTING: dict[str, Any] = {
    "vpc_id": "vpc-1",
    "subnet_ids": ("subnet-1", "subnet-2", "subnet-3"),
    "source_cidrs": _SOURCE,
}
_INTERFACES = {"secretsmanager", "ssm", "sns", "events", "monitoring", "route53"}

variants = pytest.mark.parametrize("settings", [_NEW, _EXISTING], ids=["new", "existing"])


def _network(bench: Bench, settings: dict[str, Any], *, source_port: int = 5433, with_dms: bool = True) -> Network:
    keys = Keys(bench.stack, "keys", KeysProps(bench.site))
    props = NetworkProps(bench.site, Settings(**settings), keys, source_port, with_dms)
    return Network(bench.stack, "network", props)


def _rules(bench: Bench) -> list[tuple[str, dict[str, Any]]]:
    return [
        (way, rule) for way in ("ingress", "egress") for rule in bench.resources(f"aws_vpc_security_group_{way}_rule")
    ]


def _peer(rule: dict[str, Any]) -> str:
    """The other end, of which every rule has one."""
    (found,) = (rule[key] for key in ("referenced_security_group_id", "cidr_ipv4", "prefix_list_id") if key in rule)
    # ${aws_security_group.network_groups_database_1A2B3C.id} -> database
    match = re.search(r"_groups_([a-z]+)_[0-9A-F]+\.id", str(found))
    return match[1] if match else str(found)


def _conversations(bench: Bench) -> set[tuple[str, str, str, int]]:
    """Every rule as (direction, group, peer, port)."""
    own = ({"referenced_security_group_id": rule["security_group_id"]} for _, rule in _rules(bench))
    return {
        (way, _peer(group), _peer(rule), rule["from_port"])
        for (way, rule), group in zip(_rules(bench), own, strict=True)
    }


def _services(bench: Bench, kind: str) -> set[str]:
    return {
        endpoint["service_name"].rpartition(".")[2]
        for endpoint in bench.resources("aws_vpc_endpoint")
        if endpoint["vpc_endpoint_type"] == kind
    }


@variants
def test_nothing_leads_to_the_internet(bench: Bench, settings: dict[str, Any]) -> None:
    _network(bench, settings)
    kinds = bench.synth()["resource"]
    assert not {kind for kind in kinds if re.search(r"internet_gateway|nat_gateway|aws_eip", kind)}
    assert all(subnet["map_public_ip_on_launch"] is False for subnet in bench.resources("aws_subnet"))
    assert "0.0.0.0/0" not in str(kinds)
    assert "::/0" not in str(kinds)


def test_a_new_vpc_has_a_subnet_in_each_of_three_zones(bench: Bench) -> None:
    network = _network(bench, _NEW)
    subnets = bench.resources("aws_subnet")
    assert len(network.subnet_ids) == len(subnets) == len(bench.resources("aws_route_table_association")) == 3
    for index, subnet in enumerate(subnets):
        assert re.fullmatch(rf"\${{cidrsubnet\(.*cidr_block, 2, {index}\)}}", subnet["cidr_block"])
        assert re.fullmatch(rf"\${{element\(data\.aws_availability_zones.*, {index}\)}}", subnet["availability_zone"])
        assert subnet["tags"]["Name"].endswith("-test")


def test_zones_are_real_ones_and_too_few_are_an_error(bench: Bench) -> None:
    _network(bench, _NEW)
    (zones,) = bench.synth()["data"]["aws_availability_zones"].values()
    assert zones["state"] == "available"
    assert zones["filter"] == [{"name": "opt-in-status", "values": ["opt-in-not-required"]}]
    (check,) = zones["lifecycle"]["postcondition"]
    assert check["condition"] == "${(length(self.names) >= 3)}"
    assert "aws.region" in check["error_message"]


def test_a_new_vpc_resolves_names_and_its_default_group_is_locked(bench: Bench) -> None:
    _network(bench, _NEW)
    vpc = bench.only("aws_vpc")
    assert vpc["enable_dns_support"]
    assert vpc["enable_dns_hostnames"]
    assert not {"ingress", "egress"} & bench.only("aws_default_security_group").keys()


def test_flow_logs_of_a_new_vpc_are_encrypted_and_kept_for_a_while(bench: Bench) -> None:
    _network(bench, _NEW)
    assert bench.only("aws_flow_log")["traffic_type"] == "ALL"
    group = bench.only("aws_cloudwatch_log_group")
    assert group["retention_in_days"] == 30
    assert "keys_operations" in group["kms_key_id"]
    statements = [s for d in bench.synth()["data"]["aws_iam_policy_document"].values() for s in d["statement"]]
    (write,) = (s for s in statements if s["sid"] == "WriteFlowLogs")
    (resource,) = write["resources"]
    assert re.fullmatch(r"\${aws_cloudwatch_log_group\..*\.arn}:\*", resource)


def test_an_existing_vpc_is_left_as_it_is(bench: Bench) -> None:
    network = _network(bench, _EXISTING)
    assert not network.is_new
    assert network.subnet_ids == list(_EXISTING["subnet_ids"])
    made = set(bench.synth()["resource"])
    owners = {"aws_vpc", "aws_subnet", "aws_route_table", "aws_route", "aws_default_security_group", "aws_flow_log"}
    assert not made & owners


def test_an_existing_vpc_is_checked(bench: Bench) -> None:
    _network(bench, _EXISTING)
    data = bench.synth()["data"]
    looked_at = [*data["aws_vpc"].values(), *data["aws_subnet"].values(), *data["aws_route_table"].values()]
    checks = " ".join(check["condition"] for one in looked_at for check in one["lifecycle"]["postcondition"])
    for what in ("enable_dns_hostnames", "availability_zone", '== "vpc-1"', "map_public_ip_on_launch", '"igw-"'):
        assert what in checks


@variants
@pytest.mark.parametrize(
    ("way", "argument"),
    [
        ("transit_gateway_id", "transit_gateway_id"),
        ("vpn_gateway_id", "gateway_id"),
        ("peering_connection_id", "vpc_peering_connection_id"),
    ],
)
def test_every_network_of_the_source_is_routed(bench: Bench, settings: dict[str, Any], way: str, argument: str) -> None:
    _network(bench, {**settings, way: "x-1"})
    routes = bench.resources("aws_route")
    assert {route["destination_cidr_block"] for route in routes} == set(_SOURCE)
    assert {route[argument] for route in routes} == {"x-1"}
    attachments = bench.resources("aws_ec2_transit_gateway_vpc_attachment") + bench.resources(
        "aws_vpn_gateway_attachment"
    )
    assert len(attachments) == (0 if way == "peering_connection_id" else 1)
    assert all(bool(route.get("depends_on")) == bool(attachments) for route in routes)


def test_a_table_that_existing_subnets_share_gets_each_route_once(bench: Bench) -> None:
    _network(bench, {**_EXISTING, "transit_gateway_id": "tgw-1"})
    for route in bench.resources("aws_route"):
        assert route["route_table_id"] == "${each.value}"
        assert route["for_each"].startswith("${toset([data.aws_route_table")


@variants
@pytest.mark.parametrize("with_dms", [True, False])
def test_endpoints_for_what_is_called(bench: Bench, settings: dict[str, Any], with_dms: bool) -> None:
    _network(bench, settings, with_dms=with_dms)
    assert _services(bench, "Interface") == _INTERFACES | ({"dms"} if with_dms else set())
    assert _services(bench, "Gateway") == {"dynamodb"}
    for endpoint in bench.resources("aws_vpc_endpoint"):
        if endpoint["vpc_endpoint_type"] == "Interface":
            assert endpoint["private_dns_enabled"]
            assert len(endpoint["subnet_ids"]) == 3
            assert "groups_endpoints" in str(endpoint["security_group_ids"])


def test_the_api_of_route_53_is_reached_in_its_own_region(bench: Bench) -> None:
    _network(bench, _NEW)
    (route53,) = (e for e in bench.resources("aws_vpc_endpoint") if e["service_name"] == "com.amazonaws.route53")
    assert '"aws" = "us-east-1"' in route53["service_region"]
    others = [
        e
        for e in bench.resources("aws_vpc_endpoint")
        if e is not route53 and e["service_name"] != "com.amazonaws.route53"
    ]
    assert all("eu-central-1" in e["service_name"] and "service_region" not in e for e in others)


@variants
def test_endpoints_are_for_this_account_only(bench: Bench, settings: dict[str, Any]) -> None:
    _network(bench, settings)
    documents = bench.synth()["data"]["aws_iam_policy_document"]
    policies = [endpoint["policy"] for endpoint in bench.resources("aws_vpc_endpoint")]
    for policy in policies:
        (statement,) = documents[policy.split(".")[2]]["statement"]
        (action,) = statement["actions"]
        assert re.fullmatch(r"[a-z0-9]+:\*", action)
        assert {c["variable"]: c["values"] for c in statement["condition"]} == {
            "aws:PrincipalAccount": ["123456789012"],
            "aws:ResourceAccount": ["123456789012"],
        }


def test_endpoints_that_exist_are_used_and_not_made_again(bench: Bench) -> None:
    existing = {"existing_endpoints": ("dynamodb", "ssm", "dms"), "endpoint_group_ids": ("sg-9",)}
    _network(bench, {**_EXISTING, **existing})
    assert _services(bench, "Interface") == _INTERFACES - {"ssm"}
    assert _services(bench, "Gateway") == set()
    told = _conversations(bench)
    assert {("egress", "controller", "sg-9", 443), ("egress", "dms", "sg-9", 443)} <= told
    assert not {one for one in told if one[1] == "sg-9"}, "a foreign group is its owner's"


def test_where_all_endpoints_exist_there_is_no_group_for_them(bench: Bench) -> None:
    existing = {"existing_endpoints": (*_INTERFACES, "dynamodb", "dms"), "endpoint_group_ids": ("sg-9",)}
    network = _network(bench, {**_EXISTING, **existing})
    assert network.endpoints_group is None
    assert bench.resources("aws_vpc_endpoint") == []
    assert ("egress", "controller", "sg-9", 443) in _conversations(bench)


def test_who_may_speak_to_whom(bench: Bench) -> None:
    _network(bench, {**_NEW, "source_cidrs": ("10.1.0.0/16",)})
    groups = {
        (way, one, other, port)
        for client, server, port in [
            ("controller", "database", 5432),
            ("dms", "database", 5432),
            ("controller", "endpoints", 443),
            ("dms", "endpoints", 443),
        ]
        for way, one, other in [("egress", client, server), ("ingress", server, client)]
    }
    source = {("egress", client, "10.1.0.0/16", 5433) for client in ("controller", "dms", "database")}
    assert _conversations(bench) == groups | source | {
        ("ingress", "database", "10.1.0.0/16", 5432),
        ("egress", "controller", "dynamodb", 443),
    }


def test_without_dms_nothing_is_left_of_it(bench: Bench) -> None:
    network = _network(bench, _NEW, with_dms=False)
    assert network.dms_group is None
    assert not [one for one in _conversations(bench) if "dms" in one]


@variants
@pytest.mark.parametrize("source_port", [5432, 5433])
def test_no_rule_twice_and_none_for_more_than_the_source(
    bench: Bench, settings: dict[str, Any], source_port: int
) -> None:
    _network(bench, settings, source_port=source_port)
    rules = _rules(bench)
    assert len(_conversations(bench)) == len(rules)
    assert {rule["cidr_ipv4"] for _, rule in rules if "cidr_ipv4" in rule} == set(_SOURCE)
    for _, rule in rules:
        assert rule["ip_protocol"] == "tcp"
        assert rule["from_port"] == rule["to_port"]
        assert re.fullmatch(r"[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]{1,255}", rule["description"])


@variants
def test_groups_have_names_and_no_inline_rules(bench: Bench, settings: dict[str, Any]) -> None:
    _network(bench, settings)
    groups = bench.resources("aws_security_group")
    assert {group["name"] for group in groups} == {
        f"daybreak-payments-{what}-test" for what in ("controller", "database", "endpoints", "dms")
    }
    assert not [group for group in groups if {"ingress", "egress"} & group.keys()]


def test_networks_that_overlap_are_one() -> None:
    settings = Settings(vpc_cidr="10.60.0.0/16", source_cidrs=("10.1.2.0/24", "10.1.0.0/16", "10.1.2.0/24"))
    assert settings.source_cidrs == ("10.1.0.0/16",)
    assert ipaddress.IPv4Network(settings.source_cidrs[0])


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"vpc_cidr": "10.60.0.0/16", "source_cidrs": (), "vpn_gateway_id": "vgw-1"}, "needs source_cidrs"),
        ({**_NEW, "existing_endpoints": ("ssm",), "endpoint_group_ids": ("sg-1",)}, "belong to vpc_id"),
        ({**_EXISTING, "existing_endpoints": ("ssm",)}, "go together"),
        ({**_EXISTING, "endpoint_group_ids": ("sg-1",)}, "go together"),
        ({**_EXISTING, "existing_endpoints": ("dynamodb",), "endpoint_group_ids": ("sg-1",)}, "go together"),
        ({**_EXISTING, "existing_endpoints": ("ec2",), "endpoint_group_ids": ("sg-1",)}, "Input should be"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Settings(**wrong)
