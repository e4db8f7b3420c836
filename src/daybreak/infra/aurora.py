"""The Aurora PostgreSQL cluster: encrypted, private, TLS only, ready for logical replication both ways.

Nothing in it restarts a server by itself while a migration runs: minor versions are upgraded by changing
``aws.aurora.engine_version``. Whoever deploys another version or class has confirmed the plan, so it is applied
at once, with the restart that it takes.
``daybreak rewind`` makes another cluster from this one's backups; the parameter group for that is here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cdktn import Fn, TerraformResourceLifecycle
from cdktn_provider_aws.cloudwatch_log_group import CloudwatchLogGroup
from cdktn_provider_aws.data_aws_subnet import DataAwsSubnet
from cdktn_provider_aws.db_subnet_group import DbSubnetGroup
from cdktn_provider_aws.iam_role import IamRole
from cdktn_provider_aws.rds_cluster import RdsCluster, RdsClusterServerlessv2ScalingConfiguration
from cdktn_provider_aws.rds_cluster_instance import RdsClusterInstance
from cdktn_provider_aws.rds_cluster_parameter_group import (
    RdsClusterParameterGroup,
    RdsClusterParameterGroupParameter,
)
from constructs import Construct

from daybreak.config import aws
from daybreak.config.names import BACKUP_TAG, CLUSTER, PARAMETER_GROUP_LIMIT, REWIND_PARAMETERS
from daybreak.errors import ConfigError
from daybreak.infra.encryption import Keys
from daybreak.infra.network import Network
from daybreak.infra.policies import Statement, service_role
from daybreak.infra.site import Site

MASTER_USER = "postgres"
_ENGINE = "aurora-postgresql"
_SERVERLESS = "db.serverless"
# UTC. The daily plan of infra.backup comes after both.
_BACKUP_WINDOW, _MAINTENANCE_WINDOW = "01:00-02:00", "sun:03:00-sun:04:00"
_MONITORING_SECONDS = 60
_INSIGHTS_DAYS = 7
_LAST_TIER = 15

# Static parameters count from the next start, which for a new server is its first. Aurora user guide,
# "Setting up logical replication": workers, beside those of autovacuum (3) and parallel query (half the
# vCPUs), have to fit into max_worker_processes, whose own default of 8 on small servers is too low.
_STATIC = {
    "rds.logical_replication": "1",
    "rds.force_ssl": "1",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "max_worker_processes": "64",
}
_APPLY_WORKERS = {"max_logical_replication_workers": "12"}
# The server of a rewind holds copies of this one's subscriptions. Were their workers to start, they would
# take the slots away from the server that the migration goes on with.
_NO_APPLY_WORKERS = {"max_logical_replication_workers": "0"}
_DYNAMIC = {
    # Tables that join a running stream are copied so many at a time.
    "max_sync_workers_per_subscription": "4",
    # Milliseconds. A subscriber that applies one large transaction answers late; that is no reason to cut it off.
    "wal_sender_timeout": "300000",
}

# RDS API, CreateDBCluster, DatabaseName.
_DATABASE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class AuroraProps:
    """What the cluster needs. ``database`` is created empty."""

    site: Site
    settings: aws.Aurora
    network: Network
    keys: Keys
    database: str


class Aurora(Construct):
    """``cluster``, its ``instances`` (the first one made is the writer), and the ``log_group`` of its log.

    RDS makes the master user's password, keeps it in Secrets Manager under the key of secrets and rotates it
    (RDS user guide, "Password management with Secrets Manager"). Database Insights is in its standard mode,
    the default. Raises ConfigError for a database name that RDS refuses."""

    def __init__(self, scope: Construct, id_: str, props: AuroraProps) -> None:
        super().__init__(scope, id_)
        self._props = props
        self._site = props.site
        self._name = props.site.names.of(CLUSTER)
        if not _DATABASE.fullmatch(props.database):
            raise ConfigError(
                f"RDS makes no database named {props.database!r}: letters, digits and _ only.",
                "Name another database in target.dsn, or rename it at the source.",
            )
        parameters = self._parameters("parameters", CLUSTER, _APPLY_WORKERS)
        self._parameters("rewind-parameters", REWIND_PARAMETERS, _NO_APPLY_WORKERS)
        self.log_group = self._log()
        self.cluster = self._cluster(parameters)
        self.instances = self._instances()

    @property
    def max_connections(self) -> int | None:
        """See ``max_connections``."""
        return max_connections(self._props.settings)

    def _parameters(self, id_: str, what: str, workers: dict[str, str]) -> RdsClusterParameterGroup:
        """One cluster parameter group. A static parameter with ``immediate`` is refused by RDS."""
        methods = ((_STATIC | workers, "pending-reboot"), (_DYNAMIC, "immediate"))
        return RdsClusterParameterGroup(
            self,
            id_,
            name=self._site.names.of(what, limit=PARAMETER_GROUP_LIMIT),
            family=self._props.settings.family,
            parameter=[
                RdsClusterParameterGroupParameter(name=name, value=value, apply_method=method)
                for values, method in methods
                for name, value in values.items()
            ],
        )

    def _log(self) -> CloudwatchLogGroup:
        """Made before the cluster: the one that RDS would make is not encrypted and keeps everything for ever."""
        return CloudwatchLogGroup(
            self,
            "log",
            name=f"/aws/rds/cluster/{self._name}/postgresql",
            retention_in_days=self._site.log_days,
            kms_key_id=self._props.keys.operations.arn,
        )

    def _cluster(self, parameters: RdsClusterParameterGroup) -> RdsCluster:
        settings, keys = self._props.settings, self._props.keys
        subnets = DbSubnetGroup(
            self, "subnets", name=self._site.names.of(CLUSTER, limit=255), subnet_ids=self._props.network.subnet_ids
        )
        capacity = RdsClusterServerlessv2ScalingConfiguration(
            min_capacity=settings.min_acu, max_capacity=settings.max_acu
        )
        return RdsCluster(
            self,
            "cluster",
            cluster_identifier=self._name,
            engine=_ENGINE,
            engine_version=settings.engine_version,
            serverlessv2_scaling_configuration=None if settings.instance_class else capacity,
            database_name=self._props.database,
            master_username=MASTER_USER,
            manage_master_user_password=True,
            master_user_secret_kms_key_id=keys.secrets.arn,
            iam_database_authentication_enabled=True,
            db_cluster_parameter_group_name=parameters.name,
            db_subnet_group_name=subnets.name,
            vpc_security_group_ids=[self._props.network.database_group.id],
            storage_encrypted=True,
            kms_key_id=keys.data.arn,
            backup_retention_period=settings.backup_days,
            preferred_backup_window=_BACKUP_WINDOW,
            preferred_maintenance_window=_MAINTENANCE_WINDOW,
            # Left to the window, a change would come days after it was confirmed, and show in every plan until then.
            apply_immediately=True,
            copy_tags_to_snapshot=True,
            enabled_cloudwatch_logs_exports=["postgresql"],
            deletion_protection=_or(settings.deletion_protection, self._site.protected),
            skip_final_snapshot=not _or(settings.final_snapshot, self._site.protected),
            final_snapshot_identifier=self._final_snapshot(),
            tags={BACKUP_TAG: self._site.names.of("backup")},
            depends_on=[self.log_group],
            # The snapshot's name holds the time of the first apply, and must not change with every other.
            lifecycle=TerraformResourceLifecycle(ignore_changes=["final_snapshot_identifier"]),
        )

    def _final_snapshot(self) -> str:
        """A name that no earlier cluster of this name has taken: a snapshot outlives its cluster."""
        now = Fn.formatdate("YYYYMMDD'-'hhmmss", Fn.timestamp())
        return self._site.names.of(f"{CLUSTER}-final-{now}", limit=1000)

    def _instances(self) -> tuple[RdsClusterInstance, ...]:
        """The writer and the readers, over the zones of the subnets in turn."""
        zones = [
            DataAwsSubnet(self, f"subnet-{index}", id=subnet).availability_zone
            for index, subnet in enumerate(self._props.network.subnet_ids)
        ]
        role = self._monitoring()
        writer = self._instance(0, zones[0], role, ())
        # The first instance of a cluster becomes its writer, so the readers wait for it.
        readers = (
            self._instance(index, zones[index % len(zones)], role, (writer,))
            for index in range(1, self._props.settings.readers + 1)
        )
        return (writer, *readers)

    def _instance(
        self, index: int, zone: str, monitoring: IamRole, after: tuple[RdsClusterInstance, ...]
    ) -> RdsClusterInstance:
        return RdsClusterInstance(
            self,
            f"instance-{index}",
            identifier=self._site.names.of(f"{CLUSTER}-{index}"),
            cluster_identifier=self.cluster.id,
            engine=_ENGINE,
            engine_version=self.cluster.engine_version,
            instance_class=self._props.settings.instance_class or _SERVERLESS,
            availability_zone=zone,
            promotion_tier=min(index, _LAST_TIER),
            publicly_accessible=False,
            # An upgrade restarts the server: not in the middle of a migration.
            auto_minor_version_upgrade=False,
            preferred_maintenance_window=_MAINTENANCE_WINDOW,
            apply_immediately=True,
            copy_tags_to_snapshot=True,
            monitoring_interval=_MONITORING_SECONDS,
            monitoring_role_arn=monitoring.arn,
            performance_insights_enabled=True,
            performance_insights_kms_key_id=self._props.keys.data.arn,
            performance_insights_retention_period=_INSIGHTS_DAYS,
            depends_on=list(after),
            # Another zone means another instance; a subnet that moves is no reason for that.
            lifecycle=TerraformResourceLifecycle(ignore_changes=["availability_zone"]),
        )

    def _monitoring(self) -> IamRole:
        """Enhanced Monitoring writes to one log group of this account (Aurora user guide, "Setting up
        Enhanced Monitoring"; the rights are those of AmazonRDSEnhancedMonitoringRole, bound to it)."""
        group = self._site.arn("logs", "log-group:RDSOSMetrics")
        return service_role(
            self,
            "monitoring",
            self._site,
            "aurora-monitoring",
            "monitoring.rds.amazonaws.com",
            (
                Statement("MakeLogGroup", ("logs:CreateLogGroup", "logs:PutRetentionPolicy"), (group,)),
                Statement(
                    "WriteMetrics",
                    ("logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams", "logs:GetLogEvents"),
                    (f"{group}:log-stream:*",),
                ),
            ),
        )


def max_connections(settings: aws.Aurora) -> int | None:
    """Connections that one instance allows at least, for alarms; None where its class is not known.

    The default is LEAST({DBInstanceClassMemory/9531392}, 5000) (Aurora user guide, "Maximum connections"), and
    that memory is somewhat below the nominal one: the numbers here follow AWS's tables from below."""
    if settings.instance_class:
        return _connections_of_class(settings.instance_class)
    # "Maximum connections for Aurora Serverless v2": 189 at 1 ACU, 823 at 4, 3,360 at 16; at most 2,000
    # where capacity can fall to half an ACU.
    connections = 189 + int(211 * (settings.max_acu - 1))
    return min(connections, 2000 if settings.min_acu <= 0.5 else 5000)


def _or(value: bool | None, default: bool) -> bool:
    return default if value is None else value


def _connections_of_class(name: str) -> int | None:
    """The tables have 100 connections for each GiB at least: 405 for db.t4g.medium, 1,600 for db.r5.large."""
    found = re.fullmatch(r"db\.(t|r|x)\d\w*\.(medium|large|(\d*)xlarge)", name)
    if found is None:
        return None
    family, size, times = found.groups()
    larges = {"medium": 0.5, "large": 1.0}.get(size, 2.0 * int(times or 1))
    gib_of_large = {"t": 8, "r": 16, "x": 32}[family]
    return min(int(100 * gib_of_large * larges), 5000)
