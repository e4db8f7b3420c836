"""Record and journal are safe from loss; what the controller writes is not Terraform's."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from infra.conftest import Bench

from daybreak.errors import ConfigError
from daybreak.infra.encryption import Keys, KeysProps
from daybreak.infra.state import State, StateConfiguration, StateProps
from daybreak.store.checkpoint import Checkpoint

_CONFIGURATION = StateConfiguration(
    migration="payments",
    engine="dms",
    database="payments",
    source_host="old.example.net",
    source_port=5432,
    writer_endpoint="writer.cluster.example.net",
    reader_endpoint="reader.cluster.example.net",
    zone_id="Z123",
    writer_name="db-rw.payments.internal",
    reader_name="db-ro.payments.internal",
    task_arn="arn:aws:dms:eu-central-1:123456789012:task:payments-task-test",
    max_lag_seconds=1.0,
    settings={"name": "payments"},
    tls={"target": {"sslmode": "verify-full"}},
    peers={"target": {"peer_sslmode": "require"}},
)


def _state(bench: Bench, configuration: StateConfiguration = _CONFIGURATION) -> Keys:
    keys = Keys(bench.stack, "keys", KeysProps(bench.site))
    State(bench.stack, "state", StateProps(bench.site, keys, configuration))
    return keys


def _parameter(bench: Bench, what: str) -> dict[str, Any]:
    (found,) = (p for p in bench.resources("aws_ssm_parameter") if p["name"] == f"/migration/test/{what}")
    return found


def test_table_can_be_restored_and_is_encrypted(bench: Bench) -> None:
    _state(bench)
    table = bench.only("aws_dynamodb_table")
    assert table["point_in_time_recovery"]["enabled"] is True
    assert "keys_operations" in table["server_side_encryption"]["kms_key_arn"]
    assert table["billing_mode"] == "PAY_PER_REQUEST"
    assert table["name"].endswith("-test")


def test_table_has_the_keys_that_the_store_writes(bench: Bench) -> None:
    _state(bench)
    table = bench.only("aws_dynamodb_table")
    assert (table["hash_key"], table["range_key"]) == ("migration", "item")
    assert table["attribute"] == [{"name": "migration", "type": "S"}, {"name": "item", "type": "S"}]
    assert "ttl" not in table


@pytest.mark.parametrize("protected", [True, False])
def test_a_protected_environment_s_table_is_not_deleted(bench: Bench, protected: bool) -> None:
    bench = replace(bench, site=replace(bench.site, protected=protected))
    _state(bench)
    assert bench.only("aws_dynamodb_table")["deletion_protection_enabled"] is protected


def test_the_published_state_is_the_controllers(bench: Bench) -> None:
    _state(bench)
    state = _parameter(bench, "state")
    assert state["lifecycle"] == {"ignore_changes": ["value"]}
    assert set(json.loads(state["value"])) == set(Checkpoint.model_fields)
    first = Checkpoint.model_validate_json(state["value"])
    assert (first.phase, first.primary, first.onprem_weight, first.aurora_weight) == ("planned", "source", 100, 0)


def test_the_configuration_is_terraforms_and_complete(bench: Bench) -> None:
    _state(bench)
    config = _parameter(bench, "config")
    assert "lifecycle" not in config
    assert json.loads(config["value"])["task_arn"] == _CONFIGURATION.task_arn
    assert config["tier"] == "Standard"


def test_parameters_are_encrypted(bench: Bench) -> None:
    _state(bench)
    for what in ("state", "config"):
        parameter = _parameter(bench, what)
        assert parameter["type"] == "SecureString"
        assert "keys_operations" in parameter["key_id"]


@pytest.mark.parametrize(("length", "tier"), [(3000, "Standard"), (4096, "Advanced"), (7000, "Advanced")])
def test_a_long_configuration_takes_the_larger_tier(bench: Bench, length: int, tier: str) -> None:
    _state(bench, replace(_CONFIGURATION, database="x" * length))
    assert _parameter(bench, "config")["tier"] == tier


def test_what_no_parameter_holds_is_refused(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="8192"):
        _state(bench, replace(_CONFIGURATION, database="x" * 8192))


def test_what_terraform_fills_in_is_reckoned_at_its_longest(bench: Bench) -> None:
    keys = Keys(bench.stack, "other", KeysProps(bench.site))
    unknown = replace(_CONFIGURATION, writer_endpoint=keys.data.arn, database="x" * 3500)
    _state(bench, unknown)
    assert _parameter(bench, "config")["tier"] == "Advanced"
