"""daybreak.toml completed with a stack's outputs, and nothing else in it touched."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest

from daybreak.errors import ConfigError
from daybreak.infra.completion import complete

OUTPUTS = {
    "target_user": "daybreak", "target_host": "new.example.net", "target_port": 5432, "target_database": "payments",
    "target_secret_arn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:target-AbCdEf",
}  # fmt: skip
DSN = "postgresql://daybreak@new.example.net:5432/payments?sslmode=verify-full"
BEGINNING = '# mine\nname   = "payments" # aligned by hand\n\n[source]  # old\ndsn = "x"\n'


def written(path: Path, text: str, replace: bool = False) -> tuple[tuple[str, ...], str]:
    path.write_text(text)
    return complete(path, OUTPUTS, replace), path.read_text()


def test_a_missing_section_is_added(tmp_path: Path) -> None:
    path = tmp_path / "daybreak.toml"
    path.touch(0o600)
    keys, text = written(path, BEGINNING)
    assert keys == ("target.dsn", "target.password")
    assert text.startswith(BEGINNING)
    assert tomllib.loads(text)["target"] == {"dsn": DSN, "password": OUTPUTS["target_secret_arn"]}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert complete(path, OUTPUTS, False) == ()
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "there",
    [
        "host=new.example.net user=daybreak dbname=payments sslmode=verify-full sslrootcert=/etc/rds.pem",
        "postgresql://daybreak@new.example.net/payments",
    ],
)
def test_a_dsn_that_leads_there_stays(tmp_path: Path, there: str) -> None:
    section = f'[target]\ndsn = "{there}" # mine\npeer_port = 1\n'
    keys, text = written(tmp_path / "daybreak.toml", f"{BEGINNING}{section}\n[state]\n")
    assert keys == ("target.password",)
    assert section in text
    assert text.endswith("[state]\n")


@pytest.mark.parametrize(("key", "value"), [("dsn", "postgresql://me:hush@other/payments"), ("password", "env:P")])
def test_what_differs_is_named_and_left(tmp_path: Path, key: str, value: str) -> None:
    path = tmp_path / "daybreak.toml"
    text = f'{BEGINNING}[target]\n{key} = "{value}" # mine\n'
    with pytest.raises(ConfigError, match=rf"otherwise in target\.{key}; nothing") as caught:
        written(path, text)
    assert "hush" not in str(caught.value)
    assert path.read_text() == text
    keys, replaced = written(path, text, replace=True)
    assert f"target.{key}" in keys
    assert value not in replaced
    assert "# mine" in replaced


def test_without_outputs_there_is_nothing_to_write(tmp_path: Path) -> None:
    path = tmp_path / "daybreak.toml"
    path.write_text(BEGINNING)
    with pytest.raises(ConfigError) as caught:
        complete(path, {}, replace=False)
    assert "daybreak infra deploy" in caught.value.hint
