"""A daily snapshot of this cluster, in an encrypted vault, by a role that can do no more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from infra.conftest import Bench
from infra.test_aurora import _aurora

from daybreak.config.names import BACKUP_TAG
from daybreak.infra.backup import Backup, BackupProps
from daybreak.infra.encryption import Keys, KeysProps


def _backup(bench: Bench, protected: bool = False) -> Backup:
    site = replace(bench.site, protected=protected)
    keys = Keys(bench.stack, "other-keys", KeysProps(site))
    return Backup(bench.stack, "backup", BackupProps(site, keys, _aurora(bench), 7))


def test_it_is_daily_and_kept_for_the_days_asked_for(bench: Bench) -> None:
    _backup(bench)
    (rule,) = bench.only("aws_backup_plan")["rule"]
    assert rule["schedule"] == "cron(0 5 * * ? *)"
    assert rule["lifecycle"] == {"delete_after": 7}
    assert rule["start_window"] < rule["completion_window"]


def test_it_selects_the_cluster_by_its_tag(bench: Bench) -> None:
    _backup(bench)
    (tag,) = bench.only("aws_backup_selection")["selection_tag"]
    assert (tag["type"], {tag["key"]: tag["value"]}) == ("STRINGEQUALS", bench.only("aws_rds_cluster")["tags"])
    assert tag["key"] == BACKUP_TAG


@pytest.mark.parametrize("protected", [True, False])
def test_the_vault_is_encrypted_and_not_emptied_by_accident(bench: Bench, protected: bool) -> None:
    _backup(bench, protected)
    vault = bench.only("aws_backup_vault")
    assert "aws_kms_key.other-keys_data" in vault["kms_key_arn"]
    assert vault["force_destroy"] is not protected


def test_the_role_touches_this_cluster_and_snapshots_of_backup_only(bench: Bench) -> None:
    _backup(bench)
    documents = bench.synth()["data"]["aws_iam_policy_document"]
    (rights,) = (found["statement"] for name, found in documents.items() if name.startswith("backup_role-rights"))
    by_sid = {one["sid"]: one for one in rights}
    assert {sid for sid, one in by_sid.items() if "*" in one["resources"]} == {"FindByTag"}
    snapshots = "arn:aws:rds:eu-central-1:123456789012:cluster-snapshot:awsbackup:*"
    assert by_sid["ExpireSnapshots"]["resources"] == [snapshots]
    assert by_sid["LendKey"]["condition"][0]["variable"] == "kms:GrantIsForAWSResource"
