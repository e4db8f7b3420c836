"""What Daybreak asks of RDS: how a cluster stands, and another cluster made from its backups."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from daybreak.aws.errors import translated

if TYPE_CHECKING:
    from types_boto3_rds.client import RDSClient
    from types_boto3_rds.type_defs import (
        CreateDBInstanceMessageTypeDef,
        DBClusterTypeDef,
        RestoreDBClusterToPointInTimeMessageTypeDef,
    )


@dataclass(frozen=True, slots=True)
class Capacity:
    """Limits of Serverless v2, ACU."""

    smallest: float
    largest: float


@dataclass(frozen=True, slots=True)
class Cluster:
    """An Aurora cluster as DescribeDBClusters tells it. ``earliest`` and ``latest`` bound what can be restored;
    None where there is no backup yet. ``secrets_key`` encrypts the master user's password; empty: RDS does not
    manage it. ``writer`` is the instance that takes writes; empty: there is none."""

    identifier: str
    status: str
    created: datetime
    endpoint: str
    port: int
    engine: str
    earliest: datetime | None
    latest: datetime | None
    backup_days: int
    subnet_group: str
    security_groups: tuple[str, ...]
    kms_key: str
    secrets_key: str
    capacity: Capacity | None
    iam_authentication: bool
    writer: str
    readers: tuple[str, ...]
    tags: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance of a cluster as DescribeDBInstances tells it. ``insights_key`` is empty without Performance
    Insights, ``monitoring_role`` without Enhanced Monitoring."""

    identifier: str
    status: str
    instance_class: str
    insights_key: str
    monitoring_seconds: int
    monitoring_role: str


@dataclass(frozen=True, slots=True)
class Restoration:
    """A new cluster from the backups of ``source`` as it was at ``at``; None: a copy-on-write clone of now."""

    source: str
    identifier: str
    at: datetime | None
    port: int
    subnet_group: str
    security_groups: tuple[str, ...]
    parameter_group: str
    kms_key: str
    capacity: Capacity | None
    iam_authentication: bool
    tags: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class NewInstance:
    """An instance for ``cluster``, with the class and the monitoring of ``like``."""

    identifier: str
    cluster: str
    engine: str
    like: Instance
    tags: tuple[tuple[str, str], ...]


class Rds:
    """RDS in one region. Every method raises TransientError or PermanentError."""

    def __init__(self, client: RDSClient) -> None:
        self._client = client

    def cluster(self, identifier: str) -> Cluster | None:
        """The cluster of this name; None where there is none."""
        with translated(f"cluster {identifier}"):
            try:
                found = self._client.describe_db_clusters(DBClusterIdentifier=identifier)["DBClusters"]
            except self._client.exceptions.DBClusterNotFoundFault:
                return None
        return _cluster(found[0]) if found else None

    def instance(self, identifier: str) -> Instance | None:
        """The instance of this name; None where there is none."""
        with translated(f"instance {identifier}"):
            try:
                found = self._client.describe_db_instances(DBInstanceIdentifier=identifier)["DBInstances"]
            except self._client.exceptions.DBInstanceNotFoundFault:
                return None
        if not found:
            return None
        one = found[0]
        return Instance(
            identifier=one["DBInstanceIdentifier"],
            status=one["DBInstanceStatus"],
            instance_class=one["DBInstanceClass"],
            insights_key=one.get("PerformanceInsightsKMSKeyId", "") if one.get("PerformanceInsightsEnabled") else "",
            monitoring_seconds=one.get("MonitoringInterval", 0),
            monitoring_role=one.get("MonitoringRoleArn", ""),
        )

    def restore(self, wanted: Restoration) -> None:
        """Begin to make ``wanted``; where a cluster of its name is there already, nothing."""
        with translated(f"making cluster {wanted.identifier}"):
            try:
                self._client.restore_db_cluster_to_point_in_time(**restoration(wanted))
            except self._client.exceptions.DBClusterAlreadyExistsFault:
                return

    def create_instance(self, wanted: NewInstance) -> None:
        """Begin to make ``wanted``; where an instance of its name is there already, nothing."""
        with translated(f"making instance {wanted.identifier}"):
            try:
                self._client.create_db_instance(**new_instance(wanted))
            except self._client.exceptions.DBInstanceAlreadyExistsFault:
                return


