"""The configuration that ``daybreak init`` writes names every setting, and works once it is filled in."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daybreak.config import Settings, load_settings
from daybreak.entry.cli import app
from daybreak.entry.init import keys, template


def _uncommented(text: str) -> str:
    """Every commented-out key and section switched on; the prose stays a comment."""
    lines = []
    for line in text.splitlines():
        bare = line.removeprefix("# ")
        is_key = bare.startswith("[") or bare.split(" = ")[0].isidentifier()
        lines.append(bare if is_key else line)
    return "\n".join(lines)


def _dotted(found: dict[str, object], prefix: str = "") -> set[str]:
    names = set()
    for name, value in found.items():
        names |= _dotted(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {prefix + name}
    return names


def test_the_template_names_every_setting() -> None:
    assert _dotted(tomllib.loads(_uncommented(template()))) == set(keys())
    required = tomllib.loads(template())
    assert set(required) - {"name", "source", "target"} == {"replication", "cutover", "traffic", "state"}
    assert {**required["source"], **required["target"]}.keys() == {"dsn"}


def test_it_can_be_loaded_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "daybreak.toml"
    result = CliRunner().invoke(app, ["init", "--config", str(path), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"path": str(path)}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    settings = load_settings(path)
    assert settings.name == "payments"
    assert settings.cutover.max_lag_seconds == 1.0


def test_so_can_all_of_its_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DAYBREAK_SOURCE_PASSWORD", "DAYBREAK_TARGET_PASSWORD", "PGBOUNCER_ADMIN_PASSWORD"):
        monkeypatch.setenv(name, "x")
    path = tmp_path / "daybreak.toml"
    path.write_text(_uncommented(template()))
    assert load_settings(path).policy() == load_settings_of(template(), tmp_path).policy()


def load_settings_of(text: str, where: Path) -> Settings:
    path = where / "plain.toml"
    path.write_text(text)
    return load_settings(path)


def test_it_overwrites_nothing(tmp_path: Path) -> None:
    path = tmp_path / "daybreak.toml"
    path.write_text("precious")
    result = CliRunner().invoke(app, ["init", "--config", str(path)])
    assert result.exit_code == 2
    assert "left alone" in result.stderr
    assert path.read_text() == "precious"
    nowhere = CliRunner().invoke(app, ["init", "--config", str(tmp_path / "no" / "daybreak.toml")])
    assert nowhere.exit_code == 2


def test_its_help_lists_every_setting() -> None:
    text = CliRunner().invoke(app, ["init", "--help"]).stdout
    assert [key for key in keys() if f"{key}: " not in text] == []
