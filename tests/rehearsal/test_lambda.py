"""The function on AWS is killed (SIGKILL) after every step of a switchover while clients write; its next look
goes on, and every invariant is kept. Servers, processes and kills are real, AWS is emulated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from aws_tables import fresh_table
from boto3.session import Session
from rehearsal.test_kill_switchover import NOBODY, OPENED, POINTS, reverse_stream_is_there
from rehearsal.traces import guarded
from rehearsal.world import World

from daybreak.config.names import FUNCTION_LIMIT, SCHEDULE, Names
from daybreak.lab.aws import EmulatedAws
from daybreak.lab.cloud import ENVIRONMENT, REGION
from daybreak.lab.pair import Pair
from daybreak.model import Side

MAIN = {"mark committed"}
LOOK = {"action": "poll"}


@pytest.fixture
def environment(emulated_account: EmulatedAws, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """What leads to emulated AWS, here and in the processes that are invoked."""
    for name, value in emulated_account.environment().items():
        monkeypatch.setenv(name, value)
    return emulated_account.environment()


@pytest.fixture
def world(pair: Pair, tmp_path: Path, emulated_account: EmulatedAws, environment: Mapping[str, str]) -> Iterator[World]:
    """A streaming, verified migration with its record in DynamoDB and its state in SSM."""
    session, names = Session(region_name=REGION), Names(pair.database, ENVIRONMENT)
    session.client("events").put_rule(Name=names.of(SCHEDULE, FUNCTION_LIMIT), ScheduleExpression="rate(1 minute)")
    with fresh_table(emulated_account) as (_, table):
        more = {
            "state": {"url": f"dynamodb://{table}", "key": "alias/aws/ssm"},
            "aws": {"environment": ENVIRONMENT, "region": REGION},
            "aws.network": {"vpc_cidr": "10.60.0.0/16"},
            "aws.aurora": {"engine_version": "17.5"},
            "aws.routing": {"zone_name": "payments.internal"},
        }
        with World(pair, tmp_path, more=more, environment=environment) as made:
            assert made.invoke(LOOK).said["phase"] == "planned"
            made.must("start", "verify")
            yield made


def killed_and_gone_on_with(world: World, action: str, to: Side, point: str) -> None:
    before = world.probes.primaries()
    assert world.invoke({"action": action}, point).killed, point
    if point == NOBODY or point in OPENED:
        reverse_stream_is_there(world, to)
    if point != NOBODY:
        world.writes_go_on()
    found = world.invoke(LOOK)
    assert found.said.get("primary") == to, found.said
    world.writes_go_on()
    assert world.probes.primaries() == [*before, to]
    assert guarded(world.pair, to) == []
    reverse_stream_is_there(world, to)


@pytest.mark.parametrize("points", [sorted(MAIN), pytest.param(POINTS, marks=pytest.mark.full)], ids=["main", "all"])
@pytest.mark.timeout(900)
def test_a_killed_function_is_gone_on_with(world: World, points: list[str]) -> None:
    for point in points:
        killed_and_gone_on_with(world, "cutover", Side.TARGET, point)
        killed_and_gone_on_with(world, "rollback", Side.SOURCE, point)
    world.books_are_clean(Side.SOURCE)
