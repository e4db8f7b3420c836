"""The private zone of ``infra.routing`` on an imitation of AWS in this process, as strict as AWS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3

from daybreak.config.aws import Routing
from daybreak.lab import moto_route53
from daybreak.model import Side

if TYPE_CHECKING:
    from types_boto3_route53 import Route53Client
    from types_boto3_route53.type_defs import ResourceRecordSetTypeDef

ZONE = "payments.internal"
SETTINGS = Routing(zone_name=ZONE, ttl_seconds=60)
AURORA = "payments.cluster-c0ffee.eu-central-1.rds.amazonaws.com"
AURORA_READER = "payments.cluster-ro-c0ffee.eu-central-1.rds.amazonaws.com"


def make_zone(ttl_seconds: int = 60) -> Route53Client:
    """The zone as a first apply leaves it; to be called inside ``mock_aws`` or where the environment leads to an
    emulator. ``ttl_seconds`` is that of the names that move."""
    moto_route53.mend()
    client = boto3.client("route53", region_name="eu-central-1")
    zone_id = add_zone(client)
    records: list[ResourceRecordSetTypeDef] = [
        {"Name": SETTINGS.source_name, "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "127.0.0.1"}]},
        {"Name": SETTINGS.target_name, "Type": "CNAME", "TTL": 60, "ResourceRecords": [{"Value": AURORA}]},
        weighted(SETTINGS.writer_name, Side.SOURCE, SETTINGS.source_name, 100, ttl_seconds),
        weighted(SETTINGS.writer_name, Side.TARGET, SETTINGS.target_name, 0, ttl_seconds),
        weighted(SETTINGS.reader_name, Side.SOURCE, SETTINGS.source_name, 100, ttl_seconds),
        weighted(SETTINGS.reader_name, Side.TARGET, AURORA_READER, 0, ttl_seconds),
    ]
    for record in records:
        put(client, zone_id, record)
    return client


def add_zone(client: Route53Client, *, private: bool = True) -> str:
    """One more zone of that name; returns its id."""
    only_for: dict[str, Any] = {"VPC": {"VPCRegion": "eu-central-1", "VPCId": "vpc-1"}} if private else {}
    made = client.create_hosted_zone(Name=ZONE, CallerReference="test", **only_for)
    return made["HostedZone"]["Id"].removeprefix("/hostedzone/")


def zone_id(client: Route53Client) -> str:
    """The id of the one zone."""
    (zone,) = client.list_hosted_zones()["HostedZones"]
    return zone["Id"].removeprefix("/hostedzone/")


def remove_zone(client: Route53Client) -> None:
    """Delete the one zone with all its records."""
    own = zone_id(client)
    records = client.list_resource_record_sets(HostedZoneId=own)["ResourceRecordSets"]
    changes: Any = [
        {"Action": "DELETE", "ResourceRecordSet": one} for one in records if one["Type"] not in {"NS", "SOA"}
    ]
    client.change_resource_record_sets(HostedZoneId=own, ChangeBatch={"Changes": changes})
    client.delete_hosted_zone(Id=own)


def weighted(name: str, side: str, value: str, weight: int, ttl_seconds: int = 60) -> ResourceRecordSetTypeDef:
    """One weighted CNAME."""
    return {
        "Name": name,
        "Type": "CNAME",
        "TTL": ttl_seconds,
        "SetIdentifier": side,
        "Weight": weight,
        "ResourceRecords": [{"Value": value}],
    }


def put(client: Route53Client, zone_id: str, record: ResourceRecordSetTypeDef) -> None:
    """Create or change one record, as a person would."""
    batch = {"Changes": [{"Action": "UPSERT", "ResourceRecordSet": record}]}
    client.change_resource_record_sets(HostedZoneId=zone_id, ChangeBatch=batch)  # type: ignore[arg-type]
