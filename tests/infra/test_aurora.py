"""The cluster is private, encrypted and ready to replicate; careful by default; its instances are spread."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from infra.conftest import Bench

from daybreak.config import aws
from daybreak.config.names import BACKUP_TAG
from daybreak.errors import ConfigError
from daybreak.infra.aurora import Aurora, AuroraProps, max_connections
from daybreak.infra.encryption import Keys, KeysProps
from daybreak.infra.network import Network, NetworkProps
from daybreak.infra.site import Site


def _aurora(
    bench: Bench, settings: aws.Aurora | None = None, site: Site | None = None, database: str = "payments"
) -> Aurora:
    site = site or bench.site
    keys = Keys(bench.stack, "keys", KeysProps(site))
    network = Network(
        bench.stack,
        "network",
        NetworkProps(site, aws.Network(vpc_cidr="10.60.0.0/16", source_cidrs=("10.1.0.0/24",)), keys, 5432, False),
    )
    settings = settings or aws.Aurora(engine_version="17.5")
    return Aurora(bench.stack, "aurora", AuroraProps(site, settings, network, keys, database))


def _parameters(bench: Bench, ending: str) -> dict[str, tuple[str, str]]:
    (group,) = (g for g in bench.resources("aws_rds_cluster_parameter_group") if g["name"].endswith(ending))
    return {p["name"]: (p["value"], p["apply_method"]) for p in group["parameter"]}


def _ordered(bench: Bench) -> list[dict[str, Any]]:
    return sorted(bench.resources("aws_rds_cluster_instance"), key=lambda one: str(one["identifier"]))


def test_the_cluster_is_private_and_encrypted_and_holds_no_password(bench: Bench) -> None:
    _aurora(bench)
    cluster = bench.only("aws_rds_cluster")
    assert cluster["storage_encrypted"] is True
    assert "aws_kms_key.keys_data" in cluster["kms_key_id"]
    assert cluster["manage_master_user_password"] is True
    assert "aws_kms_key.keys_secrets" in cluster["master_user_secret_kms_key_id"]
    assert not {"master_password", "master_password_wo"} & set(cluster)
    assert cluster["iam_database_authentication_enabled"] is True
    assert cluster["copy_tags_to_snapshot"] is True
    assert cluster["backup_retention_period"] == 7
    assert all(one["publicly_accessible"] is False for one in _ordered(bench))


def test_it_replicates_both_ways_and_speaks_tls_only(bench: Bench) -> None:
    _aurora(bench)
    parameters = _parameters(bench, "-aurora-test")
    assert parameters["rds.logical_replication"] == ("1", "pending-reboot")
    assert parameters["rds.force_ssl"] == ("1", "pending-reboot")
    workers = int(parameters["max_logical_replication_workers"][0])
    assert workers > int(parameters["max_sync_workers_per_subscription"][0])
    assert int(parameters["max_worker_processes"][0]) > workers
    assert int(parameters["max_wal_senders"][0]) >= int(parameters["max_replication_slots"][0])


def test_a_parameter_is_applied_in_the_way_its_kind_allows(bench: Bench) -> None:
    """Static ones (PostgreSQL's "postmaster" context) only at a start."""
    _aurora(bench)
    for ending in ("-aurora-test", "-rewind-test"):
        methods = {name: method for name, (_, method) in _parameters(bench, ending).items()}
        dynamic = {"max_sync_workers_per_subscription", "wal_sender_timeout"}
        assert {name for name, method in methods.items() if method == "immediate"} == dynamic
        assert set(methods.values()) == {"immediate", "pending-reboot"}


def test_a_rewound_server_starts_no_apply_workers_and_is_otherwise_the_same(bench: Bench) -> None:
    _aurora(bench)
    original, rewound = _parameters(bench, "-aurora-test"), _parameters(bench, "-rewind-test")
    assert {name for name in original if original[name] != rewound[name]} == {"max_logical_replication_workers"}
    assert rewound["max_logical_replication_workers"] == ("0", "pending-reboot")


def test_serverless_is_the_default_and_scales_within_its_limits(bench: Bench) -> None:
    _aurora(bench)
    scaling = bench.only("aws_rds_cluster")["serverlessv2_scaling_configuration"]
    assert scaling == {"min_capacity": 0.5, "max_capacity": 2}
    assert {one["instance_class"] for one in _ordered(bench)} == {"db.serverless"}


def test_a_class_of_instances_takes_its_place(bench: Bench) -> None:
    _aurora(bench, aws.Aurora(engine_version="16.9", instance_class="db.r8g.large"))
    assert "serverlessv2_scaling_configuration" not in bench.only("aws_rds_cluster")
    assert {one["instance_class"] for one in _ordered(bench)} == {"db.r8g.large"}
    assert {g["family"] for g in bench.resources("aws_rds_cluster_parameter_group")} == {"aurora-postgresql16"}


def test_instances_are_spread_over_the_zones_and_the_writer_comes_first(bench: Bench) -> None:
    _aurora(bench, aws.Aurora(engine_version="17.5", readers=3))
    instances = _ordered(bench)
    assert [one["promotion_tier"] for one in instances] == [0, 1, 2, 3]
    zones = [one["availability_zone"] for one in instances]
    assert len(set(zones[:3])) == 3
    assert zones[3] == zones[0]
    writer = "aws_rds_cluster_instance.aurora_instance-0"
    assert not instances[0].get("depends_on")
    assert all(any(writer in name for name in one["depends_on"]) for one in instances[1:])


def test_nothing_upgrades_a_server_during_a_migration(bench: Bench) -> None:
    _aurora(bench)
    assert all(one["auto_minor_version_upgrade"] is False for one in _ordered(bench))


def test_what_was_confirmed_does_not_wait_for_the_maintenance_window(bench: Bench) -> None:
    _aurora(bench)
    assert all(one["apply_immediately"] is True for one in [bench.only("aws_rds_cluster"), *_ordered(bench)])


@pytest.mark.parametrize("protected", [True, False])
def test_deletion_is_as_careful_as_the_environment(bench: Bench, protected: bool) -> None:
    _aurora(bench, site=replace(bench.site, protected=protected))
    cluster = bench.only("aws_rds_cluster")
    assert cluster["deletion_protection"] is protected
    assert cluster["skip_final_snapshot"] is not protected


def test_deletion_is_as_careful_as_it_is_told_to_be(bench: Bench) -> None:
    settings = aws.Aurora(engine_version="17.5", deletion_protection=False, final_snapshot=True)
    _aurora(bench, settings, replace(bench.site, protected=True))
    cluster = bench.only("aws_rds_cluster")
    assert cluster["deletion_protection"] is False
    assert cluster["skip_final_snapshot"] is False


def test_a_final_snapshot_has_a_name_that_no_earlier_one_took(bench: Bench) -> None:
    _aurora(bench)
    cluster = bench.only("aws_rds_cluster")
    assert cluster["final_snapshot_identifier"].startswith("daybreak-payments-aurora-final-")
    assert cluster["final_snapshot_identifier"].endswith("-test")
    assert "timestamp()" in cluster["final_snapshot_identifier"]
    assert cluster["lifecycle"]["ignore_changes"] == ["final_snapshot_identifier"]


def test_the_log_is_encrypted_expires_and_is_there_first(bench: Bench) -> None:
    _aurora(bench)
    (group,) = (g for g in bench.resources("aws_cloudwatch_log_group") if "/rds/" in g["name"])
    assert group["name"] == "/aws/rds/cluster/daybreak-payments-aurora-test/postgresql"
    assert group["retention_in_days"] == 30
    assert "aws_kms_key.keys_operations" in group["kms_key_id"]
    cluster = bench.only("aws_rds_cluster")
    assert cluster["enabled_cloudwatch_logs_exports"] == ["postgresql"]
    assert any("aws_cloudwatch_log_group.aurora_log" in name for name in cluster["depends_on"])


def test_insights_and_monitoring(bench: Bench) -> None:
    _aurora(bench)
    for one in _ordered(bench):
        assert one["performance_insights_enabled"] is True
        assert "aws_kms_key.keys_data" in one["performance_insights_kms_key_id"]
        assert one["monitoring_interval"] == 60
        assert "aws_iam_role.aurora_monitoring" in one["monitoring_role_arn"]
    documents = bench.synth()["data"]["aws_iam_policy_document"]
    (rights,) = (found["statement"] for name, found in documents.items() if name.startswith("aurora_monitoring-rights"))
    assert all("RDSOSMetrics" in str(one["resources"]) for one in rights)


def test_the_cluster_bears_the_tag_of_its_backup(bench: Bench) -> None:
    _aurora(bench)
    assert bench.only("aws_rds_cluster")["tags"] == {BACKUP_TAG: "daybreak-payments-backup-test"}


def test_a_database_that_rds_would_refuse_is_refused(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="pay-ments"):
        _aurora(bench, database="pay-ments")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (aws.Aurora(engine_version="17.5", max_acu=1), 189),
        (aws.Aurora(engine_version="17.5"), 400),
        (aws.Aurora(engine_version="17.5", min_acu=1, max_acu=16), 3354),
        (aws.Aurora(engine_version="17.5", min_acu=0.5, max_acu=16), 2000),
        (aws.Aurora(engine_version="17.5", min_acu=8, max_acu=256), 5000),
        (aws.Aurora(engine_version="17.5", instance_class="db.t4g.medium"), 400),
        (aws.Aurora(engine_version="17.5", instance_class="db.r8g.large"), 1600),
        (aws.Aurora(engine_version="17.5", instance_class="db.r6g.xlarge"), 3200),
        (aws.Aurora(engine_version="17.5", instance_class="db.r5.24xlarge"), 5000),
        (aws.Aurora(engine_version="17.5", instance_class="db.z9.large"), None),
    ],
)
def test_connections_are_never_more_than_aws_documents(settings: aws.Aurora, expected: int | None) -> None:
    assert max_connections(settings) == expected
