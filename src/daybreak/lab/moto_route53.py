"""moto's Route 53, mended where it takes what AWS refuses.

moto 5.2.5 deletes every record of a zone that has the set identifier of the one that is to go, applies half
of a batch, accepts weights above 255, weighted records beside others and weighted records of unlike TTLs, and
takes a zone for public that was made with a VPC only, as Terraform makes them. Source: Route 53 API Reference,
ChangeResourceRecordSets, ResourceRecordSet and CreateHostedZone."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from moto.core.responses import ActionResult
from moto.route53.exceptions import DnsNameInvalidForZone, InvalidActionValue, Route53ClientError
from moto.route53.models import RecordSet, Route53Backend
from moto.route53.responses import Route53

_HEAVIEST = 255
_Key = tuple[str, str, str]
_create_as_asked = Route53.create_hosted_zone


def mend() -> None:
    """Put the mended parts into moto."""
    for owner, mended in ((Route53, _create_hosted_zone), (Route53Backend, _change_resource_record_sets)):
        setattr(owner, mended.__name__.removeprefix("_"), mended)


def _create_hosted_zone(response: Route53) -> ActionResult:
    """A zone with a VPC is private, whether the request says so or not."""
    if "VPC" in response.params:
        response.params["HostedZoneConfig"] = {**response.params.get("HostedZoneConfig", {}), "PrivateZone": True}
    return _create_as_asked(response)


def _change_resource_record_sets(backend: Route53Backend, zoneid: str, change_list: list[dict[str, Any]]) -> None:
    """All of the batch, in its order, or nothing."""
    zone = backend.get_hosted_zone(zoneid)
    after = {_key(one): one for one in zone.rrsets}
    for change in change_list:
        wanted = _record(change["ResourceRecordSet"])
        if not f".{wanted.name}".endswith(f".{zone.name.strip('.')}."):
            raise DnsNameInvalidForZone(name=wanted.name, zone_name=zone.name)
        _apply(change["Action"], wanted, after)
    _check(after.values())
    zone.rrsets = list(after.values())


def _apply(action: str, wanted: RecordSet, records: dict[_Key, RecordSet]) -> None:
    key, label = _key(wanted), f"resource record set [name='{wanted.name}', type='{wanted.type}']"
    there = records.get(key)
    if action == "DELETE":
        if there is None:
            raise _refused(f"Tried to delete {label} but it was not found")
        if vars(there) != vars(wanted):
            raise _refused(f"Tried to delete {label} but the values provided do not match the current values")
        del records[key]
    elif action == "CREATE" and there is not None:
        raise _refused(f"Tried to create {label} but it already exists")
    elif action in ("CREATE", "UPSERT"):
        records[key] = wanted
    else:
        raise InvalidActionValue(action)


def _check(records: Collection[RecordSet]) -> None:
    """What must hold between the records of a zone."""
    for one in records:
        same = [other for other in records if (other.name, other.type) == (one.name, one.type)]
        if one.weight is not None and not 0 <= one.weight <= _HEAVIEST:
            raise Route53ClientError("InvalidInput", f"Invalid weight {one.weight}: must be 0 to {_HEAVIEST}")
        if len({other.weight is None for other in same}) > 1:
            raise _refused(f"{one.name} {one.type} would have weighted records beside others")
        if one.weight is not None and len({other.ttl for other in same}) > 1:
            raise _refused(f"The weighted records of {one.name} {one.type} would have unlike TTLs")
        if one.type == "CNAME" and any(other.name == one.name and other.type != "CNAME" for other in records):
            raise _refused(f"{one.name} would have a CNAME beside records of other types")


def _record(described: dict[str, Any]) -> RecordSet:
    """What a request describes, as moto keeps it."""
    values = [record["Value"] for record in described.get("ResourceRecords") or []]
    name = f"{described['Name'].rstrip('.').lower()}."
    # Only CloudFormation would miss what is abstract.
    return RecordSet({**described, "Name": name, "ResourceRecords": values})  # type: ignore[abstract]


def _key(record: RecordSet) -> _Key:
    return record.name, str(record.type), record.set_identifier or ""


def _refused(why: str) -> Route53ClientError:
    return Route53ClientError("InvalidChangeBatch", f"[{why}]")
