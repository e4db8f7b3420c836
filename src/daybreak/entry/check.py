"""``daybreak check``: what stands in the way of this migration, found by looking only."""

from __future__ import annotations

from dataclasses import dataclass

import typer

from daybreak.entry import render
from daybreak.entry.command import FAILED, command
from daybreak.entry.options import DEFAULT_CONFIG, Config, Json
from daybreak.errors import Finding


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Everything that was found, blockers first."""

    findings: tuple[Finding, ...]


def check(config: Config = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Look at both servers and say what stands in the way; exit 1 where something blocks."""
    with command("check", config, as_json) as run:
        with run.runtime() as runtime:
            found = runtime.preflight()
        blockers = sum(finding.severity == "blocker" for finding in found)
        summary = f"{blockers} blocker(s): mend them, then check again." if blockers else "Ready for `daybreak start`."
        run.show(CheckReport(found), *([render.findings(found), ""] if found else []), summary)
        if blockers:
            raise typer.Exit(FAILED)
