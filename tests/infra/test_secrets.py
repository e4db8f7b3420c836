"""Secrets have the form that RDS and DMS read; no password is in what Terraform is given."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from infra.conftest import Bench, fresh
from infra.test_aurora import _aurora
from infra.whole import settings, synthesised

from daybreak.errors import ConfigError
from daybreak.infra.encryption import Keys, KeysProps
from daybreak.infra.plan import Change, Plan
from daybreak.infra.secrets import Secrets, SecretsProps, SourceServer

_SOURCE = SourceServer("old.example.net", 5433, "payments", "daybreak")


def _secrets(
    bench: Bench, dms_user: str | None, protected: bool = False, source: SourceServer = _SOURCE, version: int = 1
) -> Secrets:
    aurora = _aurora(bench)
    site = replace(bench.site, protected=protected)
    keys = Keys(bench.stack, "other-keys", KeysProps(site))
    return Secrets(bench.stack, "secrets", SecretsProps(site, keys, source, aurora, dms_user, version))


def test_the_plan_knows_their_values_by_their_addresses(tmp_path: Path) -> None:
    values = synthesised(tmp_path, settings(tmp_path, "dms"))["resource"]["aws_secretsmanager_secret_version"]
    for what in ("source", "target", "dms-source", "dms-target"):
        changes = [Change("update", f"aws_secretsmanager_secret_version.{name}", "", "", "", False) for name in values]
        assert [Plan((one,), outputs=False).writes_secret(what) for one in changes].count(True) == 1


def test_the_plan_knows_which_of_them_are_only_for_dms(tmp_path: Path) -> None:
    """After `finish` they go with DMS, while the cluster takes the writes."""
    kind = "aws_secretsmanager_secret"
    found = synthesised(tmp_path, settings(tmp_path, "dms"))["resource"][kind]
    of_dms = {
        one["name"] for name, one in found.items() if Change("destroy", f"{kind}.{name}", kind, "", "", False).of_dms
    }
    assert of_dms == {"daybreak-payments-dms-source-test", "daybreak-payments-dms-target-test"}


def _value(bench: Bench, what: str) -> str:
    versions = bench.synth()["resource"]["aws_secretsmanager_secret_version"]
    (found,) = (one for name, one in versions.items() if name.startswith(f"secrets_{what}-value"))
    return str(found["secret_string_wo"])


def test_each_role_has_a_secret_under_the_key_of_secrets(bench: Bench) -> None:
    secrets = _secrets(bench, "daybreak_dms")
    found = bench.resources("aws_secretsmanager_secret")
    assert {one["name"] for one in found} == {
        f"daybreak-payments-{what}-test" for what in ("source", "target", "dms-source", "dms-target")
    }
    assert all("aws_kms_key.other-keys_secrets" in one["kms_key_id"] for one in found)
    assert not any("policy" in one for one in found)
    assert len(secrets.versions) == 4


def test_without_dms_there_is_nothing_of_it(bench: Bench) -> None:
    secrets = _secrets(bench, None)
    assert secrets.dms_source is None
    assert secrets.dms_target is None
    assert len(bench.resources("aws_secretsmanager_secret")) == 2
    assert set(bench.synth()["variable"]) == {"source_password", "target_password"}


def test_a_secret_says_where_and_as_whom(bench: Bench) -> None:
    _secrets(bench, "daybreak_dms")
    source, target = _value(bench, "dms-source"), _value(bench, "target")
    assert '"host" = "old.example.net"' in source
    assert '"port" = 5433' in source
    assert '"username" = "daybreak_dms"' in source
    assert re.search(r'"host" = aws_rds_cluster\.aurora_cluster\w*\.endpoint', target)
    assert re.search(r'"port" = aws_rds_cluster\.aurora_cluster\w*\.port', target)
    assert '"username" = "daybreak"' in target


def test_passwords_are_ephemeral_and_reach_write_only_arguments_alone(bench: Bench) -> None:
    _secrets(bench, "daybreak_dms")
    synthesised = bench.synth()
    passwords = {name: v for name, v in synthesised["variable"].items() if name.endswith("_password")}
    assert set(passwords) == {"source_password", "target_password", "dms_source_password", "dms_target_password"}
    for name, variable in passwords.items():
        assert variable["ephemeral"] is True
        assert variable["sensitive"] is True
        assert "default" not in variable
        assert f'"password" = var.{name}' in _value(bench, name.removesuffix("_password").replace("_", "-"))
    for version in synthesised["resource"]["aws_secretsmanager_secret_version"].values():
        del version["secret_string_wo"]
        assert set(version) == {"secret_id", "secret_string_wo_version"}
    del synthesised["variable"]
    assert "_password}" not in json.dumps(synthesised)
    assert "var.source_password" not in json.dumps(synthesised)


def _versions(source: SourceServer = _SOURCE, version: int = 1, dms_user: str = "dms") -> list[int]:
    """The numbers beside dms-source, dms-target, source and target."""
    bench = fresh()
    _secrets(bench, dms_user, source=source, version=version)
    return [one["secret_string_wo_version"] for one in bench.resources("aws_secretsmanager_secret_version")]


def test_the_same_is_not_written_again() -> None:
    assert _versions() == _versions()
    assert all(0 < one < 2**31 for one in _versions())


@pytest.mark.parametrize(
    ("changed", "written"),
    [
        ({"host": "moved.example.net"}, [True, False, True, False]),
        ({"port": 5434}, [True, False, True, False]),
        ({"database": "invoices"}, [True, True, True, True]),
        ({"user": "another"}, [False, False, True, True]),
    ],
)
def test_what_a_secret_says_is_written_when_it_changes(changed: dict[str, Any], written: list[bool]) -> None:
    before, after = _versions(), _versions(replace(_SOURCE, **changed))
    assert [old != new for old, new in zip(before, after, strict=True)] == written


def test_a_raised_counter_writes_all_of_them() -> None:
    assert [new - old for old, new in zip(_versions(), _versions(version=2), strict=True)] == [1] * 4
    other_role = zip(_versions(), _versions(dms_user="other"), strict=True)
    assert [old != new for old, new in other_role] == [True, True, False, False]


@pytest.mark.parametrize(
    ("key", "user", "dms_user"), [("source.dsn", "postgres", "dms"), ("aws.dms.user", "daybreak", "postgres")]
)
def test_no_secret_names_the_master_user_with_another_password(
    bench: Bench, key: str, user: str, dms_user: str
) -> None:
    with pytest.raises(ConfigError, match=f"{key} names the role postgres"):
        _secrets(bench, dms_user, source=replace(_SOURCE, user=user))


@pytest.mark.parametrize(("protected", "days"), [(True, 30), (False, 0)])
def test_a_protected_environment_can_have_its_secrets_back(bench: Bench, protected: bool, days: int) -> None:
    _secrets(bench, None, protected)
    assert {one["recovery_window_in_days"] for one in bench.resources("aws_secretsmanager_secret")} == {days}
