"""The emulated Route 53 refuses what AWS refuses, whole batches at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from aws_zone import SETTINGS, ZONE, make_zone, weighted, zone_id
from botocore.exceptions import ClientError
from moto import mock_aws

if TYPE_CHECKING:
    from types_boto3_route53 import Route53Client

_WRITER = SETTINGS.writer_name
_SOURCE = weighted(_WRITER, "source", SETTINGS.source_name, 100)
_HARMLESS: tuple[str, Any] = ("UPSERT", weighted(_WRITER, "target", SETTINGS.target_name, 7))


@pytest.fixture
def client() -> Iterator[Route53Client]:
    with mock_aws():
        yield make_zone()


def _records(client: Route53Client) -> list[Any]:
    return client.list_resource_record_sets(HostedZoneId=zone_id(client))["ResourceRecordSets"]


def _batch(client: Route53Client, *changes: tuple[str, Any]) -> None:
    listed: list[Any] = [{"Action": action, "ResourceRecordSet": record} for action, record in changes]
    client.change_resource_record_sets(HostedZoneId=zone_id(client), ChangeBatch={"Changes": listed})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ([("DELETE", {**_SOURCE, "Weight": 99})], "the values provided do not match the current values"),
        ([("DELETE", {**_SOURCE, "SetIdentifier": "blue"})], "it was not found"),
        ([("DELETE", _SOURCE), ("DELETE", _SOURCE)], "it was not found"),
        ([("CREATE", _SOURCE)], "it already exists"),
        ([("UPSERT", {**_SOURCE, "Weight": 256})], "256"),
        ([("UPSERT", {**_SOURCE, "TTL": 5})], "unlike TTLs"),
        (
            [("CREATE", {key: _SOURCE[key] for key in ("Name", "Type", "TTL", "ResourceRecords")})],
            "weighted records beside others",
        ),
        ([("CREATE", {**_SOURCE, "Type": "TXT"})], "a CNAME beside records of other types"),
        ([("CREATE", {**_SOURCE, "Name": "db-rw.example.net"})], "is not permitted in zone"),
    ],
)
def test_a_batch_that_aws_refuses_changes_nothing(
    client: Route53Client, changes: list[tuple[str, Any]], says: str
) -> None:
    before = _records(client)
    with pytest.raises(ClientError, match=says):
        _batch(client, _HARMLESS, *changes)
    assert _records(client) == before


def test_a_record_may_be_replaced_within_a_batch_and_its_namesakes_stay(client: Route53Client) -> None:
    before = _records(client)
    _batch(client, ("DELETE", _SOURCE), ("CREATE", {**_SOURCE, "Weight": 3}))
    ours = (f"{_WRITER}.", "source")
    wanted = [{**one, "Weight": 3} if (one["Name"], one.get("SetIdentifier")) == ours else one for one in before]
    assert sorted(_records(client), key=repr) == sorted(wanted, key=repr)


def test_a_zone_with_a_network_is_private(client: Route53Client) -> None:
    public = boto3.client("route53").create_hosted_zone(Name=ZONE, CallerReference="again")
    zones = {zone["Id"]: zone["Config"]["PrivateZone"] for zone in client.list_hosted_zones()["HostedZones"]}
    assert sorted(zones.values()) == [False, True]
    assert zones[public["HostedZone"]["Id"]] is False
