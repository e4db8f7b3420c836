"""The dashboard: one page that answers how the migration stands, and why, from top to bottom.

Names inside its body are Terraform references, which Terraform fills in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cdktn_provider_aws.cloudwatch_dashboard import CloudwatchDashboard
from constructs import Construct

from daybreak.aws.metrics import PHASE_NUMBER, Own
from daybreak.config.aws import Watch
from daybreak.infra import metrics
from daybreak.infra.alarms import Alarms
from daybreak.infra.aurora import Aurora
from daybreak.infra.controller import Controller
from daybreak.infra.dms import Dms
from daybreak.infra.metrics import Metric, Role
from daybreak.infra.notices import runbook
from daybreak.infra.site import Site
from daybreak.infra.widgets import Graph, Limit, Log, States, Text, Widget, body

# The class that RDS gives instances whose capacity is counted in ACU.
_SERVERLESS = "db.serverless"


@dataclass(frozen=True, slots=True)
class DashboardProps:
    """What the dashboard shows, and the ``settings`` whose limits it draws."""

    site: Site
    settings: Watch
    aurora: Aurora
    dms: Dms | None
    controller: Controller
    alarms: Alarms
    migration: str


class Dashboard(Construct):
    """The dashboard, in ``dashboard``; without DMS it has no section for it."""

    dashboard: CloudwatchDashboard

    def __init__(self, scope: Construct, id_: str, props: DashboardProps) -> None:
        super().__init__(scope, id_)
        self._props = props
        rows = [*self._head(), *self._migration(), *self._dms(), *self._target(), *self._controller()]
        self.dashboard = CloudwatchDashboard(
            self,
            "dashboard",
            dashboard_name=props.site.names.of("migration", limit=255),
            dashboard_body=body(rows, props.site.region),
        )

    def _head(self) -> Iterator[tuple[Widget, ...]]:
        title = f"# Migration {self._props.migration}, {self._props.site.names.environment}"
        yield (Text(f"{title}\nEvery alarm has its section. {runbook(self._props.settings)}"),)
        yield (States("Alarms", tuple(one.arn for one in self._props.alarms.all)),)

    def _migration(self) -> Iterator[tuple[Widget, ...]]:
        settings = self._props.settings
        yield (
            Graph(
                "Phase",
                (self._own(Own.PHASE),),
                limits=tuple(Limit(phase.value, number) for phase, number in PHASE_NUMBER.items()),
            ),
            Graph(
                "Reads on the target, percent; writer there: 1",
                (self._own(Own.READ_WEIGHT),),
                (self._own(Own.WRITER_ON_TARGET),),
            ),
            Graph("Full load, percent", (self._own(Own.FULL_LOAD_PERCENT),)),
        )
        yield (
            Graph(
                "Replication lag, seconds",
                (self._own(Own.LAG_SECONDS),),
                limits=(Limit("alarm", settings.lag_seconds),),
            ),
            Graph(
                "Not confirmed, and kept by slots, bytes of WAL",
                (self._own(Own.LAG_BYTES), self._own(Own.RETAINED_WAL_BYTES)),
                limits=(Limit("alarm", settings.retained_wal_gb * 10**9),),
            ),
            Graph(
                "Switchovers; writers held, milliseconds",
                tuple(self._own(one).by("Sum") for one in (Own.CUTOVER_SUCCESS, Own.CUTOVER_FAILURE, Own.ROLLBACK)),
                (self._own(Own.WRITE_PAUSE_MS),),
            ),
        )

    def _dms(self) -> Iterator[tuple[Widget, ...]]:
        dms = self._props.dms
        if dms is None:
            return
        yield (
            Graph(
                "DMS: latency, seconds",
                self._task(dms, "CDCLatencySource", "CDCLatencyTarget", statistic="Maximum"),
                limits=(Limit("alarm", self._props.settings.lag_seconds),),
            ),
            Graph(
                "DMS: throughput, rows per second",
                self._task(
                    dms,
                    "FullLoadThroughputRowsSource",
                    "FullLoadThroughputRowsTarget",
                    "CDCThroughputRowsSource",
                    "CDCThroughputRowsTarget",
                ),
            ),
            Graph(
                "DMS: changes that wait, rows",
                self._task(
                    dms,
                    "CDCIncomingChanges",
                    "CDCChangesMemorySource",
                    "CDCChangesMemoryTarget",
                    "CDCChangesDiskSource",
                    "CDCChangesDiskTarget",
                    statistic="Maximum",
                ),
            ),
        )
        yield (
            Graph("DMS: CPU, percent", (metrics.dms_instance(dms, "CPUUtilization"),)),
            Graph(
                "DMS: memory and swap, bytes",
                (metrics.dms_instance(dms, "FreeableMemory", "Minimum"), metrics.dms_instance(dms, "SwapUsage")),
            ),
            Graph("DMS: storage left, bytes", (metrics.dms_instance(dms, "FreeStorageSpace", "Minimum"),)),
        )
        # DMS marks the severity of a line so (DMS user guide, "Viewing and managing AWS DMS task logs").
        yield (Log("DMS: errors", dms.log_group_name, "]E:"),)

    def _target(self) -> Iterator[tuple[Widget, ...]]:
        aurora, settings = self._props.aurora, self._props.settings
        connections = aurora.max_connections
        yield (
            Graph("Aurora: CPU, percent", self._both("CPUUtilization"), limits=(Limit("alarm", settings.cpu_percent),)),
            Graph("Aurora: memory left, bytes", self._both("FreeableMemory", "Minimum")),
            Graph(
                "Aurora: connections",
                self._both("DatabaseConnections", "Maximum"),
                limits=(Limit("alarm", connections * settings.connections_percent / 100),) if connections else (),
            ),
        )
        yield (
            Graph(
                "Aurora: commits and bytes written, per second",
                (self._writer("CommitThroughput"),),
                (self._writer("WriteThroughput"),),
            ),
            Graph(
                "Aurora: readers behind the writer, milliseconds", (self._writer("AuroraReplicaLagMaximum", "Maximum"),)
            ),
            Graph(
                "Aurora: WAL and slots, bytes",
                tuple(
                    self._writer(name, "Maximum")
                    for name in ("OldestReplicationSlotLag", "TransactionLogsDiskUsage", "ReplicationSlotDiskUsage")
                ),
                limits=(Limit("alarm", settings.retained_wal_gb * 10**9),),
            ),
        )
        if aurora.instances[0].instance_class_input == _SERVERLESS:
            yield (
                Graph("Aurora: capacity, ACU", self._both("ServerlessDatabaseCapacity", "Maximum")),
                Graph("Aurora: capacity, percent of the largest", self._both("ACUUtilization", "Maximum")),
            )

    def _controller(self) -> Iterator[tuple[Widget, ...]]:
        controller = self._props.controller
        yield (
            Graph(
                "Controller: runs",
                tuple(metrics.function(controller, name) for name in ("Invocations", "Errors", "Throttles")),
            ),
            Graph("Controller: duration, milliseconds", (metrics.function(controller, "Duration", "Maximum"),)),
            Graph("Events that nobody could handle", (metrics.dead_letters(controller),)),
        )
        yield (Log("Controller: errors", controller.log_group.name, "ERROR|Task timed out"),)

    def _own(self, name: Own) -> Metric:
        return metrics.own(self._props.site, self._props.migration, name).called(name.value)

    def _writer(self, name: str, statistic: str = "Average") -> Metric:
        return metrics.aurora(self._props.aurora, Role.WRITER, name, statistic).called(name)

    def _both(self, name: str, statistic: str = "Average") -> tuple[Metric, ...]:
        return tuple(
            metrics.aurora(self._props.aurora, role, name, statistic).called(role.value.lower()) for role in Role
        )

    @staticmethod
    def _task(dms: Dms, *names: str, statistic: str = "Average") -> tuple[Metric, ...]:
        return tuple(metrics.dms_task(dms, name, statistic).called(name) for name in names)
