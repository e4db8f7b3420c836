"""Terraform's plan as people need it: what is lost, what is protected, and why something is replaced."""

from __future__ import annotations

import json
from typing import Any

import pytest

from daybreak.infra.plan import Plan


def change(kind: str, actions: list[str], before: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """One entry of ``resource_changes``."""
    named = {"address": f"{kind}.one", "mode": "managed", "type": kind, **more}
    return {**named, "change": {"actions": actions, "before": before, "replace_paths": more.get("replace_paths", [])}}


def parsed(*changes: dict[str, Any], **outputs: list[str]) -> Plan:
    shown = {
        "resource_changes": changes,
        "output_changes": {name: {"actions": actions} for name, actions in outputs.items()},
    }
    return Plan.parse(json.dumps(shown))


def test_counts_and_steps() -> None:
    plan = parsed(
        change("aws_sns_topic", ["create"]),
        change("aws_sqs_queue", ["update"], {"id": "q"}),
        change("aws_vpc", ["delete"], {"id": "v"}),
        change("aws_subnet", ["delete", "create"], {"id": "s"}),
        change("aws_route", ["no-op"], {"id": "r"}),
        change("aws_iam_policy_document", ["read"], mode="data"),
    )
    assert [plan.count(one) for one in ("create", "update", "destroy", "replace")] == [1, 1, 1, 1]
    assert plan.steps == 5
    assert not plan.empty


def test_nothing_to_do_and_outputs_only() -> None:
    assert parsed(change("aws_vpc", ["no-op"], {"id": "v"}), host=["no-op"]).empty
    assert not parsed(host=["update"]).empty


def test_what_holds_something_is_a_loss() -> None:
    plan = parsed(
        change("aws_rds_cluster", ["create", "delete"], {"id": "c"}, replace_paths=[["engine_mode"], ["a", 0, "b"]],
               action_reason="replace_because_cannot_update"),
        change("aws_kms_key", ["delete"], {"id": "k"}),
        change("aws_kms_alias", ["delete"], {"id": "a"}),
        change("aws_secretsmanager_secret", ["update"], {"id": "s"}),
    )  # fmt: skip
    assert {one.kind for one in plan.losses} == {"aws_rds_cluster", "aws_kms_key"}
    assert "engine_mode, a.0.b can't be changed in place" in {one.why for one in plan.changes}


def test_an_instance_of_the_cluster_stores_nothing_but_its_writer_is_missed() -> None:
    instances = (
        change("aws_rds_cluster_instance", ["delete"], {"id": "reader", "writer": False}),
        change("aws_rds_cluster_instance", ["delete", "create"], {"id": "writer", "writer": True}),
    )
    plan = parsed(*instances)
    assert plan.losses == ()
    assert [one.id for one in plan.interrupted] == ["writer"]
    assert parsed(*instances, change("aws_rds_cluster", ["delete"], {"id": "c"})).interrupted == ()
    assert parsed(change("aws_rds_cluster_instance", ["update"], {"writer": True})).interrupted == ()


def test_dms_loses_its_place_in_the_stream() -> None:
    plan = parsed(
        change("aws_dms_replication_task", ["delete"], {"id": "t"}),
        change("aws_dms_replication_instance", ["delete", "create"], {"id": "i"}),
        change("aws_dms_endpoint", ["delete"], {"id": "e"}),
    )
    assert {one.kind for one in plan.losses} == {"aws_dms_replication_task", "aws_dms_replication_instance"}


@pytest.mark.parametrize(
    ("before", "after", "stops"),
    [
        ({"table_mappings": "a", "tags": None}, {"table_mappings": "b", "tags": None}, True),
        ({"table_mappings": "a", "tags_all": {}}, {"table_mappings": "a", "tags_all": {"team": "one"}}, False),
        ({"table_mappings": "a", "source_endpoint_arn": "e"}, {"table_mappings": "a"}, True),
    ],
)
def test_a_task_that_is_changed_is_stopped(before: dict[str, Any], after: dict[str, Any], stops: bool) -> None:
    task = change("aws_dms_replication_task", ["update"], before)
    task["change"]["after"] = after
    assert bool(parsed(task).stopped) is stops
    assert parsed(task).losses == ()
    other = {**task, "type": "aws_sns_topic"}
    assert parsed(other).stopped == ()


@pytest.mark.parametrize(
    ("kind", "actions", "after", "blocked"),
    [
        ("aws_dms_endpoint", ["update"], {"ssl_mode": "verify-full", "tags": None}, True),
        ("aws_dms_endpoint", ["update"], {"ssl_mode": "require", "tags": {"team": "one"}}, False),
        ("aws_dms_endpoint", ["delete", "create"], {}, True),
        ("aws_dms_endpoint", ["delete"], None, False),
        ("aws_dms_certificate", ["delete", "create"], {}, True),
        ("aws_dms_certificate", ["update"], {"ssl_mode": "require", "tags": {"team": "one"}}, False),
        ("aws_dms_certificate", ["create"], {}, False),
        ("aws_sns_topic", ["update"], {"ssl_mode": "verify-full"}, False),
    ],
)
def test_an_endpoint_is_not_changed_under_a_running_task(
    kind: str, actions: list[str], after: dict[str, Any] | None, blocked: bool
) -> None:
    one = change(kind, actions, None if actions == ["create"] else {"ssl_mode": "require", "tags": None})
    one["change"]["after"] = after
    assert bool(parsed(one).blocked) is blocked


def test_what_an_end_leaves_behind() -> None:
    """What snapshots and backups are encrypted with must not go before them."""
    gone = parsed(
        change("aws_rds_cluster", ["delete"], {"id": "c", "skip_final_snapshot": False}),
        change("aws_backup_vault", ["delete"], {"id": "v", "force_destroy": False}),
        change("aws_kms_key", ["delete"], {"id": "k"}, address="aws_kms_key.keys_data_0A1B2C"),
        change("aws_kms_key", ["delete"], {"id": "s"}, address="aws_kms_key.keys_secrets_0A1B2C"),
    )
    assert gone.snapshots
    assert [one.id for one in gone.vaults] == ["v"]
    assert gone.data_key is not None
    assert gone.data_key.id == "k"
    assert {one.id for one in gone.without(gone.data_key.address).changes} == {"c", "v", "s"}
    tried = parsed(
        change("aws_rds_cluster", ["delete"], {"id": "c", "skip_final_snapshot": True}),
        change("aws_backup_vault", ["delete"], {"id": "v", "force_destroy": True}),
    )
    assert not tried.snapshots
    assert tried.vaults == ()
    assert tried.data_key is None


def test_what_is_protected() -> None:
    plan = parsed(
        change("aws_rds_cluster", ["delete"], {"id": "c", "deletion_protection": True}),
        change("aws_dynamodb_table", ["delete"], {"id": "t", "deletion_protection_enabled": False}),
        change("aws_rds_cluster_instance", ["update"], {"id": "i", "deletion_protection": True}),
    )
    (only,) = plan.protected
    assert (only.id, only.half_made) == ("c", False)
    tainted = parsed(
        change("aws_rds_cluster", ["delete", "create"], {"id": "c"}, action_reason="replace_because_tainted")
    )
    assert tainted.changes[0].half_made


def test_what_holds_data_nobody_else_knows() -> None:
    kinds = ("aws_rds_cluster", "aws_dynamodb_table", "aws_backup_vault", "aws_kms_key", "aws_secretsmanager_secret")
    plan = parsed(*(change(kind, ["delete"], {"id": "one"}) for kind in kinds))
    assert [one.kind for one in plan.changes if one.holds] == ["aws_backup_vault", "aws_dynamodb_table", kinds[0]]
    assert plan.cluster
    shown = {
        "resource_changes": [change(kind, ["delete"], {"id": "one"}) for kind in kinds],
        "prior_state": {"values": {"root_module": {"resources": [
            {"address": "aws_rds_cluster.one", "tainted": True}, {"address": "aws_backup_vault.one"}]}}},
    }  # fmt: skip
    half = Plan.parse(json.dumps(shown))
    assert [one.kind for one in half.changes if one.holds] == ["aws_backup_vault", "aws_dynamodb_table"]
    assert not half.cluster
