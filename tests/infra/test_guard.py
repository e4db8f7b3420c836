"""What keeps a stack from being destroyed, and the passwords that its secrets are made with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from boto3.session import Session
from botocore.stub import Stubber
from infra.whole import settings
from moto import mock_aws

from daybreak.aws.session import open_session
from daybreak.config import InfraSettings
from daybreak.errors import ConfigError, PermanentError, Refused
from daybreak.infra.guard import Standing, backups, published, refuse_while_needed, refuse_while_streamed
from daybreak.infra.passwords import passwords, unwritten
from daybreak.infra.plan import Change, Plan

STATE = "/migration/test/state"
NAMES = ("source_password", "target_password", "dms_source_password")


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """An empty account."""
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with mock_aws():
        yield open_session("eu-central-1")


def put(account: Session, value: str) -> None:
    account.client("ssm").put_parameter(Name=STATE, Value=value, Type="SecureString", Overwrite=True)


@pytest.mark.parametrize(
    ("phase", "primary", "word"),
    [
        ("planned", "source", ""),
        ("aborted", "source", ""),
        ("finished", "source", ""),
        ("loading", "source", "migration is loading"),
        ("switching", "source", "migration is switching"),
        ("streaming", "target", "takes the application's writes"),
        ("finished", "target", "takes the application's writes"),
        ("some-day", "source", "migration is some-day"),
    ],
)
def test_who_still_needs_it(account: Session, phase: str, primary: str, word: str) -> None:
    put(account, json.dumps({"phase": phase, "primary": primary, "version": 3}))
    found = published(STATE, account)
    assert found is not None
    if not word:
        refuse_while_needed([found], "destroy", "payments")
        return
    with pytest.raises(Refused, match=word) as caught:
        refuse_while_needed([Standing("elsewhere", "planned", "source"), found], "destroy", "payments")
    assert "daybreak infra destroy --even-while-active payments" in caught.value.hint
    assert STATE in caught.value.message


@pytest.mark.parametrize(
    ("phase", "primary", "needed"),
    [("planned", "source", False), ("loading", "source", True), ("streaming", "source", True),
     ("streaming", "target", False), ("aborted", "source", False)],
)  # fmt: skip
def test_who_still_needs_dms(phase: str, primary: str, needed: bool) -> None:
    standings = [Standing("here", phase, primary), Standing("elsewhere", "planned", "source")]
    if not needed:
        refuse_while_streamed(standings, "deploy", "payments")
        return
    with pytest.raises(Refused, match=phase) as caught:
        refuse_while_streamed(standings, "deploy", "payments")
    assert "daybreak infra deploy --even-while-active payments" in caught.value.hint


def test_after_a_rollback_dms_is_out_of_use_and_its_cluster_is_not() -> None:
    standing = Standing("here", "streaming", "source", switched=True)
    refuse_while_streamed([standing], "deploy", "payments")
    with pytest.raises(Refused, match="streaming"):
        refuse_while_needed([standing], "deploy", "payments")


def test_what_aws_refuses_under_a_running_task_says_how_to_stop_it() -> None:
    with pytest.raises(Refused, match=r"AWS would refuse aws_dms_endpoint\.one") as caught:
        refuse_while_streamed([Standing("here", "streaming", "source")], "deploy", "payments", ["aws_dms_endpoint.one"])
    assert "aws dms stop-replication-task" in caught.value.hint
    assert "`daybreak start` afterwards" in caught.value.hint


def test_the_backups_of_a_vault_are_counted() -> None:
    session = open_session("eu-central-1")
    client = session.client("backup", aws_access_key_id="x", aws_secret_access_key="x")
    with pytest.MonkeyPatch.context() as patched, Stubber(client) as stubbed:
        patched.setattr(session, "client", lambda _service: client)
        point = {"RecoveryPointArn": "arn:aws:rds:eu-central-1:123456789012:cluster-snapshot:awsbackup:one"}
        stubbed.add_response(
            "list_recovery_points_by_backup_vault", {"RecoveryPoints": [point, point], "NextToken": "n"}
        )
        stubbed.add_response("list_recovery_points_by_backup_vault", {"RecoveryPoints": [point]})
        assert backups("vault", session) == 3
        stubbed.add_client_error("list_recovery_points_by_backup_vault", "ResourceNotFoundException")
        assert backups("vault", session) == 0
        stubbed.add_client_error("list_recovery_points_by_backup_vault", "AccessDeniedException")
        with pytest.raises(Refused, match="Nobody can tell whether the vault may go"):
            backups("vault", session)


def test_nothing_deployed(account: Session) -> None:
    assert published(STATE, account) is None


@pytest.mark.parametrize("value", ["nonsense", "{}", "[]"])
def test_what_nobody_can_read_is_refused(account: Session, value: str) -> None:
    put(account, value)
    with pytest.raises(Refused, match="Nobody can tell"):
        published(STATE, account)


def test_where_aws_does_not_answer_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    with pytest.raises(Refused, match="Nobody can tell"):
        published(STATE, open_session("eu-central-1"))


@pytest.fixture
def chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InfraSettings:
    """Settings with a password for the source."""
    monkeypatch.setenv("DAYBREAK_SOURCE__PASSWORD", "of-the-source")
    return settings(tmp_path, "dms")


def test_each_secret_has_a_password_of_its_own(account: Session, chosen: InfraSettings) -> None:
    found = passwords(NAMES, chosen, account)
    assert found["source_password"] == "of-the-source"
    assert len(set(found.values())) == len(NAMES)
    assert all(len(value) > 40 for name, value in found.items() if name != "source_password")


def test_a_password_that_is_in_use_stays(account: Session, chosen: InfraSettings) -> None:
    manager = account.client("secretsmanager")
    text = json.dumps({"username": "daybreak", "password": "on-the-server"})
    manager.create_secret(Name="daybreak-payments-target-test", SecretString=text)
    manager.create_secret(Name="daybreak-payments-dms-source-test")
    found = passwords(NAMES, chosen, account)
    assert found["target_password"] == "on-the-server"
    assert found["dms_source_password"], "a secret without a value has none to keep"


def test_another_password_that_is_not_written_is_told(account: Session, chosen: InfraSettings) -> None:
    manager = account.client("secretsmanager")
    for what in ("source", "target"):
        text = json.dumps({"password": f"former-{what}"})
        manager.create_secret(Name=f"daybreak-payments-{what}-test", SecretString=text)
    given = passwords(NAMES, chosen, account)
    nothing = Plan((), outputs=False)
    (only,) = unwritten(given, chosen, account, nothing)
    assert (only.object, only.severity) == ("daybreak-payments-source-test", "warning")
    assert "aws.secrets_version" in only.fix
    assert "of-the-source" not in str(only)
    address = "aws_secretsmanager_secret_version.secrets_source-value_0A1B2C"
    written = Change("update", address, "aws_secretsmanager_secret_version", "s", "", False)
    (over,) = unwritten(given, chosen, account, Plan((written,), outputs=False))
    assert (over.id, over.object, over.severity) == ("secret-overwritten", only.object, "warning")
    assert "ARN" in over.fix
    assert "of-the-source" not in str(over)
    assert "former" not in str(over)


def test_the_source_s_password_that_is_written_as_it_is_or_for_the_first_time_is_not_told(
    account: Session, chosen: InfraSettings
) -> None:
    address = "aws_secretsmanager_secret_version.secrets_source-value_0A1B2C"
    plan = Plan((Change("create", address, "aws_secretsmanager_secret_version", "", "", False),), outputs=False)
    given = {"source_password": "of-the-source"}
    assert unwritten(given, chosen, account, plan) == ()
    text = json.dumps({"password": "of-the-source"})
    account.client("secretsmanager").create_secret(Name="daybreak-payments-source-test", SecretString=text)
    assert unwritten(given, chosen, account, plan) == ()


def test_one_in_the_environment_counts(
    account: Session, chosen: InfraSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_VAR_target_password", "rotated")
    assert passwords(NAMES, chosen, account)["target_password"] == "rotated"


def test_the_source_has_to_have_one(account: Session, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="source's password is not known"):
        passwords(NAMES, settings(tmp_path, "dms"), account)


def test_a_secret_that_cannot_be_read_is_not_overwritten(
    chosen: InfraSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(PermanentError, match="daybreak-payments-target-test, whose password is to stay"):
        passwords(("target_password",), chosen, open_session("eu-central-1"))
