"""Migrations led by the function on emulated AWS: its record in DynamoDB, its state in SSM, and where a test asks for
it names in Route 53, clients that resolve them, and AWS DMS's task with what stands in for DMS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aws_tables import fresh_table
from aws_zone import AURORA, AURORA_READER, SETTINGS, ZONE, make_zone, remove_zone, zone_id
from boto3.session import Session
from rehearsal.world import World

from daybreak.config.aws import Routing
from daybreak.config.names import FUNCTION_LIMIT, SCHEDULE, Names
from daybreak.lab.aws import EmulatedAws
from daybreak.lab.cloud import ENVIRONMENT, REGION
from daybreak.lab.configuration import Section
from daybreak.lab.dns import Host, NameServer
from daybreak.lab.pair import Pair
from daybreak.lab.resolving import Resolver
from daybreak.lab.ways import ByName, Way
from daybreak.model import Side
from daybreak.traffic.route53 import Route53Router

if TYPE_CHECKING:
    from types_boto3_route53 import Route53Client

LOOK = {"action": "poll"}
_LIMITS = {"max_write_pause_seconds": 3.0, "gate_patience_seconds": 20.0}


@dataclass(frozen=True)
class Naming:
    """The zone of a migration and how its clients find the database in it. ``router`` is a person's."""

    client: Route53Client
    settings: Routing
    way: ByName

    @property
    def router(self) -> Route53Router:
        """Route 53 as it is now, moved by hand."""
        return Route53Router(self.client, self.settings, lambda: None)

    def sections(self) -> dict[str, Section]:
        """What a configuration says of it."""
        routing = self.settings
        names: Section = {
            "zone_name": routing.zone_name, "zone_id": routing.zone_id, "ttl_seconds": routing.ttl_seconds,
        }  # fmt: skip
        return {"traffic": {"router": "route53"}, "aws.routing": names}


@contextmanager
def naming(pair: Pair, ttl_seconds: int) -> Iterator[Naming]:
    """Names in emulated Route 53, to which this process's environment leads, that lead to ``pair``."""
    client = make_zone(ttl_seconds)
    ports = {side: pair.cluster(side).port for side in Side}
    hosts = {
        SETTINGS.source_name: Host(Side.SOURCE, "127.0.0.1", ports[Side.SOURCE]),
        AURORA: Host(Side.TARGET, "127.0.0.1", ports[Side.TARGET]),
        AURORA_READER: Host(Side.TARGET, "127.0.0.1", ports[Side.TARGET]),
    }
    try:
        settings = Routing(zone_name=ZONE, zone_id=zone_id(client), ttl_seconds=ttl_seconds)
        with NameServer(client, ZONE, hosts) as server:
            resolver = Resolver(server.address, server.port, hosts)
            yield Naming(client, settings, ByName(pair, resolver, settings.writer_name, settings.reader_name))
    finally:
        remove_zone(client)


@contextmanager
def led_by_the_function(
    pair: Pair,
    directory: Path,
    emulated: EmulatedAws,
    *,
    named: Naming | None = None,
    cutover: Section | None = None,
    replication: Mapping[str, str | int] | None = None,
) -> Iterator[World]:
    """A streaming migration under load; ``start`` was its only command."""
    session, names = Session(region_name=REGION), Names(pair.database, ENVIRONMENT)
    session.client("events").put_rule(Name=names.of(SCHEDULE, FUNCTION_LIMIT), ScheduleExpression="rate(1 minute)")
    way: Way | None = None if named is None else named.way
    with fresh_table(emulated) as (_, table):
        more: dict[str, Section] = {
            "cutover": {**_LIMITS, **(cutover or {})},
            "state": {"url": f"dynamodb://{table}", "key": "alias/aws/ssm"},
            "aws": {"environment": ENVIRONMENT, "region": REGION},
            "aws.network": {"vpc_cidr": "10.60.0.0/16"},
            "aws.aurora": {"engine_version": "17.5"},
            "aws.routing": {"zone_name": ZONE},
            **({} if named is None else named.sections()),
        }
        environment = emulated.environment()
        world = World(pair, directory, more=more, environment=environment, replication=replication or {}, way=way)
        with world:
            assert world.invoke(LOOK).said["phase"] == "planned"
            world.must("start")
            yield world
