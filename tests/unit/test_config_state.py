"""Where the record is, does not depend on where a command is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from daybreak.config import load_infra_settings, load_settings
from daybreak.errors import ConfigError
from daybreak.infra.controller import TIMEOUT_SECONDS

SERVERS = """\
name = "payments"
[source]
dsn = "postgresql://daybreak@old.example.net/payments"
[target]
dsn = "postgresql://daybreak@new.example.net/payments"
"""


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("", ".daybreak/payments.db"),
        ("sqlite:///.daybreak/payments.db", ".daybreak/payments.db"),
        ("sqlite:///records/mine.db", "records/mine.db"),
    ],
)
def test_a_file_is_named_from_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, found: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "daybreak.toml").write_text(f'{SERVERS}[state]\nurl = "{given}"\n')
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_settings(Path("../daybreak.toml")).state.url == f"sqlite:///{tmp_path / found}"


def test_an_absolute_path_stays(tmp_path: Path) -> None:
    path = tmp_path / "daybreak.toml"
    path.write_text(f'{SERVERS}[state]\nurl = "sqlite:////var/lib/daybreak.db"\n')
    assert load_settings(path).state.url == "sqlite:////var/lib/daybreak.db"


ON_AWS = """\
[state]
url = "{url}"
[aws]
environment = "prod"
region = "eu-central-1"
[aws.network]
vpc_cidr = "10.60.0.0/16"
[aws.aurora]
engine_version = "17.5"
[aws.routing]
zone_name = "payments.internal"
[cutover]
certificate_seconds = {certificate_seconds}
gate_patience_seconds = {gate_patience_seconds}
"""


def _on_aws(path: Path, url: str, certificate_seconds: int, gate_patience_seconds: int = 30) -> Path:
    text = ON_AWS.format(url=url, certificate_seconds=certificate_seconds, gate_patience_seconds=gate_patience_seconds)
    path.write_text(SERVERS + text)
    return path


@pytest.mark.parametrize(("comparison", "patience", "most"), [(741, 30, "740 s"), (600, 200, "570 s"), (1, 900, "0 s")])
def test_a_comparison_must_fit_into_an_invocation(tmp_path: Path, comparison: int, patience: int, most: str) -> None:
    path = _on_aws(tmp_path / "daybreak.toml", "dynamodb://table", comparison, patience)
    for load in (load_settings, load_infra_settings):
        with pytest.raises(ConfigError, match=most) as raised:
            load(path)
        assert f"after {TIMEOUT_SECONDS} s" in raised.value.message
        assert "SQLite" in raised.value.hint


@pytest.mark.parametrize(("url", "comparison"), [("dynamodb://table", 740), ("", 36_000)])
def test_a_comparison_that_fits_or_runs_elsewhere_may_be_as_long(tmp_path: Path, url: str, comparison: int) -> None:
    path = _on_aws(tmp_path / "daybreak.toml", url, comparison)
    assert load_settings(path).cutover.certificate_seconds == comparison
