"""Alarms: what is wrong, in the words of the one who is woken, and where the way out is written.

Every alarm tells the topic when it begins and when it is over, and its description ends in the section of
the runbook that deals with it. Missing data are judged one by one, because an alarm that is red on an idle
stack teaches people to ignore it:

- The controller is silent while no migration is active. So ``lag-missing`` and ``controller-silent`` compare
  two metrics: a migration that streams without reporting its lag, a schedule that wakes nobody who reports.
  In such a comparison a missing value counts as 0 (CloudWatch user guide, "Using metric math", operators);
  where both are missing there is nothing to judge, and that is fine.
- A run reports when it ends, and only one runs at a time. So silence and refused starts are judged over more
  than the longest run.
- DMS reports while its task runs and is silent before and after. The state is then INSUFFICIENT_DATA, which
  is not red but is told to the topic when it begins. That a *stream* has no lag to report is ``lag-missing``.
- Counts of failures and slot sizes are reported only when there are any: no data is good."""

from __future__ import annotations

from dataclasses import dataclass

from cdktn_provider_aws.cloudwatch_metric_alarm import CloudwatchMetricAlarm, CloudwatchMetricAlarmMetricQuery
from constructs import Construct

from daybreak.aws.metrics import PHASE_NUMBER, Own
from daybreak.config.aws import Watch
from daybreak.infra import metrics
from daybreak.infra.aurora import Aurora
from daybreak.infra.controller import TIMEOUT_SECONDS, Controller
from daybreak.infra.dms import Dms
from daybreak.infra.metrics import Metric, Role
from daybreak.infra.notices import Notices, runbook
from daybreak.infra.site import Site
from daybreak.model import Phase

_GB = 10**9
# Below this PostgreSQL is near being killed for memory, whatever the size of the instance.
_LEAST_MEMORY = 256 * 2**20
_LEAST_DMS_STORAGE = 0.1


@dataclass(frozen=True, slots=True)
class AlarmsProps:
    """What the alarms need. ``poll_minutes`` is how often the controller looks and reports."""

    site: Site
    settings: Watch
    aurora: Aurora
    dms: Dms | None
    controller: Controller
    notices: Notices
    migration: str
    poll_minutes: int


@dataclass(frozen=True, slots=True)
class Rule:
    """One alarm: ``metric``, or ``expression`` over the metrics ``of``, ``above`` or ``below`` a limit in
    ``datapoints`` of ``periods``. ``anchor`` is its section in the runbook."""

    name: str
    anchor: str
    meaning: str
    metric: Metric | None = None
    expression: str = ""
    of: tuple[tuple[str, Metric], ...] = ()
    above: float | None = None
    below: float | None = None
    periods: int = 1
    datapoints: int = 1
    missing: str = "notBreaching"
    tell_silence: bool = False


