"""Records that move are the controller's; the others hold still."""

from __future__ import annotations

from typing import Any

import pytest
from infra.conftest import Bench

from daybreak.config import aws
from daybreak.errors import ConfigError, InvariantViolated
from daybreak.infra.aurora import Aurora, AuroraProps
from daybreak.infra.encryption import Keys, KeysProps
from daybreak.infra.network import Network, NetworkProps
from daybreak.infra.routing import Record, Routing, RoutingProps, check

_CIDRS = ("10.1.0.0/16", "192.168.20.0/24")
_NEW: dict[str, Any] = {"vpc_cidr": "10.60.0.0/16"}
_EXISTING: dict[str, Any] = {"vpc_id": "vpc-1", "subnet_ids": ("subnet-1", "subnet-2", "subnet-3")}


def _routing(
    bench: Bench,
    *,
    host: str = "old.example.net",
    vpc: dict[str, Any] = _NEW,
    cidrs: tuple[str, ...] = _CIDRS,
    **settings: Any,
) -> Routing:
    keys = Keys(bench.stack, "keys", KeysProps(bench.site))
    network = Network(
        bench.stack,
        "network",
        NetworkProps(bench.site, aws.Network(**vpc, source_cidrs=cidrs), keys, source_port=5432, with_dms=False),
    )
    aurora = Aurora(
        bench.stack, "aurora", AuroraProps(bench.site, aws.Aurora(engine_version="17.5"), network, keys, "payments")
    )
    routing = aws.Routing(zone_name="payments.internal", **settings)
    return Routing(bench.stack, "routing", RoutingProps(bench.site, routing, network, aurora, host, cidrs))


def _records(bench: Bench) -> dict[tuple[str, str], dict[str, Any]]:
    """By name and set identifier; simple ones have none."""
    records = bench.resources("aws_route53_record")
    by_name = {(record["name"], record.get("set_identifier", "")): record for record in records}
    assert len(by_name) == len(records)
    return by_name


def test_names_are_those_of_the_zone(bench: Bench) -> None:
    routing = _routing(bench)
    names = (routing.writer_name, routing.reader_name, routing.source_direct, routing.target_direct)
    assert names == tuple(f"db-{what}.payments.internal" for what in ("rw", "ro", "source", "target"))
    assert {name for name, _ in _records(bench)} == set(names)


@pytest.mark.parametrize("name", ["db-rw.payments.internal", "db-ro.payments.internal"])
def test_traffic_begins_at_the_source(bench: Bench, name: str) -> None:
    _routing(bench)
    records = _records(bench)
    for side, weight in (("source", 100), ("target", 0)):
        assert records[name, side]["weighted_routing_policy"] == {"weight": weight}
        assert records[name, side]["type"] == "CNAME"
    assert records[name, "source"]["records"] == ["db-source.payments.internal"]


def test_writers_and_readers_of_the_target_have_their_own_endpoints(bench: Bench) -> None:
    _routing(bench)
    records = _records(bench)
    assert records["db-rw.payments.internal", "target"]["records"] == ["db-target.payments.internal"]
    (direct,) = records["db-target.payments.internal", ""]["records"]
    assert direct.endswith(".endpoint}")
    (reader,) = records["db-ro.payments.internal", "target"]["records"]
    assert reader.endswith(".reader_endpoint}")


def test_what_the_controller_moves_is_not_terraforms(bench: Bench) -> None:
    _routing(bench)
    for (_, side), record in _records(bench).items():
        ignored = record.get("lifecycle", {}).get("ignore_changes", [])
        assert set(ignored) == ({"weighted_routing_policy", "ttl"} if side else set())


def test_every_record_has_the_ttl_of_the_settings(bench: Bench) -> None:
    _routing(bench, ttl_seconds=30)
    assert {record["ttl"] for record in _records(bench).values()} == {30}


@pytest.mark.parametrize(("host", "kind"), [("old.example.net", "CNAME"), ("192.168.20.7", "A"), ("fd00::7", "AAAA")])
def test_a_source_known_by_its_address_has_a_name_too(bench: Bench, host: str, kind: str) -> None:
    _routing(bench, host=host)
    direct = _records(bench)["db-source.payments.internal", ""]
    assert (direct["type"], direct["records"]) == (kind, [host])


def test_a_new_zone_is_private_and_others_may_be_let_in(bench: Bench) -> None:
    _routing(bench)
    zone = bench.only("aws_route53_zone")
    assert zone["name"] == "payments.internal"
    assert [list(vpc) for vpc in zone["vpc"]] == [["vpc_id"]]
    assert zone["lifecycle"]["ignore_changes"] == ["vpc"]


@pytest.mark.parametrize(("vpc", "associations"), [(_NEW, 1), (_EXISTING, 0)], ids=["new", "existing"])
def test_an_existing_zone_is_used_where_it_is_the_right_one(
    bench: Bench, vpc: dict[str, Any], associations: int
) -> None:
    _routing(bench, vpc=vpc, zone_id="Z1")
    assert bench.resources("aws_route53_zone") == []
    assert len(bench.resources("aws_route53_zone_association")) == associations
    (zone,) = bench.synth()["data"]["aws_route53_zone"].values()
    (same,) = zone["lifecycle"]["postcondition"]
    assert same["condition"] == '${(self.private_zone && (trimsuffix(self.name, ".") == "payments.internal"))}'


def test_no_resolver_unless_asked_for(bench: Bench) -> None:
    assert _routing(bench).resolver is None
    assert bench.resources("aws_route53_resolver_endpoint") == []


def test_the_resolver_answers_the_sources_networks_only(bench: Bench) -> None:
    _routing(bench, resolver_endpoint=True)
    endpoint = bench.only("aws_route53_resolver_endpoint")
    assert endpoint["direction"] == "INBOUND"
    assert endpoint["name"] == "daybreak-payments-resolver-test"
    assert len(endpoint["ip_address"]) == 3
    (group,) = endpoint["security_group_ids"]
    rules = [r for r in bench.resources("aws_vpc_security_group_ingress_rule") if r["security_group_id"] == group]
    assert {(r["cidr_ipv4"], r["ip_protocol"], r["from_port"], r["to_port"]) for r in rules} == {
        (cidr, protocol, 53, 53) for cidr in _CIDRS for protocol in ("tcp", "udp")
    }
    assert len(rules) == 2 * len(_CIDRS)
    assert not [r for r in bench.resources("aws_vpc_security_group_egress_rule") if r["security_group_id"] == group]


def test_a_resolver_that_nobody_may_ask_is_refused(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="no network may ask it"):
        _routing(bench, resolver_endpoint=True, cidrs=())


_SOURCE = Record("db-rw.z", "CNAME", "a", "source", 100)


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        (Record("db-rw.z", "CNAME", "b", "target", 256), "0 to 255"),
        (Record("db-rw.z", "CNAME", "b", "target", -1), "0 to 255"),
        (Record("db-rw.z", "CNAME", "b", "target"), "beside others"),
        (Record("db-rw.z", "A", "10.0.0.1", "target", 0), "beside others"),
        (Record("db-rw.z", "CNAME", "b", "source", 0), "two records for the source"),
    ],
)
def test_what_route_53_would_refuse_is_refused_here(other: Record, complaint: str) -> None:
    with pytest.raises(InvariantViolated, match=complaint):
        check((_SOURCE, other))


def test_what_route_53_takes_is_taken() -> None:
    check((_SOURCE, Record("db-rw.z", "CNAME", "b", "target", 255), Record("db-source.z", "A", "10.0.0.1", "source")))
