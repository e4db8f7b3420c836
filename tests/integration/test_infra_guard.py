"""What real servers remember keeps a stack, even from a checkout that has no record."""

from __future__ import annotations

from pathlib import Path

import pytest

from daybreak.config import load_infra_settings
from daybreak.entry.command import Command
from daybreak.entry.infra_guard import refuse_destroy
from daybreak.entry.infra_site import Site
from daybreak.errors import Refused
from daybreak.infra import guard
from daybreak.infra.plan import Change, Plan
from daybreak.lab.configuration import write_configuration
from daybreak.lab.pair import Pair
from daybreak.model import Side
from daybreak.postgres import control

ALL = Plan((Change("destroy", "aws_rds_cluster.one", "aws_rds_cluster", "one", "", False),), outputs=False)


@pytest.fixture
def site(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The commands' site over a pair that no migration has touched, with nothing published and no record."""
    monkeypatch.setattr(guard, "published", lambda _parameter, _session: None)
    aws = {
        "aws": {"environment": "test", "region": "eu-central-1"},
        "aws.network": {"vpc_cidr": "10.60.0.0/16"},
        "aws.aurora": {"engine_version": "17.5"},
        "aws.routing": {"zone_name": "payments.internal"},
    }
    config = write_configuration(pair, tmp_path, name="payments", more=aws)
    return Site(Command("infra destroy", config, json=False), load_infra_settings(config))


@pytest.mark.parametrize("side", list(Side))
def test_a_control_row_on_either_side(site: Site, pair: Pair, side: Side) -> None:
    refuse_destroy(site, ALL)
    with pair.connect(side, "daybreak") as connection:
        control.install(connection, "payments", side)
    with pytest.raises(Refused, match=rf"under way \(control row on the {side}\)"):
        refuse_destroy(site, ALL)


def test_what_the_target_holds_where_nobody_has_a_record(site: Site, pair: Pair) -> None:
    with pair.connect(Side.SOURCE) as source:
        source.execute("CREATE TABLE public.theirs (id int)")
    refuse_destroy(site, ALL)
    with pair.connect(Side.TARGET) as target:
        target.execute("CREATE TABLE public.theirs (id int)")
    with pytest.raises(Refused, match="led from elsewhere"):
        refuse_destroy(site, ALL)
