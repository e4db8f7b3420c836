"""A private hosted zone of Route 53: its records as they are now, and changes that either meet them so or
are refused. A change is done when every name server has it.

ListResourceRecordSets shows a change at once, while name servers may still give the old answer; only
GetChange knows, by the change's id (Route 53 API Reference, both actions)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tenacity

from daybreak.aws.errors import error_code, translated
from daybreak.errors import PermanentError, TransientError
from daybreak.model import Side
from daybreak.traffic.weighted import Weighted

if TYPE_CHECKING:
    from types_boto3_route53 import Route53Client
    from types_boto3_route53.type_defs import ChangeTypeDef
    from types_boto3_route53.type_defs import ResourceRecordSetOutputTypeDef as RecordSet

# "Changes generally propagate within 60 seconds" (API Reference, ChangeResourceRecordSets). All callers of an
# account share five requests a second.
_IN_SYNC_SECONDS = 90.0
_POLL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class _Sent:
    """The last change of a name that this process asked for."""

    records: Weighted
    change: str


class Zone:
    """The private zone ``name``; with an empty ``zone_id`` it is looked up at first use.

    ``check`` is called right before each change and raises StateConflict where a newer generation acts.
    Every method raises TransientError or PermanentError as ``aws.errors.translated`` does."""

    def __init__(self, client: Route53Client, name: str, zone_id: str, check: Callable[[], None]) -> None:
        self._client = client
        self._name = name
        self._zone_id = zone_id
        self._check = check
        self._sent: dict[str, _Sent] = {}

    def records(self, *names: str) -> dict[str, list[RecordSet]]:
        """The records of each of ``names``, which must be given in Route 53's order (as ``db-ro``, ``db-rw``).

        Changes that are not in sync yet show as if they were."""
        wanted: dict[str, list[RecordSet]] = {name: [] for name in names}
        with translated(f"listing the records of {self._name}"):
            # Only the first page's: botocore puts what a page says comes next in its place.
            pages = self._client.get_paginator("list_resource_record_sets").paginate(
                HostedZoneId=self._found_zone_id(),
                StartRecordName=names[0],  # type: ignore[call-arg]
            )
            for page in pages:
                for record in page["ResourceRecordSets"]:
                    name = record["Name"].rstrip(".")
                    if name in wanted:
                        wanted[name].append(record)
                    elif wanted[names[-1]]:
                        return wanted
        return wanted

    def replace(self, old: Weighted, new: Weighted) -> None:
        """Put ``new`` in the place of ``old``, in one batch, and wait until every name server has it.

        Where nothing differs, nothing is sent, but for what an earlier process may have left on its way: then
        the same is sent once more, because only a change's id tells when it has arrived. Raises TransientError
        where ``old`` is not what is there any more, and where the name servers take too long; asking again then
        goes on waiting for the same change."""
        sent = self._sent.get(new.name)
        if old != new or sent is None or sent.records != new:
            self._check()
            sent = self._sent[new.name] = _Sent(new, self._send(old, new))
        self._wait_for(sent)

    def _send(self, old: Weighted, new: Weighted) -> str:
        """The id of the change. A record is deleted as it was seen, which Route 53 refuses where it is not so
        any more: a controller that was stopped right before this line overwrites nothing that came since."""
        sides = [side for side in Side if old.sets[side] != new.sets[side]] or list(Side)
        deleted: list[ChangeTypeDef] = [{"Action": "DELETE", "ResourceRecordSet": old.sets[side]} for side in sides]
        created: list[ChangeTypeDef] = [{"Action": "CREATE", "ResourceRecordSet": new.sets[side]} for side in sides]
        try:
            with translated(f"changing {new.name}"):
                answer = self._client.change_resource_record_sets(
                    HostedZoneId=self._found_zone_id(),
                    ChangeBatch={"Comment": "Daybreak", "Changes": [*deleted, *created]},
                )
        except PermanentError as error:
            if error_code(error.__cause__ or error) == "InvalidChangeBatch" and not self._still(old):
                raise TransientError(
                    f"{new.name} was not changed: somebody else changed it at the same moment.",
                    "It is tried again. CloudTrail says who it was (ChangeResourceRecordSets).",
                ) from error
            raise
        return answer["ChangeInfo"]["Id"].removeprefix("/change/")

    def _still(self, old: Weighted) -> bool:
        found: Sequence[RecordSet] = self.records(old.name)[old.name]
        return len(found) == len(old.sets) and all(one in old.sets.values() for one in found)

    def _wait_for(self, sent: _Sent) -> None:
        poll = tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda status: status != "INSYNC"),
            stop=tenacity.stop_after_delay(_IN_SYNC_SECONDS),
            wait=tenacity.wait_fixed(_POLL_SECONDS),
        )
        try:
            poll(self._status, sent)
        except tenacity.RetryError:
            raise TransientError(
                f"{sent.records.name} was changed, but not all of Route 53's name servers have it after"
                f" {_IN_SYNC_SECONDS:g} s: some clients are still sent the old way.",
                f"`aws route53 get-change --id {sent.change}` says INSYNC once they do; the AWS Health Dashboard"
                " says whether Route 53 has trouble. Run the same command again: it goes on waiting.",
            ) from None

    def _status(self, sent: _Sent) -> str:
        with translated(f"waiting for change {sent.change} of {sent.records.name}"):
            return self._client.get_change(Id=sent.change)["ChangeInfo"]["Status"]

    def _found_zone_id(self) -> str:
        if not self._zone_id:
            self._zone_id = find_private_zone(self._client, self._name)
        return self._zone_id


def find_private_zone(client: Route53Client, name: str) -> str:
    """The id of the one private hosted zone ``name``.

    Raises PermanentError where there is none or several, and as ``aws.errors.translated`` does."""
    with translated(f"looking for the zone {name}"):
        zones = client.list_hosted_zones_by_name(DNSName=name)["HostedZones"]
    ids = [
        zone["Id"].removeprefix("/hostedzone/")
        for zone in zones
        if zone["Name"].rstrip(".") == name and zone.get("Config", {}).get("PrivateZone")
    ]
    if len(ids) != 1:
        raise PermanentError(
            f"There are {len(ids)} private hosted zones named {name} in this account.",
            "Set aws.routing.zone_id to the right one." if ids else "`daybreak infra deploy` makes it.",
        )
    return ids[0]
