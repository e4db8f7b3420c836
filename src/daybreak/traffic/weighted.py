"""The two weighted records of one name: which side they send how much to, and what else they must be.

Pure. The weights are those of Route 53 (API Reference, ResourceRecordSet): of the look-ups of a name, each
record answers its weight's share. Daybreak keeps their sum at 100, so that a weight is a percentage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from daybreak.errors import PermanentError
from daybreak.model import Side

if TYPE_CHECKING:
    from types_boto3_route53.type_defs import ResourceRecordSetOutputTypeDef as RecordSet

_ALL = 100
# Whatever else a record has (alias, region, failover, location) makes it another kind of record. A health
# check is the operator's: it is kept.
_FIELDS = frozenset({"Name", "Type", "TTL", "ResourceRecords", "SetIdentifier", "Weight", "HealthCheckId"})


@dataclass(frozen=True, slots=True)
class Weighted:
    """The records of ``name``, one a side, with every field that Route 53 returned."""

    name: str
    sets: Mapping[Side, RecordSet]

    @classmethod
    def of(cls, name: str, found: Sequence[RecordSet], leads_to: Mapping[Side, str]) -> Weighted:
        """The records ``found`` under ``name``; ``leads_to`` are the names that they must lead to, where known.

        Raises PermanentError where there are none, and where they are anything but one weighted CNAME a side:
        what somebody else made is not changed."""
        if not found:
            raise PermanentError(
                f"{name} does not exist.", "`daybreak infra deploy` makes it; check aws.routing and aws.region."
            )
        if wrong := _wrong(found, leads_to):
            fix = " and ".join(f"CNAME {side} to {target}" for side, target in leads_to.items())
            raise PermanentError(
                f"{name} is not as Daybreak made it: {wrong}.",
                f"Leave one weighted CNAME a side ({fix}), weights together {_ALL}, and nothing else at that name.",
            )
        return cls(name, {Side(one["SetIdentifier"]): one for one in found})

    @property
    def target_percent(self) -> int:
        """The target's share of look-ups; raises PermanentError where the weights are no percentages."""
        source, target = (self.sets[side]["Weight"] for side in Side)
        if source + target != _ALL or target not in range(_ALL + 1):
            raise PermanentError(
                f"{self.name} has the weights {source} (source) and {target} (target), which are not together {_ALL}.",
                "Somebody changed them. Put them back to what `daybreak status` says.",
            )
        return target

    @property
    def side(self) -> Side | None:
        """The side that every look-up leads to; None where they are divided. Raises as ``target_percent``."""
        return {0: Side.SOURCE, _ALL: Side.TARGET}.get(self.target_percent)

    @property
    def ttl_seconds(self) -> int:
        """For how long answers are kept; the longer one, should they differ."""
        return max(one["TTL"] for one in self.sets.values())

    def weighing(self, target_percent: int) -> Weighted:
        """The same with ``target_percent`` of look-ups for the target, whatever the weights were."""
        weights = {Side.SOURCE: _ALL - target_percent, Side.TARGET: target_percent}
        return replace(self, sets={side: {**one, "Weight": weights[side]} for side, one in self.sets.items()})

    def living(self, ttl_seconds: int) -> Weighted:
        """The same with another TTL."""
        return replace(self, sets={side: {**one, "TTL": ttl_seconds} for side, one in self.sets.items()})


def _wrong(found: Sequence[RecordSet], leads_to: Mapping[Side, str]) -> str:
    """What keeps ``found`` from being one weighted CNAME a side; empty where nothing does."""
    by_side: dict[Side, str] = {}
    for one in found:
        label = f"the {one['Type']} record {one.get('SetIdentifier', 'without a set identifier')}"
        if one["Type"] != "CNAME" or one.get("SetIdentifier") not in set(Side):
            return f"{label} is not Daybreak's"
        if strange := sorted(set(one) - _FIELDS):
            return f"{label} has {', '.join(strange)}"
        values = [record["Value"] for record in one.get("ResourceRecords", [])]
        if "Weight" not in one or "TTL" not in one or len(values) != 1:
            return f"{label} lacks a weight, a TTL or its one value"
        side, value = Side(one["SetIdentifier"]), _plain(values[0])
        if value != _plain(leads_to.get(side, value)):
            return f"{label} leads to {value}"
        by_side[side] = value
    if missing := [side for side in Side if side not in by_side]:
        return f"the record {missing[0]} is missing"
    if by_side[Side.SOURCE] == by_side[Side.TARGET]:
        return f"both records lead to {by_side[Side.SOURCE]}"
    return ""


def _plain(name: str) -> str:
    return name.rstrip(".").lower()
