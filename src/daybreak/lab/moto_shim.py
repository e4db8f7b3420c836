"""moto as a server, mended where Terraform's AWS provider trips over it: ``python -m daybreak.lab.moto_shim PORT``.

moto 5.2.5 writes DMS dates as text where the API has epoch numbers, leaves a replication task in
``creating``, forgets the subnets of a replication subnet group and files its tags under another name,
reports an Aurora cluster without serverless (v1) scaling as one with empty limits, and cannot say which
versions a region offers."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

from moto.core.responses import ActionResult
from moto.dms import models as dms
from moto.dms.responses import DatabaseMigrationServiceResponse
from moto.ec2.models import ec2_backends
from moto.rds.models import DBCluster
from moto.rds.responses import RDSResponse
from moto.server import main

from daybreak.lab import moto_route53

HOST = "127.0.0.1"
AURORA_VERSIONS = ("15.10", "16.8", "17.4", "17.5")
"""What the emulated regions offer, as are the next two."""
DMS_VERSIONS = ("3.5.4", "3.6.1")
DMS_CLASSES = ("dms.t3.medium", "dms.r5.large")


class FakeReplicationTask(dms.FakeReplicationTask):
    """A task that is ready once it was looked at."""

    __module__ = dms.__name__  # here and below: moto goes by the module's name

    def to_dict(self) -> dict[str, Any]:
        """As the API describes it."""
        shown = _with_epochs(super().to_dict())
        if self.status == "creating":
            self.ready()
        return shown


class FakeReplicationInstance(dms.FakeReplicationInstance):
    """An instance with dates as numbers."""

    __module__ = dms.__name__

    def to_dict(self) -> dict[str, Any]:
        """As the API describes it."""
        return _with_epochs(super().to_dict())


class FakeReplicationSubnetGroup(dms.FakeReplicationSubnetGroup):
    """A group that knows its subnets; ``place`` tells it."""

    __module__ = dms.__name__

    def place(self, subnets: list[Any]) -> None:
        """Take the EC2 subnets that it was made with."""
        self._subnets = subnets

    def to_dict(self) -> dict[str, Any]:
        """As the API describes it."""
        listed = [
            {
                "SubnetIdentifier": subnet.id,
                "SubnetAvailabilityZone": {"Name": subnet.availability_zone},
                "SubnetStatus": "Active",
            }
            for subnet in self._subnets
        ]
        return {**super().to_dict(), "VpcId": self._subnets[0].vpc_id, "Subnets": listed}


class DatabaseMigrationServiceBackend(dms.DatabaseMigrationServiceBackend):
    """The backend with subnets and tags of subnet groups."""

    __module__ = dms.__name__

    def create_replication_subnet_group(
        self,
        replication_subnet_group_identifier: str,
        replication_subnet_group_description: str,
        subnet_ids: list[str],
        tags: list[dict[str, str]] | None = None,
    ) -> dms.FakeReplicationSubnetGroup:
        """Keep the subnets; tags belong to the ARN, as with everything else (DMS API, AddTagsToResource)."""
        group = super().create_replication_subnet_group(
            replication_subnet_group_identifier, replication_subnet_group_description, subnet_ids
        )
        assert isinstance(group, FakeReplicationSubnetGroup)
        ec2 = ec2_backends[self.account_id][self.region_name]
        group.place([ec2.get_subnet(one) for one in subnet_ids])
        place = f"arn:{self.partition}:dms:{self.region_name}:{self.account_id}"
        self.tagger.tag_resource(f"{place}:subgrp:{replication_subnet_group_identifier}", tags or [])
        return group


def _with_epochs(shown: dict[str, Any]) -> dict[str, Any]:
    """``shown`` with every date as seconds since 1970."""
    return {
        key: _with_epochs(value) if isinstance(value, dict) else _epoch(value) if _is_date(key, value) else value
        for key, value in shown.items()
    }


def _is_date(key: str, value: object) -> bool:
    return key.endswith(("Date", "Time")) and isinstance(value, str)


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def _describe_db_engine_versions(_self: RDSResponse) -> ActionResult:
    offered = [{"Engine": "aurora-postgresql", "EngineVersion": version} for version in AURORA_VERSIONS]
    return ActionResult({"DBEngineVersions": offered})


def _describe_orderable_replication_instances(_self: DatabaseMigrationServiceResponse) -> str:
    offered = [
        {"EngineVersion": version, "ReplicationInstanceClass": name} for version in DMS_VERSIONS for name in DMS_CLASSES
    ]
    return json.dumps({"OrderableReplicationInstances": offered})


def mend() -> None:
    """Put the mended parts into moto, once, before it serves."""
    moto_route53.mend()
    for mended in (FakeReplicationTask, FakeReplicationInstance, FakeReplicationSubnetGroup):
        setattr(dms, mended.__name__, mended)
    dms.dms_backends.backend = DatabaseMigrationServiceBackend
    name = "scaling_configuration_info"
    shown = vars(DBCluster)[name].fget
    setattr(DBCluster, name, property(lambda cluster: shown(cluster) if cluster.scaling_configuration else None))
    for response, answer in (
        (RDSResponse, _describe_db_engine_versions),
        (DatabaseMigrationServiceResponse, _describe_orderable_replication_instances),
    ):
        setattr(response, answer.__name__.removeprefix("_"), answer)


if __name__ == "__main__":
    mend()
    main(["--host", HOST, "--port", sys.argv[1]])
