"""The whole stack applied to emulated AWS, left alone where others move it, interrupted, and destroyed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from boto3.session import Session
from infra.deployment import REGION, SOURCE_PASSWORD, Deployment

from daybreak.config.names import FUNCTION_LIMIT, SCHEDULE, Names
from daybreak.lab.aws import EmulatedAws, emulated_aws
from daybreak.model import MigrationRecord, Phase
from daybreak.store.sqlite import SqliteStateStore

pytestmark = [
    pytest.mark.full,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed"),
]
STATE = "/migration/test/state"
RULE = Names("payments", "test").of(SCHEDULE, FUNCTION_LIMIT)


@pytest.fixture
def emulated() -> Iterator[EmulatedAws]:
    """An empty account."""
    with emulated_aws() as running:
        yield running


@pytest.fixture
def account(emulated: EmulatedAws, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A look at the account, as the controller or an operator has it."""
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    for name, value in emulated.environment().items():
        monkeypatch.setenv(name, value)
    return Session(region_name=REGION)


def move_everything(account: Session, zone_id: str) -> None:
    """What the controller does in a migration: traffic, checkpoint, schedule."""
    route53 = account.client("route53")
    records = route53.list_resource_record_sets(HostedZoneId=zone_id)["ResourceRecordSets"]
    moved: list[Any] = [
        {**one, "Weight": 100 - one["Weight"], "TTL": 5} for one in records if one.get("Weight") is not None
    ]
    assert len(moved) == 4
    changes: Any = [{"Action": "UPSERT", "ResourceRecordSet": one} for one in moved]
    route53.change_resource_record_sets(HostedZoneId=zone_id, ChangeBatch={"Changes": changes})
    publish(account, phase="streaming", primary="target")
    assert schedule(account) == "DISABLED"
    account.client("events").enable_rule(Name=RULE)
    # An emulator takes the name of a rule that does not exist, too.
    assert schedule(account) == "ENABLED"


def schedule(account: Session) -> str:
    """The state of the rule that wakes the controller; an error where there is none."""
    return account.client("events").describe_rule(Name=RULE)["State"]


def publish(account: Session, **changed: str) -> None:
    """Change the published state, as the controller does it: under the key that it has."""
    ssm = account.client("ssm")
    now = json.loads(ssm.get_parameter(Name=STATE, WithDecryption=True)["Parameter"]["Value"])
    (described,) = ssm.describe_parameters(ParameterFilters=[{"Key": "Name", "Values": [STATE]}])["Parameters"]
    ssm.put_parameter(
        Name=STATE, Value=json.dumps({**now, **changed}), Type="SecureString", KeyId=described["KeyId"], Overwrite=True
    )


def test_with_dms(tmp_path: Path, emulated: EmulatedAws, account: Session) -> None:
    stack = Deployment(tmp_path, emulated, "dms", account)
    made = stack.json("deploy", "--yes")
    assert made["plan"]["create"] > 100
    assert made["plan"]["destroy"] == made["plan"]["replace"] == 0
    assert stack.planned() == []

    move_everything(account, made["outputs"]["zone_id"])
    assert stack.planned() == []
    assert schedule(account) == "ENABLED"

    secrets = stack.passwords()
    assert len(set(secrets)) == 4
    assert SOURCE_PASSWORD in secrets
    assert not [one for one in secrets if one.encode() in stack.written()]

    refused = stack.run("destroy", "--yes")
    assert refused.returncode == 1
    assert "the cluster takes the application's writes" in refused.stderr
    destroyed = stack.json("destroy", "--yes", "--even-while-active", "payments")
    assert destroyed["destroyed"] == made["plan"]["create"]
    assert stack.resources == []
    assert stack.left() == []


def test_native_and_interrupted(tmp_path: Path, emulated: EmulatedAws, account: Session) -> None:
    stack = Deployment(tmp_path, emulated, "native", account, bucket="state-of-payments")
    code, told = stack.interrupted(r"\d/\d+ aws_rds_cluster\.aurora_\w+ creating", "deploy", "--yes")
    assert code == 130, told
    assert "run `daybreak infra deploy` again" in told
    assert stack.resources, "what was made is known"

    bucket = account.client("s3").list_objects_v2(Bucket=stack.bucket)["Contents"]
    assert [one["Key"] for one in bucket] == ["daybreak/payments/test.tfstate"], "the lock is given back"

    rest = stack.json("deploy", "--yes")
    assert 0 < rest["plan"]["create"] < 100
    assert stack.planned() == []
    move_everything(account, rest["outputs"]["zone_id"])
    publish(account, phase="finished", primary="source")
    assert stack.planned() == []
    assert schedule(account) == "ENABLED"

    written = stack.json("outputs")
    assert written["written"] == ["target.dsn", "target.password"]
    assert "# not the invoices" in stack.config.read_text()
    assert stack.json("outputs")["written"] == []
    assert stack.planned() == [], "the configuration, completed, says the same"

    assert not [one for one in stack.passwords() if one.encode() in stack.written()]
    assert "no server answers" in stack.run("destroy", "--yes").stderr, "the source might tell what no record does"
    ended = MigrationRecord(name="payments", phase=Phase.ABORTED)
    record = SqliteStateStore(tmp_path / ".daybreak" / "payments.db")
    record.compare_and_swap(ended, 0, "test", None, datetime(2026, 1, 1, tzinfo=UTC), "")
    stack.json("destroy", "--yes")
    assert stack.resources == []
    assert stack.left() == []
    assert stack.json("destroy", "--yes")["destroyed"] == 0
