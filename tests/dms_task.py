"""AWS DMS in this process: the emulated API with a task as ``daybreak infra`` makes it, and the stand-in that moves
rows between the two servers of a pair."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws
from psycopg import conninfo, sql

from daybreak.config.names import TASK_RESOURCE_LIMIT, Names
from daybreak.infra.dms_settings import table_mappings, task_settings
from daybreak.lab import moto_dms, moto_tasks
from daybreak.lab.configuration import write_configuration
from daybreak.lab.dms_task import DmsStandIn, to_cloudwatch
from daybreak.lab.pair import MIGRATION, OWNER, Pair
from daybreak.model import Side
from daybreak.postgres.grants import grant_script
from daybreak.replication.dms import DmsReplicator
from daybreak.wiring import Runtime

if TYPE_CHECKING:
    from types_boto3_dms import DatabaseMigrationServiceClient

REGION, ROLE = "eu-central-1", "daybreak_dms"
NAMES = Names("shop", "test")


@dataclass(frozen=True)
class Dms:
    """The task and what carries it out; ``events`` are those that it sent."""

    client: DatabaseMigrationServiceClient
    stand_in: DmsStandIn
    events: list[dict[str, Any]]
    pair: Pair

    def configuration(self, directory: Path, **cutover: float) -> Path:
        """A ``daybreak.toml`` with this engine."""
        return write_configuration(
            self.pair,
            directory,
            name=NAMES.migration,
            cutover={"max_write_pause_seconds": 5.0, "max_lag_seconds": 5.0, **cutover},
            replication={"engine": "dms"},
            more={
                "aws": {"environment": NAMES.environment, "region": REGION},
                "aws.network": {"vpc_cidr": "10.60.0.0/16"},
                "aws.aurora": {"engine_version": "17.5"},
                "aws.routing": {"zone_name": "payments.internal"},
            },
        )

    def kinds(self) -> list[str]:
        """The kinds of the events, in their order."""
        return [event["detail"]["eventType"].removeprefix("REPLICATION_TASK_") for event in self.events]


@contextmanager
def emulated_dms(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dms]:
    """The task ``ready``, with DMS's role on both servers of ``pair``."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "123456789012")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "emulated")
    moto_dms.mend()
    moto_tasks.mend()
    with mock_aws(), carried_out(pair, NAMES) as dms:
        yield dms


@contextmanager
def carried_out(pair: Pair, names: Names) -> Iterator[Dms]:
    """The task of ``names``, ``ready``, on the emulated API to which the environment leads, with DMS's role on both
    servers of ``pair``."""
    password = _make_role(pair)
    client = boto3.client("dms", region_name=REGION)
    _make_task(client, names)
    events: list[dict[str, Any]] = []
    publish = to_cloudwatch(
        boto3.client("cloudwatch", region_name=REGION), names.of("dms"), names.short("task", TASK_RESOURCE_LIMIT)
    )
    source, target = (_dsn(pair, side, password) for side in Side)
    stand_in = DmsStandIn(
        client, names.of("task"), source, target, latency=publish, event=events.append, poll_seconds=0.05
    )
    try:
        with stand_in:
            yield Dms(client, stand_in, events, pair)
    finally:
        for side in Side:
            with pair.connect(side) as here:  # a right on a parameter keeps a role from being dropped
                here.execute("SET default_transaction_read_only = off")
                here.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(ROLE)))


def hasten(runtime: Runtime) -> Runtime:
    """AWS limits how often it is asked; the emulated one doesn't."""
    assert isinstance(runtime.replicator, DmsReplicator)
    runtime.replicator.refresh_seconds = 0.1
    runtime.replicator.task.poll_seconds = 0.05
    return runtime


def _make_role(pair: Pair) -> str:
    password = secrets.token_urlsafe(12)
    for side in Side:
        with pair.connect(side) as here:
            version = here.info.server_version
            here.execute(grant_script("postgres", side, MIGRATION, pair.database, (OWNER,), version, ROLE).encode())
            here.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(ROLE), password))
    return password


def _dsn(pair: Pair, side: Side, password: str) -> str:
    return conninfo.make_conninfo("", **pair.cluster(side).parameters(ROLE, password, pair.database))


def _make_task(client: DatabaseMigrationServiceClient, names: Names) -> None:
    instance = client.create_replication_instance(
        ReplicationInstanceIdentifier=names.of("dms"), ReplicationInstanceClass="dms.t3.medium", AllocatedStorage=5
    )["ReplicationInstance"]["ReplicationInstanceArn"]
    source, target = (
        client.create_endpoint(
            EndpointIdentifier=names.of(f"dms-{side}"), EndpointType=side, EngineName="postgres", ServerName="x"
        )["Endpoint"]["EndpointArn"]
        for side in ("source", "target")
    )
    client.create_replication_task(
        ReplicationTaskIdentifier=names.of("task"),
        SourceEndpointArn=source,
        TargetEndpointArn=target,
        ReplicationInstanceArn=instance,
        MigrationType="full-load-and-cdc",
        TableMappings=table_mappings(("*.*",), ()).to_json(),
        ReplicationTaskSettings=task_settings(0).to_json(),
    )
