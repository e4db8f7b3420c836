"""DMS is private, encrypted and verified; its task stops rather than lose a row, and no apply starts it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from infra.conftest import Bench
from infra.parts import Parts, certificate
from infra.whole import settings, synthesised
from pydantic import SecretStr

from daybreak.config import Server, aws
from daybreak.errors import ConfigError
from daybreak.infra import dms_settings
from daybreak.infra.dms import Verified, verification
from daybreak.infra.dms_settings import table_mappings, task_settings
from daybreak.postgres import control


def _dms(bench: Bench, tmp_path: Path, **settings: Any) -> Parts:
    return Parts.on(bench, aws.Dms(target_ca_file=certificate(tmp_path), **settings))


def _endpoint(bench: Bench, side: str) -> dict[str, Any]:
    (found,) = (e for e in bench.resources("aws_dms_endpoint") if e["endpoint_type"] == side)
    return found


def _settings(max_lob_kb: int = 0) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(task_settings(max_lob_kb).to_json())
    return loaded


def _locators(include: tuple[str, ...], exclude: tuple[str, ...], action: str) -> list[tuple[str, str]]:
    rules = json.loads(table_mappings(include, exclude).to_json())["rules"]
    assert [rule["rule-id"] for rule in rules] == [str(number) for number in range(1, len(rules) + 1)]
    assert len({rule["rule-name"] for rule in rules}) == len(rules)
    return [
        (rule["object-locator"]["schema-name"], rule["object-locator"]["table-name"])
        for rule in rules
        if rule["rule-action"] == action
    ]


def test_instance_is_private_encrypted_and_left_alone(bench: Bench, tmp_path: Path) -> None:
    _dms(bench, tmp_path)
    instance = bench.only("aws_dms_replication_instance")
    assert instance["publicly_accessible"] is False
    assert instance["auto_minor_version_upgrade"] is False
    assert "aws_kms_key.keys_data" in instance["kms_key_arn"]
    assert (instance["replication_instance_class"], instance["allocated_storage"]) == ("dms.r5.large", 100)
    assert "engine_version" not in instance
    assert instance["replication_instance_id"].endswith("-test")


def test_a_larger_instance_does_not_wait_for_the_maintenance_window(bench: Bench, tmp_path: Path) -> None:
    _dms(bench, tmp_path)
    assert bench.only("aws_dms_replication_instance")["apply_immediately"] is True


def test_engine_version_and_standby_are_inputs(bench: Bench, tmp_path: Path) -> None:
    _dms(bench, tmp_path, engine_version="3.6.1", multi_az=True)
    instance = bench.only("aws_dms_replication_instance")
    assert (instance["engine_version"], instance["multi_az"]) == ("3.6.1", True)


def test_account_roles_come_first_and_have_dms_s_own_names(bench: Bench, tmp_path: Path) -> None:
    _dms(bench, tmp_path)
    names = {role["name"] for role in bench.resources("aws_iam_role")}
    assert {"dms-vpc-role", "dms-cloudwatch-logs-role"} <= names
    for kind in ("aws_dms_replication_instance", "aws_dms_replication_subnet_group"):
        assert sum("aws_iam_role_policy_attachment" in one for one in bench.only(kind)["depends_on"]) == 2


def test_only_the_role_of_the_logs_is_trusted_without_a_condition(bench: Bench, tmp_path: Path) -> None:
    """Under one DMS does not take it on, and tasks write no log."""
    _dms(bench, tmp_path)
    trusts = {
        key.removeprefix("dms_").partition("-trust")[0]: document["statement"][0]
        for key, document in bench.synth()["data"]["aws_iam_policy_document"].items()
        if key.startswith("dms_dms-")
    }
    assert set(trusts) == {"dms-vpc-role", "dms-cloudwatch-logs-role"}
    assert [name for name, one in trusts.items() if not one.get("condition")] == ["dms-cloudwatch-logs-role"]


def test_account_roles_that_exist_are_used(bench: Bench, tmp_path: Path) -> None:
    _dms(bench, tmp_path, create_account_roles=False)
    assert not {role["name"] for role in bench.resources("aws_iam_role")} & {
        "dms-vpc-role",
        "dms-cloudwatch-logs-role",
    }


def test_endpoints_get_their_credentials_from_secrets_only(bench: Bench, tmp_path: Path) -> None:
    _dms(bench, tmp_path)
    for side in ("source", "target"):
        endpoint = _endpoint(bench, side)
        assert f"dms-{side}" in endpoint["secrets_manager_arn"]
        assert not {"password", "username", "server_name"} & set(endpoint)
        assert any("aws_secretsmanager_secret_version" in one for one in endpoint["depends_on"])
    assert _endpoint(bench, "source")["engine_name"] == "postgres"
    assert _endpoint(bench, "target")["engine_name"] == "aurora-postgresql"


def test_only_the_region_s_dms_reads_only_the_two_secrets(bench: Bench, tmp_path: Path) -> None:
    _dms(bench, tmp_path)
    documents = bench.synth()["data"]["aws_iam_policy_document"]
    (trust,) = (d for key, d in documents.items() if "secrets-access-trust" in key)
    assert trust["statement"][0]["principals"] == [
        {"identifiers": ["dms.eu-central-1.amazonaws.com"], "type": "Service"}
    ]
    (rights,) = (d for key, d in documents.items() if "secrets-access-rights" in key)
    assert all("*" not in resource for s in rights["statement"] for resource in s["resources"])


def test_certificates_are_verified_where_the_authority_is_known(bench: Bench, tmp_path: Path) -> None:
    Parts.on(bench, aws.Dms(target_ca_file=certificate(tmp_path), source_ca_file=certificate(tmp_path)))
    for side in ("source", "target"):
        endpoint = _endpoint(bench, side)
        assert endpoint["ssl_mode"] == "verify-full"
        assert f"{side}-ca" in endpoint["certificate_arn"]


def test_a_source_of_unknown_authority_is_still_encrypted(bench: Bench, tmp_path: Path) -> None:
    _dms(bench, tmp_path)
    assert _endpoint(bench, "source")["ssl_mode"] == "require"
    assert _endpoint(bench, "target")["ssl_mode"] == "verify-full"


@pytest.mark.parametrize(
    ("dsn", "peer", "mode"),
    [
        ("?sslmode=verify-full&sslrootcert={ca}", {}, "verify-full"),
        ("?sslmode=verify-ca&sslrootcert={ca}", {}, "verify-ca"),
        ("?sslmode=verify-full&sslrootcert={ca}", {"peer_sslmode": "require"}, "require"),
        ("?sslmode=verify-full", {"peer_sslmode": "require"}, "require"),
        ("?sslmode=require&sslrootcert={ca}", {}, "require"),
        ("", {}, "require"),
    ],
)
def test_a_source_is_verified_as_its_dsn_says(
    bench: Bench, tmp_path: Path, dsn: str, peer: dict[str, Any], mode: str
) -> None:
    authority = certificate(tmp_path)
    source = Server(dsn=SecretStr("postgresql://daybreak@old.example.net/payments" + dsn.format(ca=authority)), **peer)
    Parts.on(bench, aws.Dms(target_ca_file=authority), source=source)
    endpoint = _endpoint(bench, "source")
    assert endpoint["ssl_mode"] == mode
    assert ("certificate_arn" in endpoint) is (mode != "require")


@pytest.mark.parametrize(
    ("dsn", "peer", "key"),
    [
        ("?sslmode=verify-full", {}, r"source\.dsn asks for verify-full"),
        ("?sslmode=verify-ca", {}, r"source\.dsn asks for verify-ca"),
        ("?sslmode=verify-full&sslrootcert=system", {}, r"source\.dsn asks for verify-full"),
        (
            "?sslmode=verify-full&sslrootcert={ca}",
            {"peer_sslmode": "verify-ca"},
            r"source\.peer_sslmode asks for verify-ca",
        ),
    ],
)
def test_who_asks_to_verify_is_not_given_less(tmp_path: Path, dsn: str, peer: dict[str, Any], key: str) -> None:
    authority = certificate(tmp_path)
    source = Server(dsn=SecretStr("postgresql://daybreak@old.example.net/payments" + dsn.format(ca=authority)), **peer)
    with pytest.raises(ConfigError, match=key) as caught:
        verification(aws.Dms(), source)
    assert "aws.dms.source_ca_file" in caught.value.hint
    assert verification(aws.Dms(source_ca_file=authority), source) == Verified("verify-full", authority)


def test_without_dms_nobody_asks_for_its_authority(tmp_path: Path) -> None:
    chosen = settings(tmp_path, "native")
    source = Server(dsn=SecretStr("postgresql://daybreak@db.example.com/payments?sslmode=verify-full"))
    assert "aws_dms_endpoint" not in synthesised(tmp_path, chosen.model_copy(update={"source": source}))["resource"]


def test_aurora_is_never_left_unverified(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="target_ca_file is not set"):
        Parts.on(bench, aws.Dms())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("", "no certificate"),
        ("-----BEGIN CERTIFICATE-----\n-----BEGIN RSA PRIVATE KEY-----\n", "private key"),
    ],
)
def test_a_file_that_holds_no_authority_is_refused(
    bench: Bench, tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        Parts.on(bench, aws.Dms(target_ca_file=path))


def test_source_endpoint_keeps_the_slot_moving_and_leaves_no_triggers(bench: Bench, tmp_path: Path) -> None:
    _dms(bench, tmp_path)
    source = _endpoint(bench, "source")
    assert source["postgres_settings"] == {
        "plugin_name": "test_decoding",
        "capture_ddls": False,
        "fail_tasks_on_lob_truncation": True,
        "heartbeat_enable": True,
        "heartbeat_frequency": 1,
        "heartbeat_schema": "daybreak",
    }


def test_numbers_without_precision_are_not_rounded(bench: Bench, tmp_path: Path) -> None:
    _dms(bench, tmp_path)
    for side in ("source", "target"):
        endpoint = _endpoint(bench, side)
        assert "MapUnboundedNumericAsString=true" in endpoint["extra_connection_attributes"]


def test_foreign_keys_and_triggers_do_not_fire_again(bench: Bench, tmp_path: Path) -> None:
    _dms(bench, tmp_path)
    script = _endpoint(bench, "target")["postgres_settings"]["after_connect_script"]
    assert script == "SET session_replication_role = replica"


def test_an_apply_does_not_start_the_task(bench: Bench, tmp_path: Path) -> None:
    parts = _dms(bench, tmp_path)
    task = bench.only("aws_dms_replication_task")
    assert task["start_replication_task"] is False
    assert task["migration_type"] == "full-load-and-cdc"
    assert parts.dms is not None
    assert task["resource_identifier"] == parts.dms.resource_identifier
    assert len(parts.dms.resource_identifier) <= 31


def test_logs_go_to_an_encrypted_group_that_ends(bench: Bench, tmp_path: Path) -> None:
    parts = _dms(bench, tmp_path)
    assert parts.dms is not None
    (group,) = (g for g in bench.resources("aws_cloudwatch_log_group") if g["name"].startswith("dms-tasks-"))
    assert group["name"] == parts.dms.log_group_name
    assert group["name"] == f"dms-tasks-{bench.only('aws_dms_replication_instance')['replication_instance_id']}"
    assert group["retention_in_days"] == 30
    assert "keys_operations" in group["kms_key_id"]


def test_every_error_stops_the_task() -> None:
    behavior = _settings()["ErrorBehavior"]
    policies = {key: value for key, value in behavior.items() if key.endswith("Policy")}
    # All that DMS knows and that deal with rows and tables (DMS user guide, "Error handling task settings").
    assert set(policies) == {
        "DataErrorPolicy", "DataTruncationErrorPolicy", "DataErrorEscalationPolicy", "TableErrorPolicy",
        "TableErrorEscalationPolicy", "ApplyErrorDeletePolicy", "ApplyErrorInsertPolicy", "ApplyErrorUpdatePolicy",
        "ApplyErrorEscalationPolicy",
    }  # fmt: skip
    assert set(policies.values()) == {"STOP_TASK"}
    assert behavior["ApplyErrorFailOnTruncationDdl"] is True
    assert behavior["FailOnNoTablesCaptured"] is True


def test_task_keeps_order_validates_and_does_not_touch_the_schema() -> None:
    settings = _settings()
    assert settings["TargetMetadata"]["BatchApplyEnabled"] is False
    assert settings["FullLoadSettings"]["TargetTablePrepMode"] == "TRUNCATE_BEFORE_LOAD"
    assert settings["FullLoadSettings"]["StopTaskCachedChangesApplied"] is False
    assert settings["FullLoadSettings"]["StopTaskCachedChangesNotApplied"] is True
    assert settings["ValidationSettings"]["EnableValidation"] is True
    assert settings["Logging"] == {"EnableLogging": True}
    assert settings["ChangeProcessingDdlHandlingPolicy"]["HandleSourceTableDropped"] is False
    assert settings["ControlTablesSettings"]["SuspendedTablesTableEnabled"] is True


def test_large_objects_are_carried_whole_or_up_to_a_proved_size() -> None:
    whole, limited = _settings()["TargetMetadata"], _settings(2048)["TargetMetadata"]
    assert (whole["FullLobMode"], whole["LimitedSizeLobMode"]) == (True, False)
    assert (limited["FullLobMode"], limited["LimitedSizeLobMode"], limited["LobMaxSize"]) == (False, True, 2048)


@pytest.mark.parametrize(
    ("pattern", "locator"),
    [
        ("*.*", ("%", "%")),
        ("public.*", ("public", "%")),
        ("public.order_items", ("public", "order[_]items")),
        ("Sales.100%*", ("Sales", "100[%]%")),
    ],
)
def test_patterns_mean_the_same_to_dms(pattern: str, locator: tuple[str, str]) -> None:
    assert locator in _locators((pattern,), (), "include")
    assert locator in _locators(("*.*",), (pattern,), "exclude")


def test_a_name_that_dms_cannot_write_is_refused() -> None:
    with pytest.raises(ConfigError, match="brackets"):
        table_mappings(("public.a[1]",), ())


def test_of_daybreak_s_own_tables_only_the_token_travels() -> None:
    # A table that is new to the schema has to be put on one of the two lists.
    made = set(re.findall(r"CREATE TABLE IF NOT EXISTS daybreak\.(\w+)", control._TABLES))
    assert made == {dms_settings.TOKEN_TABLE, *dms_settings.PRIVATE_TABLES} - {"awsdms_*"}
    assert ("daybreak", "token") in _locators(("public.*",), (), "include")
    excluded = _locators(("*.*",), (), "exclude")
    assert ("daybreak", "control") in excluded
    assert ("daybreak", "awsdms[_]%") in excluded
    assert ("daybreak", "token") not in excluded


def test_settings_are_keys_that_dms_reports() -> None:
    """Terraform compares what is written with what DMS reports; a key that DMS drops would differ for ever."""
    sample: dict[str, Any] = json.loads((Path(__file__).parent / "samples" / "dms_task_settings.json").read_text())
    for limit in (0, 64):
        for section, values in _settings(limit).items():
            assert set(values) <= set(sample[section]), section
