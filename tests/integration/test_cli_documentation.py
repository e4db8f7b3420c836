"""docs/commands.md names every command, every option and every field of the JSON objects."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import typer

from daybreak.entry import grants, infra_reports, init, reports, status_report
from daybreak.entry.check import CheckReport
from daybreak.entry.cli import app
from daybreak.entry.rewind import RewindReport
from daybreak.errors import Difference, Finding
from daybreak.model import Gate, PlannedStep

TEXT = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
OBJECTS = (
    reports.ErrorReport,
    reports.VerificationReport,
    reports.CertificateReport,
    reports.SwitchoverReport,
    reports.PlanReport,
    reports.MoveReport,
    status_report.ServerReport,
    status_report.StreamsReport,
    status_report.RouterReport,
    status_report.BlockerReport,
    status_report.StatusReport,
    init.InitReport,
    grants.GrantScript,
    grants.GrantsReport,
    CheckReport,
    Finding,
    Difference,
    Gate,
    PlannedStep,
    RewindReport,
    infra_reports.SynthReport,
    infra_reports.ChangeReport,
    infra_reports.InfraPlanReport,
    infra_reports.DeployReport,
    infra_reports.DestroyReport,
    infra_reports.OutputsReport,
)


@pytest.mark.parametrize("kind", OBJECTS, ids=lambda kind: kind.__name__)
def test_every_field_is_documented(kind: type) -> None:
    assert [field.name for field in dataclasses.fields(kind) if f"`{field.name}`" not in TEXT] == []


def test_every_command_and_option_is_documented() -> None:
    commands = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    headings = " ".join(line for line in TEXT.splitlines() if line.startswith("## "))
    assert [name for name in commands if name not in headings.replace(",", " ").split()] == []
    commands.update(commands["infra"].commands)
    options = {
        option for name, one in commands.items() if name != "rehearse" for found in one.params for option in found.opts
    }
    assert sorted(option for option in options if option.startswith("--") and f"`{option}" not in TEXT) == []
