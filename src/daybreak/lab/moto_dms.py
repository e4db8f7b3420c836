"""moto's DMS, mended where Terraform's AWS provider trips over it.

moto 5.2.5 writes dates as text where the API has epoch numbers, leaves a replication task in ``creating``,
forgets the subnets of a replication subnet group and files its tags under another name, and knows neither
certificates nor what a region offers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from moto.dms import models
from moto.dms.responses import DatabaseMigrationServiceResponse
from moto.ec2.models import ec2_backends

VERSIONS = ("3.5.4", "3.6.1")
"""Engine versions and instance classes of the emulated regions."""
CLASSES = ("dms.t3.medium", "dms.r5.large")


class FakeReplicationTask(models.FakeReplicationTask):
    """A task that is ready once it was looked at."""

    __module__ = models.__name__  # here and below: moto goes by the module's name

    def to_dict(self) -> dict[str, Any]:
        """As the API describes it."""
        shown = _with_epochs(super().to_dict())
        if self.status == "creating":
            self.ready()
        return shown


class FakeReplicationInstance(models.FakeReplicationInstance):
    """An instance with dates as numbers."""

    __module__ = models.__name__

    def to_dict(self) -> dict[str, Any]:
        """As the API describes it."""
        return _with_epochs(super().to_dict())


class FakeReplicationSubnetGroup(models.FakeReplicationSubnetGroup):
    """A group that knows its subnets; ``place`` tells it."""

    __module__ = models.__name__

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


class DatabaseMigrationServiceBackend(models.DatabaseMigrationServiceBackend):
    """The backend with certificates, and with subnets and tags of subnet groups."""

    __module__ = models.__name__

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self.certificates: dict[str, dict[str, Any]] = {}

    def arn(self, kind: str, name: str) -> str:
        """The ARN of the ``kind`` (``cert``) called ``name``."""
        return f"arn:{self.partition}:dms:{self.region_name}:{self.account_id}:{kind}:{name}"

    def create_replication_subnet_group(
        self,
        replication_subnet_group_identifier: str,
        replication_subnet_group_description: str,
        subnet_ids: list[str],
        tags: list[dict[str, str]] | None = None,
    ) -> models.FakeReplicationSubnetGroup:
        """Keep the subnets; tags belong to the ARN, as with everything else (DMS API, AddTagsToResource)."""
        group = super().create_replication_subnet_group(
            replication_subnet_group_identifier, replication_subnet_group_description, subnet_ids
        )
        assert isinstance(group, FakeReplicationSubnetGroup)
        ec2 = ec2_backends[self.account_id][self.region_name]
        group.place([ec2.get_subnet(one) for one in subnet_ids])
        self.tagger.tag_resource(self.arn("subgrp", replication_subnet_group_identifier), tags or [])
        return group


class Response(DatabaseMigrationServiceResponse):
    """The API with the calls that moto lacks; ``mend`` adds them to moto's own class, by their names."""

    def import_certificate(self) -> str:
        """Keep a certificate."""
        asked, backend = json.loads(self.body), self._backend
        name = asked["CertificateIdentifier"]
        arn = backend.arn("cert", name)
        kept = {"CertificateIdentifier": name, "CertificateArn": arn, "CertificatePem": asked["CertificatePem"]}
        backend.certificates[arn] = kept
        backend.tagger.tag_resource(arn, asked.get("Tags", []))
        return json.dumps({"Certificate": kept})

    def describe_certificates(self) -> str:
        """All, or those of the filters ``certificate-id`` and ``certificate-arn``."""
        filters = json.loads(self.body).get("Filters", [])
        wanted = {value for one in filters for value in one["Values"]}
        kept = self._backend.certificates.values()
        found = [c for c in kept if not filters or wanted & {c["CertificateArn"], c["CertificateIdentifier"]}]
        return json.dumps({"Certificates": found})

    def delete_certificate(self) -> str:
        """Forget a certificate."""
        return json.dumps({"Certificate": self._backend.certificates.pop(json.loads(self.body)["CertificateArn"])})

    def describe_orderable_replication_instances(self) -> str:
        """Every class in every version."""
        offered = [
            {"EngineVersion": version, "ReplicationInstanceClass": name} for version in VERSIONS for name in CLASSES
        ]
        return json.dumps({"OrderableReplicationInstances": offered})

    @property
    def _backend(self) -> DatabaseMigrationServiceBackend:
        found = self.dms_backend
        assert isinstance(found, DatabaseMigrationServiceBackend)
        return found


def mend() -> None:
    """Put the mended parts into moto, before it serves."""
    for mended in (FakeReplicationTask, FakeReplicationInstance, FakeReplicationSubnetGroup):
        setattr(models, mended.__name__, mended)
    models.dms_backends.backend = DatabaseMigrationServiceBackend
    for name, added in vars(Response).items():
        if not name.startswith("__"):
            setattr(DatabaseMigrationServiceResponse, name, added)


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
