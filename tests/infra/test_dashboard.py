"""The dashboard is in CloudWatch's syntax, keeps Terraform's references, and shows what the engine has."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from infra.whole import Engine, Json, resources, settings, synthesised

from daybreak.aws.metrics import Own


def _body(work: Path, engine: Engine = "native", **aws: Json) -> Json:
    stack = synthesised(work, settings(work, engine, aws))
    (found,) = (one for kind, one in resources(stack) if kind == "aws_cloudwatch_dashboard")
    body: Json = json.loads(found["dashboard_body"])
    return body


def _widgets(body: Json, kind: str) -> list[Json]:
    return [one["properties"] for one in body["widgets"] if one["type"] == kind]


def _metrics(body: Json) -> list[list[Any]]:
    return [metric for graph in _widgets(body, "metric") for metric in graph["metrics"]]


@pytest.mark.parametrize("engine", ["native", "dms"])
def test_a_metric_is_an_array_with_its_dimensions_inside(tmp_path: Path, engine: Engine) -> None:
    """CloudWatch API reference, "Metric Widget: Format for Each Metric in the Array"."""
    for metric in _metrics(_body(tmp_path, engine)):
        *named, rendering = metric
        assert all(isinstance(text, str) and text for text in named)
        namespace, name, *dimensions = named
        assert namespace in {"Daybreak", "AWS/RDS", "AWS/DMS", "AWS/Lambda", "AWS/SQS"}
        assert len(dimensions) >= 2
        assert len(dimensions) % 2 == 0, f"a dimension of {name} has no value"
        assert set(rendering) <= {"stat", "period", "label", "yAxis"}
        assert rendering["stat"] in {"Average", "Maximum", "Minimum", "Sum"}
        assert rendering["period"] % 60 == 0


@pytest.mark.parametrize("engine", ["native", "dms"])
def test_widgets_are_of_known_kinds_and_lie_side_by_side(tmp_path: Path, engine: Engine) -> None:
    required = {
        "metric": {"title", "region", "view", "metrics"},
        "log": {"title", "region", "view", "query"},
        "alarm": {"title", "alarms"},
        "text": {"markdown"},
    }
    widgets = _body(tmp_path, engine)["widgets"]
    for one in widgets:
        assert required[one["type"]] <= set(one["properties"])
        assert one["x"] + one["width"] <= 24
    for a, b in combinations(widgets, 2):
        apart = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
        assert apart or a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"]


def test_references_are_left_for_terraform(tmp_path: Path) -> None:
    body = _body(tmp_path, "dms")
    named = {tuple(metric[2:-1]) for metric in _metrics(body) if metric[0] == "AWS/RDS"}
    assert len(named) == 2
    assert all(dimensions[1].startswith("${aws_rds_cluster.") for dimensions in named)
    assert all(arn.startswith("${aws_cloudwatch_metric_alarm.") for arn in _widgets(body, "alarm")[0]["alarms"])
    assert "TfToken" not in json.dumps(body)


def test_everything_that_the_controller_publishes_is_shown_for_this_migration(tmp_path: Path) -> None:
    shown = [metric for metric in _metrics(_body(tmp_path)) if metric[0] == "Daybreak"]
    assert {metric[1] for metric in shown} == set(Own)
    assert {tuple(metric[2:-1]) for metric in shown} == {("Migration", "payments", "Environment", "test")}


def test_without_dms_there_is_nothing_of_dms(tmp_path: Path) -> None:
    assert "dms" not in json.dumps(_body(tmp_path)).lower()


def test_dms_is_named_by_instance_and_resource_identifier_and_its_log_by_instance(tmp_path: Path) -> None:
    stack = synthesised(tmp_path, settings(tmp_path, "dms"))
    body = _body(tmp_path, "dms")
    tasks = [metric for metric in _metrics(body) if metric[1].startswith("CDC")]
    (task,) = (one for kind, one in resources(stack) if kind == "aws_dms_replication_task")
    assert {metric[5] for metric in tasks} == {task["resource_identifier"]}
    assert all(metric[2] == "ReplicationInstanceIdentifier" for metric in tasks)
    groups = {one["name"] for kind, one in resources(stack) if kind == "aws_cloudwatch_log_group"}
    (query,) = (one["query"] for one in _widgets(body, "log") if one["title"].startswith("DMS"))
    group = query.split("'")[1]
    assert group == "dms-tasks-daybreak-payments-dms-test"
    assert group in groups


def test_limits_of_alarms_are_drawn(tmp_path: Path) -> None:
    graphs = {one["title"]: one for one in _widgets(_body(tmp_path, watch={"lag_seconds": 7}), "metric")}
    assert graphs["Replication lag, seconds"]["annotations"] == {"horizontal": [{"label": "alarm", "value": 7}]}
    phases = [one["label"] for one in graphs["Phase"]["annotations"]["horizontal"]]
    assert phases == ["planned", "loading", "streaming", "switching", "finished", "aborted"]


def test_capacity_is_shown_where_it_varies(tmp_path: Path) -> None:
    assert "ServerlessDatabaseCapacity" in {metric[1] for metric in _metrics(_body(tmp_path))}
    fixed = _body(tmp_path, aurora={"instance_class": "db.r8g.large"})
    assert "ServerlessDatabaseCapacity" not in {metric[1] for metric in _metrics(fixed)}
