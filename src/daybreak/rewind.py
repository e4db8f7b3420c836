"""The plan of a rewind: another cluster, as the target was at some moment or as it is now.

Aurora PostgreSQL can't be turned back in place (backtrack is for Aurora MySQL only), so nothing here touches
the cluster that is there: its data, streams and clients go on. Pure: decides from what AWS said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from daybreak.aws.cli import command
from daybreak.aws.rds import Cluster, Instance, NewInstance, Restoration, new_instance, restoration
from daybreak.config.names import BACKUP_TAG, CLUSTER, PARAMETER_GROUP_LIMIT, REWIND_PARAMETERS, Names
from daybreak.errors import ConfigError, Refused

PROMISED = timedelta(hours=72)
"""How far back a rewind reaches, where the cluster is that old."""

_REWIND_TAG = "daybreak-rewind-of"
_READY = "available"
_IDENTIFIER_LIMIT = 63
# Aurora user guide, "Viewing DB cluster status" and "Viewing DB instance status": none of these passes by itself.
_FAILED = ("failed", "incompatible", "inaccessible", "deleting", "restore-error", "insufficient-capacity")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do, and the commands that do it."""

    what: str
    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RewindPlan:
    """What would be made, what it has and lacks, and how to go on from there. ``to`` is None for a clone.

    ``steps`` are what `--execute` does; ``afterwards`` is left to the operator. How long AWS takes is not known."""

    kind: Literal["restore", "clone"]
    cluster: str
    to: datetime | None
    earliest: datetime | None
    latest: datetime | None
    restoration: Restoration
    instance: NewInstance
    lost: str
    stays: str
    warnings: tuple[str, ...]
    steps: tuple[Step, ...]
    afterwards: tuple[Step, ...]


def moment(text: str) -> datetime:
    """The time that ``text`` (ISO 8601, with its zone, whole seconds) names, in UTC; raises ConfigError."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigError(f"{text!r} is no time.", "Write it as 2026-07-29T12:00:00Z.") from None
    if found.tzinfo is None:
        # An hour's mistake would lose, or bring back, an hour of data.
        raise ConfigError(
            f"{text!r} has no time zone.", f"Write {text.strip()}Z for UTC, or add an offset like +02:00."
        )
    if found.microsecond:
        raise ConfigError(f"{text!r} is finer than a second.", "Name a whole second.")
    return found.astimezone(UTC)


def new_name(names: Names, at: datetime | None, ending: str = "") -> str:
    """The new cluster's name. It follows from what is asked for, so that asking again finds the same one."""
    what = "clone" if at is None else f"rewind-{at:%Y%m%dt%H%M%Sz}"
    return names.short(what + ending, _IDENTIFIER_LIMIT)


def check_window(cluster: Cluster, at: datetime, now: datetime) -> None:
    """Raise Refused where ``cluster`` can't be restored to ``at``."""
    if cluster.earliest is None or cluster.latest is None:
        raise Refused(f"Cluster {cluster.identifier} has no backup yet.", "Try again in some minutes.")
    window = f"It can be restored to {shown(cluster.earliest)} up to {shown(cluster.latest)}."
    if at > now:
        raise Refused(f"{shown(at)} is in the future.", window)
    if at > cluster.latest:
        hint = (
            f"{window} Its backups are usually less than five minutes behind: wait, or take --clone for its state now."
        )
        raise Refused(f"{shown(at)} is not in the backups of {cluster.identifier} yet.", hint)
    if at < cluster.earliest:
        kept = f"Backups are kept for {cluster.backup_days} days (aws.aurora.backup_days)."
        hint = f"{window} {kept} Older states may be among the daily snapshots in AWS Backup."
        raise Refused(f"{shown(at)} is not in the backups of {cluster.identifier} any more.", hint)


def plan(
    cluster: Cluster, writer: Instance, names: Names, region: str, at: datetime | None, now: datetime
) -> RewindPlan:
    """The plan of a restore of ``cluster`` to ``at``, or of a clone of it as it is."""
    # A copy is not backed up as if it were the original.
    kept = tuple(tag for tag in cluster.tags if tag[0] not in (BACKUP_TAG, _REWIND_TAG))
    tags = (*kept, (_REWIND_TAG, cluster.identifier))
    name = new_name(names, at)
    wanted = Restoration(
        source=cluster.identifier,
        identifier=name,
        at=at,
        port=cluster.port,
        subnet_group=cluster.subnet_group,
        security_groups=cluster.security_groups,
        parameter_group=names.of(REWIND_PARAMETERS, limit=PARAMETER_GROUP_LIMIT),
        kms_key=cluster.kms_key,
        capacity=cluster.capacity,
        iam_authentication=cluster.iam_authentication,
        tags=tags,
    )
    instance = NewInstance(new_name(names, at, "-0"), name, cluster.engine, writer, tags)
    return RewindPlan(
        kind="clone" if at is None else "restore",
        cluster=cluster.identifier,
        to=at,
        earliest=cluster.earliest,
        latest=cluster.latest,
        restoration=wanted,
        instance=instance,
        lost=_lost(cluster, name, at),
        stays=f"{cluster.identifier} is not touched: its data, both streams, clients and DNS names stay as they are.",
        warnings=tuple(_warnings(cluster, at, now)),
        steps=_steps(wanted, instance, region),
        afterwards=_afterwards(cluster, names, wanted, instance, region),
    )


