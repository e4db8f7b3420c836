"""Daybreak's own metrics: their names, which dashboard and alarms look for, and their publication.

They are written by PutMetricData rather than through the log (embedded metric format), so that a rehearsal on
emulated AWS sees the same metrics and alarms as AWS itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from daybreak.aws.errors import translated
from daybreak.model import MigrationRecord, Observation, Phase, Side

if TYPE_CHECKING:
    from types_boto3_cloudwatch import CloudWatchClient

NAMESPACE = "Daybreak"
# What the metric Phase has as its value: the phase's place in the order of the enumeration.
PHASE_NUMBER = {phase: number for number, phase in enumerate(Phase)}


class Own(StrEnum):
    """What the controller is to publish at each look, while a migration is active.

    ``PHASE`` always; ``LAG_SECONDS`` while streaming or switching, and only where it could be measured; counts
    when they happen."""

    LAG_SECONDS = "LagSeconds"
    LAG_BYTES = "LagBytes"
    RETAINED_WAL_BYTES = "RetainedWalBytes"
    PHASE = "Phase"
    READ_WEIGHT = "ReadWeight"
    WRITER_ON_TARGET = "WriterOnTarget"
    WRITE_PAUSE_MS = "WritePauseMs"
    CUTOVER_SUCCESS = "CutoverSuccess"
    CUTOVER_FAILURE = "CutoverFailure"
    ROLLBACK = "Rollback"
    FULL_LOAD_PERCENT = "FullLoadPercent"


_STREAMING = frozenset({Phase.STREAMING, Phase.SWITCHING})


@dataclass(frozen=True, slots=True)
class Metrics:
    """Publishes for one migration in one environment: the two dimensions of every metric."""

    client: CloudWatchClient
    migration: str
    environment: str

    def publish(self, values: Mapping[Own, float]) -> None:
        """Write ``values`` as of now. Raises TransientError or PermanentError."""
        if not values:
            return
        dimensions = [
            {"Name": "Migration", "Value": self.migration},
            {"Name": "Environment", "Value": self.environment},
        ]
        with translated("publishing metrics"):
            self.client.put_metric_data(
                Namespace=NAMESPACE,
                MetricData=[
                    {"MetricName": name.value, "Dimensions": dimensions, "Value": value}  # type: ignore[typeddict-item]
                    for name, value in values.items()
                ],
            )


def measured(record: MigrationRecord, seen: Observation) -> dict[Own, float]:
    """What is worth a point at every look. What could not be measured is left out: missing is bad, never 0."""
    streams = seen.replication
    values: dict[Own, float | None] = {
        Own.PHASE: PHASE_NUMBER[record.phase],
        Own.READ_WEIGHT: record.read_weight,
        Own.WRITER_ON_TARGET: float(record.primary is Side.TARGET),
        Own.RETAINED_WAL_BYTES: streams.retained_wal_bytes,
    }
    if record.phase in _STREAMING:
        values |= {Own.LAG_SECONDS: streams.lag_seconds, Own.LAG_BYTES: streams.lag_bytes}
    if record.phase is Phase.LOADING and streams.bytes_total:
        values[Own.FULL_LOAD_PERCENT] = 100 * streams.bytes_copied / streams.bytes_total
    return {name: value for name, value in values.items() if value is not None}
