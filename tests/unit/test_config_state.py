"""Where the record is, does not depend on where a command is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from daybreak.config import load_settings

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