class Alarms(Construct):
    """All alarms, in ``all``; those ``of_the_migration`` leave out what is wrong with the controller itself."""

    all: tuple[CloudwatchMetricAlarm, ...]
    of_the_migration: tuple[CloudwatchMetricAlarm, ...]

    def __init__(self, scope: Construct, id_: str, props: AlarmsProps) -> None:
        super().__init__(scope, id_)
        self._props = props
        rules = [*self._stream(), *self._target(), *self._dms()]
        self.of_the_migration = tuple(self._alarm(rule) for rule in rules)
        self.all = (*self.of_the_migration, *(self._alarm(rule) for rule in self._controller()))

    def _alarm(self, rule: Rule) -> CloudwatchMetricAlarm:
        topic = [self._props.notices.topic.arn]
        metric = rule.metric
        return CloudwatchMetricAlarm(
            self,
            rule.name,
            alarm_name=self._props.site.names.of(rule.name, limit=255),
            alarm_description=f"{rule.meaning} {runbook(self._props.settings, rule.anchor)}",
            comparison_operator="GreaterThanThreshold" if rule.below is None else "LessThanThreshold",
            threshold=rule.above if rule.below is None else rule.below,
            evaluation_periods=rule.periods,
            datapoints_to_alarm=rule.datapoints,
            treat_missing_data=rule.missing,
            namespace=metric.namespace if metric else None,
            metric_name=metric.name if metric else None,
            dimensions=dict(metric.dimensions) if metric else None,
            statistic=metric.statistic if metric else None,
            period=metric.period if metric else None,
            metric_query=None if metric else _queries(rule),
            alarm_actions=topic,
            ok_actions=topic,
            insufficient_data_actions=topic if rule.tell_silence else None,
        )

    def _own(self, name: Own, statistic: str, period: int) -> Metric:
        return metrics.own(self._props.site, self._props.migration, name).by(statistic, period)

    def _stream(self) -> list[Rule]:
        settings, poll = self._props.settings, 60 * self._props.poll_minutes
        # A look that began in one period may report in the next; so each period holds several looks.
        window = 60 * max(5, 2 * self._props.poll_minutes)
        streaming = " OR ".join(f"(phase == {PHASE_NUMBER[p]})" for p in (Phase.STREAMING, Phase.SWITCHING))
        return [
            Rule(
                "lag",
                "lag",
                f"The standby is more than {settings.lag_seconds:g} s behind: no switchover can begin.",
                metric=self._own(Own.LAG_SECONDS, "Maximum", poll),
                above=settings.lag_seconds,
                periods=5,
                datapoints=3,
            ),
            Rule(
                "lag-missing",
                "lag-missing",
                "A migration is streaming, and its lag cannot be measured: take the stream for broken.",
                expression=f"({streaming}) > reports",
                of=(
                    ("phase", self._own(Own.PHASE, "Maximum", window)),
                    ("reports", self._own(Own.LAG_SECONDS, "SampleCount", window)),
                ),
                above=0,
                periods=2,
                datapoints=2,
            ),
            Rule(
                "retained-wal",
                "retained-wal",
                f"A slot keeps more than {settings.retained_wal_gb:g} GB of WAL on the source or the target.",
                metric=self._own(Own.RETAINED_WAL_BYTES, "Maximum", poll),
                above=settings.retained_wal_gb * _GB,
                periods=5,
                datapoints=3,
            ),
            Rule(
                "switchover-failed",
                "switchover-failed",
                "A switchover backed out; writers went on where they were.",
                metric=self._own(Own.CUTOVER_FAILURE, "Sum", 60),
                above=0,
            ),
        ]

    def _controller(self) -> list[Rule]:
        poll = 60 * self._props.poll_minutes
        window = max(300, 2 * poll)
        # From one report to the next: until the next look begins, and as long as that may take.
        silent = (poll + TIMEOUT_SECONDS) // window + 1
        controller = self._props.controller
        return [
            Rule(
                "controller-silent",
                "controller-silent",
                "The controller is woken and reports nothing: nobody watches over the migration.",
                expression="(wakes > 0) > reports",
                of=(
                    ("wakes", metrics.schedule(self._props.site).by("Sum", window)),
                    ("reports", self._own(Own.PHASE, "SampleCount", window)),
                ),
                above=0,
                periods=silent,
                datapoints=silent,
            ),
            Rule(
                "controller-errors",
                "controller-errors",
                "The controller's function ended in an error.",
                metric=metrics.function(controller, "Errors"),
                above=0,
            ),
            Rule(
                "controller-throttles",
                "controller-throttles",
                # Only one may run at a time: behind a long one looks are refused a start, and tried again.
                "The controller's function has been refused a start for an hour.",
                metric=metrics.function(controller, "Throttles"),
                above=0,
                periods=12,
                datapoints=12,
            ),
            Rule(
                "dead-letters",
                "dead-letters",
                "An event was not handled and waits in the queue of dead letters.",
                metric=metrics.dead_letters(controller),
                above=0,
            ),
        ]

    def _target(self) -> list[Rule]:
        aurora, settings = self._props.aurora, self._props.settings
        roles = [(Role.WRITER, "writer")] + [(Role.READER, "readers")] * (len(aurora.instances) > 1)
        rules = [rule for role, word in roles for rule in self._instances(role, word)]
        rules.append(
            Rule(
                "slot-disk",
                "slot-disk",
                f"WAL and slots take more than {settings.retained_wal_gb:g} GB of the cluster.",
                expression="logs + slots",
                of=(
                    ("logs", metrics.aurora(aurora, Role.WRITER, "TransactionLogsDiskUsage").by("Maximum", 300)),
                    ("slots", metrics.aurora(aurora, Role.WRITER, "ReplicationSlotDiskUsage").by("Maximum", 300)),
                ),
                above=settings.retained_wal_gb * _GB,
                periods=2,
                datapoints=2,
            )
        )
        return rules

    def _instances(self, role: Role, word: str) -> list[Rule]:
        aurora, settings = self._props.aurora, self._props.settings
        rules = [
            Rule(
                f"cpu-{word}",
                "cpu",
                f"The CPU load of the {word} is above {settings.cpu_percent:g} percent.",
                # Of a Serverless v2 instance: of what it has at its largest capacity.
                metric=metrics.aurora(aurora, role, "CPUUtilization").by("Average", 300),
                above=settings.cpu_percent,
                periods=3,
                datapoints=3,
                missing="missing",
            ),
            Rule(
                f"memory-{word}",
                "memory",
                f"Less than {_LEAST_MEMORY // 2**20} MiB of memory is left at the {word}.",
                metric=metrics.aurora(aurora, role, "FreeableMemory").by("Minimum", 300),
                below=_LEAST_MEMORY,
                periods=3,
                datapoints=3,
                missing="missing",
            ),
        ]
        if aurora.max_connections:
            limit = int(aurora.max_connections * settings.connections_percent / 100)
            rules.append(
                Rule(
                    f"connections-{word}",
                    "connections",
                    f"More than {limit} of at most {aurora.max_connections} connections are open at the {word}.",
                    metric=metrics.aurora(aurora, role, "DatabaseConnections").by("Maximum", 60),
                    above=limit,
                    periods=3,
                    datapoints=3,
                    missing="missing",
                )
            )
        return rules

    def _dms(self) -> list[Rule]:
        dms, settings = self._props.dms, self._props.settings
        if dms is None:
            return []
        latencies = [
            Rule(
                f"dms-latency-{side}",
                "dms-latency",
                f"DMS is more than {settings.lag_seconds:g} s behind at the {side}, or its task has stopped.",
                metric=metrics.dms_task(dms, f"CDCLatency{side.capitalize()}", "Maximum"),
                above=settings.lag_seconds,
                periods=2,
                datapoints=2,
                missing="missing",
                tell_silence=True,
            )
            for side in ("source", "target")
        ]
        return [
            *latencies,
            Rule(
                "dms-cpu",
                "dms-cpu",
                f"The CPU load of the replication instance is above {settings.cpu_percent:g} percent.",
                metric=metrics.dms_instance(dms, "CPUUtilization"),
                above=settings.cpu_percent,
                periods=3,
                datapoints=3,
                missing="missing",
            ),
            Rule(
                "dms-storage",
                "dms-storage",
                f"The replication instance has less than {_LEAST_DMS_STORAGE:.0%} of its storage left.",
                metric=metrics.dms_instance(dms, "FreeStorageSpace", "Minimum"),
                below=(dms.instance.allocated_storage_input or 0) * 2**30 * _LEAST_DMS_STORAGE,
                missing="missing",
            ),
        ]


def _queries(rule: Rule) -> list[CloudwatchMetricAlarmMetricQuery]:
    judged = CloudwatchMetricAlarmMetricQuery(
        id="judged", expression=rule.expression, label=rule.name, return_data=True
    )
    return [judged, *(metric.query(id_) for id_, metric in rule.of)]
