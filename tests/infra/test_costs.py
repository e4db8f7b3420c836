"""The quantities that the page on costs names are those of the stack as it is by default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from infra.whole import Engine, Json, resources, settings, synthesised

_PAGE = Path(__file__).parents[2] / "docs" / "infrastructure" / "costs.md"
_HOURS, _ZONES = 730, 3


def _named(engine: Engine) -> dict[str, float]:
    """What the page says there is by the hour."""
    column = {"native": 3, "dms": 4}[engine]
    rows = [line.split(" | ") for line in _PAGE.read_text().splitlines() if line.startswith("| ")]
    return {
        re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", row[0].removeprefix("| ")): float(row[column - 1].replace(",", ""))
        for row in rows
        if len(row) == 5 and re.fullmatch(r"[\d,]+", row[column - 1])
    }


def _of(stack: Json, kind: str) -> list[Json]:
    return [one for found, one in resources(stack) if found == kind]


@pytest.mark.parametrize("engine", ["native", "dms"])
def test_the_page_on_costs_counts_what_there_is(tmp_path: Path, engine: Engine) -> None:
    chosen = settings(tmp_path, engine, {"routing": {"resolver_endpoint": True}})
    stack = synthesised(tmp_path, chosen)
    instances = len(_of(stack, "aws_rds_cluster_instance"))
    dms = _of(stack, "aws_dms_replication_instance")
    endpoints = [one for one in _of(stack, "aws_vpc_endpoint") if one["vpc_endpoint_type"] == "Interface"]
    alarms = _of(stack, "aws_cloudwatch_metric_alarm")
    (resolver,) = _of(stack, "aws_route53_resolver_endpoint")
    assert _named(engine) == {
        "Aurora, at rest": instances * chosen.aws.aurora.min_acu * _HOURS,
        "Aurora, under full load all month": instances * chosen.aws.aurora.max_acu * _HOURS,
        "DMS instance": len(dms) * _HOURS,
        "DMS storage": sum(one["allocated_storage"] for one in dms),
        "Interface endpoints": len(endpoints) * _ZONES * _HOURS,
        "Transit gateway, where it is the way to the source": _HOURS,
        "Resolver endpoint, where it is on": len(resolver["ip_address"]) * _HOURS,
        "KMS keys": len(_of(stack, "aws_kms_key")),
        "Secrets, beside the master user's": len(_of(stack, "aws_secretsmanager_secret")),
        # An alarm on an expression counts once for each metric in it (CloudWatch pricing).
        "Alarms, by the metrics that they look at": sum(
            sum("metric" in query for query in one.get("metric_query", ())) or 1 for one in alarms
        ),
        "Dashboard": len(_of(stack, "aws_cloudwatch_dashboard")),
        "Hosted zone": len(_of(stack, "aws_route53_zone")),
    }
