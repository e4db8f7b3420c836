"""What the function is told of daybreak.toml: enough to work with, and no secret."""

from __future__ import annotations

import json
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from daybreak.config import load_infra_settings
from daybreak.config.sections import Cutover
from daybreak.entry.lambda_settings import Names, load
from daybreak.errors import PermanentError
from daybreak.infra.published import Published, published

_TOML = """
name = "payments"
[source]
dsn = "postgresql://daybreak:tell-nobody@old.example.net/payments?sslmode=verify-full&sslrootcert={ca}&sslkey=/k"
[replication]
include = ["public.*"]
jobs = 7
[cutover]
max_lag_seconds = 2.5
read_schedule = [10, 100]
[traffic]
router = "route53"
[aws]
environment = "test"
region = "eu-central-1"
[aws.network]
vpc_cidr = "10.60.0.0/16"
[aws.aurora]
engine_version = "17.5"
[aws.routing]
zone_name = "payments.internal"
[aws.watch]
email = "dba@example.net"
"""


def _published(tmp_path: Path, more: str = "") -> Published:
    path = tmp_path / "daybreak.toml"
    path.write_text(_TOML.format(ca=tmp_path / "ca.pem") + more)
    return published(load_infra_settings(path))


def test_no_secret_and_nothing_that_only_terraform_needs(tmp_path: Path) -> None:
    told = _published(tmp_path)
    text = json.dumps([told.settings, told.tls, told.peers])
    for unwanted in ("tell-nobody", "sslkey", "old.example.net", "dba@example.net"):
        assert unwanted not in text
    assert told.tls["source"] == {"sslmode": "verify-full", "sslrootcert": "source.pem"}
    assert told.authorities == {"ca/source.pem": tmp_path / "ca.pem"}


def test_the_target_is_verified_where_its_authority_is_known(tmp_path: Path) -> None:
    assert _published(tmp_path).tls["target"] == {"sslmode": "require"}
    known = _published(tmp_path, '[aws.dms]\ntarget_ca_file = "/rds.pem"\n')
    assert known.tls["target"] == {"sslmode": "verify-full", "sslrootcert": "target.pem"}
    assert known.authorities["ca/target.pem"] == Path("/rds.pem")


def test_peers_are_what_the_file_says_of_them(tmp_path: Path) -> None:
    more = '[target]\ndsn = "env:NOT_SET_YET"\npeer_port = 6543\npeer_sslmode = "verify-ca"\n'
    more += 'peer_sslrootcert = "/rds.pem"\n'
    told = _published(tmp_path, more).peers
    assert told["source"] == {"peer_sslmode": "verify-full", "peer_sslrootcert": str(tmp_path / "ca.pem")}
    assert told["target"] == {"peer_port": 6543, "peer_sslmode": "verify-ca", "peer_sslrootcert": "/rds.pem"}
    assert _published(tmp_path).peers["target"] == {"peer_sslmode": "require"}


@pytest.fixture
def names() -> Names:
    return Names("/config", "source", "target", "table", "arn:key", "arn:topic", "poll")


def _deploy(told: Published, **secret: object) -> None:
    session = boto3.Session(region_name="eu-central-1")
    value = json.dumps({"task_arn": "arn:task", "settings": told.settings, "tls": told.tls, "peers": told.peers})
    session.client("ssm").put_parameter(Name="/config", Type="SecureString", Value=value)
    for side in ("source", "target"):
        content = {
            "host": f"{side}.example.net",
            "port": 5433,
            "dbname": "p",
            "username": "d",
            "password": "pw",
            **secret,
        }
        session.client("secretsmanager").create_secret(Name=side, SecretString=json.dumps(content))


@mock_aws
def test_the_function_gets_the_same_settings(tmp_path: Path, names: Names) -> None:
    _deploy(_published(tmp_path))
    found = load(boto3.Session(region_name="eu-central-1"), names)
    settings = found.settings
    assert found.task_arn == "arn:task"
    assert settings.cutover == Cutover(max_lag_seconds=2.5, read_schedule=(10, 100))
    assert (settings.replication.include, settings.replication.jobs) == (("public.*",), 7)
    assert settings.traffic.router == "route53"
    assert (settings.state.url, settings.state.key) == ("dynamodb://table", "arn:key")
    assert settings.aws is not None
    assert settings.aws.routing.writer_name == "db-rw.payments.internal"
    parameters = settings.source.parameters()
    assert (parameters["host"], parameters["port"], parameters["password"]) == ("source.example.net", "5433", "pw")
    assert parameters["sslrootcert"].endswith("/ca/source.pem")
    assert settings.target.parameters()["sslmode"] == "require"
    # What the other server is told must be on the other server.
    assert settings.source.peer_parameters()["sslrootcert"] == str(tmp_path / "ca.pem")
    assert settings.source.peer_parameters()["sslmode"] == "verify-full"
    assert "sslrootcert" not in settings.target.peer_parameters()


@mock_aws
def test_a_secret_that_was_edited_is_named_without_its_content(tmp_path: Path, names: Names) -> None:
    _deploy(_published(tmp_path), port="tell-nobody")
    with pytest.raises(PermanentError) as raised:
        load(boto3.Session(region_name="eu-central-1"), names)
    assert "secret source is not in the form that is expected: port" in raised.value.message
    assert "tell-nobody" not in str(raised.value)


def test_an_environment_that_lacks_something_says_what() -> None:
    with pytest.raises(PermanentError, match="lacks SOURCE_SECRET, SCHEDULE"):
        Names.of(dict.fromkeys(("CONFIG_PARAMETER", "TARGET_SECRET", "STATE_TABLE", "STATE_KEY", "NOTICES_TOPIC"), "x"))