def shown(at: datetime | None) -> str:
    """A moment in UTC, as ``moment`` reads it."""
    return "unknown" if at is None else f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def is_ready(status: str) -> bool:
    """Whether a cluster or instance in this status can be used."""
    return status == _READY


def has_failed(status: str) -> bool:
    """Whether a cluster or instance in this status will never be ready by itself."""
    return any(word in status for word in _FAILED)


def _lost(cluster: Cluster, name: str, at: datetime | None) -> str:
    if at is None:
        return f"Nothing: {name} has everything committed when AWS makes it, and nothing later."
    return f"{name} lacks everything committed after {shown(at)}; {cluster.identifier} keeps it."


def _warnings(cluster: Cluster, at: datetime | None, now: datetime) -> list[str]:
    if at is None or cluster.earliest is None:
        return []
    found = []
    if timedelta(days=cluster.backup_days) < PROMISED:
        found.append(f"Backups are kept for {cluster.backup_days} days only: a rewind reaches back less than 72 hours.")
    elif cluster.earliest > now - PROMISED:
        found.append(f"Backups begin at {shown(cluster.earliest)}: 72 hours back are not reached yet.")
    return found


def _steps(wanted: Restoration, instance: NewInstance, region: str) -> tuple[Step, ...]:
    what = "clone the cluster" if wanted.at is None else "restore the cluster"
    new_cluster, new_server = {"DBClusterIdentifier": wanted.identifier}, {"DBInstanceIdentifier": instance.identifier}
    return (
        Step(
            what,
            (
                command("rds", "RestoreDBClusterToPointInTime", region, restoration(wanted)),
                command("rds", "wait DBClusterAvailable", region, new_cluster),
            ),
        ),
        Step(
            "give it a server",
            (
                command("rds", "CreateDBInstance", region, new_instance(instance)),
                command("rds", "wait DBInstanceAvailable", region, new_server),
            ),
        ),
    )


def _afterwards(
    cluster: Cluster, names: Names, wanted: Restoration, instance: NewInstance, region: str
) -> tuple[Step, ...]:
    """What can be done with the new cluster, and how it goes away again."""
    new_cluster, new_server = {"DBClusterIdentifier": wanted.identifier}, {"DBInstanceIdentifier": instance.identifier}
    password: dict[str, object] = {**new_cluster, "ManageMasterUserPassword": True, "ApplyImmediately": True}
    if cluster.secrets_key:
        password["MasterUserSecretKmsKeyId"] = cluster.secrets_key
    workers = names.of(CLUSTER, limit=PARAMETER_GROUP_LIMIT)
    into_use = {**new_cluster, "DBClusterParameterGroupName": workers, "DeletionProtection": True}
    return (
        Step(
            "to log in: roles have the passwords that they had then; let RDS make one for the master user",
            (command("rds", "ModifyDBCluster", region, password),),
        ),
        Step(
            "to bring rows back: copy them out of the new cluster and insert them into the primary, from where the "
            "stream takes them to the other side",
            ("pg_dump --data-only --table=SCHEMA.TABLE --file=rows.sql 'host=NEW_ENDPOINT sslmode=verify-full ...'",),
        ),
        Step(
            "to go on with the whole copy: end the migration, take Daybreak's traces out of the copy (docs, "
            "rewind.md), give it apply workers, readers and protection, then lead the names to it",
            (
                command("rds", "ModifyDBCluster", region, {**into_use, "ApplyImmediately": True}),
                command("rds", "RebootDBInstance", region, new_server),
            ),
        ),
        Step(
            "to remove it: `daybreak infra destroy` does not know it, and can't remove its network before",
            (
                command("rds", "DeleteDBInstance", region, new_server),
                command("rds", "DeleteDBCluster", region, {**new_cluster, "SkipFinalSnapshot": True}),
            ),
        ),
    )