def _cluster(one: DBClusterTypeDef) -> Cluster:
    scaling = one.get("ServerlessV2ScalingConfiguration")
    members = one.get("DBClusterMembers", [])
    return Cluster(
        identifier=one["DBClusterIdentifier"],
        status=one["Status"],
        created=one["ClusterCreateTime"],
        endpoint=one.get("Endpoint", ""),
        port=one.get("Port", 5432),
        engine=one["Engine"],
        earliest=one.get("EarliestRestorableTime"),
        latest=one.get("LatestRestorableTime"),
        backup_days=one.get("BackupRetentionPeriod", 0),
        subnet_group=one.get("DBSubnetGroup", ""),
        security_groups=tuple(group["VpcSecurityGroupId"] for group in one.get("VpcSecurityGroups", [])),
        kms_key=one.get("KmsKeyId", ""),
        secrets_key=one.get("MasterUserSecret", {}).get("KmsKeyId", ""),
        capacity=Capacity(scaling["MinCapacity"], scaling["MaxCapacity"]) if scaling else None,
        iam_authentication=one.get("IAMDatabaseAuthenticationEnabled", False),
        writer=next((m["DBInstanceIdentifier"] for m in members if m.get("IsClusterWriter")), ""),
        readers=tuple(sorted(m["DBInstanceIdentifier"] for m in members if not m.get("IsClusterWriter"))),
        # AWS keeps its own tags ("aws:...") for itself.
        tags=tuple((tag["Key"], tag["Value"]) for tag in one.get("TagList", []) if not tag["Key"].startswith("aws:")),
    )


def restoration(wanted: Restoration) -> RestoreDBClusterToPointInTimeMessageTypeDef:
    """The parameters of RestoreDBClusterToPointInTime. A clone takes no time: it is made of what is there now."""
    asked: RestoreDBClusterToPointInTimeMessageTypeDef = {
        "DBClusterIdentifier": wanted.identifier,
        "SourceDBClusterIdentifier": wanted.source,
        "Port": wanted.port,
        "DBSubnetGroupName": wanted.subnet_group,
        "VpcSecurityGroupIds": wanted.security_groups,
        "DBClusterParameterGroupName": wanted.parameter_group,
        "KmsKeyId": wanted.kms_key,
        "EnableIAMDatabaseAuthentication": wanted.iam_authentication,
        "CopyTagsToSnapshot": True,
        "Tags": [{"Key": key, "Value": value} for key, value in wanted.tags],
    }
    if wanted.at is None:
        asked["RestoreType"] = "copy-on-write"
        asked["UseLatestRestorableTime"] = True
    else:
        asked["RestoreType"] = "full-copy"
        asked["RestoreToTime"] = wanted.at
    if wanted.capacity is not None:
        limits = wanted.capacity
        asked["ServerlessV2ScalingConfiguration"] = {"MinCapacity": limits.smallest, "MaxCapacity": limits.largest}
    return asked


def new_instance(wanted: NewInstance) -> CreateDBInstanceMessageTypeDef:
    """The parameters of CreateDBInstance."""
    like = wanted.like
    asked: CreateDBInstanceMessageTypeDef = {
        "DBInstanceIdentifier": wanted.identifier,
        "DBClusterIdentifier": wanted.cluster,
        "Engine": wanted.engine,
        "DBInstanceClass": like.instance_class,
        "PubliclyAccessible": False,
        "AutoMinorVersionUpgrade": False,
        "Tags": [{"Key": key, "Value": value} for key, value in wanted.tags],
    }
    if like.insights_key:
        asked["EnablePerformanceInsights"] = True
        asked["PerformanceInsightsKMSKeyId"] = like.insights_key
    if like.monitoring_role:
        asked["MonitoringInterval"] = like.monitoring_seconds
        asked["MonitoringRoleArn"] = like.monitoring_role
    return asked
